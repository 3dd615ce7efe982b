"""Data without files: scikit-learn's handwritten digits, and synthetic images."""

from __future__ import annotations

import numpy as np

from .image_data import ImageData
from .memory import free_memory
from .sources import ArraySource

_LEAST_SYNTHETIC = 96  # 64 for training, 16 each for validation and test


def load_digits() -> ImageData:
    """Returns the 1,797 handwritten digits of scikit-learn, 8 x 8 pixels, one channel.

    The split is fixed (seed 0) and stratified by class: 1,257 images for training, 180 for
    validation and 360 for testing. Values 0..16 are scaled to 0..255.

    Source: Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits", test set.
    """
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    digits = load()
    images = np.round(digits.images * (255 / 16)).astype("uint8")[..., None]
    labels = digits.target.astype("int64")
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=360, random_state=0, stratify=labels
    )
    train, validation = train_test_split(rest, test_size=180, random_state=0, stratify=labels[rest])
    whole = ArraySource(images, labels)
    return ImageData(
        name="digits",
        class_names=tuple("0123456789"),
        channels=1,
        train=whole.take(np.sort(train)),
        validation=whole.take(np.sort(validation)),
        test=whole.take(np.sort(test)),
    )


def make_synthetic(size: int, channels: int, classes: int, examples: int = 2048) -> ImageData:
    """Returns random images for benchmarks: noise around one colour pattern per class.

    Args:
        size: Height and width in pixels.
        channels: Channels per image.
        classes: Number of classes.
        examples: Number of training images, at most 256 MiB; validation and test have an eighth
            as many each, at least 16.
    """
    needed = _LEAST_SYNTHETIC * size * size * channels
    if needed > free_memory():
        raise ValueError(
            f"`image_size`: {_LEAST_SYNTHETIC} synthetic images of {size} x {size} x {channels} "
            f"take {needed / 1e9:,.1f} GB, and {free_memory() / 1e9:,.1f} GB of memory are free"
        )
    rng = np.random.Generator(np.random.Philox(0))
    examples = max(64, min(examples, 2**28 // (size * size * channels)))
    patterns = rng.integers(64, 192, (classes, 4, 4, channels))
    grid = np.arange(size) * 4 // size

    def part(count: int) -> ArraySource:
        labels = rng.integers(0, classes, count)
        images = np.empty((count, size, size, channels), "uint8")
        for row, label in enumerate(labels):
            noise = rng.integers(-64, 64, (size, size, channels))
            images[row] = patterns[label][grid][:, grid] + noise
        return ArraySource(images, labels.astype("int64"))

    names = tuple(f"class {index}" for index in range(classes))
    small = max(16, examples // 8)
    return ImageData("synthetic", names, channels, part(examples), part(small), part(small))
