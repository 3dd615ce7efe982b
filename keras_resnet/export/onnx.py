"""ONNX files: what ONNX Runtime and OpenVINO read, the fastest of a server's processors."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import keras

from keras_resnet.export.checks import (
    INPUT_NAMES,
    Inputs,
    check_backend,
    check_choice,
    check_model,
    image_shape,
)
from keras_resnet.export.quiet import quiet
from keras_resnet.export.saved_model import normalize_in_graph
from keras_resnet.nets.model import deep_graph
from keras_resnet.preprocessing import PreprocessSpec

# The newest that the converter writes.
_OPSET = 18
_NEEDED = ("onnx", "tf2onnx", "onnxruntime")


def check_onnx() -> None:
    """Checks that what makes and runs ONNX files is installed.

    Raises:
        ValueError: If it is not; says how to install it.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            "ONNX files are made by tf2onnx and compared by onnxruntime: "
            f"`pip install 'keras3-resnet[onnx]'`. Missing: {', '.join(missing)}"
        )


def export_onnx(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    preprocess: PreprocessSpec,
    inputs: Inputs = "raw",
) -> None:
    """Converts a model to a float32 ONNX file with an open batch.

    | `inputs` | input | values |
    | --- | --- | --- |
    | `"raw"` | `images_uint8`, uint8 `(batch, height, width, channels)` | RGB pixels 0..255 |
    | `"normalized"` | `images_normalized`, float32, same shape | `preprocess.normalize(pixels)` |

    Output: `logits`, float32 `(batch, classes)`. Channels stand last, as in all exports; runtimes
    turn them once. Nothing is compared here: see `verify` and `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: File to write.
        preprocess: Size and normalisation.
        inputs: Whether the normalisation is part of the file.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        ValueError: If an argument has a value that does not fit, or tf2onnx is missing.
    """
    check_backend()
    check_choice("inputs", inputs, Inputs)
    check_model(model)
    check_onnx()
    shape = image_shape(model, preprocess)
    dtype = "uint8" if inputs == "raw" else "float32"
    with deep_graph():
        images = keras.Input(shape, dtype=dtype, name=INPUT_NAMES[inputs])
        x = normalize_in_graph(images, preprocess) if inputs == "raw" else images
        served = keras.Model(images, {"logits": model(x, training=False)})
        served(keras.ops.zeros((1, *shape), dtype))  # Keras exports what has been called
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, "model.onnx")
            with quiet(), _inlined(), warnings.catch_warnings():
                # Keras asks NumPy for a name that tf2onnx wants and NumPy 2 has given up.
                warnings.filterwarnings("ignore", message="In the future `np.object`")
                served.export(made, format="onnx", opset_version=_OPSET, verbose=False)
            _finish(made, Path(path))


@contextlib.contextmanager
def _inlined() -> Iterator[None]:
    """Has functions that are called while one is traced become part of its graph.

    Keras computes grouped convolutions in a function of their own, compiled by XLA, which the
    converter takes for an operator that it does not know.
    """
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _finish(made: Path, path: Path) -> None:
    """Names the open batch, checks the file against ONNX's rules, and writes it anew."""
    import onnx

    file = onnx.load(made)
    for value in (*file.graph.input, *file.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    try:
        onnx.checker.check_model(file)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"tf2onnx made no valid ONNX file of the net: {error}") from error
    onnx.save(file, path)
