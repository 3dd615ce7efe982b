"""Decoding and resizing of single images, in TensorFlow."""

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
    """Decodes a part of an image; of a JPEG only what that part needs is computed.

    Args:
        encoded: What `decode` takes.
        channels: To return.
        choose: From height and width, int32 `(2,)`, to int32 `(4,)`: top, left, height, width.

    Returns:
        uint8 `(height, width, channels)`: that part of what `decode` returns.
    """
    import tensorflow as tf

    def jpeg() -> Any:
        shape = tf.image.extract_jpeg_shape(encoded)[:2]
        top, left, height, width = tf.unstack(choose(shape))
        # A column more on each side: colours, which are stored at half the width, are interpolated
        # between neighbours, and those at the edge of what is decoded have none.
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
    """Resizes and centre-crops images to the net's size, as evaluation does.

    Args:
        image: `(height, width, channels)` or a batch of such, pixel values 0..255.
        preprocess: Gives size, crop fraction and interpolation.

    Returns:
        uint8 of the net's size: whole pixel values, so that every exported format can be given
        the very same image.
    """
    import tensorflow as tf

    height, width = preprocess.size
    shape = tf.shape(image)
    have = tf.cast(shape[-3:-1], tf.float32)
    want = tf.constant([height, width], tf.float32)
    scale = tf.reduce_max(want / preprocess.crop_fraction / have)
    resized = tf.maximum(
        tf.cast(tf.round(have * scale), tf.int32), tf.constant([height, width], tf.int32)
    )
    image = tf.cond(
        tf.reduce_all(tf.equal(resized, shape[-3:-1])),
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
    """Returns `preprocess.normalize(images)` of a tensor whose width and channels are known.

    The very same values, a row of pixels at a time: TensorFlow takes one operand of three numbers
    a pixel at half the speed of one as long as a row.
    """
    import tensorflow as tf

    width, channels = images.shape[-2:]
    if preprocess.channel_order == "bgr" or len(preprocess.mean) != channels:
        return preprocess.normalize(images)
    row = dataclasses.replace(preprocess, mean=preprocess.mean * width, std=preprocess.std * width)
    shape = tf.shape(images)
    rows = tf.reshape(images, tf.concat([shape[:-2], [width * channels]], axis=0))
    return tf.ensure_shape(tf.reshape(row.normalize(rows), shape), images.shape)
