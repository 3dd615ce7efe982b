"""A data set: the sources of its splits, its classes and what tells it from others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from .listing import Listing
from .sources import ArraySource, Source

Task = Literal["classification", "multilabel"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


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
