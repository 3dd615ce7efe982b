"""Quantised LiteRT files: dynamic range, int8, int16x8, and int8 with some operators in float."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_resnet.export.calibration import with_measured_ranges
from keras_resnet.export.checks import Precision
from keras_resnet.export.float_operators import UnsupportedOperator
from keras_resnet.export.integer_ranges import fit_ranges, fitted_images
from keras_resnet.export.interface import Interface
from keras_resnet.export.litert_graph import LiteRTGraph
from keras_resnet.export.mixed_precision import (
    COMPARED,
    Noise,
    file_signal_to_noise,
    float_nodes,
    operator_noise,
)

_NAMED = 5  # tensors that the report names


@dataclasses.dataclass(frozen=True)
class Samples:
    """Calibration images as the float graph takes them.

    Attributes:
        batches: Returns them in batches.
        number: Their number.
    """

    batches: Callable[[], Iterator[np.ndarray]]
    number: int


def convert_quantized(
    converter: Any,
    precision: Precision,
    interface: Interface,
    samples: Samples | None,
    signal_to_noise: float,
    report: Callable[[str], None] | None = None,
) -> bytes:
    """Returns a quantised file.

    Args:
        converter: TensorFlow's converter of the float graph.
        precision: `"dynamic"`, `"int8"`, `"int16x8"` or `"mixed"`.
        interface: What the file takes and returns.
        samples: Calibration images; None for dynamic.
        signal_to_noise: What `mixed` must reach on the calibration images, dB.
        report: Called with a line about what was decided; or None.
    """
    import tensorflow as tf

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if samples is None:
        return converter.convert()
    if precision == "int16x8":
        converter.representative_dataset = lambda: (
            {interface.input_name: x} for x in samples.batches()
        )
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
        return converter.convert()
    # No fallback to float operators: an operator without an integer kernel is an error.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.as_dtype(interface.input_type)
    converter.inference_output_type = tf.as_dtype(interface.output_type)
    # The two steps of TensorFlow's guide to its quantisation debugger: calibrate, then quantise.
    # The converter's own calibrator sees one sample, so that it marks the tensors that have ranges.
    converter.representative_dataset = lambda: iter(
        [{interface.input_name: next(samples.batches())}]
    )
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    if precision == "int8":
        return _int8(calibrated, interface, samples, report)
    images = _first(samples, COMPARED)
    calibrated = with_measured_ranges(calibrated, samples.batches())
    content, line = _mixed(calibrated, interface, images, signal_to_noise)
    if report is not None:
        report(line)
    return content


def _mixed(
    calibrated: bytes, interface: Interface, images: np.ndarray, least: float
) -> tuple[bytes, str]:
    """Returns the file with the fewest float tensors that reaches a ratio, and what they are."""
    noises = operator_noise(calibrated, images)
    tried: dict[int, tuple[bytes, float]] = {}

    def reaches(count: int) -> bool:
        content = _quantize(calibrated, interface, float_nodes(calibrated, noises, count))
        tried[count] = content, file_signal_to_noise(content, calibrated, images)
        return tried[count][1] >= least

    low, high = -1, 0  # `low` does not reach it, `high` does
    while not reaches(high) and high < len(noises):
        low, high = high, min(max(1, 2 * high), len(noises))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    content, ratio = tried[high]
    return content, _sentence(calibrated, noises, high, ratio, least)


def _sentence(
    calibrated: bytes, noises: list[Noise], count: int, ratio: float, least: float
) -> str:
    floats = float_nodes(calibrated, noises, count)
    reason = f"{ratio:.1f} dB on the calibration images, at least {least:g} wanted"
    if not floats:
        return f"Mixed: all operators in int8: {reason}"
    graph = LiteRTGraph(calibrated)
    worst = ", ".join(
        f"{short_name(graph.name(each.operator.outputs[0]))} ({each.signal_to_noise:.1f} dB alone)"
        for each in noises[: min(count, _NAMED)]
    )
    return (
        f"Mixed: {len(floats)} of {len(noises)} operators in float, around the {count} tensors "
        f"whose rounding costs most: {worst}{', ...' if count > _NAMED else ''}; {reason}"
    )


def short_name(tensor: str) -> str:
    """Returns the name of the layer in the name of a tensor, which lists several operators."""
    parts = [part for part in tensor.split(";")[0].split("/") if part]
    return parts[-2] if len(parts) > 1 else tensor


def _quantize(calibrated: bytes, interface: Interface, floats: list[str] | None = None) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    return mlir_quantize(
        calibrated,
        input_data_type=tf.as_dtype(interface.input_type),
        output_data_type=tf.as_dtype(interface.output_type),
        denylisted_nodes=floats or None,
    )


def _int8(
    calibrated: bytes,
    interface: Interface,
    samples: Samples,
    report: Callable[[str], None] | None,
) -> bytes:
    """Returns an int8 file with fitted ranges; with the usual ones if an operator is unknown."""
    try:
        count = fitted_images(calibrated)
        images = _first(samples, count)
        if count < samples.number and report is not None:
            report(
                f"int8 ranges are fitted to {count} of {samples.number} calibration images, whose "
                "tensors fit into memory side by side"
            )
        content = _quantize(calibrated, interface)
        return fit_ranges(content, calibrated, images, _ends(samples))
    except UnsupportedOperator as error:
        if report is not None:
            report(f"int8 ranges are the smallest and largest values: {error} is not fitted")
        return _quantize(with_measured_ranges(calibrated, samples.batches()), interface)


def _first(samples: Samples, count: int) -> np.ndarray:
    """Returns the first calibration images."""
    found: list[np.ndarray] = []
    for batch in samples.batches():
        found.append(batch[:count])
        count -= len(batch)
        if count <= 0:
            break
    return np.concatenate(found)


def _ends(samples: Samples) -> tuple[float, float]:
    """Returns the smallest and the largest value of all calibration images."""
    ends = [(float(batch.min()), float(batch.max())) for batch in samples.batches()]
    return min(low for low, _ in ends), max(high for _, high in ends)
