"""Data sets for PyTorch's `DataLoader`: single examples, as in its guides."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from .images import MEAN, STD

_PAD = 4


class Examples(Dataset[tuple[np.ndarray, int]]):
    """Images, mirrored at random and normalised, with their labels.

    Args:
        load: Returns the image of an index, uint8 `(height, width, channels)`.
        labels: int64 labels.
    """

    def __init__(self, load: Callable[[int], np.ndarray], labels: np.ndarray) -> None:
        self._load, self._labels = load, labels
        self._mean, self._std = np.asarray(MEAN, "float32"), np.asarray(STD, "float32")

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Returns float32 `(channels, height, width)`, channels last in memory, and the label."""
        image = self._load(index)
        if np.random.rand() < 0.5:
            image = image[:, ::-1]
        normalized = (image - self._mean) / self._std
        return normalized.transpose(2, 0, 1), int(self._labels[index])


class Pictures(Dataset[tuple[Any, int]]):
    """Image files, changed by a transform.

    Args:
        paths: The files.
        labels: int64 labels.
        transform: A function of a picture of Pillow.
    """

    def __init__(
        self, paths: Sequence[str], labels: np.ndarray, transform: Callable[[Any], Any]
    ) -> None:
        self._paths, self._labels, self._transform = paths, labels, transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Returns the changed picture and the label."""
        with Image.open(self._paths[index]) as file:
            picture = file.convert("RGB")
        return self._transform(picture), int(self._labels[index])


def memory_examples(images: np.ndarray, labels: np.ndarray) -> Examples:
    """Returns images in memory, padded by 4 pixels and cropped."""
    return Examples(functools.partial(_cropped, images), labels)


def jpeg_examples(paths: Sequence[str], labels: np.ndarray, size: int) -> Examples:
    """Returns JPEG files, of each a random area and aspect ratio (Szegedy et al. 2015)."""
    return Examples(functools.partial(_resized, paths, size), labels)


def _cropped(images: np.ndarray, index: int) -> np.ndarray:
    image = np.pad(images[index], ((_PAD, _PAD), (_PAD, _PAD), (0, 0)))
    size = images.shape[1]
    row, column = np.random.randint(0, 2 * _PAD + 1, 2)
    return image[row : row + size, column : column + size]


def _resized(paths: Sequence[str], size: int, index: int) -> np.ndarray:
    with Image.open(paths[index]) as file:
        picture: Any = file.convert("RGB")
    area = picture.width * picture.height * np.random.uniform(0.08, 1)
    ratio = math.exp(np.random.uniform(-1, 1) * math.log(4 / 3))
    width = min(picture.width, math.sqrt(area * ratio))
    height = min(picture.height, math.sqrt(area / ratio))
    left = np.random.uniform(0, picture.width - width)
    top = np.random.uniform(0, picture.height - height)
    box = (left, top, left + width, top + height)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))
