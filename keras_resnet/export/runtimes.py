"""Artefacts run by their own runtimes: TensorFlow's loader, LiteRT's interpreter, ONNX Runtime."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_resnet.export.checks import INPUT_NAMES, Format, Inputs
from keras_resnet.export.quiet import quiet
from keras_resnet.preprocessing import PreprocessSpec


@dataclasses.dataclass(frozen=True)
class InputDescription:
    """What an artefact takes, as read from the artefact.

    Attributes:
        name: Name of the input in its signature.
        mode: `"raw"` pixels or `"normalized"` values.
        dtype: NumPy name of the type.
        shape: `(batch, height, width, channels)`, None where open.
        scale: Of a quantised input: `value = scale * (integer - zero_point)`; else None.
        zero_point: See `scale`.
    """

    name: str
    mode: Inputs
    dtype: str
    shape: tuple[int | None, ...]
    scale: float | None = None
    zero_point: int | None = None


class Runtime(Protocol):
    """An artefact ready to run."""

    input: InputDescription

    @property
    def operators(self) -> dict[str, int]:
        """How often each kind of operator occurs, most frequent first."""

    def prepare(self, pixels: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
        """Returns uint8 RGB pixels as the artefact takes them."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 logits `(batch, classes)` of prepared images."""


def load(path: str | os.PathLike[str]) -> Runtime:
    """Loads a SavedModel directory, or a LiteRT or ONNX file (`.onnx`).

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it is none that this package wrote.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No artefact at {str(path)!r}")
    return _RUNTIMES[format_of(path)](path)


def format_of(path: Path) -> Format:
    """Returns what kind of artefact stands at a path: by its ending, whatever is in it."""
    if path.is_dir():
        return "saved_model"
    return "onnx" if path.suffix == ".onnx" else "tflite"


class SavedModelRuntime:
    """A SavedModel directory under `tf.saved_model.load`."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        try:
            # Kept, because the signature alone does not keep the variables alive.
            self._loaded = tf.saved_model.load(os.fspath(path))
            self._function = self._loaded.signatures["serving_default"]
        except (OSError, KeyError) as error:
            raise ValueError(f"{str(path)!r} is no SavedModel with a signature: {error}") from error
        ((name, spec),) = self._function.structured_input_signature[1].items()
        self.input = InputDescription(
            name, _mode(name), spec.dtype.name, tuple(spec.shape.as_list())
        )

    @property
    def operators(self) -> dict[str, int]:
        """Operators of the graph with its calls followed; without constants and plumbing."""
        graph = self._function.graph.as_graph_def()
        functions = {function.signature.name: function for function in graph.library.function}
        counts: collections.Counter[str] = collections.Counter()

        def count(nodes: Any) -> None:
            for node in nodes:
                called = node.attr["f"].func.name if "f" in node.attr else ""
                if called in functions:
                    count(functions[called].node_def)
                elif node.op not in _PLUMBING:
                    counts[node.op] += 1

        count(graph.node)
        return dict(counts.most_common())

    def prepare(self, pixels: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
        """Returns uint8 RGB pixels as the artefact takes them."""
        return _prepared(pixels, self.input.mode, preprocess)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 logits `(batch, classes)` of prepared images."""
        import tensorflow as tf

        return self._function(**{self.input.name: tf.constant(batch)})["logits"].numpy()


_PLUMBING = frozenset(
    ("Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp", "StatefulPartitionedCall")
)


class LiteRTRuntime:
    """A `.tflite` file under `ai_edge_litert`'s interpreter."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._content = path.read_bytes()
        try:
            with quiet():
                self._interpreter = Interpreter(
                    model_content=self._content, num_threads=os.cpu_count()
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{str(path)!r} is no LiteRT file that runs: {error}") from error
        signature = self._interpreter.get_signature_list().get("serving_default")
        if signature is None:
            raise ValueError(f"{str(path)!r} has no signature 'serving_default'")
        (source,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        self._index = source["index"]
        self._size = int(source["shape"][0])
        scale, zero_point = source["quantization"]
        (name,) = signature["inputs"]
        self.input = InputDescription(
            name,
            _mode(name),
            np.dtype(source["dtype"]).name,
            tuple(None if size < 0 else int(size) for size in source["shape_signature"]),
            float(scale) if scale else None,
            int(zero_point) if scale else None,
        )

    @property
    def operators(self) -> dict[str, int]:
        """Operators of the file's main graph; custom ones (Flex too) by their own names.

        Read with the flatbuffer schema that `ai_edge_litert` ships, because the interpreter's own
        list is private and shows the delegates' nodes in place of the file's operators.
        """
        from ai_edge_litert import schema_py_generated as schema

        names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
        model = schema.Model.GetRootAsModel(self._content, 0)
        graph = model.Subgraphs(0)
        counts: collections.Counter[str] = collections.Counter()
        for index in range(graph.OperatorsLength()):
            code = model.OperatorCodes(graph.Operators(index).OpcodeIndex())
            builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            custom = code.CustomCode()
            counts[custom.decode() if custom else names[builtin]] += 1
        return dict(counts.most_common())

    def prepare(self, pixels: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
        """Returns uint8 RGB pixels as the file takes them, quantised where it is."""
        if self.input.mode == "raw":
            return pixels
        x = preprocess.normalize(pixels)
        if self.input.scale is None or self.input.zero_point is None:
            return x
        limits = np.iinfo(self.input.dtype)
        integers = np.round(x / self.input.scale) + self.input.zero_point
        return np.clip(integers, limits.min, limits.max).astype(self.input.dtype)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 logits `(batch, classes)` of prepared images, dequantised."""
        if len(batch) != self._size:
            self._interpreter.resize_tensor_input(self._index, batch.shape)
            self._interpreter.allocate_tensors()
            self._size = len(batch)
        self._interpreter.set_tensor(self._index, batch)
        self._interpreter.invoke()
        logits = self._interpreter.get_tensor(self._output["index"]).astype("float32")
        scale, zero_point = self._output["quantization"]
        return (logits - zero_point) * np.float32(scale) if scale else logits


class OnnxRuntime:
    """An `.onnx` file under ONNX Runtime, on the processor."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._content = path.read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        options.log_severity_level = 4  # fatal: what it says of graphs is no user's business
        try:
            self._session = onnxruntime.InferenceSession(
                self._content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own kinds are private
            raise ValueError(f"{str(path)!r} is no ONNX file that runs: {error}") from error
        (source,) = self._session.get_inputs()
        self.input = InputDescription(
            source.name,
            _mode(source.name),
            {"tensor(uint8)": "uint8", "tensor(float)": "float32"}[source.type],
            tuple(size if isinstance(size, int) else None for size in source.shape),
        )

    @property
    def operators(self) -> dict[str, int]:
        """Operators of the file; those that are not ONNX's own as `domain::name`."""
        import onnx

        counts = collections.Counter(
            f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            for node in onnx.load_from_string(self._content).graph.node
        )
        return dict(counts.most_common())

    def prepare(self, pixels: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
        """Returns uint8 RGB pixels as the file takes them."""
        return _prepared(pixels, self.input.mode, preprocess)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 logits `(batch, classes)` of prepared images."""
        return np.asarray(self._session.run(["logits"], {self.input.name: batch})[0])


def _prepared(pixels: np.ndarray, mode: Inputs, preprocess: PreprocessSpec) -> np.ndarray:
    return pixels if mode == "raw" else preprocess.normalize(pixels)


def _mode(name: str) -> Inputs:
    """Returns the input mode that an input's name stands for."""
    for mode, known in INPUT_NAMES.items():
        if known == name:
            return mode
    raise ValueError(
        f"An artefact's input is called {' or '.join(INPUT_NAMES.values())}. Received: {name!r}"
    )


_RUNTIMES: dict[Format, Callable[[Path], Runtime]] = {
    "saved_model": SavedModelRuntime,
    "tflite": LiteRTRuntime,
    "onnx": OnnxRuntime,
}
