"""The operators and constants of a LiteRT file, read and changed in place."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

_TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 7: "<i2", 9: "i1"}
_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
}


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a file.

    Attributes:
        name: Its name, such as `"CONV_2D"`; custom ones have their own.
        inputs: Numbers of its input tensors; -1 for one that is left out.
        outputs: Numbers of its output tensors.
        options: Its table of options in the schema; None for operators without, or unknown ones.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = None


class LiteRTGraph:
    """The main graph of a `.tflite` file, whose numbers can be changed in place.

    Attributes:
        content: The file.
        operators: Its operators, in the order of execution.
        inputs: Numbers of the graph's inputs.
        outputs: Numbers of the graph's outputs.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.content = bytearray(content)
        self._model = schema.Model.GetRootAsModel(self.content, 0)
        self._graph = self._model.Subgraphs(0)
        self.inputs = tuple(int(i) for i in self._graph.InputsAsNumpy())
        self.outputs = tuple(int(i) for i in self._graph.OutputsAsNumpy())
        names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
        self.operators = [
            self._operator(self._graph.Operators(index), names, schema)
            for index in range(self._graph.OperatorsLength())
        ]

    def _operator(self, operator: Any, names: dict[Any, str], schema: Any) -> Operator:
        code = self._model.OperatorCodes(operator.OpcodeIndex())
        custom = code.CustomCode()
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = custom.decode() if custom else names[builtin]
        options, table = None, operator.BuiltinOptions()
        if table is not None and name in _OPTIONS:
            options = getattr(schema, _OPTIONS[name])()
            options.Init(table.Bytes, table.Pos)
        return Operator(
            name,
            tuple(int(i) for i in operator.InputsAsNumpy()),
            tuple(int(i) for i in operator.OutputsAsNumpy()),
            options,
        )

    def name(self, tensor: int) -> str:
        """Returns the name of a tensor."""
        return self._graph.Tensors(tensor).Name().decode()

    def dtype(self, tensor: int) -> np.dtype:
        """Returns the type of a tensor.

        Raises:
            ValueError: If it is none of this package's files.
        """
        number = self._graph.Tensors(tensor).Type()
        if number not in _TYPES:
            raise ValueError(f"tensor {self.name(tensor)!r} has the type {number} of the schema")
        return np.dtype(_TYPES[number])

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        found = self._graph.Tensors(tensor)
        return tuple(int(n) for n in found.ShapeAsNumpy()) if found.ShapeLength() else ()

    def is_constant(self, tensor: int) -> bool:
        """Whether a tensor is stored in the file."""
        return self._model.Buffers(self._graph.Tensors(tensor).Buffer()).DataLength() > 0

    def buffer(self, tensor: int) -> int:
        """Returns the number of the buffer of a tensor, which equal constants share."""
        return self._graph.Tensors(tensor).Buffer()

    def constant(self, tensor: int) -> np.ndarray:
        """Returns the values of a constant, as a view of `content`."""
        data = self._model.Buffers(self.buffer(tensor)).DataAsNumpy()
        return data.view(self.dtype(tensor)).reshape(self.shape(tensor))

    def is_quantized(self, tensor: int) -> bool:
        """Whether a tensor has scales."""
        found = self._graph.Tensors(tensor).Quantization()
        return found is not None and found.ScaleLength() > 0

    def scales(self, tensor: int) -> np.ndarray:
        """Returns the scales of a quantised tensor, as a view of `content`."""
        return self._graph.Tensors(tensor).Quantization().ScaleAsNumpy()

    def zero_points(self, tensor: int) -> np.ndarray:
        """Returns the zero points of a quantised tensor, as a view of `content`."""
        return self._graph.Tensors(tensor).Quantization().ZeroPointAsNumpy()
