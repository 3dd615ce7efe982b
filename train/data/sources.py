"""Sources of images (arrays, files, streams) and the data set of its splits' sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

IN_MEMORY = 2 * 2**30
"""Largest size of decoded images that are kept in memory, in bytes."""


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Decoded images of one size in memory.

    Attributes:
        images: uint8, `(examples, height, width, channels)`.
        labels: int64, `(examples,)`.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> ArraySource:
        """Returns a source of the examples at `indices`."""
        return ArraySource(self.images[indices], self.labels[indices])


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Image files, which are read and decoded each time.

    Attributes:
        paths: One file per example.
        labels: int64, `(examples,)`.
    """

    paths: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: np.ndarray) -> FileSource:
        """Returns a source of the examples at `indices`."""
        return FileSource(tuple(self.paths[index] for index in indices), self.labels[indices])


@dataclasses.dataclass(frozen=True)
class StreamSource:
    """Encoded images that can only be read in sequence, such as ImageNet's record files.

    Attributes:
        size: Number of examples.
        open: A function that returns a `tf.data.Dataset` of (encoded image, label). Its argument
            is the seed of an epoch's order, an int64 tensor, or None for the stored order.
    """

    size: int
    open: Callable[[Any], Any]

    def __len__(self) -> int:
        return self.size


Source = ArraySource | FileSource | StreamSource


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A data set.

    Attributes:
        name: The name that the user gave.
        class_names: The names of the classes, in the order of the labels.
        channels: Channels per image, 1 or 3.
        train: Training images.
        validation: Validation images, or None.
        test: Test images, or None.
        notes: Notes for the user, such as images that were skipped.
    """

    name: str
    class_names: tuple[str, ...]
    channels: int
    train: Source
    validation: Source | None
    test: Source | None
    notes: tuple[str, ...] = ()

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
    """Splits example numbers in two, for instance into training and validation.

    The split has a fixed seed (0), so that runs with different seeds are evaluated on the same
    images.

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
