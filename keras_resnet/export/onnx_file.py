"""ONNX files for ONNX Runtime and OpenVINO, in float32 and int8."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export.checks import (
    PRECISIONS,
    Inputs,
    Precision,
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
from keras_resnet.export.memory import release
from keras_resnet.export.metadata import Description
from keras_resnet.export.onnx_quantized import quantize_onnx
from keras_resnet.export.quiet import quiet
from keras_resnet.nets.model import deep_graph
from keras_resnet.preprocessing import PreprocessSpec

# The newest opset that tf2onnx writes.
_OPSET = 18
_CALIBRATION_BATCH = 8
# Input values of a batch whose activations are all kept.
_BATCH_VALUES = 400_000
_PACKAGES = ("onnx", "tf2onnx", "onnxruntime")


def check_onnx() -> None:
    """Checks that the packages that write and run ONNX files are installed.

    Raises:
        ValueError: If one is missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            "ONNX files are written by tf2onnx and verified by onnxruntime: "
            f"`pip install 'keras3-resnet[onnx]'`. Missing: {', '.join(missing)}"
        )


def export_onnx(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    preprocess: PreprocessSpec | None,
    precision: Precision = "float32",
    calibration: np.ndarray | None = None,
    inputs: Inputs = "raw",
    batch: Batch = "open",
    input_type: NumberType | None = None,
    activation: Activation = "none",
    description: Description | None = None,
) -> None:
    """Converts a model to an ONNX file.

    | `inputs` | input | values |
    | --- | --- | --- |
    | `"raw"` | `images_uint8`, uint8 `(batch, height, width, channels)` | RGB pixels 0..255 |
    | `"normalized"` | `images_normalized`, float32, same shape | `preprocess.normalize(pixels)` |

    `input_type="float32"` or `"int8"` takes pixels as floats, or pixel - 128. Output: `logits`, or
    `probabilities` with `activation="softmax"`, float32 `(batch, classes)`. The layout is
    channels-last, as in all exports; runtimes transpose once. An int8 file (QDQ, one scale per
    output channel) takes and returns the same. This function does not compare the
    file with the model: see `verify` and `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: File to write.
        preprocess: Size and normalisation; None for values as the model takes them.
        precision: `"float32"`, or `"int8"` for ONNX Runtime's quantiser.
        calibration: For int8: uint8 pixels of training images, `(images, height, width, channels)`.
        inputs: `"raw"` to include the normalisation in the file, or `"normalized"`.
        batch: Batch size, or `"open"`.
        input_type: Type of the input; None for that of the table.
        activation: `"softmax"` or `"sigmoid"` to return probabilities.
        description: Name, labels and more to write into the file's `metadata_props`.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If `calibration` is not a uint8 array.
        ValueError: If an argument has a value that does not fit, or tf2onnx is missing.

    Example:
        ```python
        keras_resnet.export.export_onnx(
            keras_resnet.fold_batch_norm(model),
            "model.onnx",
            preprocess=keras_resnet.PreprocessSpec((224, 224)),
        )
        ```
    """
    if precision not in PRECISIONS["onnx"]:
        names = " or ".join(map(repr, PRECISIONS["onnx"]))
        raise ValueError(f"`precision` of ONNX files must be {names}. Received: {precision!r}")
    interface = make_interface(
        "onnx",
        precision,
        inputs=inputs,
        batch=batch,
        input_type=input_type,
        activation=activation,
        dims=len(model.inputs[0].shape) - 2,
    )
    shape = check_export(model, preprocess, inputs)
    check_classes(model, activation=activation)
    check_onnx()
    if precision == "int8":
        if calibration is None:
            raise ValueError("int8 needs `calibration`, uint8 training images. Received: None")
        check_images("calibration", calibration, shape, pixels=preprocess is not None)
    dtype, size = interface.graph_type, interface.batch_size
    with deep_graph():
        images = keras.Input(shape, batch_size=size, dtype=dtype, name=interface.input_name)
        result = model(network_input(images, preprocess, interface), training=False)
        served = keras.Model(images, served_outputs(model, result, interface))
        # Keras exports models that have been called.
        served(keras.ops.zeros((size or 1, *shape), dtype))
        with tempfile.TemporaryDirectory() as folder:
            converted = Path(folder, "model.onnx")
            with (
                quiet(),
                _functions_inlined(),
                _lean_freezing(),
                _lean_optimizer(),
                warnings.catch_warnings(),
            ):
                # Keras reads a NumPy name for tf2onnx that NumPy 2 has removed.
                warnings.filterwarnings("ignore", message="In the future `np.object`")
                served.export(converted, format="onnx", opset_version=_OPSET, verbose=False)
            if precision == "int8" and calibration is not None:
                samples = functools.partial(_samples, calibration, preprocess, interface)
                quantize_onnx(converted, samples, len(calibration))
            _write_checked(converted, Path(path), interface, description)


def _samples(
    calibration: np.ndarray, preprocess: PreprocessSpec | None, interface: Interface
) -> Iterator[np.ndarray]:
    """Yields batches of calibration images as the file takes them."""
    values = math.prod(calibration.shape[1:])
    size = interface.batch_size or max(1, min(_CALIBRATION_BATCH, _BATCH_VALUES // values))
    for start in range(0, len(calibration), size):
        pixels = calibration[start : start + size]
        if interface.batch_size is not None and len(pixels) < size:
            pixels = np.resize(pixels, (size, *pixels.shape[1:]))  # a fixed batch is full
        if preprocess is None:
            yield pixels
        elif interface.inputs == "normalized":
            yield preprocess.normalize(pixels)
        elif interface.input_type == "int8":
            yield (pixels.astype("int16") - 128).astype("int8")
        else:
            yield pixels.astype(interface.input_type)


@contextlib.contextmanager
def _functions_inlined() -> Iterator[None]:
    """Inlines functions that are called while another function is traced.

    Keras computes grouped convolutions in a function that XLA compiles, and the converter takes
    its call for an unknown operator.
    """
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


@contextlib.contextmanager
def _lean_freezing() -> Iterator[None]:
    """Makes tf2onnx freeze variables with fewer copies of the weights at a time.

    By itself it holds the frozen graph, its import into a session and the input of TensorFlow's
    optimizer side by side.
    """
    from tf2onnx import tf_loader

    from_function = tf_loader.from_function
    tf_loader.from_function = _frozen
    try:
        yield
    finally:
        tf_loader.from_function = from_function


def _frozen(function: Any, inputs: list[str], outputs: list[str], large_model: bool = False) -> Any:
    """Returns the frozen and optimized graph of a function, as tf2onnx's `from_function` does."""
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
    from tensorflow.python.grappler import tf_optimizer

    frozen = convert_variables_to_constants_v2(
        function, lower_control_flow=False, aggressive_inlining=True
    )
    meta = meta_graph_pb2.MetaGraphDef()
    meta.graph_def.CopyFrom(frozen.graph.as_graph_def(add_shapes=True))
    del frozen
    release()
    meta.collection_def["train_op"].node_list.value.extend([*inputs, *outputs])
    config = config_pb2.ConfigProto()
    config.graph_options.infer_shapes = True
    rewriting = config.graph_options.rewrite_options
    rewriting.optimizers[:] = ["constfold", "function", "dependency"]
    rewriting.experimental_disable_folding_quantization_emulation = True
    return tf_optimizer.OptimizeGraph(config, meta)


@contextlib.contextmanager
def _lean_optimizer() -> Iterator[None]:
    """Makes tf2onnx's optimizer work on one graph, whose nodes are written once, at its end.

    By itself it copies the graph with all weights before each of its 24 passes, and each pass
    writes all nodes anew: measured for ResNet-50, 10 s and 6 GB in place of 1 s and 2 GB, for the
    same file.
    """
    from tf2onnx import graph, optimizer

    optimize_graph, update_proto = optimizer.optimize_graph, graph.Graph.update_proto

    def optimize(unoptimized: Any, catch_errors: bool = True, optimizers: Any = None) -> Any:
        release()
        graph.Graph.update_proto = lambda self, external_tensor_storage=None: None
        try:
            return optimize_graph(unoptimized, False, optimizers)
        finally:
            graph.Graph.update_proto = update_proto

    optimizer.optimize_graph = optimize
    try:
        yield
    finally:
        optimizer.optimize_graph = optimize_graph


def _write_checked(
    converted: Path, path: Path, interface: Interface, description: Description | None
) -> None:
    """Names the batch axis of a converted file, checks the file against ONNX's rules, writes it."""
    import onnx

    proto = onnx.load(converted)
    for value in (*proto.graph.input, *proto.graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        if interface.batch_size is None:
            axis.dim_param = "batch"
        else:
            axis.dim_value = interface.batch_size
    if description is not None:
        onnx.helper.set_model_props(proto, description.properties())
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"tf2onnx wrote an invalid ONNX file: {error}") from error
    onnx.save(proto, path)
