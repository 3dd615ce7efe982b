"""Sources of images (arrays, files, streams) and the data set of its splits' sources."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from .decoding import STANDARD, Decoding
from .known import Read, Stamp
from .listing import Listing

Task = Literal["classification", "multilabel"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

TOGETHER = 16
"""Encoded images that one call of Python reads, where Python reads them.

A call for each image takes longer than reading it; calls for whole batches would hold gigabytes of
photographs.
"""

IN_MEMORY = 2 * 2**30
"""Largest size of decoded images that are kept in memory, in bytes."""


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Decoded images of one size in memory.

    Attributes:
        images: uint8, `(examples, height, width, channels)`.
        labels: int64, `(examples,)`; uint8, `(examples, classes)`, for several labels per image.
        balanced: Whether training draws each class equally often.
        decoding: Unused, as the images are decoded; it lets all sources be treated alike.
    """

    images: np.ndarray
    labels: np.ndarray
    balanced: bool = False
    decoding: Decoding = STANDARD

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> ArraySource:
        """Returns a source of the examples at `indices`."""
        return dataclasses.replace(self, images=self.images[indices], labels=self.labels[indices])

    def gather(self, examples: Any) -> Any:
        """Returns the images at example numbers, an int64 tensor, inside a graph.

        The array stays NumPy's: as a constant of the graph it would be copied once for each
        pipeline, and once more while an iterator starts.
        """
        import tensorflow as tf

        images = tf.numpy_function(
            lambda numbers: self.images[numbers],
            [examples],
            tf.as_dtype(self.images.dtype),
            stateful=False,
        )
        return tf.ensure_shape(images, (*examples.shape, *self.images.shape[1:]))


class Contained(abc.ABC):
    """The images of a container, such as a tar file."""

    @abc.abstractmethod
    def read(self, path: str) -> bytes:
        """Returns the encoded image that a path of `FileSource.paths` stands for."""

    def read_several(self, paths: Sequence[str]) -> list[bytes]:
        """Returns the encoded images of some paths, in their order."""
        return [self.read(path) for path in paths]

    def gather(self, paths: Any) -> Any:
        """Returns the encoded images of paths, a vector of strings, inside a graph."""
        return read_in_graph(
            lambda names: self.read_several([os.fsdecode(name) for name in names]), paths
        )

    def stamp(self, path: str) -> Stamp | None:
        """Returns size and time of an image, by which it is the same; None where unknown."""
        return None

    def known(self, path: str, channels: int, *, accurate: bool) -> Read | None:
        """Returns what reading an image has told, where the container holds it; else None.

        Args:
            path: The path.
            channels: Number of channels that the image is decoded to.
            accurate: Which decoder; see `Decoding`.
        """
        return None


def read_in_graph(read: Callable[[np.ndarray], list[bytes]], values: Any) -> Any:
    """Returns what a function reads, a string for each of some values, inside a graph.

    Args:
        read: The function, which runs in Python.
        values: A vector, such as paths or numbers of records.
    """
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert
    def call(found: np.ndarray) -> np.ndarray:
        return np.asarray(read(found), object)

    contents = tf.numpy_function(call, [values], tf.string, stateful=False)
    return tf.ensure_shape(contents, values.shape)


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Image files, or images in a container, which are read and decoded each time.

    Attributes:
        paths: One file per example.
        labels: int64, `(examples,)`; uint8, `(examples, classes)`, for several labels per image.
        names: Names relative to the folder of the data, such as `cat/1.jpg`; may be empty.
        digests: Hashes of the files' content, where they were read; may be empty.
        decoding: How the files become pixels.
        balanced: Whether training draws each class equally often.
        container: Reads the images, where they are not files of their own; None for files.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    decoding: Decoding = STANDARD
    balanced: bool = False
    container: Contained | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def content(self, path: str) -> bytes:
        """Returns the encoded image of one of the paths.

        Raises:
            OSError: If it cannot be read.
        """
        if self.container is not None:
            return self.container.read(path)
        with open(path, "rb") as file:
            return file.read()

    def read(self, path: Any) -> Any:
        """Returns the encoded image of a path, a scalar string, inside a graph."""
        import tensorflow as tf

        if self.container is None:
            return tf.io.read_file(path)
        return self.container.gather(tf.reshape(path, (1,)))[0]

    @property
    def encoded_paths(self) -> list[bytes]:
        """The paths as the file system's bytes, which need not be UTF-8."""
        return [os.fsencode(path) for path in self.paths]

    def take(self, indices: np.ndarray) -> FileSource:
        """Returns a source of the examples at `indices`."""

        def picked(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[index] for index in indices) if values else ()

        return dataclasses.replace(
            self,
            paths=picked(self.paths),
            labels=self.labels[indices],
            names=picked(self.names),
            digests=picked(self.digests),
        )


class Records(NamedTuple):
    """Records of a file that follow one another.

    Attributes:
        path: The file.
        first: Number of records before them.
        length: Number of records.
    """

    path: str
    first: int
    length: int


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """The files of a stream, of which each worker reads its part.

    Attributes:
        files: What the stream has of each file.
        read: A function of a path, a scalar string, and an int64 number, to a `tf.data.Dataset` of
            the file's records from that one on, scalar strings.
        parse: A function of a record to (encoded image, label), in a graph.
        window: Number of records that are shuffled together, of all workers.
    """

    files: tuple[Records, ...]
    read: Callable[[Any, Any], Any]
    parse: Callable[[Any], tuple[Any, Any]]
    window: int = 16_384

    @property
    def identity(self) -> str:
        """What the order depends on: how many records each file has, wherever it lies."""
        counts = np.array([(each.first, each.length) for each in self.files], "<i8")
        digest = hashlib.sha256(counts.tobytes()).hexdigest()[:12]
        return f"{len(self.files)} record file(s) {digest}"


@dataclasses.dataclass(frozen=True)
class StreamSource:
    """Encoded images that can only be read in sequence, such as ImageNet's record files.

    Attributes:
        size: Number of examples.
        open: A function that returns a `tf.data.Dataset` of (encoded image, label). Its argument
            is the seed of an epoch's order, an int64 tensor, or None for the stored order.
        decoding: How the encoded images become pixels.
        parted: The files, where training reads them in parts (`stream_parts.py`); None where each
            worker reads the whole stream and shuffles it within a window.
    """

    size: int
    open: Callable[[Any], Any]
    decoding: Decoding = STANDARD
    parted: RecordFiles | None = None

    def __len__(self) -> int:
        return self.size


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """Encoded images with their labels, which are read by number, in any order.

    The labels are known only when a record is read, so that sampling by class and folds need
    another form of the data.

    Attributes:
        size: Number of examples.
        read: Maps numbers of examples, int64 `(count,)`, to encoded images and labels, in a graph.
        decoding: How the encoded images become pixels.
        numbers: The records that the examples are; None for all in their order.
    """

    size: int
    read: Callable[[Any], tuple[Any, Any]]
    decoding: Decoding = STANDARD
    numbers: np.ndarray | None = None
    balanced: ClassVar[bool] = False

    def __len__(self) -> int:
        return self.size

    def take(self, indices: np.ndarray) -> RecordSource:
        """Returns a source of the examples at `indices`."""
        numbers = indices if self.numbers is None else self.numbers[indices]
        return dataclasses.replace(self, size=len(numbers), numbers=numbers)

    def gather(self, examples: Any) -> tuple[Any, Any]:
        """Returns encoded images and labels at example numbers, int64 `(count,)`, in a graph."""
        import tensorflow as tf

        if self.numbers is not None:
            examples = tf.gather(tf.constant(self.numbers, tf.int64), examples)
        return self.read(examples)

    def open(self, seed: Any = None) -> Any:
        """Returns a `tf.data.Dataset` of (encoded image, label) in order."""
        import tensorflow as tf

        numbers = tf.data.Dataset.range(self.size).batch(TOGETHER)
        return numbers.map(self.gather, num_parallel_calls=2, deterministic=True).unbatch()


Source = ArraySource | FileSource | RecordSource | StreamSource


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set.

    Attributes:
        name: The name that the user gave.
        class_names: The names of the classes, in the order of the labels.
        channels: Channels per image.
        train: Training images; without any where they were not asked for.
        validation: Validation images, or None.
        test: Test images, or None.
        notes: Notes for the user: what was understood, skipped, assumed or converted.
        task: `classification`, or `multilabel` where an image has any number of labels.
        identity: What tells the data set from others, wherever it lies.
        path: The folder or file that it was read from, absolute; "" for data sets by name.
        listing: The files of each split, for data sets of files.
        changes: How the files differ from those that a run began with, where that keeps the run
            from going on.
        subset: Indices of the classes that the data has, where labels are indices of a net's
            classes and it has only some of them.
        index: The file in the cache directory that holds what reading the images has told, or None.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    train: Source
    validation: Source | None
    test: Source | None
    notes: tuple[str, ...] = ()
    task: Task = "classification"
    identity: str = ""
    path: str = ""
    listing: Listing | None = None
    changes: tuple[str, ...] = ()
    subset: tuple[int, ...] | None = None
    index: Path | None = None

    def split(self, name: str) -> Source:
        """Returns the source of `train`, `validation` or `test`.

        Raises:
            ValueError: If the data set has no such split.
        """
        sources = {"train": self.train, "validation": self.validation, "test": self.test}
        if name not in sources:
            raise ValueError(f"`split` must be one of {', '.join(sources)}. Received: {name!r}")
        source = sources[name]
        if not source:  # None, or without images
            present = ", ".join(key for key, value in sources.items() if value)
            raise ValueError(f"Data set {self.name!r} has no {name} split. It has: {present}")
        return source

    def parts(self) -> Iterator[tuple[Split, Source]]:
        """Yields the name and the source of each split that has images."""
        for name, source in zip(SPLITS, (self.train, self.validation, self.test), strict=True):
            if source:
                yield name, source

    def map(self, change: Callable[[Source], Source]) -> ImageData:
        """Returns a copy whose sources are changed by a function."""
        return dataclasses.replace(
            self,
            train=change(self.train),
            validation=None if self.validation is None else change(self.validation),
            test=None if self.test is None else change(self.test),
        )


def no_images(channels: int) -> ArraySource:
    """Returns a source without images."""
    return ArraySource(np.zeros((0, 1, 1, channels), "uint8"), np.zeros(0, "int64"))


def check_labels(labels: np.ndarray, class_names: tuple[str, ...], where: str) -> None:
    """Checks that labels are indices of classes.

    Args:
        labels: The labels.
        class_names: The names of the classes.
        where: The origin of the labels, for the error.

    Raises:
        ValueError: If a label is out of range; names the first one.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(wrong):
        raise ValueError(
            f"Labels of {where} must lie in 0..{len(class_names) - 1}. "
            f"Received: {labels[wrong[0]]} at example {wrong[0]} ({len(wrong)} in all)"
        )


def hold_out(size: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Splits example numbers in two by position, for instance into training and validation.

    The split has a fixed seed (0), so that runs with different seeds are evaluated on the same
    images. It is for data sets whose examples never change; files are split by name
    (`membership.py`).

    Args:
        size: Number of examples.
        fraction: Fraction of examples to hold out.

    Returns:
        The indices that remain and those that are held out, each sorted.

    Raises:
        ValueError: If either part would be empty.
    """
    held = round(size * fraction)
    if not 0 < held < size:
        raise ValueError(
            f"`validation` must leave images on both sides of {size}. Received: {fraction}"
        )
    order = np.random.Generator(np.random.Philox(0)).permutation(size)
    return np.sort(order[held:]), np.sort(order[:held])
