"""Exported files as nets to evaluate: LiteRT, ONNX and SavedModel, also of other programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import keras_resnet
from keras_resnet import PreprocessSpec
from keras_resnet.export.runtimes import Runtime, format_of, load, saved_model_directory
from keras_resnet.export.stated import stated
from keras_resnet.export.trial import try_file

from ..data import Listing, read_listing
from ..files import read_object
from .file_values import FileSettings as FileSettings
from .file_values import preprocess_of, returns_of
from .member import LogProbabilities, Member

_PROBES = 4


@dataclasses.dataclass(frozen=True, eq=False)
class FileMember(Member):
    """An exported file to evaluate; `model` is its runtime.

    Attributes:
        classes_: Number of outputs.
        returns: What it returns: `logits`, `probabilities` or, of independent labels, `sigmoids`.
        several: Whether an image may have several labels.
    """

    classes_: int = 0
    returns: str = "logits"
    several: bool = False

    @property
    def listing(self) -> Listing | None:
        """The files of each split of the run whose directory, or a client's in it, the file is in.

        They are taken for this file's run's only if their content is that of the data.
        """
        path = Path(self.name).absolute()
        for folder in (path.parent, path.parent.parent):
            if (folder / "config.json").is_file() and (folder / "manifest.json").is_file():
                return read_listing(folder / "data_files.csv.gz")
        return None

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels."""
        return self.several

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return int(self.model.input.shape[-1])

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.classes_

    @property
    def input_size(self) -> tuple[int | None, int | None]:
        """Height and width of the input, pixels; None where any is taken."""
        _, height, width, _ = self.model.input.shape
        return height, width

    def compiled(self) -> LogProbabilities:
        """Returns the function that runs the file; see `Member.compiled`."""
        return self._log_probabilities

    def _log_probabilities(self, images: np.ndarray) -> np.ndarray:
        runtime = self.model
        outputs = runtime.run(runtime.prepare(images, self.preprocess)).astype("float64")
        least = (runtime.output_scale or 0.0) / 2 or float(np.finfo("float32").tiny)
        if self.returns == "sigmoids":
            # Where it rounds to 1, the distance from 1 is at most half a step too.
            upper = 1 - max(least, float(np.finfo("float32").epsneg) / 2)
            shares = np.clip(outputs, least, upper)
            outputs = np.log(shares) - np.log1p(-shares)
        if self.several:
            return -np.logaddexp(0, -outputs)
        if self.returns == "probabilities":
            outputs = np.log(np.maximum(outputs, least))
        return outputs - np.logaddexp.reduce(outputs, axis=1, keepdims=True)

    def __str__(self) -> str:
        """Returns a description of the file and of what runs it."""
        return f"{self.weights} ({self.model.version})"


def open_exported(text: str, settings: FileSettings | None = None) -> FileMember:
    """Opens a SavedModel directory, or a LiteRT or ONNX file, of this package or another program.

    What it takes is read from the names of its input and output, from the manifest beside it and
    from the metadata inside; what no one states is assumed, and is among the notes.

    Args:
        text: The path.
        settings: What the user states.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If it is damaged, is not a classifier of images, or takes values that nobody
            states.
    """
    settings = FileSettings() if settings is None else settings
    path, notes = Path(text), []
    if not path.exists():
        raise FileNotFoundError(f"No exported file at {text!r}")
    if not path.is_dir() and not path.is_file():  # a pipe would wait for a writer
        raise ValueError(f"An exported file must be a regular file. Received: {text!r}")
    if path.is_dir() and (inner := saved_model_directory(path)) not in (None, path):
        path = inner or path
        notes.append(f"the latest version of {text} is measured: {path.name}")
    if path.is_file():
        try_file(path, format_of(path))
    runtime = load(path, foreign=True)
    size = _size(path, runtime, settings)
    if size is None:
        size = _stated_size(path, runtime)
    probe = _probe(path, runtime, size)
    says = stated(path, runtime, probe.shape[1])
    preprocess = preprocess_of(path, runtime, size, says, settings, notes)
    returns = returns_of(path, runtime, probe, settings, notes)
    if returns != "logits" and runtime.output_scale is not None:
        notes.append(
            f"{path.name} rounds probabilities to steps of {runtime.output_scale:.4g}: 0 counts as "
            "half a step in the loss"
        )
    several = says.several
    if several is None:
        several = runtime.own and returns == "sigmoids"
        several |= returns == "logits" and says.preprocess is not None and _labels_beside(path)
    channels = int(runtime.input.shape[-1] or 0)
    # A spec that says no more of the net than what opens the data needs.
    spec = keras_resnet.get_spec("cifar_resnet8").replace(
        name=path.name, classes=probe.shape[1], input_channels=channels
    )
    return FileMember(
        text,
        spec,
        preprocess,
        runtime,
        path.name,
        says.labels,
        notes=(*says.notes, *notes),
        classes_=probe.shape[1],
        returns=returns,
        several=several,
    )


def _size(path: Path, runtime: Runtime, settings: FileSettings) -> tuple[int, int] | None:
    """Returns height and width of the file's images; None where neither file nor user says."""
    _, height, width, _ = runtime.input.shape
    given = settings.image_size
    if height is None or width is None:
        return given
    if given is not None and given != (height, width):
        raise ValueError(
            f"`--image-size` must be the size that {path} takes, {height} x {width}. "
            f"Received: {given[0]} x {given[1]}"
        )
    return height, width


def _stated_size(path: Path, runtime: Runtime) -> tuple[int, int]:
    """Returns the size of the manifest, of a file that takes images of any size."""
    found = stated(path, runtime, 0).preprocess
    if found is None:
        raise ValueError(f"{path} takes images of any size: choose one with --image-size")
    height, width = found.size
    return height, width


def _probe(path: Path, runtime: Runtime, size: tuple[int, int]) -> np.ndarray:
    """Returns the outputs of a file for random pixels.

    Raises:
        ValueError: If the file cannot be run.
    """
    channels = int(runtime.input.shape[-1] or 0)
    pixels = np.random.default_rng(0).integers(0, 256, (_PROBES, *size, channels), "uint8")
    description = dataclasses.replace(runtime.input, mode="raw")
    kept, runtime.input = runtime.input, description
    try:
        return runtime.run(runtime.prepare(pixels, PreprocessSpec(size)))
    except ValueError:
        raise
    except Exception as error:  # runtimes raise what they like
        raise ValueError(f"{path} cannot be run: {error}") from error
    finally:
        runtime.input = kept


def _labels_beside(path: Path) -> bool:
    """Whether the run that a file is in has several labels per image."""
    config = path.absolute().parent / "config.json"
    if not config.is_file():
        return False
    data = read_object(config).get("data")
    return isinstance(data, dict) and data.get("task") == "multilabel"
