"""LiteRT flatbuffers (`.tflite`): float32, float16 and full-integer int8."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export.checks import (
    INPUT_NAMES,
    Inputs,
    Precision,
    check_backend,
    check_choice,
    check_images,
    check_model,
    image_shape,
)
from keras_resnet.export.quiet import quiet
from keras_resnet.export.saved_model import normalize_in_graph, write_signature
from keras_resnet.preprocessing import PreprocessSpec

_CALIBRATION_BATCH = 8


def export_tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    precision: Precision,
    preprocess: PreprocessSpec,
    inputs: Inputs = "raw",
    calibration: np.ndarray | None = None,
) -> None:
    """Converts a model to a LiteRT file of builtin operators with an open batch.

    | `precision` | `inputs="raw"` | `inputs="normalized"` | output `logits` |
    | --- | --- | --- | --- |
    | `float32`, `float16` | `images_uint8`, uint8 | `images_normalized`, float32 | float32 |
    | `int8` | `images_uint8`, uint8 | `images_normalized`, int8 | int8 |

    float16 stores the weights in 16 bits; int8 computes in integers from input to output. Raw
    int8 files take plain pixels (scale 1, zero point 0); the scales of all others are in the
    file. Nothing is compared here: see `verify` and `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: File to write.
        precision: Of weights and, for int8, computation.
        preprocess: Size and normalisation.
        inputs: Whether the normalisation is part of the file.
        calibration: For int8, uint8 pixels of training images, `(images, height, width,
            channels)`; some hundred of them do.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If `calibration` is no uint8 array.
        ValueError: If an argument has a value that does not fit, or calibration images lack.
    """
    check_backend()
    check_choice("inputs", inputs, Inputs)
    check_choice("precision", precision, Precision)
    check_model(model)
    shape = image_shape(model, preprocess)
    if precision == "int8":
        if calibration is None:
            raise ValueError("int8 needs `calibration`, uint8 training images. Received: None")
        check_images("calibration", calibration, shape)

    def serve(images: Any) -> dict[str, Any]:
        x = normalize_in_graph(images, preprocess) if inputs == "raw" else images
        return {"logits": model(x, training=False)}

    samples = None
    if precision == "int8" and calibration is not None:
        samples = _representative(calibration, preprocess, inputs)
    # The int8 converter starts from a float graph and changes its input's type itself.
    dtype = "uint8" if inputs == "raw" and precision != "int8" else "float32"
    with tempfile.TemporaryDirectory() as folder:
        write_signature(serve, folder, name=INPUT_NAMES[inputs], shape=shape, dtype=dtype)
        with quiet():
            content = _convert(folder, precision, inputs, samples)
    Path(path).write_bytes(content)


def _convert(
    folder: str,
    precision: Precision,
    inputs: Inputs,
    samples: Callable[[], Iterator[dict[str, np.ndarray]]] | None,
) -> bytes:
    """Runs the converter on a SavedModel and returns the flatbuffer."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    elif precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # Without a fallback to float operators: what has no integer kernel is an error.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8 if inputs == "raw" else tf.int8
        converter.inference_output_type = tf.int8
        converter.representative_dataset = samples
    return converter.convert()


def _representative(
    calibration: np.ndarray, preprocess: PreprocessSpec, inputs: Inputs
) -> Callable[[], Iterator[dict[str, np.ndarray]]]:
    """Returns what the converter calls for samples, as the float graph takes them.

    The converter takes the input's scale from the smallest and largest value that it sees. Images
    that use less than 0..255 would give a file to which plain pixels are the wrong numbers, so
    one corner of one image shows both ends in every channel.
    """

    def samples() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(calibration), _CALIBRATION_BATCH):
            pixels = calibration[start : start + _CALIBRATION_BATCH]
            if start == 0:
                pixels = pixels.copy()
                pixels[0, 0, 0], pixels[0, -1, -1] = 0, 255
            x = pixels if inputs == "raw" else preprocess.normalize(pixels)
            yield {INPUT_NAMES[inputs]: x.astype("float32")}

    return samples
