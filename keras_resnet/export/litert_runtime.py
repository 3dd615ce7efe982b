"""LiteRT files under `ai_edge_litert`'s interpreter."""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib.metadata
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.export.quiet import quiet
from keras_resnet.export.runtime import (
    Opened,
    Runtime,
    joined,
    only_one,
    read_outputs,
)

# Operators that pass an output on.
_PASSING = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE", "CAST")
_TYPES = ("float32", "float16", "uint8", "int8", "int16")

_MAX_SIDE, _MAX_VALUES = 2**16, 2**26


def check_input_sides(shape: Sequence[int]) -> None:
    """Checks the shape of an input before the interpreter reserves memory for all layers.

    Raises:
        ValueError: If a side is above 65,536, or the input has more than 2^26 values: the file is
            damaged.
    """
    sides = [int(side) for side in shape]
    if max(sides, default=0) > _MAX_SIDE or math.prod(sides) > _MAX_VALUES:
        raise ValueError(f"its input has the shape {tuple(sides)}")


class LiteRTRuntime(Runtime):
    """A `.tflite` file under `ai_edge_litert`'s interpreter, by default with all CPU cores."""

    def _open(self, path: Path, threads: int | None, foreign: bool) -> Opened:
        from ai_edge_litert.interpreter import Interpreter

        self._content = path.read_bytes()
        try:
            with quiet():
                self._interpreter = Interpreter(
                    model_content=self._content, num_threads=threads or os.cpu_count()
                )
                for each in self._interpreter.get_input_details():
                    check_input_sides(each["shape"])
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{str(path)!r} is not a valid LiteRT file: {error}") from error
        signature = self._interpreter.get_signature_list().get("serving_default")
        if signature is None and not foreign:
            raise ValueError(f"{str(path)!r} has no signature 'serving_default'")
        source = _single(path, "input", self._interpreter.get_input_details())
        features = self._features
        self._outputs = self._read(path, features)
        self._output = self._outputs[0]
        names = [source["name"], self._output["name"]]
        if signature is not None and len(signature["inputs"]) == len(signature["outputs"]) == 1:
            names = [next(iter(signature["inputs"])), next(iter(signature["outputs"]))]
        if features and signature is not None:
            names = [next(iter(signature["inputs"])), *features]
        self._index = source["index"]
        self._own_shape = self._shape = tuple(int(side) for side in source["shape"])
        scale, zero_point = source["quantization"]
        # Files of early converters have no `shape_signature` of the rank of `shape`.
        signed = source["shape_signature"]
        signed = signed if len(signed) == len(source["shape"]) else source["shape"]
        self.output_type = _type_of(path, self._output)
        self.output_scale = float(self._output["quantization"][0]) or None
        return Opened(
            names[0],
            [None if size < 0 else int(size) for size in signed],
            _type_of(path, source),
            names[1:],
            float(scale) if scale else None,
            int(zero_point) if scale else None,
        )

    @property
    def version(self) -> str:
        """Name and version of the interpreter."""
        return f"LiteRT {importlib.metadata.version('ai-edge-litert')}"

    @functools.cached_property
    def _operators(self) -> list[tuple[str, list[int], list[int]]]:
        """Name, input tensors and output tensors of each operator of the main graph.

        Read with the flatbuffer schema of `ai_edge_litert`: the interpreter's own list is private
        and contains the nodes of delegates instead of the file's operators.
        """
        from ai_edge_litert import schema_py_generated as schema

        names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
        model = schema.Model.GetRootAsModel(self._content, 0)
        graph = model.Subgraphs(0)
        found = []
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            code = model.OperatorCodes(operator.OpcodeIndex())
            builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            custom = code.CustomCode()
            found.append(
                (
                    custom.decode() if custom else names[builtin],
                    [operator.Inputs(number) for number in range(operator.InputsLength())],
                    [operator.Outputs(number) for number in range(operator.OutputsLength())],
                )
            )
        return found

    @property
    def operators(self) -> dict[str, int]:
        """Operators of the file's main graph; custom ones, such as Flex, by their own names."""
        return dict(collections.Counter(name for name, _, _ in self._operators).most_common())

    @property
    def last_operator(self) -> str | None:
        """The operator that computes the output, in lower case."""
        tensor = self._output["index"]
        for name, sources, outputs in reversed(self._operators):
            if tensor not in outputs:
                continue
            if name not in _PASSING:
                return name.lower()
            tensor = sources[0]
        return None

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Returns outputs as `Runtime.run`; a file may say that its batch is open and not be."""
        if self.input.shape[0] is None and len(batch) != self._own_shape[0]:
            try:
                self._resize(batch.shape)
            except (ValueError, RuntimeError):
                self._resize(self._own_shape)
                shape = (self._own_shape[0], *self.input.shape[1:])
                self.input = dataclasses.replace(self.input, shape=shape)
        return super().run(batch)

    def _resize(self, shape: tuple[int, ...]) -> None:
        if self._shape == shape:
            return
        with quiet():
            self._interpreter.resize_tensor_input(self._index, shape)
            self._shape = ()  # unknown, if the next line fails
            self._interpreter.allocate_tensors()
        self._shape = shape

    def run_batch(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 outputs `(batch, classes)` of prepared images, dequantised."""
        self._resize(batch.shape)
        self._interpreter.set_tensor(self._index, batch)
        self._interpreter.invoke()
        return joined([self._values(each) for each in self._outputs], self._features)

    def _values(self, details: dict[str, Any]) -> np.ndarray:
        """Returns an output, dequantised."""
        values = self._interpreter.get_tensor(details["index"])
        scale, zero_point = details["quantization"]
        return (values.astype("float32") - zero_point) * np.float32(scale) if scale else values

    def _read(self, path: Path, features: Sequence[str]) -> list[dict[str, Any]]:
        """Returns the outputs to read; features by their names in the signature."""
        details = self._interpreter.get_output_details()
        if not features:
            return [_single(path, "output", details)]
        # The names of the signature; those of the tensors are the converter's.
        named = self._interpreter.get_signature_runner("serving_default").get_output_details()
        return [named[name] for name in read_outputs(path, list(named), features)]


def _single(path: Path, kind: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    name = only_one(path, kind, [each["name"] for each in details], ("logits", "probabilities"))
    return next(each for each in details if each["name"] == name)


def _type_of(path: Path, details: dict[str, Any]) -> str:
    name = np.dtype(details["dtype"]).name
    if name not in _TYPES:
        raise ValueError(
            f"The tensor {details['name']!r} of {str(path)!r} must have one of the types "
            f"{', '.join(_TYPES)}. Received: {name}"
        )
    return name
