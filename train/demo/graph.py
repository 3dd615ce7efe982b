"""A LiteRT file as the page needs it: plain types at its ends, and the feature map as an output.

The weights and the operators between the ends stay as they are. `check` compares the outputs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

FEATURES = "features"
# Operators between the classifier and the output, and between the pooling and the classifier.
_AFTER = ("DEQUANTIZE", "QUANTIZE", "SOFTMAX", "LOGISTIC", "RESHAPE")
_BEFORE = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE")
_POOLS = ("MEAN", "AVERAGE_POOL_2D")


@dataclasses.dataclass(frozen=True, eq=False)
class MapHead:
    """The classifier after the global average pooling.

    Attributes:
        kernel: Its weights, float32 `(classes, channels)`.
        bias: Its bias, float32 `(classes,)`.
        size: Height and width of the feature map.
    """

    kernel: np.ndarray
    bias: np.ndarray
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class PageGraph:
    """A LiteRT file for the page.

    Attributes:
        content: The file.
        head: What makes a class activation map of its output `features`; None without one.
        no_map: Why there is none; "" where there is one.
        changes: What was changed besides the second output, in words.
    """

    content: bytes
    head: MapHead | None
    no_map: str
    changes: tuple[str, ...]


def page_graph(content: bytes) -> PageGraph:
    """Returns a LiteRT file with the ends that LiteRT.js takes and a second output.

    LiteRT.js 2.5.3 refuses int8 at the ends, and an open batch. Integer outputs are dequantised,
    int8 inputs quantised from uint8 or float32, and an open batch fixed at 1. The output
    `features` is the input of the global average pooling: the map of Zhou et al. 2016
    (arXiv:1512.04150), Equation 2, is its product with the classifier's weights.

    Args:
        content: A LiteRT file with one input, one output and a signature.

    Raises:
        ValueError: If it has another batch size, or no signature.
    """
    editor = _Editor(content)
    editor.fix_batch()
    editor.convert_input()
    found = editor.find_classifier()
    outputs = [editor.convert_output()]
    if isinstance(found, str):
        return PageGraph(editor.packed(outputs), None, found, tuple(editor.changes))
    features, kernel, bias = found
    height, width = (int(side) for side in editor.graph.tensors[features].shape[1:3])
    outputs.append(editor.as_float(features, FEATURES))
    head = MapHead(kernel, bias, (height, width))
    return PageGraph(editor.packed(outputs), head, "", tuple(editor.changes))


class _Editor:
    """The main graph of a LiteRT file, and the changes that are made to it."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self.graph = self.model.subgraphs[0]
        self.changes: list[str] = []
        if not self.model.signatureDefs:
            raise ValueError("the file has no signature, so it is not one of `keras-resnet export`")
        self.signature = self.model.signatureDefs[0]
        self._names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
        self._producers = {
            int(output): operator
            for operator in self.graph.operators
            for output in operator.outputs
        }

    def fix_batch(self) -> None:
        """Fixes an open batch at 1.

        Raises:
            ValueError: If the file has another batch size.
        """
        source = self.graph.tensors[self.graph.inputs[0]]
        if int(source.shape[0]) != 1:
            raise ValueError(
                f"the page classifies one image at a time: export with --batch 1. "
                f"Received: a file with batch {int(source.shape[0])}"
            )
        if source.shapeSignature is not None and int(source.shapeSignature[0]) == -1:
            self.changes.append("the open batch is fixed at 1")
        for tensor in self.graph.tensors:
            tensor.shapeSignature = None

    def convert_input(self) -> None:
        """Puts a QUANTIZE before an int8 input."""
        (old,) = (int(index) for index in self.graph.inputs)
        source = self.graph.tensors[old]
        types = self.schema.TensorType
        if source.type != types.INT8:
            return
        if source.quantization is None or source.quantization.scale is None:
            raise ValueError("an int8 input of a float file is not taken: export with uint8 input")
        plain = _is_plain(source.quantization, -128)
        new = self._tensor(
            source.name + b"_page", source.shape, types.UINT8 if plain else types.FLOAT32
        )
        if plain:
            self.graph.tensors[new].quantization = self._quantization(1.0, 0)
        self.graph.operators.insert(0, self._operator("QUANTIZE", old, new))
        self.graph.inputs = [new]
        self.signature.inputs[0].tensorIndex = new
        self.changes.append("a QUANTIZE before the int8 input")

    def convert_output(self) -> int:
        """Returns the float32 output; puts a DEQUANTIZE after an integer one."""
        (old,) = (int(index) for index in self.graph.outputs)
        if self.graph.tensors[old].type == self.schema.TensorType.FLOAT32:
            return old
        self.changes.append("a DEQUANTIZE after the integer output")
        return self.as_float(old, self.signature.outputs[0].name.decode())

    def as_float(self, index: int, name: str) -> int:
        """Returns a tensor as float32: itself, or the output of a new DEQUANTIZE."""
        tensor, types = self.graph.tensors[index], self.schema.TensorType
        if tensor.type == types.FLOAT32:
            return index
        new = self._tensor(name.encode() + b"_page", tensor.shape, types.FLOAT32)
        self.graph.operators.append(self._operator("DEQUANTIZE", new, index))
        return new

    def find_classifier(self) -> tuple[int, np.ndarray, np.ndarray] | str:
        """Returns the pooled tensor and the classifier's weights and bias; or why there is none."""
        dense = self._walk(int(self.graph.outputs[0]), _AFTER)
        # In quantise-aware files a dense layer is a convolution of one pixel.
        if dense is None or self._name(dense) not in ("FULLY_CONNECTED", "CONV_2D"):
            return "the net does not end in a dense layer"
        pool = self._walk(int(dense.inputs[0]), _BEFORE)
        if pool is None or self._name(pool) not in _POOLS:
            return "its last dense layer does not follow a pooling over all positions"
        pooled, result = int(pool.inputs[0]), int(pool.outputs[0])
        shape = self.graph.tensors[pooled].shape
        sizes = [_values_of(self.graph.tensors[i].shape) for i in (pooled, result)]
        if len(shape) != 4 or sizes[0] != sizes[1] * int(shape[1]) * int(shape[2]):
            return "its last pooling does not average over all positions"
        kernel = self._values(int(dense.inputs[1]))
        if kernel.ndim == 4:
            if kernel.shape[1:3] != (1, 1):
                return "the net does not end in a dense layer"
            kernel = kernel[:, 0, 0]
        bias = np.zeros(len(kernel), "float32")
        if len(dense.inputs) > 2 and int(dense.inputs[2]) >= 0:
            bias = self._values(int(dense.inputs[2]))
        return pooled, kernel, bias

    def packed(self, outputs: list[int]) -> bytes:
        """Returns the file with these outputs, named as the signature's and `features`."""
        import flatbuffers

        self.graph.outputs = outputs
        self.signature.outputs[0].tensorIndex = outputs[0]
        for index in outputs[1:]:
            entry = self.schema.TensorMapT()
            entry.name, entry.tensorIndex = FEATURES.encode(), index
            self.signature.outputs.append(entry)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _name(self, operator: Any) -> str:
        code = self.model.operatorCodes[operator.opcodeIndex]
        return self._names[max(code.builtinCode, code.deprecatedBuiltinCode)]

    def _walk(self, index: int, passing: tuple[str, ...]) -> Any:
        """Returns the operator that makes a tensor, before those that are passed over."""
        operator = self._producers.get(index)
        while operator is not None and self._name(operator) in passing:
            operator = self._producers.get(int(operator.inputs[0]))
        return operator

    def _values(self, index: int) -> np.ndarray:
        """Returns a constant tensor as float32."""
        tensor, producer = self.graph.tensors[index], self._producers.get(index)
        if producer is not None:  # weights in float16 are dequantised by an operator
            return self._values(int(producer.inputs[0]))
        types = self.schema.TensorType
        dtype = {
            types.FLOAT32: "<f4",
            types.FLOAT16: "<f2",
            types.INT8: "<i1",
            types.INT32: "<i4",
            types.INT64: "<i8",
        }[tensor.type]
        raw = bytes(self.model.buffers[tensor.buffer].data)
        values = np.frombuffer(raw, dtype).reshape([int(side) for side in tensor.shape])
        quantization = tensor.quantization
        if quantization is None or quantization.scale is None:
            return values.astype("float32")
        scale = np.asarray(quantization.scale, "float64")
        return (values * scale.reshape(-1, *[1] * (values.ndim - 1))).astype("float32")

    def _tensor(self, name: bytes, shape: Any, kind: int) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, 0
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _quantization(self, scale: float, zero_point: int) -> Any:
        quantization = self.schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [scale], [zero_point]
        return quantization

    def _operator(self, name: str, output: int, source: int) -> Any:
        """Returns a new operator from one tensor to another."""
        code = getattr(self.schema.BuiltinOperator, name)
        codes = self.model.operatorCodes
        known = [i for i, each in enumerate(codes) if self._code(each) == code]
        if not known:
            entry = self.schema.OperatorCodeT()
            entry.builtinCode = entry.deprecatedBuiltinCode = code
            entry.version = 2 if name == "DEQUANTIZE" else 1
            codes.append(entry)
            known = [len(codes) - 1]
        operator = self.schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = known[0], [source], [output]
        return operator

    def _code(self, entry: Any) -> int:
        return max(entry.builtinCode, entry.deprecatedBuiltinCode)


def _values_of(shape: Any) -> int:
    """Returns the number of values of a shape."""
    return int(np.prod([int(side) for side in shape]))


def _is_plain(quantization: Any, zero_point: int) -> bool:
    """Whether integers are pixels: a scale of 1."""
    if quantization is None or quantization.scale is None:
        return False
    return float(quantization.scale[0]) == 1 and int(quantization.zeroPoint[0]) == zero_point


def run(content: bytes, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the outputs of a LiteRT file by name, for a batch of one image."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    runner = interpreter.get_signature_runner()
    (name,) = runner.get_input_details()
    return {key: np.asarray(value) for key, value in runner(**{name: image}).items()}


def class_activation_map(features: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Returns the map of every class: the features weighted by the classifier.

    The mean of a map over the positions, plus the class's bias, is the class's logit.

    Args:
        features: `(height, width, channels)`, before the global average pooling.
        kernel: Weights of the classifier, `(classes, channels)`.

    Returns:
        float32 `(classes, height, width)`.

    Source: Zhou et al. 2016 (arXiv:1512.04150), section 2, Equations 1 and 2.
    """
    return np.einsum("hwc,kc->khw", features, kernel).astype("float32")
