"""ONNX files in int8: QDQ form, one scale per output channel of the weights."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.export.quiet import quiet, quiet_python

# Share of a tensor's values inside its range. Of 1,017 CIFAR-10 images, the logits of ResNet-20
# have 30.2 dB so and 29.4 dB by the smallest and largest value; ResNet-8 27.5 and 27.3 dB.
_PERCENTILE = 99.999


def quantize_onnx(path: Path, samples: Callable[[], Iterable[np.ndarray]], count: int) -> None:
    """Replaces a float32 ONNX file by its int8 form, by ONNX Runtime's quantiser.

    Operators keep their names between pairs of QuantizeLinear and DequantizeLinear (QDQ), which
    ONNX Runtime and OpenVINO turn into integer kernels. Activations are uint8, which ONNX Runtime
    computes about twice as fast on x86 as int8.

    Args:
        path: The file. Input and output keep their types.
        samples: Returns batches of calibration images as the file takes them.
        count: Number of the images.

    Raises:
        ValueError: If the quantiser finds no tensors to quantise.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # its advice to prepare the file, which is done here
    try:
        with tempfile.TemporaryDirectory() as folder, quiet(), quiet_python():
            prepared = Path(folder, "prepared.onnx")
            # ONNX's own shape inference is enough; the symbolic one needs SymPy.
            quant_pre_process(os.fspath(path), os.fspath(prepared), skip_symbolic_shape=True)
            ranges = _ranges(prepared, samples(), count, Path(folder, "augmented.onnx"))
            quantize_static(
                prepared,
                path,
                _Reader(_input_name(prepared), iter([next(iter(samples()))])),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"TensorQuantOverrides": ranges},
            )
    finally:
        root.setLevel(level)


def _ranges(path: Path, samples: Iterable[np.ndarray], count: int, folder: Path) -> dict[str, Any]:
    """Returns the range of each activation, batch by batch, so that memory stays small.

    ONNX Runtime's own calibrator makes histograms of all values, which takes twice as long as the
    net itself, and runs the net without optimizations.
    """
    import onnxruntime
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    calibrator = create_calibrator(
        path,
        augmented_model_path=os.fspath(folder),
        calibrate_method=CalibrationMethod.Percentile,
    )
    wanted = set(calibrator.tensors_to_calibrate)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        os.fspath(folder), options, providers=["CPUExecutionProvider"]
    )
    names = [each.name for each in session.get_outputs() if each.name in wanted]
    (source,) = session.get_inputs()
    tails = {name: _Tails() for name in names}
    for batch in samples:
        for name, values in zip(names, session.run(names, {source.name: batch}), strict=True):
            tails[name].add(values, count)
    return {
        name: [{"rmin": np.float32(each.low.max()), "rmax": np.float32(each.high.min())}]
        for name, each in tails.items()
    }


class _Tails:
    """The ends of all values of a tensor: those outside of the percentile, and the next one."""

    def __init__(self) -> None:
        self.low = self.high = np.empty(0, "float32")

    def add(self, values: np.ndarray, count: int) -> None:
        """Adds the values of a batch, of `count` images altogether."""
        kept = 1 + int((100 - _PERCENTILE) / 200 * values.size / len(values) * count)
        flat = values.reshape(-1)
        below = above = flat
        if len(self.low) == kept:
            below, above = flat[flat < self.low.max()], flat[flat > self.high.min()]
        self.low = _smallest(np.concatenate([self.low, below]), kept)
        self.high = -_smallest(-np.concatenate([self.high, above]), kept)


def _smallest(values: np.ndarray, count: int) -> np.ndarray:
    return values if len(values) <= count else np.partition(values, count - 1)[:count]


def _input_name(path: Path) -> str:
    import onnx

    return onnx.load(path, load_external_data=False).graph.input[0].name


class _Reader:
    """Batches in the form of ONNX Runtime's `CalibrationDataReader`."""

    def __init__(self, name: str, batches: Iterator[np.ndarray]) -> None:
        self._name, self._batches = name, batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}
