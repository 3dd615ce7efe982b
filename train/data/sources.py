"""Sources of images: arrays, files, records and streams."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .decoding import STANDARD, Decoding
from .known import Read, Stamp
from .on_host import on_host

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
        parted: The files, of which each worker reads its share: training in parts
            (`stream_parts.py`), evaluation a range. None where they are not known, or each worker
            shuffles the whole stream within a window.
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
            examples = tf.gather(on_host(self.numbers), examples)
        return self.read(examples)

    def open(self, seed: Any = None) -> Any:
        """Returns a `tf.data.Dataset` of (encoded image, label) in order."""
        import tensorflow as tf

        numbers = tf.data.Dataset.range(self.size).batch(TOGETHER)
        return numbers.map(self.gather, num_parallel_calls=2, deterministic=True).unbatch()


Source = ArraySource | FileSource | RecordSource | StreamSource
