"""What an exported file states of itself: in its manifest, its metadata and files of labels."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_resnet.export.artifacts import LABELS, manifest_entry, size_and_sha256
from keras_resnet.export.onnx_runtime import OnnxRuntime
from keras_resnet.export.runtime import Runtime
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.texts import escaped, label_lines, read_label_file, read_label_member

_METADATA = b"TFLITE_METADATA"
# Values of unions and enumerations in `metadata_schema.fbs` of tflite-support.
_NORMALIZATION, _AXIS_LABELS = 1, 2


@dataclasses.dataclass(frozen=True)
class Stated:
    """What an exported file states of itself.

    Attributes:
        preprocess: Its preprocessing, from the manifest beside it; or None.
        mean: Of the normalisation in its metadata, one value or one per channel; or None.
        std: See `mean`.
        labels: Names of its outputs; or None.
        notes: Where these come from, and what was found and not used.
        several: Whether an image may have several labels, from the manifest; or None.
    """

    preprocess: PreprocessSpec | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    several: bool | None = None


def stated(path: Path, runtime: Runtime, classes: int) -> Stated:
    """Returns what a file states of itself.

    The manifest that this package writes beside its files, or one directory above, comes first,
    where it has the hash of the file; then metadata inside the file; then `labels.txt` inside a
    SavedModel or beside the file.

    Args:
        path: A SavedModel directory, or a LiteRT or ONNX file.
        runtime: The loaded file.
        classes: Number of its outputs.
    """
    notes: list[str] = []
    preprocess, names, several = _manifest(path, notes)
    found = _from_content(path, runtime, notes)
    labels: tuple[str, ...] | None = None
    candidates = [("manifest.json", names), ("its metadata", found.labels), *_beside(path)]
    for source, candidate in candidates:
        if candidate is None:
            continue
        if len(candidate) != classes:
            notes.append(
                f"the {len(candidate):,} names of {source} are not used, as {path.name} has "
                f"{classes:,} outputs"
            )
            continue
        labels = candidate
        if source not in ("manifest.json", "its metadata"):
            notes.append(f"the outputs of {path.name} have the names of {source}")
        break
    return Stated(preprocess, found.mean, found.std, labels, tuple(notes), several)


def _manifest(
    path: Path, notes: list[str]
) -> tuple[PreprocessSpec | None, tuple[str, ...] | None, bool | None]:
    """Returns preprocessing, names, and whether an image has several labels, by the manifest."""
    try:
        entry = manifest_entry(path)
    except ValueError:  # some other program's manifest.json
        entry = None
    if entry is None:
        return None, None, None
    if size_and_sha256(path)[1] != entry.get("sha256"):
        notes.append(
            f"manifest.json is not used, as it describes another {path.name}: the hashes differ"
        )
        return None, None, None
    try:
        return stated_by(entry)
    except ValueError as error:
        notes.append(f"manifest.json is damaged, and not used: {error}")
        return None, None, None


def stated_by(
    entry: Mapping[str, Any],
) -> tuple[PreprocessSpec | None, tuple[str, ...] | None, bool | None]:
    """Returns preprocessing, names, and whether an image has several labels, of an entry.

    Raises:
        ValueError: If it is not what was written.
    """
    names, spec, several = (
        entry.get(key) for key in ("class_names", "preprocess", "several_labels")
    )
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise ValueError("`class_names` is no list of names")
    if not isinstance(several, bool | None):
        raise ValueError(f"`several_labels` must be true or false. Received: {several!r}")
    preprocess = None if spec is None else PreprocessSpec.from_dict(spec)
    return preprocess, None if names is None else tuple(map(escaped, names)), several


def _beside(path: Path) -> Iterator[tuple[str, tuple[str, ...] | None]]:
    """Yields the files of labels inside a directory, or beside a file."""
    inside = [path / "assets.extra" / LABELS, path / "assets" / LABELS] if path.is_dir() else []
    for file in (*inside, path.absolute().parent / LABELS):
        if file.is_file():
            yield str(file), tuple(read_label_file(file))


def _from_content(path: Path, runtime: Runtime, notes: list[str]) -> Stated:
    """Returns what stands inside a LiteRT or ONNX file."""
    if isinstance(runtime, OnnxRuntime):
        labels = runtime.properties.get("labels")
        return Stated(labels=tuple(label_lines(labels)) if labels else None)
    if path.is_dir():
        return Stated()
    try:
        return read_tflite(path.read_bytes())
    except (struct.error, IndexError, KeyError, ValueError, TypeError):
        notes.append(f"the metadata of {path.name} cannot be read, and is not used")
        return Stated()


def read_tflite(content: bytes) -> Stated:
    """Returns normalisation and labels of a LiteRT file's metadata.

    Args:
        content: The file.

    Example:
        >>> read_tflite(Path("model.tflite").read_bytes()).mean
        (127.5,)
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(content, 0)
    for index in range(model.MetadataLength()):
        if model.Metadata(index).Name() == _METADATA:
            buffer = model.Buffers(model.Metadata(index).Buffer()).DataAsNumpy().tobytes()
            break
    else:
        return Stated()
    graph = next(_root(buffer).tables(3), None)
    if graph is None:
        return Stated()
    image, scores = next(graph.tables(2), None), next(graph.tables(3), None)
    mean, std = None, None
    for unit in image.tables(4) if image is not None else ():
        options = unit.table(1)
        if unit.byte(0) == _NORMALIZATION and options is not None:
            mean, std = options.floats(0), options.floats(1)
    return Stated(mean=mean, std=std, labels=_labels(content, scores))


def _labels(content: bytes, scores: _Table | None) -> tuple[str, ...] | None:
    """Returns the lines of the associated file that names the values of the last axis."""
    files = () if scores is None else scores.tables(6)
    names = [file.text(0) for file in files if file.byte(2) == _AXIS_LABELS]
    found = read_label_member(content, names[0]) if names else None
    return None if found is None else tuple(found)


class _Table:
    """A table of a flatbuffer without generated code; fields are numbered as in the schema."""

    def __init__(self, buffer: bytes, position: int) -> None:
        import flatbuffers.table

        self._table: Any = flatbuffers.table.Table(buffer, position)

    def _offset(self, slot: int) -> int:
        return int(self._table.Offset(4 + 2 * slot))

    def byte(self, slot: int) -> int:
        """Returns a field of one byte; 0 where it is missing."""
        offset = self._offset(slot)
        return self._table.Bytes[self._table.Pos + offset] if offset else 0

    def text(self, slot: int) -> str:
        """Returns a string."""
        start = self._offset(slot) + self._table.Pos
        return bytes(self._table.String(start)).decode("utf-8")

    def table(self, slot: int) -> _Table | None:
        """Returns a table; None where it is missing."""
        offset = self._offset(slot)
        if not offset:
            return None
        return _Table(self._table.Bytes, self._table.Indirect(offset + self._table.Pos))

    def tables(self, slot: int) -> Iterator[_Table]:
        """Yields the tables of a vector."""
        offset = self._offset(slot)
        start = self._table.Vector(offset) if offset else 0
        for index in range(self._table.VectorLen(offset) if offset else 0):
            yield _Table(self._table.Bytes, self._table.Indirect(start + 4 * index))

    def floats(self, slot: int) -> tuple[float, ...] | None:
        """Returns a vector of float32; None where it is missing."""
        offset = self._offset(slot)
        if not offset:
            return None
        count = self._table.VectorLen(offset)
        return struct.unpack_from(f"<{count}f", self._table.Bytes, self._table.Vector(offset))


def _root(buffer: bytes) -> _Table:
    return _Table(buffer, struct.unpack_from("<I", buffer)[0])
