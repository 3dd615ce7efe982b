"""Files that crash, fill or stall their runtime end a process of their own, not the command."""

import pathlib
import re
import time

import numpy as np
import pytest

from keras_resnet.export import trial
from keras_resnet.export.trial import try_file

pytestmark = pytest.mark.tf


def litert(operator: str, inputs: int = 1, side: int = 8) -> bytes:
    """A file of one operator, from uint8 images to 10 floats."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model, graph, operation = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    tensors = []
    for name, shape, kind in (("x", [1, side, side, 1], "UINT8"), ("y", [1, 10], "FLOAT32")):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, np.array(shape, "int32"), 0
        tensor.type = getattr(schema.TensorType, kind)
        tensors.append(tensor)
    operation.inputs, operation.outputs = np.zeros(inputs, "int32"), np.array([1], "int32")
    graph.tensors, graph.operators = tensors, [operation]
    graph.inputs, graph.outputs = np.array([0], "int32"), np.array([1], "int32")
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def onnx_file(kind: str) -> bytes:
    """A file that adds what an endless loop, or a tensor of 80 GB, returns."""
    helper = pytest.importorskip("onnx.helper")
    from onnx import TensorProto, numpy_helper

    def value(name, dtype, shape):
        return helper.make_tensor_value_info(name, dtype, shape)

    constants = [
        numpy_helper.from_array(np.int64(2**62), "count"),
        numpy_helper.from_array(np.array(True), "go"),
        numpy_helper.from_array(np.array([20 * 10**9]), "shape"),
    ]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["c2"]),
            helper.make_node("Identity", ["v"], ["v2"]),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("c", TensorProto.BOOL, []),
            value("v", TensorProto.FLOAT, [1, 10]),
        ],
        [value("c2", TensorProto.BOOL, []), value("v2", TensorProto.FLOAT, [1, 10])],
    )
    nodes = {
        "sound": [helper.make_node("Identity", ["x"], ["y"])],
        "loop": [helper.make_node("Loop", ["count", "go", "x"], ["y"], body=body)],
        "memory": [
            helper.make_node("ConstantOfShape", ["shape"], ["large"]),
            helper.make_node("ReduceMean", ["large"], ["mean"], keepdims=0),
            helper.make_node("Add", ["x", "mean"], ["y"]),
        ],
    }[kind]
    images, scores = (value(name, TensorProto.FLOAT, [1, 10]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [images], [scores], constants)
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tflite", lambda: litert("SLICE"), "cannot be run: its runtime crashes (SIGSEGV"),
        ("x.tflite", lambda: litert("RELU", inputs=2), "is not a valid LiteRT file: "),
        ("x.tflite", lambda: litert("CAST", side=60_000), "its input has the shape (1, 60000, 600"),
        ("x.tflite", lambda: b"hello", "is not a valid LiteRT file: "),
        ("x.onnx", lambda: b"hello", "is not a valid ONNX file: "),
        ("x.onnx", lambda: onnx_file("memory"), "cannot be run: "),
        ("x.onnx", lambda: onnx_file("loop"), "one input takes more than 1 s of the processor"),
        ("x.onnx", lambda: onnx_file("sound"), None),
    ],
)
def test_files_of_one_operator(
    tmp_path: pathlib.Path, monkeypatch, name: str, content, message: str | None
) -> None:
    """Before, the command itself ended by a signal, took 40 GB or never returned."""
    monkeypatch.setattr(trial, "SECONDS", 1.0)
    (tmp_path / name).write_bytes(content())
    kind = name.removeprefix("x.")
    pytest.importorskip("ai_edge_litert" if kind == "tflite" else "onnxruntime")
    start = time.monotonic()
    if message is None:
        try_file(tmp_path / name, kind)
    else:
        with pytest.raises(ValueError, match=rf"{tmp_path}/{name}.*{re.escape(message)}"):
            try_file(tmp_path / name, kind)
    assert time.monotonic() - start < 60
