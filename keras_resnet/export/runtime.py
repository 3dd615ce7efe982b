"""What all runtimes of exported files have in common: the input, and batches of a fixed size."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_resnet.export.checks import Inputs
from keras_resnet.export.interface import OUTPUT_NAMES, Activation, mode_of
from keras_resnet.preprocessing import PreprocessSpec

_CHANNELS = (1, 3, 4)


@dataclasses.dataclass(frozen=True)
class InputDescription:
    """The input of a file, read from the file.

    Attributes:
        name: Name of the input in the signature.
        mode: `"raw"` pixels or `"normalized"` values. Files of other programs do not state it.
        dtype: NumPy name of the type.
        shape: `(batch, height, width, channels)`, None where open.
        scale: Of a quantised input: `value = scale * (integer - zero_point)`; else None.
        zero_point: See `scale`.
        channels_first: Whether the file takes `(batch, channels, height, width)`.
    """

    name: str
    mode: Inputs
    dtype: str
    shape: tuple[int | None, ...]
    scale: float | None = None
    zero_point: int | None = None
    channels_first: bool = False


@dataclasses.dataclass(frozen=True)
class Opened:
    """What a runtime found when it loaded a file.

    Attributes:
        name: Name of the input.
        shape: Its shape, as stored; None where open.
        dtype: NumPy name of its type.
        outputs: Names of the outputs that are read.
        scale: As in `InputDescription`.
        zero_point: As in `InputDescription`.
    """

    name: str
    shape: Sequence[int | None]
    dtype: str
    outputs: Sequence[str]
    scale: float | None = None
    zero_point: int | None = None


class Runtime(abc.ABC):
    """A file that is loaded and ready to run.

    Args:
        path: The file.
        threads: Threads that compute; the runtime's choice where None.
        foreign: Whether files of other programs are taken, with any names.
        features: Names of outputs that are not classes, to be read one after another.

    Raises:
        ValueError: If the file is damaged, or is not a classifier of images.

    Attributes:
        input: The file's input.
        activation: Whether it returns logits or probabilities.
        output_type: Type of its output.
        output_scale: Step of a quantised output; None of others.
        own: Whether the names of input and output are those of this package's files, which state
            what goes in and what comes out.
    """

    input: InputDescription
    activation: Activation = "none"
    output_type: str = "float32"
    output_scale: float | None = None
    own: bool = True

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        foreign: bool = False,
        features: Sequence[str] = (),
    ) -> None:
        self._path, self._features = path, features
        found = self._open(path, threads, foreign)
        mode, activation = interface_of(
            found.name, found.outputs, foreign=foreign, features=features
        )
        self.own = mode is not None
        self.activation = activation or "none"
        shape, first = image_input(path, found.name, found.shape, own=self.own and not foreign)
        self.input = InputDescription(
            found.name, mode or "raw", found.dtype, shape, found.scale, found.zero_point, first
        )

    @abc.abstractmethod
    def _open(self, path: Path, threads: int | None, foreign: bool) -> Opened:
        """Loads the file, for the constructor."""

    @property
    def integer(self) -> bool:
        """Whether the network computes its output in integers."""
        quantized = {"QUANTIZE", "QuantizeLinear"} & self.operators.keys()
        return bool(quantized) or self.output_type != "float32"

    @property
    @abc.abstractmethod
    def operators(self) -> dict[str, int]:
        """Number of occurrences of each operator, the most frequent first."""

    @property
    def last_operator(self) -> str | None:
        """The operator that computes the output, in lower case; None if it is not known."""
        return None

    @property
    @abc.abstractmethod
    def version(self) -> str:
        """Name and version of the program that runs the file."""

    @abc.abstractmethod
    def run_batch(self, batch: np.ndarray) -> np.ndarray:
        """Returns the float32 output `(batch, classes)` of a batch of the file's size."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Returns the float32 output `(batch, classes)` of any number of prepared images.

        A file with a fixed batch size runs as often as it takes; the last batch is filled up.
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

    def prepare(self, pixels: np.ndarray, preprocess: PreprocessSpec | None) -> np.ndarray:
        """Returns uint8 RGB pixels as the file takes them; quantised if its input is.

        Without `preprocess`, `pixels` are values as the net takes them.
        """
        if preprocess is None:
            x = self._quantized(pixels)
        elif self.input.mode == "raw":
            x = pixels
            if self.input.dtype == "int8":
                x = (pixels.astype("int16") - 128).astype("int8")
        else:
            x = self._quantized(preprocess.normalize(pixels))
        if self.input.channels_first:
            x = np.ascontiguousarray(np.moveaxis(x, -1, 1))
        return x.astype(self.input.dtype, copy=False)

    def _quantized(self, values: np.ndarray) -> np.ndarray:
        """Returns normalised values as the integers of a quantised input."""
        if self.input.scale is None or self.input.zero_point is None:
            return values
        limits = np.iinfo(self.input.dtype)
        integers = np.round(values / self.input.scale) + self.input.zero_point
        return np.clip(integers, limits.min, limits.max)


def interface_of(
    source: str, outputs: Sequence[str], *, foreign: bool, features: Sequence[str] = ()
) -> tuple[Inputs | None, Activation | None]:
    """Returns what the names of a file's input and output state.

    Args:
        source: Name of the input.
        outputs: Names of the outputs that are read.
        foreign: Whether files of other programs are taken, whose names state nothing.
        features: Names of outputs that are not classes, where the file has such.

    Returns:
        Mode and activation; None for what is not stated.

    Raises:
        ValueError: If a name is not one of this package's, and `foreign` is false.
    """
    try:
        mode = mode_of(source)
    except ValueError:
        if foreign:
            return None, None
        raise
    # A file with an input of this package's name and another output returns features.
    return mode, "none" if features else activation_of(outputs[0])


def activation_of(name: str) -> Activation:
    """Returns whether an output of that name holds logits or probabilities.

    Raises:
        ValueError: If no file of this package has an output of that name.
    """
    for activation, output_name in OUTPUT_NAMES.items():
        if output_name == name:
            return activation
    raise ValueError(
        f"The output of a classifier must be named {' or '.join(OUTPUT_NAMES.values())}. "
        f"Received: {name!r}, which are features"
    )


def image_input(
    path: object, name: str, shape: Sequence[int | None], *, own: bool = False
) -> tuple[tuple[int | None, ...], bool]:
    """Returns the shape of an image input with its channels last, and whether they were first.

    Args:
        path: The file.
        name: Name of its input.
        shape: Shape of its input.
        own: Whether the file is one of this package's, whose channels are last, of any number, and
            whose inputs may be signals and volumes too.

    Raises:
        ValueError: If it is not the shape of a batch of images of 1, 3 or 4 channels.
    """
    if own:
        return tuple(shape), False
    last = len(shape) == 4 and shape[3] in _CHANNELS
    first = len(shape) == 4 and shape[1] in _CHANNELS
    if last:
        return tuple(shape), False
    if first:
        return (shape[0], shape[2], shape[3], shape[1]), True
    text = ", ".join("open" if size is None else str(size) for size in shape)
    raise ValueError(
        f"The input of {str(path)!r} must be images, (batch, height, width, channels) or (batch, "
        f"channels, height, width), with 1, 3 or 4 channels. Received: {name!r}, ({text})"
    )


def read_outputs(path: object, names: Sequence[str], features: Sequence[str]) -> list[str]:
    """Returns the names of the outputs to read: all features, or the one of a classifier.

    Raises:
        ValueError: If the file lacks one of the features, or has several outputs.
    """
    missing = [name for name in features if name not in names]
    if missing:
        raise ValueError(
            f"{str(path)!r} must have the outputs {', '.join(features)}. Received: "
            f"{', '.join(names)}"
        )
    return list(features) or [only_one(path, "output", names, ("logits", "probabilities"))]


def only_one(path: object, kind: str, names: Sequence[str], preferred: Sequence[str] = ()) -> str:
    """Returns the name of a file's only input or output, or the first preferred one.

    Raises:
        ValueError: If there are none or several, none of them preferred.
    """
    for name in preferred:
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    raise ValueError(
        f"A classifier of images has one {kind}. Received: {str(path)!r} with "
        f"{len(names)} {kind}s ({', '.join(map(str, names)) or 'none'})"
    )


def joined(outputs: Sequence[np.ndarray], features: Sequence[str]) -> np.ndarray:
    """Returns the outputs of a batch as rows: all values of all features, or the classes."""
    if not features:
        return as_rows(outputs[0])
    rows = [each.reshape(len(each), -1).astype("float32", copy=False) for each in outputs]
    return np.concatenate(rows, axis=1)


def as_rows(output: np.ndarray) -> np.ndarray:
    """Returns an output as float32 `(batch, classes)`; axes of length 1 are dropped.

    Raises:
        ValueError: If it has several axes besides the batch.
    """
    if output.ndim < 2 or output.size != len(output) * max(output.shape[1:]):
        raise ValueError(
            f"The output of a classifier must be (batch, classes). Received: shape {output.shape}"
        )
    return output.reshape(len(output), -1).astype("float32", copy=False)
