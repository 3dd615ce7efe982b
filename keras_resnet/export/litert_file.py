"""LiteRT flatbuffers (`.tflite`): float32, float16 and full-integer int8."""

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
    Inputs,
    Precision,
    check_choice,
    check_export,
    check_images,
)
from keras_resnet.export.interface import (
    Activation,
    Batch,
    Interface,
    NumberType,
    activated,
    make_interface,
    network_input,
)
from keras_resnet.export.metadata import Description, with_metadata
from keras_resnet.export.quiet import quiet
from keras_resnet.export.saved_model_directory import write_signature
from keras_resnet.nets.tensor import Tensor
from keras_resnet.preprocessing import PreprocessSpec

_CALIBRATION_BATCH = 8

_Samples = Iterator[dict[str, np.ndarray]]


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    precision: Precision,
    preprocess: PreprocessSpec,
    inputs: Inputs = "raw",
    calibration: np.ndarray | None = None,
    batch: Batch = 1,
    input_type: NumberType | None = None,
    output_type: NumberType | None = None,
    activation: Activation = "none",
    description: Description | None = None,
) -> None:
    """Converts a model to a LiteRT file of builtin operators.

    | `precision` | `inputs="raw"` | `inputs="normalized"` | output |
    | --- | --- | --- | --- |
    | `float32`, `float16` | `images_uint8`, uint8 | `images_normalized`, float32 | float32 |
    | `int8` | `images_uint8`, uint8 | `images_normalized`, int8 | int8 |

    `input_type` and `output_type` replace these types: raw pixels as `"int8"` (pixel - 128) or
    `"float32"`, and int8 files with any of the three types at either end. The output is named
    `logits`, or `probabilities` with `activation="softmax"`.

    float16 stores the weights in 16 bits; int8 computes in integers from input to output. Raw
    int8 files take plain pixels (scale 1); the file has the scales of all other int8 tensors.
    This function does not compare the file with the model: see `verify` and `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: File to write.
        precision: Precision of the weights and, for int8, of the computation.
        preprocess: Size and normalisation.
        inputs: `"raw"` to include the normalisation in the file, or `"normalized"`.
        calibration: For int8, uint8 pixels of training images, `(images, height, width,
            channels)`. A few hundred are enough.
        batch: Batch size. LiteRT.js and compilers for NPUs refuse `"open"` or fall back to the CPU.
        input_type: Type of the input; None for that of the table.
        output_type: Type of the output; None for that of the table.
        activation: `"softmax"` or `"sigmoid"` to return probabilities.
        description: Name, labels and more to write into the file, where MediaPipe and Android look
            for them.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If `calibration` is not a uint8 array.
        ValueError: If an argument has a value that does not fit, or int8 has no `calibration`.

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
    )
    shape = check_export(model, preprocess)
    if precision == "int8":
        check_calibration(calibration, shape)
    # The int8 converter starts from a float graph of plain pixels and changes the types itself.
    graph = dataclasses.replace(interface, input_type="float32") if precision == "int8" else None
    graph = graph or interface

    def serve(images: Tensor) -> dict[str, Tensor]:
        logits = model(network_input(images, preprocess, graph), training=False)
        return {interface.output_name: activated(logits, interface)}

    samples = None
    if calibration is not None:
        samples = functools.partial(_calibration_samples, calibration, preprocess, interface)
    with tempfile.TemporaryDirectory() as folder:
        write_signature(serve, folder, interface, shape, graph.graph_type)
        with quiet():
            content = _convert(folder, precision, interface, samples)
    if description is not None:
        normalized = interface.inputs == "normalized"
        content = with_metadata(
            content,
            description,
            channels=shape[-1],
            preprocess=preprocess if normalized else None,
        )
    Path(path).write_bytes(content)


def check_calibration(calibration: np.ndarray | None, shape: tuple[int, int, int]) -> None:
    """Checks the calibration images of an int8 file.

    Raises:
        TypeError: If `calibration` is not a uint8 array.
        ValueError: If it is None or has another shape.
    """
    if calibration is None:
        raise ValueError("int8 needs `calibration`, uint8 training images. Received: None")
    check_images("calibration", calibration, shape)


def _convert(
    folder: str,
    precision: Precision,
    interface: Interface,
    samples: Callable[[], _Samples] | None,
) -> bytes:
    """Converts a SavedModel and returns the flatbuffer; int8 needs `samples`."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    elif precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # No fallback to float operators: an operator without an integer kernel is an error.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.as_dtype(interface.input_type)
        converter.inference_output_type = tf.as_dtype(interface.output_type)
        converter.representative_dataset = samples
    return converter.convert()


def _calibration_samples(
    calibration: np.ndarray, preprocess: PreprocessSpec, interface: Interface
) -> _Samples:
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
        if start == 0:
            pixels = pixels.copy()
            pixels[0, 0, 0], pixels[0, -1, -1] = 0, 255
        x = pixels if interface.inputs == "raw" else preprocess.normalize(pixels)
        yield {interface.input_name: x.astype("float32")}
