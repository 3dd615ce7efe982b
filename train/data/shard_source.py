"""Record shards as a data set: every image can be read at once, in any order."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import DataConfig
from .array_record_files import DAMAGED, ArrayRecordFiles, Part
from .decoding import Decoding
from .divide import Files, divided
from .image_data import SPLITS, ImageData, check_labels
from .known import Read
from .request import Request
from .shard_checks import problem_of_shard, refuse_damaged
from .shard_format import REFUSED, Row, read_rows
from .shard_manifest import Written, read_manifest
from .sources import Contained, FileSource, read_in_graph
from .walk import counted


def load_record_shards(
    path: Path, config: DataConfig, channels: int, request: Request
) -> ImageData:
    """Opens a folder that `keras-resnet shards` has written.

    Its splits are those that were written; labels, names and order of the classes are the source's.
    The size of each file is compared with the manifest; its content is checked while it is read, as
    the format has a checksum for each record, and as a whole by `keras-resnet shards DIR --check`.

    Args:
        path: The folder.
        config: The data's configuration.
        channels: Number of channels to decode.
        request: Which splits are asked for, by whose classes.

    Raises:
        ValueError: If it is not finished, shards are missing or damaged, it is of another task,
            or the library array_record is not installed.
    """
    manifest = read_manifest(path)
    if manifest.task != config.task:
        raise ValueError(
            f"{path} was written with --task {manifest.task}, so give --task {manifest.task}. "
            f"Received: data.task={config.task!r}"
        )
    wanted = set(request.splits)
    if config.folds or (config.validation and "validation" not in manifest.splits):
        wanted.add("train")
    shards = {s: manifest.splits[s] for s in SPLITS if s in manifest.splits and s in wanted}
    if not shards:
        raise ValueError(
            f"Data set {str(path)!r} has no {request.splits[0]} split. "
            f"It has: {', '.join(manifest.splits)}"
        )
    rows = _checked_rows(path, [shard for each in shards.values() for shard in each])
    names = manifest.class_names
    container = Images(path, rows, manifest.channels)
    splits = {
        split: _source(
            path, [(each.file, rows[each.file]) for each in files], names, config, container
        )
        for split, files in shards.items()
    }
    notes = [f"shards of {manifest.source}; {manifest.images}"]
    if manifest.refused:
        notes.append(
            f"{counted(manifest.refused, 'image')} of {manifest.source} could not be read when the "
            f"shards were written and left out: see {path / REFUSED}"
        )
    return divided(str(path), Files(splits, None, names, tuple(notes)), channels, config, request)


def _checked_rows(folder: Path, shards: Sequence[Written]) -> dict[str, list[Row]]:
    """Returns the rows of each shard; refuses files of another size, and other rows."""
    rows: dict[str, list[Row]] = {}
    damaged: list[str] = []
    for shard in shards:
        problem = problem_of_shard(folder, shard, content=False)
        if problem:
            damaged.append(f"{shard.file} ({problem})")
            continue
        try:
            found = read_rows((folder / shard.rows).read_bytes(), shard.examples)[1]
        except ValueError as error:
            damaged.append(f"{shard.rows} ({error})")
            continue
        if len(found) != shard.examples:
            damaged.append(f"{shard.rows} ({len(found):,} images, not {shard.examples:,})")
        rows[shard.file] = found
    refuse_damaged(folder, damaged)
    return rows


def _source(
    folder: Path,
    shards: Sequence[tuple[str, Sequence[Row]]],
    class_names: tuple[str, ...],
    config: DataConfig,
    container: Contained,
) -> FileSource:
    """Returns the images of a split."""
    found = [row for _, rows in shards for row in rows]
    several = config.task == "multilabel"
    if not several and any(len(row.labels) != 1 for row in found):
        raise ValueError(f"{folder} has images without a label, or with several")
    flat = np.asarray([label for row in found for label in row.labels], "int64")
    check_labels(flat, class_names, str(folder))
    labels = flat
    if several:
        labels = np.zeros((len(found), len(class_names)), "uint8")
        labels[np.repeat(np.arange(len(found)), [len(row.labels) for row in found]), flat] = 1
    return FileSource(
        tuple(
            f"{folder}{os.sep}{file}/{number}/{row.name}"
            for file, rows in shards
            for number, row in enumerate(rows)
        ),
        labels,
        names=tuple(row.name for row in found),
        decoding=Decoding.of(config),
        container=container,
    )


class Images(Contained):
    """Images in record shards; a path is that of the shard, the record's number and the name."""

    def __init__(self, folder: Path, rows: Mapping[str, Sequence[Row]], channels: int) -> None:
        self._root = f"{folder}{os.sep}"
        self._rows = rows
        self._channels = channels
        sizes = [len(each) for each in rows.values()]
        starts = itertools.accumulate(sizes, initial=0)
        self._starts = dict(zip(rows, starts, strict=False))
        parts = [Part(str(folder / name), 0, len(each)) for name, each in rows.items()]
        self._records = ArrayRecordFiles(parts, str(folder))

    def read(self, path: str) -> bytes:
        """Returns the encoded image of a path."""
        return self.read_several([path])[0]

    def read_several(self, paths: Sequence[str]) -> list[bytes]:
        """Returns the encoded images of some paths."""
        return [
            self._image(path, record) for path, record in zip(paths, self._of(paths), strict=True)
        ]

    def _image(self, path: str, record: bytes) -> bytes:
        """Returns the encoded image of a record."""
        import tensorflow as tf

        try:
            example = tf.train.Example.FromString(record)
            (image,) = example.features.feature["image"].bytes_list.value
        except Exception as error:  # protobuf's errors are of its C++ or Python version
            shard, number = self._place(path)
            raise OSError(
                errno.EIO, f"number {number} {DAMAGED} {self._root}{shard}: it holds no image"
            ) from error
        return bytes(image)

    def gather(self, paths: Any) -> Any:
        """Returns the encoded images of paths, a vector of strings, inside a graph."""
        import tensorflow as tf

        records = read_in_graph(
            lambda names: self._of([os.fsdecode(name) for name in names]), paths
        )
        parsed = tf.io.parse_example(records, {"image": tf.io.FixedLenFeature((), tf.string)})
        return parsed["image"]

    def known(self, path: str, channels: int, *, accurate: bool) -> Read | None:
        """Returns what reading the image told when it was written, by the same decoder."""
        colours = {channels, self._channels} <= {1, 3}
        if not accurate or not (colours or channels == self._channels):
            return None
        shard, number = self._place(path)
        return self._rows[shard][number].read

    def _of(self, paths: Sequence[str]) -> list[bytes]:
        places = (self._place(path) for path in paths)
        return self._records.read(self._starts[shard] + number for shard, number in places)

    def _place(self, path: str) -> tuple[str, int]:
        shard, number, _ = path.removeprefix(self._root).split("/", 2)
        return shard, int(number)
