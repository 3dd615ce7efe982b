"""The runtimes of artifacts: TensorFlow's loader, LiteRT's interpreter and ONNX Runtime."""

from __future__ import annotations

import abc
import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.export.checks import Format, Inputs
from keras_resnet.export.interface import OUTPUT_NAMES, Activation, mode_of
from keras_resnet.export.quiet import quiet
from keras_resnet.preprocessing import PreprocessSpec


@dataclasses.dataclass(frozen=True)
class InputDescription:
    """The input of an artifact, read from the artifact.

    Attributes:
        name: Name of the input in the signature.
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


class Runtime(abc.ABC):
    """An artifact that is loaded and ready to run.

    Attributes:
        input: The artifact's input.
        activation: Whether it returns logits or probabilities.
        output_type: Type of its output.
    """

    input: InputDescription
    activation: Activation = "none"
    output_type: str = "float32"

    @property
    def integer(self) -> bool:
        """Whether the network computes its output in integers."""
        return "QUANTIZE" in self.operators or self.output_type != "float32"

    @property
    @abc.abstractmethod
    def operators(self) -> dict[str, int]:
        """Number of occurrences of each operator, the most frequent first."""

    @abc.abstractmethod
    def run_batch(self, batch: np.ndarray) -> np.ndarray:
        """Returns the float32 output `(batch, classes)` of a batch of the artifact's size."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Returns the float32 output `(batch, classes)` of any number of prepared images.

        An artifact with a fixed batch size runs as often as it takes; the last batch is filled up.
        """
        size = self.input.shape[0]
        if size is None or len(batch) == size:
            return self.run_batch(batch)
        outputs = []
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            full = np.resize(part, (size, *part.shape[1:])) if len(part) < size else part
            outputs.append(self.run_batch(full)[: len(part)])
        return np.concatenate(outputs)

    def prepare(self, pixels: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
        """Returns uint8 RGB pixels as the artifact takes them."""
        if self.input.mode == "normalized":
            return preprocess.normalize(pixels)
        if self.input.dtype == "int8":
            return (pixels.astype("int16") - 128).astype("int8")
        return pixels.astype(self.input.dtype, copy=False)


def load(path: str | os.PathLike[str]) -> Runtime:
    """Loads a SavedModel directory, or a LiteRT or ONNX file.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If it is not an artifact of this package.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No artifact at {str(path)!r}")
    kind = format_of(path)
    if kind == "saved_model":
        return SavedModelRuntime(path)
    return OnnxRuntime(path) if kind == "onnx" else LiteRTRuntime(path)


def format_of(path: Path) -> Format:
    """Returns the format of an artifact by its name, without reading it."""
    if path.is_dir():
        return "saved_model"
    return "onnx" if path.suffix == ".onnx" else "tflite"


class SavedModelRuntime(Runtime):
    """A SavedModel directory under `tf.saved_model.load`."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        try:
            # Kept, because the signature alone does not keep the variables alive.
            self._loaded = tf.saved_model.load(os.fspath(path))
            self._function = self._loaded.signatures["serving_default"]
        except (OSError, KeyError) as error:
            raise ValueError(
                f"{str(path)!r} is not a SavedModel with a 'serving_default' signature: {error}"
            ) from error
        ((name, spec),) = self._function.structured_input_signature[1].items()
        self.input = InputDescription(
            name, mode_of(name), spec.dtype.name, tuple(spec.shape.as_list())
        )

    @property
    def operators(self) -> dict[str, int]:
        """Operators of the graph and of the functions that it calls, without constants."""
        graph = self._function.graph.as_graph_def()
        functions = {function.signature.name: function for function in graph.library.function}
        return dict(_count_operators(graph.node, functions).most_common())

    def run_batch(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 outputs `(batch, classes)` of prepared images."""
        import tensorflow as tf

        return self._function(**{self.input.name: tf.constant(batch)})["logits"].numpy()


# Nodes that do not compute.
_PLUMBING = frozenset(
    ("Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp", "StatefulPartitionedCall")
)


def _count_operators(
    nodes: Iterable[Any], functions: Mapping[str, Any]
) -> collections.Counter[str]:
    """Counts the operators of nodes of a TensorFlow graph, following calls of functions."""
    counts: collections.Counter[str] = collections.Counter()
    for node in nodes:
        called = node.attr["f"].func.name if "f" in node.attr else ""
        if called in functions:
            counts += _count_operators(functions[called].node_def, functions)
        elif node.op not in _PLUMBING:
            counts[node.op] += 1
    return counts


class LiteRTRuntime(Runtime):
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
            raise ValueError(f"{str(path)!r} is not a valid LiteRT file: {error}") from error
        signature = self._interpreter.get_signature_list().get("serving_default")
        if signature is None:
            raise ValueError(f"{str(path)!r} has no signature 'serving_default'")
        (source,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        self._index = source["index"]
        self._batch_size = int(source["shape"][0])
        scale, zero_point = source["quantization"]
        (name,) = signature["inputs"]
        self.input = InputDescription(
            name,
            mode_of(name),
            np.dtype(source["dtype"]).name,
            tuple(None if size < 0 else int(size) for size in source["shape_signature"]),
            float(scale) if scale else None,
            int(zero_point) if scale else None,
        )
        (output,) = signature["outputs"]
        self.activation = activation_of(output)
        self.output_type = np.dtype(self._output["dtype"]).name

    @property
    def operators(self) -> dict[str, int]:
        """Operators of the file's main graph; custom ones, such as Flex, by their own names.

        Read with the flatbuffer schema of `ai_edge_litert`: the interpreter's own list is private
        and contains the nodes of delegates instead of the file's operators.
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
        """Returns uint8 RGB pixels as the file takes them, quantised if its input is."""
        x = super().prepare(pixels, preprocess)
        if self.input.mode == "raw" or self.input.scale is None or self.input.zero_point is None:
            return x
        limits = np.iinfo(self.input.dtype)
        integers = np.round(x / self.input.scale) + self.input.zero_point
        return np.clip(integers, limits.min, limits.max).astype(self.input.dtype)

    def run_batch(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 outputs `(batch, classes)` of prepared images, dequantised."""
        if len(batch) != self._batch_size:
            self._interpreter.resize_tensor_input(self._index, batch.shape)
            self._interpreter.allocate_tensors()
            self._batch_size = len(batch)
        self._interpreter.set_tensor(self._index, batch)
        self._interpreter.invoke()
        logits = self._interpreter.get_tensor(self._output["index"]).astype("float32")
        scale, zero_point = self._output["quantization"]
        return (logits - zero_point) * np.float32(scale) if scale else logits


class OnnxRuntime(Runtime):
    """An `.onnx` file under ONNX Runtime, on the CPU."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._content = path.read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        options.log_severity_level = 4  # fatal errors only
        try:
            self._session = onnxruntime.InferenceSession(
                self._content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exceptions are private
            raise ValueError(f"{str(path)!r} is not a valid ONNX file: {error}") from error
        (source,) = self._session.get_inputs()
        (output,) = self._session.get_outputs()
        self._output = output.name
        self.activation = activation_of(output.name)
        self.input = InputDescription(
            source.name,
            mode_of(source.name),
            {"tensor(uint8)": "uint8", "tensor(int8)": "int8"}.get(source.type, "float32"),
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

    def run_batch(self, batch: np.ndarray) -> np.ndarray:
        """Returns float32 outputs `(batch, classes)` of prepared images."""
        return np.asarray(self._session.run([self._output], {self.input.name: batch})[0])


def activation_of(name: str) -> Activation:
    """Returns whether an output of that name holds logits or probabilities.

    Raises:
        ValueError: If no file of this package has an output of that name.
    """
    for activation, output_name in OUTPUT_NAMES.items():
        if output_name == name:
            return activation
    raise ValueError(
        f"The output of an artifact must be named {' or '.join(OUTPUT_NAMES.values())}. "
        f"Received: {name!r}"
    )
