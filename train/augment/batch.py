"""Augmentation of batches of images that have the network's size."""

from __future__ import annotations

from typing import Any

from ..config import AugmentConfig


def pad_crop_flip(images: Any, draws: Any, config: AugmentConfig) -> Any:
    """Pads with zeros, crops at a random position, and mirrors half of the images.

    Args:
        images: float32 `(batch, height, width, channels)`, normalised: zero is the mean colour.
        draws: Uniform in [0, 1), `(batch, DRAWS)`: row offset, column offset, mirroring.
        config: The augmentation.

    Returns:
        Images of the same shape.

    Source: He et al. 2015, section 4.2.
    """
    import tensorflow as tf

    height, width, channels = images.shape[1:]
    pad = config.pad if config.crop == "pad" else 0
    if not (pad or config.flip):
        return images
    offsets = tf.cast(draws[:, :2] * (2 * pad + 1), tf.int32)
    rows = offsets[:, 0:1] + tf.range(height)
    columns = tf.broadcast_to(tf.range(width), (tf.shape(images)[0], width))
    if config.flip:
        columns = tf.where(draws[:, 2:3] < 0.5, width - 1 - columns, columns)
    columns += offsets[:, 1:2]
    # One gather for crop and mirroring: reversing the whole batch and selecting afterwards takes
    # several times as long as everything else.
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]]) if pad else images
    full = width + 2 * pad
    indices = rows[:, :, None] * full + columns[:, None, :]
    pixels = tf.reshape(padded, (-1, (height + 2 * pad) * full, channels))
    return tf.gather(pixels, indices, axis=1, batch_dims=1)
