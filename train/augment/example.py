"""Augmentation of single images of any size."""

from __future__ import annotations

from typing import Any

from ..config import AugmentConfig


def random_crop(image: Any, draws: Any, config: AugmentConfig, size: tuple[int, int]) -> Any:
    """Crops a random part and resizes it to the net's size.

    Args:
        image: `(height, width, channels)`, pixel values 0..255.
        draws: Uniform in [0, 1), `(DRAWS,)`: row, column, mirror, area or scale, aspect ratio.
        config: `crop` is `resized` (area from `min_area` to 1, aspect ratio from 3/4 to 4/3, one
            draw clipped to the image) or `scale` (shorter side from a range, then a crop).
        size: Height and width to return.

    Returns:
        float32 `(*size, channels)`, pixel values 0..255.

    Source: Szegedy et al. 2015 (arXiv:1409.4842), section 6; He et al. 2015, section 3.4.
    """
    import tensorflow as tf

    have = tf.cast(tf.shape(image)[:2], tf.float32)
    want = tf.constant(size, tf.float32)
    if config.crop == "resized":
        area = (config.min_area + (1 - config.min_area) * draws[3]) * have[0] * have[1]
        log_ratio = tf.math.log(4 / 3) * (2 * draws[4] - 1)
        ratio = tf.exp(log_ratio)  # width to height
        box = tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)])
    else:
        low, high = config.shorter_side
        # The box that becomes `want` pixels when the shorter side is scaled to the drawn size.
        shorter = (low + (high - low) * draws[3]) * tf.reduce_max(want)
        box = want * tf.reduce_min(have) / shorter
    box = tf.clip_by_value(tf.cast(tf.round(box), tf.int32), 1, tf.shape(image)[:2])
    free = tf.cast(tf.shape(image)[:2] - box, tf.float32)
    offset = tf.cast(draws[:2] * (free + 1), tf.int32)
    offset = tf.minimum(offset, tf.shape(image)[:2] - box)
    crop = tf.slice(image, [offset[0], offset[1], 0], [box[0], box[1], -1])
    crop = tf.clip_by_value(tf.image.resize(crop, size, antialias=True), 0.0, 255.0)
    if config.flip:
        crop = tf.cond(draws[2] < 0.5, lambda: crop[:, ::-1], lambda: crop)
    return tf.ensure_shape(crop, (*size, image.shape[-1]))
