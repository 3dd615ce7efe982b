"""Augmentation of single images of any size."""

from __future__ import annotations

from typing import Any

from ..config import AugmentConfig


def random_crop(image: Any, draws: Any, config: AugmentConfig, size: tuple[int, int]) -> Any:
    """Crops a random rectangle and resizes it to the network's size: `crop_box`, `resize_crop`.

    Args:
        image: `(height, width, channels)`, pixel values 0..255.
        draws: Uniform in [0, 1), `(DRAWS,)`: row, column, mirroring, area or scale, aspect ratio.
        config: The augmentation; see `crop_box`.
        size: Height and width to return.

    Returns:
        float32 `(*size, channels)`, pixel values 0..255.
    """
    import tensorflow as tf

    top, left, height, width = tf.unstack(crop_box(tf.shape(image)[:2], draws, config, size))
    return resize_crop(image[top : top + height, left : left + width], draws, config, size)


def crop_box(shape: Any, draws: Any, config: AugmentConfig, size: tuple[int, int]) -> Any:
    """Returns the rectangle of an image that its random numbers select.

    Args:
        shape: Height and width of the image, int32 `(2,)`.
        draws: As for `random_crop`.
        config: `crop` is `resized` (area from `min_area` to 1, aspect ratio from 3/4 to 4/3, one
            draw clipped to the image) or `scale` (shorter side from a range, then a crop).
        size: Height and width that the rectangle will be resized to.

    Returns:
        int32 `(4,)`: top, left, height, width.

    Source: Szegedy et al. 2015 (arXiv:1409.4842), section 6; He et al. 2015, section 3.4.
    """
    import tensorflow as tf

    original = tf.cast(shape, tf.float32)
    target = tf.constant(size, tf.float32)
    if config.crop == "resized":
        area = (config.min_area + (1 - config.min_area) * draws[3]) * original[0] * original[1]
        log_ratio = tf.math.log(4 / 3) * (2 * draws[4] - 1)
        ratio = tf.exp(log_ratio)  # width to height
        box = tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)])
    else:
        low, high = config.shorter_side
        # The box that has `target` pixels after the shorter side is scaled to the drawn length.
        shorter = (low + (high - low) * draws[3]) * tf.reduce_max(target)
        box = target * tf.reduce_min(original) / shorter
    box = tf.clip_by_value(tf.cast(tf.round(box), tf.int32), 1, shape)
    free = tf.cast(shape - box, tf.float32)
    offset = tf.minimum(tf.cast(draws[:2] * (free + 1), tf.int32), shape - box)
    return tf.concat([offset, box], axis=0)


def resize_crop(crop: Any, draws: Any, config: AugmentConfig, size: tuple[int, int]) -> Any:
    """Resizes a rectangle of an image to the network's size and mirrors it at random.

    Args:
        crop: `(height, width, channels)`, pixel values 0..255.
        draws: As for `random_crop`.
        config: `flip` mirrors half of the images.
        size: Height and width to return.

    Returns:
        float32 `(*size, channels)`, pixel values 0..255 up to rounding.
    """
    import tensorflow as tf

    # Antialiasing changes nothing where an image does not shrink, and takes four times as long.
    image = tf.cond(
        tf.reduce_all(tf.shape(crop)[:2] <= tf.constant(size)),
        lambda: tf.image.resize(crop, size),
        lambda: tf.image.resize(crop, size, antialias=True),
    )
    if config.flip:
        # `[:, ::-1]` takes ten times as long.
        image = tf.cond(draws[2] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.ensure_shape(image, (*size, crop.shape[-1]))
