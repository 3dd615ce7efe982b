"""Where the images of record shards come from: files and containers, or a data set of TFDS."""

from __future__ import annotations

import abc
import dataclasses
import errno
import functools
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet import get_spec

from ..config import DataConfig
from .decoding import Decoding
from .image_data import Split, Task
from .index import stamp_of
from .load import check_dataset, load_data
from .shard_format import Shard
from .sources import FileSource
from .table import is_table
from .tar_shards import find_shards
from .tfds_array_record import is_by_number, record_source
from .tfds_source import image_and_label, open_builder, test_split

_SAMPLE = 256
_CHUNK_BYTES = 4 * 2**20


class Example(NamedTuple):
    """An image of the source.

    Attributes:
        name: Its name.
        labels: Its class, or classes.
        content: The encoded image, or why it cannot be read.
    """

    name: str
    labels: tuple[int, ...]
    content: bytes | OSError


Chunk = Callable[[], list[Example]]


@dataclasses.dataclass(frozen=True)
class Origin(abc.ABC):
    """Images with their labels, by split and position.

    Attributes:
        name: The name that the user gave.
        task: The task.
        class_names: The names of the classes, in the order of the labels.
        sizes: Number of images by split.
        decoding: How they are decoded.
        notes: What was understood, assumed or left out.
        mean_bytes: Mean size of an encoded image, measured on up to 256 of them.
    """

    name: str
    task: Task
    class_names: tuple[str, ...]
    sizes: Mapping[Split, int]
    decoding: Decoding
    notes: tuple[str, ...]
    mean_bytes: float

    @abc.abstractmethod
    def identity(self) -> str:
        """Returns a hash of all names and labels, in their order."""

    @abc.abstractmethod
    def key(self, shard: Shard) -> str:
        """Returns a hash that changes with the images of a shard, as far as it is quickly known."""

    @abc.abstractmethod
    def chunks(self, shard: Shard, size: int) -> Iterator[Chunk]:
        """Yields functions that read up to `size` images each; they may be called in parallel."""

    def chunk_size(self) -> int:
        """Returns how many images to hold together: 4 to 64, of 4 MiB."""
        return int(max(4, min(64, _CHUNK_BYTES / max(1.0, self.mean_bytes))))


@dataclasses.dataclass(frozen=True)
class FileOrigin(Origin):
    """Images of files or containers.

    Attributes:
        sources: The images by split.
    """

    sources: Mapping[Split, FileSource]

    def identity(self) -> str:
        """Returns a hash of all names and labels, in their order."""
        total = hashlib.sha256(json.dumps([self.task, self.class_names]).encode())
        for split, source in self.sources.items():
            total.update(f"\0{split}\0".encode())
            total.update("\0".join(source.names).encode("utf-8", "surrogateescape"))
            total.update(np.ascontiguousarray(source.labels).tobytes())
        return total.hexdigest()

    def key(self, shard: Shard) -> str:
        """Returns a hash of the sizes and times of a shard's images."""
        source = self.sources[shard.split]
        stamp = stamp_of if source.container is None else source.container.stamp
        stamps = [stamp(path) for path in source.paths[shard.start : shard.stop]]
        return hashlib.sha256(repr([each and tuple(each) for each in stamps]).encode()).hexdigest()

    def chunks(self, shard: Shard, size: int) -> Iterator[Chunk]:
        """Yields functions that read up to `size` images each."""
        for start in range(shard.start, shard.stop, size):
            stop = min(start + size, shard.stop)
            yield functools.partial(self._read, shard.split, start, stop)

    def _read(self, split: Split, start: int, stop: int) -> list[Example]:
        source = self.sources[split]
        rows = source.labels[start:stop]
        several = rows.ndim == 2
        labels = [tuple(np.flatnonzero(r).tolist()) if several else (int(r),) for r in rows]
        names = source.names[start:stop]
        contents = [_content(source, number) for number in range(start, stop)]
        return [Example(*each) for each in zip(names, labels, contents, strict=True)]


def _content(source: FileSource, number: int) -> bytes | OSError:
    try:
        return source.content(source.paths[number])
    except OSError as error:
        return error


@dataclasses.dataclass(frozen=True)
class TfdsOrigin(Origin):
    """Images of a data set of TFDS, in the order in which it stores them.

    Attributes:
        builder: TFDS's builder.
        parts: The name that TFDS has for each split.
    """

    builder: Any
    parts: Mapping[Split, str]

    def identity(self) -> str:
        """Returns a hash of the data set's name, version and splits."""
        facts = [self.builder.info.full_name, dict(self.parts), dict(self.sizes), self.class_names]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def key(self, shard: Shard) -> str:
        """Returns a hash of the data set's name and version."""
        return self.identity()

    def chunks(self, shard: Shard, size: int) -> Iterator[Chunk]:
        """Yields functions that return up to `size` images each."""
        examples = self._examples(shard.split, shard.start, shard.stop)
        while chunk := list(itertools.islice(examples, size)):
            yield functools.partial(list, chunk)

    def _examples(self, split: Split, start: int, stop: int) -> Iterator[Example]:
        part = f"{self.parts[split]}[{start}:{stop}]"
        records = tfds_records(self.builder, part)
        for name, (image, label) in zip(tfds_names(self.builder, part), records, strict=True):
            yield self._checked(name, int(label), image)

    def _checked(self, name: str, label: int, image: bytes) -> Example:
        if 0 <= label < len(self.class_names):
            return Example(name, (label,), image)
        return Example(name, (), OSError(errno.EINVAL, f"its label {label} is none of the classes"))


def tfds_names(builder: Any, part: str) -> Iterator[str]:
    """Yields the name of each example of a split or a part of it: its file and number there."""
    for each in builder.info.splits[part].file_instructions:
        for number in range(each.skip, each.skip + each.take):
            yield f"{os.path.basename(each.filename)}__{number}"


def tfds_records(builder: Any, part: str) -> Iterator[tuple[bytes, int]]:
    """Yields encoded images and labels in the order in which TFDS stores them."""
    import tensorflow_datasets as tfds

    if is_by_number(builder):
        source = record_source(builder, part)
        yield from source.open().as_numpy_iterator()
        return
    records = builder.as_dataset(
        split=part,
        shuffle_files=False,
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    for record in records.as_numpy_iterator():
        yield record["image"], record["label"]


def open_origin(config: DataConfig, channels: int, say: Callable[[str], None]) -> Origin:
    """Opens the images that shall become shards, with the splits that training would make.

    Args:
        config: The data's configuration.
        channels: Number of channels of the images.
        say: Is called with progress.

    Raises:
        ValueError: If there is no such data set, or it is made of arrays.
    """
    if config.dataset in ("digits", "synthetic"):
        raise ValueError(
            f"{config.dataset!r} is made in memory and has no files. Give a folder, a CSV or "
            "Parquet file, tar shards, or a data set of TFDS"
        )
    check_dataset(config)
    path = Path(config.dataset)
    if not (path.is_dir() or is_table(path) or find_shards(path)):
        return _tfds_origin(config)
    config = dataclasses.replace(config, on_bad_image="trust", cache="none")
    data = load_data(config, get_spec("resnet50").replace(input_channels=channels), say=say)
    sources = {split: source for split, source in data.parts() if isinstance(source, FileSource)}
    return FileOrigin(
        config.dataset,
        data.task,
        data.class_names,
        {split: len(source) for split, source in sources.items()},
        Decoding.of(config),
        data.notes,
        _mean_bytes(sources.values()),
        sources,
    )


def _mean_bytes(sources: Iterable[FileSource]) -> float:
    sizes: list[int] = []
    for source in sources:
        for number in np.linspace(0, len(source) - 1, min(_SAMPLE, len(source))).astype(int):
            content = _content(source, number)
            sizes.append(0 if isinstance(content, OSError) else len(content))
    return sum(sizes) / max(1, len(sizes))


def _tfds_origin(config: DataConfig) -> TfdsOrigin:
    if config.validation:
        raise ValueError(
            "A data set of TFDS keeps its own splits: leave out `--validation`, and give it to "
            f"`keras-resnet train`, which holds images out. Received: {config.validation}"
        )
    builder = open_builder(config)
    _, label = image_and_label(builder, config.dataset)
    splits = builder.info.splits
    test = test_split(builder)
    parts: dict[Split, str] = {"train": "train"} if "train" in splits else {}
    if "validation" in splits and test != "validation":
        parts["validation"] = "validation"
    if test is not None:
        parts["test"] = test
    if not parts:
        raise ValueError(
            f"Data set {config.dataset!r} has neither a train, a validation nor a test split. "
            f"It has: {', '.join(splits)}"
        )
    left = sorted(set(splits) - set(parts.values()))
    sizes = {split: splits[name].num_examples for split, name in parts.items()}
    return TfdsOrigin(
        config.dataset,
        "classification",
        tuple(label.names),
        sizes,
        Decoding.of(config),
        (f"splits without labels or of other names left out: {', '.join(left)}",) if left else (),
        sum(splits[name].num_bytes for name in parts.values()) / max(1, sum(sizes.values())),
        builder,
        parts,
    )
