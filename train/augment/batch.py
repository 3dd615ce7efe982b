"""Augmentation of batches of images that have the network's size."""

from __future__ import annotations

from typing import Any

from ..config import AugmentConfig


def pad_crop_flip(images: Any, draws: Any, config: AugmentConfig) -> Any:
    """Pads with zeros, crops at a random position, and mirrors half of the images.

    Args:
        images: `(batch, height, width, channels)`; where they are normalised, zero is the mean
            colour.
        draws: Uniform in [0, 1), `(batch, DRAWS)`: row offset, column offset, mirroring.
        config: The augmentation.

    Returns:
        Images of the same shape.

    Source: He et al. 2015, section 4.2.
    """
    import tensorflow as tf

    height, width, channels = images.shape[1:]
    pad = _padding(config)
    if not (pad or config.flip):
        return images
    rows, columns = _places(draws, config, height, width)
    # One gather for crop and mirroring: reversing the whole batch and selecting afterwards takes
    # several times as long as everything else.
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]]) if pad else images
    full = width + 2 * pad
    indices = rows[:, :, None] * full + columns[:, None, :]
    pixels = tf.reshape(padded, (-1, (height + 2 * pad) * full, channels))
    return tf.gather(pixels, indices, axis=1, batch_dims=1)


def inside_images(
    draws: Any, config: AugmentConfig, height: int, width: int
) -> tuple[Any, Any] | None:
    """Returns which rows and columns `pad_crop_flip` takes from the images, not from the padding.

    Args:
        draws: As for `pad_crop_flip`.
        config: The augmentation.
        height: Height of the images.
        width: Width of the images.

    Returns:
        bool `(batch, height)` and `(batch, width)`; None where nothing is padded.
    """
    pad = _padding(config)
    if not pad:
        return None
    rows, columns = _places(draws, config, height, width)
    return (
        (rows >= pad) & (rows < height + pad),
        (columns >= pad) & (columns < width + pad),
    )


def _padding(config: AugmentConfig) -> int:
    return config.pad if config.crop == "pad" else 0


def _places(draws: Any, config: AugmentConfig, height: int, width: int) -> tuple[Any, Any]:
    """Returns the row and the column in the padded images of each row and column of the crops."""
    import tensorflow as tf

    offsets = tf.cast(draws[:, :2] * (2 * _padding(config) + 1), tf.int32)
    rows = offsets[:, 0:1] + tf.range(height)
    columns = tf.broadcast_to(tf.range(width), (tf.shape(draws)[0], width))
    if config.flip:
        columns = tf.where(draws[:, 2:3] < 0.5, width - 1 - columns, columns)
    return rows, columns + offsets[:, 1:2]
