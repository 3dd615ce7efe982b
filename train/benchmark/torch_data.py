"""Data sets for PyTorch's `DataLoader`: an example at a time, as its guides have it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

_PAD = 4


class MemoryExamples(Dataset[tuple[np.ndarray, int]]):
    """Images in memory, padded by 4 pixels, cropped, mirrored and normalised."""

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self._images, self._labels = images, labels
        self._mean, self._std = np.asarray(mean, "float32"), np.asarray(std, "float32")

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = np.pad(self._images[index], ((_PAD, _PAD), (_PAD, _PAD), (0, 0)))
        size = self._images.shape[1]
        row, column = np.random.randint(0, 2 * _PAD + 1, 2)
        image = image[row : row + size, column : column + size]
        if np.random.rand() < 0.5:
            image = image[:, ::-1]
        return _normalized(image, self._mean, self._std), int(self._labels[index])


class JpegExamples(Dataset[tuple[np.ndarray, int]]):
    """JPEG files: a random area and aspect ratio (Szegedy et al. 2015), mirrored, normalised."""

    def __init__(
        self,
        paths: Sequence[str],
        labels: np.ndarray,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self._paths, self._labels, self._size = paths, labels, size
        self._mean, self._std = np.asarray(mean, "float32"), np.asarray(std, "float32")

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        with Image.open(self._paths[index]) as file:
            picture = file.convert("RGB")
        area = picture.width * picture.height * np.random.uniform(0.08, 1)
        ratio = math.exp(np.random.uniform(-1, 1) * math.log(4 / 3))
        width = min(picture.width, math.sqrt(area * ratio))
        height = min(picture.height, math.sqrt(area / ratio))
        left = np.random.uniform(0, picture.width - width)
        top = np.random.uniform(0, picture.height - height)
        box = (left, top, left + width, top + height)
        picture = picture.resize((self._size, self._size), Image.Resampling.BILINEAR, box=box)
        image = np.asarray(picture)
        if np.random.rand() < 0.5:
            image = image[:, ::-1]
        return _normalized(image, self._mean, self._std), int(self._labels[index])


def _normalized(image: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """Returns float32 `(channels, height, width)`, channels last in memory."""
    return ((image - mean) / std).transpose(2, 0, 1)
