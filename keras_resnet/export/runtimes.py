"""The runtimes of exported files: TensorFlow's loader, LiteRT's interpreter and ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from keras_resnet.export.checks import Format
from keras_resnet.export.litert_runtime import LiteRTRuntime as LiteRTRuntime
from keras_resnet.export.onnx_runtime import OnnxRuntime as OnnxRuntime
from keras_resnet.export.runtime import InputDescription as InputDescription
from keras_resnet.export.runtime import Runtime as Runtime
from keras_resnet.export.runtime import activation_of as activation_of
from keras_resnet.export.saved_model_runtime import SavedModelRuntime as SavedModelRuntime

_IDENTIFIER = b"TFL3"


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    foreign: bool = False,
    features: Sequence[str] = (),
) -> Runtime:
    """Loads a SavedModel directory, or a LiteRT or ONNX file.

    Args:
        path: The file or directory.
        threads: Threads that compute; the runtime's choice where None. TensorFlow's are set for
            the whole process, before it computes anything.
        foreign: Whether files of other programs are taken too. Their names do not say what the
            input and the output mean; `Runtime.own` is then false, and the input is described as
            raw pixels.
        features: Names of outputs that are not classes; `Runtime.run` returns all of their values
            as one row per input, one output after another.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If it is not an artifact of this package or, with `foreign`, not a classifier
            of images.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"No artifact at {str(path)!r}")
    if not path.is_file() and not path.is_dir():  # a pipe would wait for a writer
        raise ValueError(f"An exported file must be a regular file. Received: {str(path)!r}")
    kind = format_of(path)
    if kind == "saved_model":
        return SavedModelRuntime(path, threads=threads, foreign=foreign, features=features)
    runtime = OnnxRuntime if kind == "onnx" else LiteRTRuntime
    return runtime(path, threads=threads, foreign=foreign, features=features)


def format_of(path: Path) -> Format:
    """Returns the format of an artifact by its name, without reading it."""
    if path.is_dir():
        return "saved_model"
    return "onnx" if path.suffix.lower() == ".onnx" else "tflite"


def is_exported(path: str | os.PathLike[str]) -> bool:
    """Whether a path names an exported file, by its ending or by what it holds.

    It is true for `.tflite`, `.lite` and `.onnx`, whether or not they exist; for files that begin
    as LiteRT files do; and for SavedModel directories and directories of their versions.
    """
    path = Path(path)
    if path.is_dir():
        return saved_model_directory(path) is not None
    if path.suffix.lower() in (".tflite", ".lite", ".onnx"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8)[4:] == _IDENTIFIER


def saved_model_directory(path: Path) -> Path | None:
    """Returns the SavedModel at a directory or, of numbered versions in it, the latest; or None."""
    if (path / "saved_model.pb").is_file() or (path / "saved_model.pbtxt").is_file():
        return path
    versions = [
        each
        for each in path.iterdir()
        if each.name.isdecimal() and (each / "saved_model.pb").is_file()
    ]
    return max(versions, key=lambda each: int(each.name), default=None)
