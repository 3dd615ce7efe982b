"""LiteRT flatbuffers (`.tflite`): float32, float16 and full-integer int8."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np

from keras_resnet.export.checks import (
    INPUT_NAMES,
    Inputs,
    Precision,
    check_choice,
    check_export,
    check_images,
)
from keras_resnet.export.quiet import quiet
from keras_resnet.export.saved_model import input_dtype, normalized_input, write_signature
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
) -> None:
    """Converts a model to a LiteRT file of builtin operators with an open batch size.

    | `precision` | `inputs="raw"` | `inputs="normalized"` | output `logits` |
    | --- | --- | --- | --- |
    | `float32`, `float16` | `images_uint8`, uint8 | `images_normalized`, float32 | float32 |
    | `int8` | `images_uint8`, uint8 | `images_normalized`, int8 | int8 |

    float16 stores the weights in 16 bits; int8 computes in integers from input to output. Raw
    int8 files take plain pixels (scale 1, zero point 0); the file has the scales of all other int8
    tensors. This function does not compare the file with the model: see `verify` and `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: File to write.
        precision: Precision of the weights and, for int8, of the computation.
        preprocess: Size and normalisation.
        inputs: `"raw"` to include the normalisation in the file, or `"normalized"`.
        calibration: For int8, uint8 pixels of training images, `(images, height, width,
            channels)`. A few hundred are enough.

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
    shape = check_export(model, preprocess, inputs)
    check_choice("precision", precision, Precision)
    if precision == "int8":
        check_calibration(calibration, shape)

    def serve(images: Tensor) -> dict[str, Tensor]:
        return {"logits": model(normalized_input(images, preprocess, inputs), training=False)}

    # The int8 converter starts from a float graph and changes the type of its input.
    dtype = "float32" if precision == "int8" else input_dtype(inputs)
    samples = None
    if calibration is not None:
        samples = functools.partial(_calibration_samples, calibration, preprocess, inputs)
    with tempfile.TemporaryDirectory() as folder:
        write_signature(serve, folder, INPUT_NAMES[inputs], shape, dtype)
        with quiet():
            content = _convert(folder, precision, inputs, samples)
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
    folder: str, precision: Precision, inputs: Inputs, samples: Callable[[], _Samples] | None
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
        converter.inference_input_type = tf.uint8 if inputs == "raw" else tf.int8
        converter.inference_output_type = tf.int8
        converter.representative_dataset = samples
    return converter.convert()


def _calibration_samples(
    calibration: np.ndarray, preprocess: PreprocessSpec, inputs: Inputs
) -> _Samples:
    """Yields batches of calibration images as the float graph takes them.

    The converter derives the input's scale from the smallest and the largest value that it sees.
    With images that do not use all of 0..255 the scale would not be 1, and the file would misread
    plain pixels. So two corners of the first image are set to 0 and 255 in every channel.
    """
    for start in range(0, len(calibration), _CALIBRATION_BATCH):
        pixels = calibration[start : start + _CALIBRATION_BATCH]
        if start == 0:
            pixels = pixels.copy()
            pixels[0, 0, 0], pixels[0, -1, -1] = 0, 255
        x = pixels if inputs == "raw" else preprocess.normalize(pixels)
        yield {INPUT_NAMES[inputs]: x.astype("float32")}
