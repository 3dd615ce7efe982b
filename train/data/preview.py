"""Augmented training images as a picture, as the network will see them."""

from __future__ import annotations

import itertools

import numpy as np

from keras_resnet import PreprocessSpec

from ..config import RunConfig
from .batches import Share, TrainingPlan
from .image_data import ImageData
from .pipeline import training_batches


def augmented_examples(
    config: RunConfig, data: ImageData, preprocess: PreprocessSpec, count: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first images of a run, from the pipeline that training uses.

    Args:
        config: The run.
        data: The images.
        preprocess: The preprocessing, with the mean and standard deviation of each channel.
        count: Number of images.

    Returns:
        uint8 images `(count, height, width, channels)`, RGB, normalisation undone and values
        rounded and clipped to 0..255; and labels: int64 `(count,)`, or float32
        `(count, classes)` where images are mixed or have several labels.

    Raises:
        ValueError: If the augmentation does not fit the images or the batch.

    Example:
        >>> images, labels = augmented_examples(config, data, preprocess)
        >>> picture = grid(images)  # 4 x 4 images
    """
    batch = config.batch_size
    # The first images of a global batch only, as if it were shared by many workers.
    share = Share(batch, workers=max(1, batch // (count + count % 2)))
    part = share.per_replica
    steps = -(-count // part)
    plan = TrainingPlan(
        preprocess,
        config.augment,
        data.channels,
        config.seed,
        start_step=0,
        total_steps=max(steps, config.steps or steps),
        classes=len(data.class_names),
    )
    batches = training_batches(data.train, plan, share)
    shown = list(itertools.islice(batches.as_numpy_iterator(), steps))
    images = np.concatenate([images for images, _ in shown])[:count]
    labels = np.concatenate([labels for _, labels in shown])[:count]
    return _pixels(images, preprocess), labels


def grid(images: np.ndarray, columns: int | None = None, space: int = 2) -> np.ndarray:
    """Lays images out in rows, with white space between them.

    Args:
        images: uint8 `(count, height, width, channels)`.
        columns: Images in a row; by default as many as rows.
        space: Pixels between images.

    Returns:
        uint8 `(height, width, channels)`.
    """
    count, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    shape = (rows * (height + space) - space, columns * (width + space) - space, channels)
    picture = np.full(shape, 255, "uint8")
    for number, image in enumerate(images):
        top, left = number // columns * (height + space), number % columns * (width + space)
        picture[top : top + height, left : left + width] = image
    return picture


def _pixels(images: np.ndarray, preprocess: PreprocessSpec) -> np.ndarray:
    pixels = images * np.asarray(preprocess.std) + np.asarray(preprocess.mean)
    if preprocess.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    return np.clip(np.round(pixels), 0, 255).astype("uint8")
