"""Decoding, resizing and normalisation of images in TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras_resnet import PreprocessSpec


def decode(encoded: Any, channels: int) -> Any:
    """Decodes a JPEG, PNG, BMP or GIF (its first frame) to uint8 `(height, width, channels)`."""
    import tensorflow as tf

    image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    image.set_shape((None, None, channels))
    return image


def decode_part(encoded: Any, channels: int, choose: Callable[[Any], Any]) -> Any:
    """Decodes a rectangle of an image; of a JPEG, only the blocks that it needs.

    Args:
        encoded: An encoded image.
        channels: Number of channels to return.
        choose: A function from height and width, int32 `(2,)`, to top, left, height and width of
            the rectangle, int32 `(4,)`.

    Returns:
        uint8 `(height, width, channels)`: that rectangle of `decode(encoded, channels)`.
    """
    import tensorflow as tf

    def jpeg() -> Any:
        shape = tf.image.extract_jpeg_shape(encoded)[:2]
        top, left, height, width = tf.unstack(choose(shape))
        # One more column on each side: colours are stored at half the width and interpolated
        # between neighbours, which the columns at the edge of the window do not have.
        first, last = tf.maximum(left - 1, 0), tf.minimum(left + width + 1, shape[1])
        window = tf.stack([top, first, height, last - first])
        part = tf.image.decode_and_crop_jpeg(encoded, window, channels=channels)
        return part[:, left - first : left - first + width]

    def other() -> Any:
        image = decode(encoded, channels)
        top, left, height, width = tf.unstack(choose(tf.shape(image)[:2]))
        return image[top : top + height, left : left + width]

    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    image.set_shape((None, None, channels))
    return image


def fit(image: Any, preprocess: PreprocessSpec) -> Any:
    """Resizes and centre-crops images to the network's size, for evaluation.

    Args:
        image: `(height, width, channels)` or a batch of images, pixel values 0..255.
        preprocess: The size, crop fraction and interpolation.

    Returns:
        uint8 images of the network's size. Whole pixel values allow every exported format to
        receive the same image.
    """
    import tensorflow as tf

    height, width = preprocess.size
    shape = tf.shape(image)[-3:-1]
    original = tf.cast(shape, tf.float32)
    target = tf.constant([height, width], tf.float32)
    scale = tf.reduce_max(target / preprocess.crop_fraction / original)
    resized = tf.maximum(
        tf.cast(tf.round(original * scale), tf.int32), tf.constant([height, width], tf.int32)
    )
    image = tf.cond(
        tf.reduce_all(tf.equal(resized, shape)),
        lambda: tf.cast(image, tf.float32),
        lambda: tf.cast(
            tf.image.resize(image, resized, method=preprocess.interpolation, antialias=True),
            tf.float32,
        ),
    )
    top, left = tf.unstack((resized - tf.constant([height, width])) // 2)
    image = image[..., top : top + height, left : left + width, :]
    image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
    return tf.ensure_shape(image, (*image.shape[:-3], height, width, image.shape[-1]))


def normalize(images: Any, preprocess: PreprocessSpec) -> Any:
    """Returns `preprocess.normalize(images)` for tensors of known width and channels.

    The values are the same to the bit. Normalising rows takes TensorFlow half the time of
    normalising pixels, because the operand that is broadcast is as long as a row.
    """
    import tensorflow as tf

    width, channels = images.shape[-2:]
    if preprocess.channel_order == "bgr" or len(preprocess.mean) != channels:
        return preprocess.normalize(images)
    row = dataclasses.replace(preprocess, mean=preprocess.mean * width, std=preprocess.std * width)
    shape = tf.shape(images)
    rows = tf.reshape(images, tf.concat([shape[:-2], [width * channels]], axis=0))
    return tf.ensure_shape(tf.reshape(row.normalize(rows), shape), images.shape)
