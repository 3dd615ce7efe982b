"""The images of a split in their stored order, prepared and collected into chunks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..data import Source
from ..data.scaled import Encoded
from ..data.sources import StreamSource
from ..data.stored import stored_examples

# Images of different shapes are kept decoded, at every scale, until their chunk is done.
_CHUNK_BYTES = 256 * 2**20

Prepare = Callable[[Any], tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A chunk of images of a split.

    Attributes:
        first: Index of the first image in the split.
        labels: int64, `(images,)`.
        versions: The outputs of `prepare`, version by version: one uint8 array
            `(images, height, width, channels)`, or a list of images where shapes differ.
    """

    first: int
    labels: np.ndarray
    versions: tuple[np.ndarray | Sequence[np.ndarray], ...]


def chunks(source: Source, channels: int, prepare: Prepare, size: int) -> Iterator[Chunk]:
    """Yields every image once, in order, in chunks of bounded memory.

    Args:
        source: The images.
        channels: Channels of the images.
        prepare: Maps an image, a uint8 tensor or `Encoded`, to one or more images for the nets.
        size: Largest number of images in a chunk.
    """
    import tensorflow as tf

    def prepared(image: Any, label: Any, *_: Any) -> Any:
        if image.dtype == tf.string:
            image = Encoded(image, channels, source.decoding)
        return prepare(image), tf.cast(label, tf.int64)

    data = _prepared(source, prepared)
    shapes = [spec.shape for spec in data.element_spec[0]]
    if not all(shape.is_fully_defined() for shape in shapes):
        yield from _of_many_shapes(data.prefetch(4), size)
        return
    held = sum(math.prod(shape) for shape in shapes)
    size = max(1, min(size, len(source), _CHUNK_BYTES // held))
    first = 0
    for versions, labels in data.batch(size).prefetch(2).as_numpy_iterator():
        yield Chunk(first, labels, versions)
        first += len(labels)


def by_shape(images: np.ndarray | Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields groups of images of one shape: their indices in the chunk, and one array."""
    if isinstance(images, np.ndarray):
        yield np.arange(len(images)), images
        return
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault(image.shape, []).append(number)
    for numbers in groups.values():
        yield np.asarray(numbers), np.stack([images[number] for number in numbers])


def _of_many_shapes(data: Any, size: int) -> Iterator[Chunk]:
    first, held = 0, 0
    rows: list[tuple[np.ndarray, ...]] = []
    labels: list[int] = []
    for images, label in data.as_numpy_iterator():
        rows.append(images)
        labels.append(label)
        held += sum(image.nbytes for image in images)
        if len(rows) >= size or held >= _CHUNK_BYTES:
            yield Chunk(first, np.asarray(labels), tuple(zip(*rows, strict=True)))
            first, held, rows, labels = first + len(rows), 0, [], []
    if rows:
        yield Chunk(first, np.asarray(labels), tuple(zip(*rows, strict=True)))


def _prepared(source: Source, prepared: Callable[..., Any]) -> Any:
    """Returns a `tf.data.Dataset` of `prepared(uint8 or encoded image, label, ...)`."""
    import tensorflow as tf

    if isinstance(source, StreamSource):
        records = source.open(None)
        return records.map(prepared, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    numbers = tf.data.Dataset.range(len(source)).batch(1)
    return stored_examples(numbers.map(lambda number: (number, number)), source, prepared)
