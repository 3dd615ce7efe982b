"""Augmentation of single images of any size."""

from __future__ import annotations

from typing import Any

from ..config import AugmentConfig
from ..resizing import resize_crop_pixels

RETRIES = 9
"""Further draws of the crop `resized` where the first rectangle does not fit into the image."""

RETRY_DRAWS = 4
"""Uniform random numbers of each further draw: row, column, area, aspect ratio."""


def random_crop(
    image: Any, draws: Any, config: AugmentConfig, size: Any, retries: Any = None
) -> Any:
    """Crops a random rectangle and resizes it to the network's size: `crop_box`, `resize_crop`.

    Args:
        image: `(height, width, channels)`, pixel values 0..255.
        draws: Uniform in [0, 1), `(DRAWS,)`: row, column, mirroring, area or scale, aspect ratio.
        config: The augmentation; see `crop_box`.
        size: Height and width to return.
        retries: Further draws of the crop `resized`; see `crop_box`.

    Returns:
        float32 `(*size, channels)`, pixel values 0..255.
    """
    import tensorflow as tf

    box = crop_box(tf.shape(image)[:2], draws, config, size, retries)
    top, left, height, width = tf.unstack(box)
    return resize_crop(image[top : top + height, left : left + width], draws, config, size)


def crop_box(shape: Any, draws: Any, config: AugmentConfig, size: Any, retries: Any = None) -> Any:
    """Returns the rectangle of an image that its random numbers select.

    Args:
        shape: Height and width of the image, int32 `(2,)`.
        draws: As for `random_crop`.
        config: `crop` is `resized` (area from `min_area` to 1, aspect ratio from 3/4 to 4/3) or
            `scale` (shorter side from a range, then a crop).
        size: Height and width that the rectangle will be resized to.
        retries: For `resized`, uniform in [0, 1), `(RETRIES, RETRY_DRAWS)`: the draws that follow
            while the rectangle is larger than the image. After the last one the rectangle is the
            largest centred one with an aspect ratio from 3/4 to 4/3. None for no retries.

    Returns:
        int32 `(4,)`: top, left, height, width.

    Source: Szegedy et al. 2015 (arXiv:1409.4842), section 6; He et al. 2015, section 3.4. Ten draws
    and the centred rectangle are those of fb.resnet.torch (`datasets/transforms.lua`,
    `RandomSizedCrop`), whose code Goyal et al. 2017 follow, and of torchvision's
    `RandomResizedCrop.get_params`.
    """
    import tensorflow as tf

    if config.crop == "resized":
        return _resized_box(shape, draws, config.min_area, retries)
    original = tf.cast(shape, tf.float32)
    target = tf.cast(size, tf.float32)
    low, high = config.shorter_side
    # The box that has `target` pixels after the shorter side is scaled to the drawn length.
    shorter = (low + (high - low) * draws[3]) * tf.reduce_max(target)
    box = target * tf.reduce_min(original) / shorter
    box = tf.clip_by_value(tf.cast(tf.round(box), tf.int32), 1, shape)
    return tf.concat([_offset(draws[:2], shape - box), box], axis=0)


def _resized_box(shape: Any, draws: Any, min_area: float, retries: Any) -> Any:
    """Returns the first of the drawn rectangles that fits, or the centred one."""
    import tensorflow as tf

    tries = tf.gather(draws, [0, 1, 3, 4])[None]
    if retries is not None:
        tries = tf.concat([tries, retries], axis=0)
    height, width = tf.unstack(tf.cast(shape, tf.float32))
    area = (min_area + (1 - min_area) * tries[:, 2]) * height * width
    ratio = tf.exp(tf.math.log(4 / 3) * (2 * tries[:, 3] - 1))  # width to height
    boxes = tf.round(tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)], axis=1))
    boxes = tf.cast(boxes, tf.int32)
    fits = tf.reduce_all((boxes > 0) & (boxes <= shape), axis=1)
    first = tf.argmax(tf.cast(fits, tf.int32))
    drawn = tf.concat([_offset(tries[first, :2], shape - boxes[first]), boxes[first]], axis=0)
    largest = tf.round(tf.stack([width * (4 / 3), height * (4 / 3)]))
    centred = tf.minimum(shape, tf.cast(largest, tf.int32))
    centred = tf.concat([(shape - centred) // 2, centred], axis=0)
    return tf.where(fits[first], drawn, centred)


def _offset(draws: Any, free: Any) -> Any:
    """Returns row and column of a rectangle that leaves `free` pixels on each axis."""
    import tensorflow as tf

    return tf.minimum(tf.cast(draws * (tf.cast(free, tf.float32) + 1), tf.int32), free)


def resize_crop(crop: Any, draws: Any, config: AugmentConfig, size: Any) -> Any:
    """Resizes a rectangle of an image to the network's size and mirrors it at random.

    Args:
        crop: `(height, width, channels)`, pixel values 0..255.
        draws: As for `random_crop`.
        config: `flip` mirrors half of the images.
        size: Height and width to return; a tuple, or an int32 tensor `(2,)`.

    Returns:
        float32 `(*size, channels)`, pixel values 0..255 up to rounding.
    """
    return mirror(resize_crop_pixels(crop, size), draws, config, size)


def mirror(image: Any, draws: Any, config: AugmentConfig, size: Any) -> Any:
    """Mirrors an image at random, where the augmentation does.

    Args:
        image: `(*size, channels)`.
        draws: As for `random_crop`.
        config: `flip` mirrors half of the images.
        size: Height and width; a tuple, or an int32 tensor `(2,)`.
    """
    import tensorflow as tf

    if config.flip:
        # `[:, ::-1]` takes ten times as long.
        image = tf.cond(draws[2] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
    static = size if isinstance(size, tuple) else (None, None)
    return tf.ensure_shape(image, (*static, image.shape[-1]))
