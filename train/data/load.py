"""Opening a data set by its name, bringing it to the network's size, and measuring it."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from keras_resnet import PreprocessSpec, ResNetSpec

from ..config import AugmentConfig, DataConfig, RunConfig
from .embedded import load_digits, make_synthetic
from .folder import load_folder
from .images import fit
from .pipeline import Share, evaluation_batches
from .sources import IN_MEMORY, ArraySource, FileSource, ImageData, Source
from .tfds_source import load_tfds


def resolve_data(config: RunConfig, spec: ResNetSpec) -> tuple[ImageData, PreprocessSpec]:
    """Opens the data of a run at the network's size and determines its preprocessing.

    Returns:
        The data, and the preprocessing with the configured or measured mean and standard deviation.

    Raises:
        ValueError: If the data does not fit the network.
    """
    size = config.data.image_size or spec.input_size
    if size < spec.smallest_input:
        raise ValueError(
            f"{spec.name} needs images of at least {spec.smallest_input} x {spec.smallest_input} "
            f"pixels. Received: image_size={size}"
        )
    data = load_data(config.data, spec)
    preprocess = PreprocessSpec((size, size), crop_fraction=config.data.crop_fraction)
    data = at_size(data, preprocess, config.augment, config.data.cache)
    mean, std = config.data.mean, config.data.std
    if mean is None or std is None:
        if not len(data.train):
            raise ValueError(f"Data set {data.name!r} has no training images to measure")
        mean, std = measure_channels(data.train, preprocess, data.channels)
    if len(mean) not in (1, data.channels):
        raise ValueError(
            f"`mean` needs one value per channel ({data.channels}). Received: mean={mean}"
        )
    return data, dataclasses.replace(preprocess, mean=mean, std=std)


def load_data(config: DataConfig, spec: ResNetSpec) -> ImageData:
    """Opens a data set.

    Args:
        config: `dataset` is `digits`, `synthetic`, an existing folder, or a TFDS name.
        spec: The network; synthetic images have its size and classes by default.

    Raises:
        ValueError: If there is no such data set, or it does not have `config.classes` classes.
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
    """Resizes images to the network's size once and keeps them in memory, if they fit.

    Other images are read and resized each time. So are training images whose augmentation takes
    random crops of the originals.

    Args:
        data: The data set.
        preprocess: The size, crop fraction and interpolation.
        augment: The augmentation of training images.
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
        if not isinstance(source, ArraySource) or not len(source):
            return source
        if source.images.shape[1:3] == preprocess.size:
            return source
        batches = np.split(source.images, range(256, len(source), 256))
        images = np.concatenate([fit(batch, preprocess).numpy() for batch in batches])
        return ArraySource(images, source.labels)

    needs_originals = augment.crop in ("resized", "scale")
    train = data.train if needs_originals else resized(data.train) or data.train
    return dataclasses.replace(
        data, train=train, validation=resized(data.validation), test=resized(data.test)
    )


def raw_images(
    source: Source, preprocess: PreprocessSpec, channels: int, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images of a split at the network's size.

    Args:
        source: The split.
        preprocess: The size, crop fraction and interpolation.
        channels: Channels per image.
        limit: Maximum number of examples: spread evenly over arrays and files, the first ones of
            streams. All examples where None.

    Returns:
        uint8 images `(examples, height, width, channels)` and int64 labels.
    """
    count = len(source) if limit is None else min(limit, len(source))
    if isinstance(source, ArraySource | FileSource):
        source = source.take(np.linspace(0, len(source) - 1, count).astype("int64"))
    batches = evaluation_batches(source, preprocess, channels, Share(min(64, count)), raw=True)
    needed = itertools.islice(batches.as_numpy_iterator(), -(-count // min(64, count)))
    images, labels, weights = (np.concatenate(parts) for parts in zip(*needed, strict=True))
    real = weights > 0
    return images[real][:count], labels[real][:count]


def measure_channels(
    source: Source, preprocess: PreprocessSpec, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and standard deviation of each channel, in pixel values 0..255.

    Measures all images of an array, and 2,048 of other sources.
    """
    limit = None if isinstance(source, ArraySource) else 2048
    images, _ = raw_images(source, preprocess, channels, limit)
    # Sums over the histogram of a channel are sums of whole numbers, and so exact.
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(channels)])
    values, pixels = np.arange(256), images[..., 0].size
    mean = counts @ values / pixels
    std = np.sqrt(np.maximum(counts @ values**2 / pixels - mean**2, 1e-6))
    return tuple(map(float, mean.round(4))), tuple(map(float, std.round(4)))
