"""Synthetic images for the input pipelines: CIFAR's pixels in memory, and JPEG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .workload import Workload

MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)
_IN_MEMORY = 10_000
_FILE_SIZE = (500, 375)  # width and height of a usual photograph of ImageNet


def pixels(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Returns uint8 images `(10000, size, size, 3)` and int64 labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (_IN_MEMORY, *workload.shape), dtype="uint8")
    return images, rng.integers(0, workload.classes, _IN_MEMORY)


def jpeg_files(workload: Workload) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the paths of JPEG files and their int64 labels."""
    paths = sorted(jpeg_folder(workload).glob("*/*.jpg"))
    return tuple(map(str, paths)), np.asarray([int(path.parent.name) for path in paths])


def jpeg_folder(workload: Workload) -> Path:
    """Returns the directory of `write_jpegs`: one folder for each of two classes."""
    return Path(workload.folder, "jpeg")


def write_jpegs(workload: Workload, path: Path) -> None:
    """Writes 16 batches of smooth noise, which compresses about as photographs do."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(16 * workload.batch):
        coarse = rng.integers(0, 256, (48, 64, 3), dtype="uint8")
        folder = path / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(coarse).resize(_FILE_SIZE, Image.Resampling.BICUBIC)
        image.save(folder / f"{index:04d}.jpg", quality=90)
