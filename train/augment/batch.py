"""Augmentation of whole batches of images that already have the net's size."""

from __future__ import annotations

from typing import Any

from ..config import AugmentConfig


def pad_crop_flip(images: Any, draws: Any, config: AugmentConfig) -> Any:
    """Pads with zeros, crops at a random place, and mirrors half of the images.

    Args:
        images: float32 `(batch, height, width, channels)`, normalised: zero is the mean colour.
        draws: Uniform in [0, 1), `(batch, DRAWS)`: row offset, column offset, mirror.
        config: What to do.

    Returns:
        Images of the same shape.

    Source: He et al. 2015, section 4.2.
    """
    import tensorflow as tf

    height, width = images.shape[1], images.shape[2]
    if config.crop == "pad" and config.pad:
        pad = config.pad
        padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        offsets = tf.cast(draws[:, :2] * (2 * pad + 1), tf.int32)
        rows = offsets[:, 0:1] + tf.range(height)
        columns = offsets[:, 1:2] + tf.range(width)
        images = tf.gather(padded, rows, axis=1, batch_dims=1)
        images = tf.gather(images, columns, axis=2, batch_dims=1)
    if config.flip:
        mirror = draws[:, 2, None, None, None] < 0.5
        images = tf.where(mirror, images[:, :, ::-1], images)
    return images
