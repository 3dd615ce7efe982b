"""A LiteRT file opened for the page: its input, classes and preprocessing, and the page's graph."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_resnet import PreprocessSpec
from keras_resnet.export.artifacts import LABELS, manifest_entry
from keras_resnet.export.metadata import read_labels
from keras_resnet.export.runtimes import LiteRTRuntime
from keras_resnet.export.stated import stated_by
from keras_resnet.texts import read_label_file

from . import graph

_CHECKED_IMAGES = 3
# Largest difference between the file and the page's graph, relative to the largest output: the
# weights and operators are the same, so only another choice of kernels may round otherwise.
_EQUAL = 1e-5
# Largest difference between the logits that the map adds up to and the file's, in the same units.
_MAP_EQUAL = 1e-3

Squash = Literal["softmax", "sigmoid"]


@dataclasses.dataclass(frozen=True, eq=False)
class DemoClassifier:
    """A LiteRT file with what the page needs to know of it.

    Attributes:
        title: Heading of the page.
        file: Name of the file.
        content: The file as it was exported.
        page: The file as the page runs it.
        input: Name, type, mode and shape of the page's input.
        output: Name of the output.
        activation: What the page applies to the output: `"softmax"`, `"sigmoid"` or `"none"`.
        classes: Number of outputs.
        labels: Their names; None if unknown.
        preprocess: Size and resizing, and the normalisation of a file that does not normalise.
        precision: Precision of the file, in words.
        notes: What was assumed, for the user.
    """

    title: str
    file: str
    content: bytes
    page: graph.PageGraph
    input: Mapping[str, Any]
    output: str
    activation: str
    classes: int
    labels: tuple[str, ...] | None
    preprocess: PreprocessSpec
    precision: str
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """SHA-256 of the file as it was exported."""
        return hashlib.sha256(self.content).hexdigest()


def open_classifier(
    path: Path,
    *,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    squash: Squash = "softmax",
) -> DemoClassifier:
    """Opens a LiteRT file of this package, and checks the page's graph against it.

    Class names are those given, the manifest's, the file's own, or those of `labels.txt` beside it.
    The preprocessing is the manifest's.

    Args:
        path: The file.
        labels: Names of its outputs, in order.
        title: Heading of the page; None for the name of the net.
        squash: What turns logits into probabilities.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no LiteRT file of this package, not a classifier of images with one
            or three channels, or the page cannot run it.
    """
    if path.is_dir() or path.suffix != ".tflite":
        raise ValueError(f"the page runs .tflite files. Received: {str(path)!r}")
    if not path.is_file():
        raise FileNotFoundError(f"No file {str(path)!r}")
    content = path.read_bytes()
    runtime = LiteRTRuntime(path)
    height, width, channels = _image_shape(path, runtime.input.shape)
    try:
        page = graph.page_graph(content)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error
    entry, notes = _manifest_entry(path, content)
    preprocess = PreprocessSpec((height, width))
    if entry is not None:
        try:
            preprocess = stated_by(entry)[0] or preprocess
        except ValueError as error:
            raise ValueError(f"manifest.json beside {str(path)!r} is damaged: {error}") from error
    elif runtime.input.mode == "normalized":
        raise ValueError(
            f"{str(path)!r} takes normalised values, and no manifest.json beside it says how to "
            "normalise: keep the two together, or export with --inputs raw"
        )
    output, classes = _check(path, runtime, page, preprocess, channels)
    names, named = _labels(path, content, labels, entry)
    if names is None:
        notes.append("no class names: give --labels FILE; the page shows numbers")
    elif len(names) != classes:
        raise ValueError(f"{named} has {len(names)} names, and {path.name} {classes} outputs")
    notes += page.changes
    if page.no_map:
        notes.append(f"no class activation map: {page.no_map}")
    plain = "uint8" if runtime.input.dtype in ("uint8", "int8") else "float32"
    return DemoClassifier(
        title=title or (entry or {}).get("model") or path.stem,
        file=path.name,
        content=content,
        page=page,
        input={
            "name": runtime.input.name,
            "mode": runtime.input.mode,
            "dtype": "float32" if runtime.input.mode == "normalized" else plain,
            "height": height,
            "width": width,
            "channels": channels,
        },
        output=output,
        activation=squash if runtime.activation == "none" else "none",
        classes=classes,
        labels=names,
        preprocess=preprocess,
        precision=(entry or {}).get("precision") or _precision(runtime),
        notes=tuple(notes),
    )


def _image_shape(path: Path, shape: Sequence[int | None]) -> tuple[int, int, int]:
    known = [side for side in shape[1:] if side is not None]
    if len(known) != 3 or known[-1] not in (1, 3):
        raise ValueError(
            f"the page classifies gray and RGB images of one size. Received: {str(path)!r}, with "
            f"input {tuple('?' if side is None else side for side in shape)}"
        )
    height, width, channels = known
    return height, width, channels


def _precision(runtime: LiteRTRuntime) -> str:
    if runtime.integer:
        return "int8"
    return "float16" if "DEQUANTIZE" in runtime.operators else "float32"


def _manifest_entry(path: Path, content: bytes) -> tuple[Mapping[str, Any] | None, list[str]]:
    """Returns the manifest's entry for a file, and notes on what is assumed without one."""
    entry = manifest_entry(path)
    if entry is not None and entry.get("sha256") == hashlib.sha256(content).hexdigest():
        return entry, []
    why = (
        "no manifest.json beside the file" if entry is None else "manifest.json is of another file"
    )
    return None, [f"{why}: pictures are resized bilinearly, and their largest centre is cropped"]


def _labels(
    path: Path, content: bytes, given: Sequence[str] | None, entry: Mapping[str, Any] | None
) -> tuple[tuple[str, ...] | None, str]:
    """Returns the class names and where they are from."""
    if given is not None:
        return tuple(given), "--labels"
    if entry is not None and entry.get("class_names"):
        return tuple(entry["class_names"]), "manifest.json"
    own = read_labels(content)
    if own is not None:
        return tuple(own), path.name
    beside = path.parent / LABELS
    if beside.is_file():
        return tuple(read_label_file(beside)), str(beside)
    return None, ""


def _check(
    path: Path,
    runtime: LiteRTRuntime,
    page: graph.PageGraph,
    preprocess: PreprocessSpec,
    channels: int,
) -> tuple[str, int]:
    """Compares the page's graph with the file on random images.

    Returns:
        The output's name, and the number of classes.

    Raises:
        ValueError: If the outputs differ, or the map does not add up to the logits.
    """
    shape = (_CHECKED_IMAGES, *preprocess.size, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    expected = runtime.run(runtime.prepare(pixels, preprocess))
    fed = preprocess.normalize(pixels) if runtime.input.mode == "normalized" else pixels
    if runtime.input.dtype == "float32":
        fed = fed.astype("float32")
    outputs = [graph.run(page.content, image[None]) for image in fed]
    (name,) = outputs[0].keys() - {graph.FEATURES}
    found = np.concatenate([each[name] for each in outputs])
    largest = np.abs(expected).max() or 1.0
    difference = np.abs(found - expected).max() / largest
    if not difference <= _EQUAL:
        raise ValueError(f"{str(path)!r} and the page's graph differ by {difference:.2g}")
    if page.head is not None and not runtime.integer:
        _check_map(path, page.head, outputs, name, runtime.activation)
    return name, found.shape[-1]


def _check_map(
    path: Path,
    head: graph.MapHead,
    outputs: Sequence[Mapping[str, np.ndarray]],
    name: str,
    activation: str,
) -> None:
    for each in outputs:
        maps = graph.class_activation_map(each[graph.FEATURES][0], head.kernel)
        logits = maps.mean((1, 2)) + head.bias
        if activation == "softmax":
            logits = np.exp(logits - logits.max())
            logits = logits / logits.sum()
        elif activation == "sigmoid":
            logits = 1 / (1 + np.exp(-logits))
        difference = np.abs(logits - each[name][0]).max() / np.abs(logits).max()
        if not difference <= _MAP_EQUAL:
            raise ValueError(
                f"{str(path)!r}: the class activation map does not add up to the logits "
                f"({difference:.2g})"
            )
