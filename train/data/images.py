"""Decoding and resizing of single images, in TensorFlow."""

from __future__ import annotations

from typing import Any

from keras_resnet import PreprocessSpec


def decode(encoded: Any, channels: int) -> Any:
    """Decodes a JPEG, PNG, BMP or GIF (its first frame) to uint8 `(height, width, channels)`."""
    import tensorflow as tf

    image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
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
