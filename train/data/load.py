"""Opens a data set by the name a user gives, and measures it."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from keras_resnet import PreprocessSpec, ResNetSpec

from ..config import AugmentConfig, DataConfig
from .embedded import load_digits, make_synthetic
from .folder import load_folder
from .images import fit
from .pipeline import Share, evaluation_batches
from .sources import IN_MEMORY, ArraySource, FileSource, ImageData, Source, take
from .tfds_source import load_tfds


def load_data(config: DataConfig, spec: ResNetSpec) -> ImageData:
    """Opens a data set.

    Args:
        config: `dataset` is `digits`, `synthetic`, an existing folder, or a TFDS name.
        spec: Gives the size and classes of synthetic images.

    Raises:
        ValueError: If there is no such data set, or it is not as the configuration says.
    """
    if config.dataset == "digits":
        data = load_digits()
    elif config.dataset == "synthetic":
        size = config.image_size or spec.input_size
        data = make_synthetic(size, spec.input_channels, config.classes or spec.classes)
    elif Path(config.dataset).is_dir():
        data = load_folder(Path(config.dataset), config)
    elif Path(config.dataset).is_absolute() or Path(config.dataset).is_file():
        raise ValueError(f"No folder at {config.dataset!r}")
    else:
        data = load_tfds(config)
    if config.classes is not None and len(data.class_names) != config.classes:
        raise ValueError(
            f"`classes` must match the data: {config.dataset!r} has {len(data.class_names)} "
            f"classes. Received: classes={config.classes}"
        )
    return data


def at_size(
    data: ImageData, preprocess: PreprocessSpec, augment: AugmentConfig, cache: str
) -> ImageData:
    """Brings images to the net's size once and keeps them, where they fit.

    Images of which training needs the originals, and such as would outgrow the memory set aside
    for them, stay as they are and are read and resized each time.

    Args:
        data: The data set.
        preprocess: Gives the size.
        augment: Random crops of other sizes need the originals.
        cache: As in `DataConfig`.
    """
    parts = (data.train, data.validation, data.test)
    pixels = preprocess.size[0] * preprocess.size[1] * data.channels
    fits = sum(len(part) for part in parts if part is not None) * pixels <= IN_MEMORY
    if cache == "none" or not (fits or cache == "memory"):
        return data

    def resized(source: Source | None) -> Source | None:
        if isinstance(source, FileSource) and len(source):
            return ArraySource(*raw_images(source, preprocess, data.channels))
        if not isinstance(source, ArraySource) or source.images.shape[1:3] == preprocess.size:
            return source
        resized_parts = [
            fit(source.images[start : start + 256], preprocess).numpy()
            for start in range(0, len(source), 256)
        ]
        if not resized_parts:
            return source
        return ArraySource(np.concatenate(resized_parts), source.labels)

    keep = augment.crop in ("resized", "scale")
    train = data.train if keep else resized(data.train) or data.train
    return dataclasses.replace(
        data, train=train, validation=resized(data.validation), test=resized(data.test)
    )


def raw_images(
    source: Source, preprocess: PreprocessSpec, channels: int, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a split's images at the net's size.

    Args:
        source: The split.
        preprocess: Gives the size.
        channels: Of the images.
        limit: At most so many examples, drawn evenly over a split in memory or on files.

    Returns:
        uint8 images `(examples, height, width, channels)` and int64 labels.
    """
    count = len(source) if limit is None else min(limit, len(source))
    if isinstance(source, ArraySource | FileSource):
        source = take(source, np.linspace(0, len(source) - 1, count).astype("int64"))
    batches = evaluation_batches(source, preprocess, channels, Share(min(64, count)), raw=True)
    needed = itertools.islice(batches.as_numpy_iterator(), -(-count // min(64, count)))
    images, labels, weights = (np.concatenate(parts) for parts in zip(*needed, strict=True))
    real = weights > 0
    return images[real][:count], labels[real][:count]


def measure_channels(
    source: Source, preprocess: PreprocessSpec, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and standard deviation of each channel, pixel values 0..255.

    All images in memory are measured; of others, 2,048.
    """
    limit = None if isinstance(source, ArraySource) else 2048
    images, _ = raw_images(source, preprocess, channels, limit)
    # A histogram of each channel holds all there is to know, and sums of whole numbers are exact.
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(channels)])
    values, pixels = np.arange(256), images[..., 0].size
    mean = counts @ values / pixels
    std = np.sqrt(np.maximum(counts @ values**2 / pixels - mean**2, 1e-6))
    return tuple(map(float, mean.round(4))), tuple(map(float, std.round(4)))
