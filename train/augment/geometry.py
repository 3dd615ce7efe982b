"""Affine changes of an image, the same as Pillow's with bilinear interpolation.

Each function takes a uint8 image `(height, width, channels)`, a float32 scalar and the colour of
pixels that come from outside, and returns a uint8 image of the same shape.
"""

from __future__ import annotations

import math
from typing import Any


def rotate(image: Any, degrees: Any, fill: Any) -> Any:
    """Rotates counter-clockwise about the centre: `Image.rotate`."""
    import tensorflow as tf

    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float64))
    angle = -tf.cast(degrees, tf.float64) * (math.pi / 180)
    # Rounded as in Pillow, so that the sides of an image turned by 90 degrees are exact.
    cos, sin = (tf.round(value * 1e15) / 1e15 for value in (tf.cos(angle), tf.sin(angle)))
    x, y = width / 2, height / 2
    across = (cos, sin, x - cos * x - sin * y)
    down = (-sin, cos, y + sin * x - cos * y)
    return affine(image, (*across, *down), fill)


def shear_x(image: Any, factor: Any, fill: Any) -> Any:
    """Moves each row by `factor` times its number, from the top: `Image.transform`."""
    return affine(image, (1.0, factor, 0.0, 0.0, 1.0, 0.0), fill)


def shear_y(image: Any, factor: Any, fill: Any) -> Any:
    """Moves each column by `factor` times its number, from the left: `Image.transform`."""
    return affine(image, (1.0, 0.0, 0.0, factor, 1.0, 0.0), fill)


def translate_x(image: Any, pixels: Any, fill: Any) -> Any:
    """Moves to the left by `pixels`: `Image.transform`."""
    return affine(image, (1.0, 0.0, pixels, 0.0, 1.0, 0.0), fill)


def translate_y(image: Any, pixels: Any, fill: Any) -> Any:
    """Moves up by `pixels`: `Image.transform`."""
    return affine(image, (1.0, 0.0, 0.0, 0.0, 1.0, pixels), fill)


def affine(image: Any, coefficients: tuple[Any, ...], fill: Any) -> Any:
    """Returns the pixels at `(a x + b y + c, d x + e y + f)`: `Image.transform(AFFINE, BILINEAR)`.

    Args:
        image: uint8 `(height, width, channels)`.
        coefficients: a, b, c, d, e, f, for coordinates of pixels' corners.
        fill: uint8 `(channels,)`, the colour outside the image.
    """
    import tensorflow as tf

    a, b, c, d, e, f = (tf.cast(value, tf.float32) for value in coefficients)
    height, width = tf.unstack(tf.shape(image)[:2])
    # TensorFlow's coordinates are those of the pixels' centres.
    centred = [a, b, c + (a + b) / 2 - 0.5, d, e, f + (d + e) / 2 - 0.5, 0.0, 0.0]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack(centred)[None],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )[0]
    x = tf.range(tf.cast(width, tf.float32)) + 0.5
    y = tf.range(tf.cast(height, tf.float32))[:, None] + 0.5
    from_x, from_y = a * x + (b * y + c), d * x + (e * y + f)
    inside = (from_x >= 0) & (from_x < tf.cast(width, tf.float32))
    inside &= (from_y >= 0) & (from_y < tf.cast(height, tf.float32))
    return tf.ensure_shape(tf.where(inside[..., None], moved, fill), image.shape)
