"""Random erasing: a rectangle of the image is replaced by noise or by the mean colour."""

from __future__ import annotations

import math
from typing import Any, Literal

ATTEMPTS = 10
"""Rectangles that are drawn until one fits."""

ERASING_DRAWS = 1 + 4 * ATTEMPTS
"""Uniform random numbers per image."""

MIN_AREA, MAX_AREA, MIN_ASPECT = 0.02, 1 / 3, 0.3


def erased_boxes(probability: float, draws: Any, size: Any) -> Any:
    """Returns the rectangle that is erased in each image; of no pixels where none is.

    Args:
        probability: Share of the images that are erased from.
        draws: Uniform in [0, 1), `(batch, ERASING_DRAWS)`.
        size: Height and width of the images.

    Returns:
        int32 `(batch, 4)`: top, left, height, width.

    Source: Zhong et al. 2017 (arXiv:1708.04896), Algorithm 1, with the areas (0.02 to 1/3) and the
    aspect ratios (0.3 to 1 / 0.3, even in the logarithm) of timm's `RandomErasing`.
    """
    import tensorflow as tf

    size = tf.cast(size, tf.int32)
    height, width = tf.unstack(tf.cast(size, tf.float32))
    tries = tf.reshape(draws[:, 1:], (-1, ATTEMPTS, 4))
    area = (MIN_AREA + (MAX_AREA - MIN_AREA) * tries[..., 0]) * height * width
    aspect = tf.exp(math.log(MIN_ASPECT) * (1 - 2 * tries[..., 1]))  # height to width
    boxes = tf.round(tf.stack([tf.sqrt(area * aspect), tf.sqrt(area / aspect)], axis=-1))
    boxes = tf.cast(boxes, tf.int32)
    fits = tf.reduce_all(boxes < size, axis=-1)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=1)
    box = tf.gather(boxes, first, axis=1, batch_dims=1)
    place = tf.gather(tries[..., 2:], first, axis=1, batch_dims=1)
    free = size - box
    corner = tf.minimum(tf.cast(place * (tf.cast(free, tf.float32) + 1), tf.int32), free)
    erased = (draws[:, 0] < probability) & tf.reduce_any(fits, axis=1)
    return tf.where(erased[:, None], tf.concat([corner, box], axis=1), 0)


def erase(image: Any, box: Any, key: Any, mode: Literal["pixel", "const"]) -> Any:
    """Replaces a rectangle of a normalised image.

    Args:
        image: float32 `(height, width, channels)`, normalised: zero is the mean colour.
        box: int32 `(4,)`: top, left, height, width; nothing is done where it has no pixels.
        key: int32 `(2,)`, the key of the noise.
        mode: `pixel`, a standard normal variate for each value; `const`, the mean colour.
    """
    import tensorflow as tf

    def erased() -> Any:
        top, left, height, width = tf.unstack(box)
        size = tf.shape(image)
        around = [[top, size[0] - top - height], [left, size[1] - left - width], [0, 0]]
        inside = tf.pad(tf.ones((height, width, 1), tf.bool), around)
        if mode == "const":
            return tf.where(inside, 0.0, image)
        noise = tf.random.stateless_normal([height, width, image.shape[-1]], key)
        return tf.where(inside, tf.pad(noise, around), image)

    return tf.ensure_shape(tf.cond(box[2] > 0, erased, lambda: image), image.shape)
