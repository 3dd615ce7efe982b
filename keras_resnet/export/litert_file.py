"""LiteRT flatbuffers (`.tflite`) of every precision."""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np

from keras_resnet.export.checks import (
    CALIBRATED,
    QUANTIZED,
    Inputs,
    Precision,
    check_choice,
    check_classes,
    check_export,
    check_images,
)
from keras_resnet.export.interface import (
    Activation,
    Batch,
    Interface,
    NumberType,
    make_interface,
    network_input,
    served_outputs,
)
from keras_resnet.export.litert_quantized import Samples, convert_quantized
from keras_resnet.export.metadata import Description, with_metadata
from keras_resnet.export.net_outputs import is_image_classifier, outputs_of
from keras_resnet.export.planar_pooling import with_planar_pooling
from keras_resnet.export.quantized_file import (
    check_quantized_files,
    converted,
    serve_quantized,
)
from keras_resnet.export.quiet import quiet
from keras_resnet.export.saved_model_directory import write_signature
from keras_resnet.nets.tensor import Tensor
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.quantize import is_quantize_aware

_CALIBRATION_BATCH = 8

# Of `mixed`, dB.
_MIXED_SIGNAL_TO_NOISE = 32.0


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    precision: Precision,
    preprocess: PreprocessSpec | None,
    inputs: Inputs = "raw",
    calibration: np.ndarray | None = None,
    batch: Batch = 1,
    input_type: NumberType | None = None,
    output_type: NumberType | None = None,
    activation: Activation = "none",
    description: Description | None = None,
    signal_to_noise: float = _MIXED_SIGNAL_TO_NOISE,
    report: Callable[[str], None] | None = None,
) -> None:
    """Converts a model to a LiteRT file of builtin operators.

    | `precision` | `inputs="raw"` | `inputs="normalized"` | output |
    | --- | --- | --- | --- |
    | `float32`, `float16` | `images_uint8`, uint8 | `images_normalized`, float32 | float32 |
    | `dynamic`, `mixed` | `images_uint8`, uint8 | `images_normalized`, float32 | float32 |
    | `int16x8` | `images_float32`, float32 | `images_normalized`, float32 | float32 |
    | `int8` | `images_uint8`, uint8 | `images_normalized`, int8 | int8 |

    `input_type` and `output_type` replace these types: raw pixels as `"int8"` (pixel - 128) or
    `"float32"`, and int8 files with any of the three types at either end. The output is named
    `logits`, or `probabilities` with `activation="softmax"`.

    float16 stores the weights in 16 bits; dynamic stores them in int8 and computes activations in
    float, or rounds them image by image. int8 computes in integers from input to output, with
    ranges and biases fitted to the calibration images (`integer_ranges`); int16x8 with activations
    of 16 bits. mixed is int8 with the operators in float whose rounding costs most, as few as
    `signal_to_noise` takes. Raw int8 files take plain pixels (scale 1); the file has the scales of
    all other int8 tensors.
    This function does not compare the file with the model: see `verify` and `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: File to write.
        precision: Precision of the weights and, for int8, of the computation.
        preprocess: Size and normalisation; None for values as the model takes them.
        inputs: `"raw"` to include the normalisation in the file, or `"normalized"`.
        calibration: For int8, int16x8 and mixed: uint8 pixels of training images, `(images, height,
            width, channels)`. A few hundred are enough. A net made by `quantize_aware` has its own
            ranges and needs none.
        batch: Batch size. LiteRT.js and compilers for NPUs refuse `"open"` or fall back to the CPU.
        input_type: Type of the input; None for that of the table.
        output_type: Type of the output; None for that of the table.
        activation: `"softmax"` or `"sigmoid"` to return probabilities.
        description: Name, labels and more to write into the file, where MediaPipe and Android look
            for them.
        signal_to_noise: For mixed: signal-to-noise ratio of the output that the file must reach on
            the calibration images, dB.
        report: Called with a line about what was decided; or None.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If `calibration` is not a uint8 array.
        ValueError: If an argument has a value that does not fit, or `calibration` is missing.

    Example:
        ```python
        keras_resnet.export.export_tflite(
            keras_resnet.fold_batch_norm(model),
            "model_int8.tflite",
            precision="int8",
            preprocess=keras_resnet.PreprocessSpec((224, 224)),
            calibration=pixels[:500],
        )
        ```
    """
    check_choice("precision", precision, Precision)
    interface = make_interface(
        "tflite",
        precision,
        inputs=inputs,
        batch=batch,
        input_type=input_type,
        output_type=output_type,
        activation=activation,
        dims=len(model.inputs[0].shape) - 2,
    )
    shape = check_export(model, preprocess, inputs)
    check_classes(model, activation=activation)
    check_litert(model, precision)
    trained = is_quantize_aware(model)
    if trained:
        check_quantized_files(model, ["tflite"], [precision])
    if precision in CALIBRATED and not trained:
        check_calibration(calibration, shape, pixels=preprocess is not None)
    # The int8 converter starts from a float graph of plain pixels and changes the types itself.
    graph = interface
    if precision in ("int8", "mixed"):
        graph = dataclasses.replace(interface, input_type="float32")

    net = with_planar_pooling(model)

    def serve(images: Tensor) -> dict[str, Tensor]:
        result = net(network_input(images, preprocess, graph), training=False)
        return served_outputs(model, result, interface)

    samples = None
    if precision in CALIBRATED and calibration is not None:
        batches = functools.partial(_calibration_samples, calibration, preprocess, interface)
        samples = Samples(batches, len(calibration))
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        function = serve_quantized(model, preprocess, interface) if trained else serve
        write_signature(function, folder, interface, shape, graph.graph_type)
        with quiet():
            if trained:
                content = converted(folder, interface)
            else:
                content = _convert(
                    folder, precision, interface, samples, signal_to_noise, lines.append
                )
    for line in lines:
        if report is not None:
            report(line)
    if description is not None and preprocess is not None and is_image_classifier(model):
        normalized = interface.inputs == "normalized"
        content = with_metadata(
            content,
            description,
            channels=shape[-1],
            preprocess=preprocess if normalized else None,
        )
    Path(path).write_bytes(content)


def check_litert(model: keras.Model, precision: Precision) -> None:
    """Checks that LiteRT has what a precision of a model needs.

    Raises:
        ValueError: If it does not.
    """
    if precision in CALIBRATED and len(model.inputs[0].shape) == 5:
        raise ValueError(
            f"{precision} LiteRT files have no integer kernel for 3-D convolutions: export float32 "
            "or float16, or ONNX. Received: a model of volumes"
        )
    if precision == "mixed" and len(model.outputs) > 1:
        raise ValueError(
            "mixed files have one output, whose rounding decides which operators are in float: "
            f"export int8. Received: a model with the outputs {', '.join(outputs_of(model).names)}"
        )


def check_calibration(
    calibration: np.ndarray | None, shape: tuple[int, ...], *, pixels: bool = True
) -> None:
    """Checks the calibration images of a quantised file.

    Raises:
        TypeError: If `calibration` does not have the type of the inputs.
        ValueError: If it is None or has another shape.
    """
    if calibration is None:
        raise ValueError(
            f"{', '.join(CALIBRATED)} need `calibration`, "
            f"{'uint8 training images' if pixels else 'float32 training data'}. Received: None"
        )
    check_images("calibration", calibration, shape, pixels=pixels)


def _convert(
    folder: str,
    precision: Precision,
    interface: Interface,
    samples: Samples | None,
    signal_to_noise: float,
    report: Callable[[str], None],
) -> bytes:
    """Converts a SavedModel and returns the flatbuffer."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    elif precision in QUANTIZED:
        return convert_quantized(converter, precision, interface, samples, signal_to_noise, report)
    return converter.convert()


def _calibration_samples(
    calibration: np.ndarray, preprocess: PreprocessSpec | None, interface: Interface
) -> Iterator[np.ndarray]:
    """Yields batches of calibration images as the float graph takes them.

    The converter derives the input's scale from the smallest and the largest value that it sees.
    With images that do not use all of 0..255 the scale would not be 1, and the file would misread
    plain pixels. So two corners of the first image are set to 0 and 255 in every channel.
    """
    size = interface.batch_size or _CALIBRATION_BATCH
    for start in range(0, len(calibration), size):
        pixels = calibration[start : start + size]
        if interface.batch_size is not None and len(pixels) < size:
            pixels = np.resize(pixels, (size, *pixels.shape[1:]))  # a fixed batch is full
        if preprocess is None:
            yield pixels
            continue
        if start == 0:
            pixels = pixels.copy()
            pixels[0, 0, 0], pixels[0, -1, -1] = 0, 255
        x = pixels if interface.inputs == "raw" else preprocess.normalize(pixels)
        yield x.astype("float32")
