"""Where images come from: three kinds of source, and the data set that holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

IN_MEMORY = 2 * 2**30
"""Bytes of decoded images up to which a data set is kept in memory."""

Split = str  # "train", "validation" or "test"


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Images that lie in memory, decoded and of one size.

    Attributes:
        images: uint8, `(examples, height, width, channels)`.
        labels: int64, `(examples,)`.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Image files, read and decoded each time.

    Attributes:
        paths: One file an example.
        labels: int64, `(examples,)`.
    """

    paths: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)


@dataclasses.dataclass(frozen=True)
class StreamSource:
    """Encoded images that can only be read in sequence, such as the shards of ImageNet.

    Attributes:
        size: Number of examples.
        open: Called with an epoch's seed, an int64 tensor, or with None for the stored order;
            returns a `tf.data.Dataset` of (encoded image, label) in an order that is a function
            of that seed alone.
    """

    size: int
    open: Callable[[Any], Any]

    def __len__(self) -> int:
        return self.size


Source = ArraySource | FileSource | StreamSource


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set: named classes, channels and a source for each split.

    Attributes:
        name: As the user gave it.
        class_names: In the order of the labels.
        channels: 1 or 3.
        train: Training images.
        validation: Held-out images, or None.
        test: Test images, or None where the data set has none.
        notes: What the reader of a report should know, such as images that were skipped.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    train: Source
    validation: Source | None
    test: Source | None
    notes: tuple[str, ...] = ()

    def split(self, name: Split) -> Source:
        """Returns a split's source.

        Raises:
            ValueError: If the data set has no such split.
        """
        sources = {"train": self.train, "validation": self.validation, "test": self.test}
        if name not in sources:
            raise ValueError(f"`split` must be one of {', '.join(sources)}. Received: {name!r}")
        source = sources[name]
        if not source:  # None, or no images
            have = ", ".join(key for key, value in sources.items() if value)
            raise ValueError(f"Data set {self.name!r} has no {name} split. It has: {have}")
        return source


def check_labels(labels: np.ndarray, class_names: tuple[str, ...], where: str) -> None:
    """Checks that labels are indices of classes.

    Raises:
        ValueError: If one is out of range; names the first.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(wrong):
        raise ValueError(
            f"Labels of {where} must lie in 0..{len(class_names) - 1}. "
            f"Received: {labels[wrong[0]]} at example {wrong[0]} ({len(wrong)} in all)"
        )


def hold_out(size: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Splits example numbers into training and validation.

    The split is drawn once and for all (seed 0), not by a run's seed, so that runs with different
    seeds are measured on the same images.

    Returns:
        Indices for training and for validation, each sorted.

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


def take(source: ArraySource | FileSource, indices: np.ndarray) -> ArraySource | FileSource:
    """Returns a source of some of the examples."""
    if isinstance(source, ArraySource):
        return ArraySource(source.images[indices], source.labels[indices])
    return FileSource(tuple(source.paths[i] for i in indices), source.labels[indices])
