"""Resizing and normalisation of images in TensorFlow; decoding is in `decoding.py`."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_resnet import PreprocessSpec

from ..resizing import KERNELS, resize_antialiased, scale_and_translate
from .decoding import decode as decode
from .jpeg_parts import decode_part as decode_part

_LARGEST_EXCESS = 16


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
    resized = resized_size(tf.cast(shape, tf.float32), preprocess)
    top, left = tf.unstack((resized - tf.constant([height, width])) // 2)

    def whole() -> Any:
        image_resized = tf.cond(
            tf.reduce_all(tf.equal(resized, shape)),
            lambda: tf.cast(image, tf.float32),
            lambda: _resized(image, resized, preprocess.interpolation),
        )
        return image_resized[..., top : top + height, left : left + width, :]

    image = tf.cond(
        fits_whole(resized, preprocess), whole, lambda: _fit_part(image, preprocess, resized)
    )
    image = whole_values(image)
    return tf.ensure_shape(image, (*image.shape[:-3], height, width, image.shape[-1]))


def resized_size(original: Any, preprocess: PreprocessSpec) -> Any:
    """Returns height and width that an image is resized to before its centre is cropped.

    Args:
        original: Its height and width, float32 `(2,)`.
        preprocess: The size and crop fraction.

    Returns:
        int32 `(2,)`.
    """
    import tensorflow as tf

    size = tf.constant(preprocess.size, tf.float32)
    scale = tf.reduce_max(size / preprocess.crop_fraction / original)
    resized = tf.cast(tf.round(original * scale), tf.int32)
    return tf.maximum(resized, tf.constant(preprocess.size))


def fits_whole(resized: Any, preprocess: PreprocessSpec) -> Any:
    """Returns whether all of an image is resized, and not only the part that is kept.

    That is no way for an image that is far longer than wide: 2 x 20,000 pixels would become
    224 x 2,240,000.
    """
    import tensorflow as tf

    height, width = preprocess.size
    kept = tf.cast(height * width, tf.float32) / tf.cast(tf.reduce_prod(resized), tf.float32)
    return kept >= 1 / _LARGEST_EXCESS


def whole_values(image: Any, *, clip: bool = True) -> Any:
    """Returns pixel values as uint8, rounded; `clip` where they may leave 0..255."""
    import tensorflow as tf

    image = tf.round(image)
    return tf.cast(tf.clip_by_value(image, 0, 255) if clip else image, tf.uint8)


def _resized(image: Any, size: Any, method: str) -> Any:
    """Returns an image, or a batch, that is resized with antialiasing, float32."""
    import tensorflow as tf

    if len(image.shape) == 3 and image.shape[-1] is not None and method in KERNELS:
        return resize_antialiased(image, size, method)
    return tf.cast(tf.image.resize(image, size, method=method, antialias=True), tf.float32)


def _fit_part(image: Any, preprocess: PreprocessSpec, resized: Any) -> Any:
    """Resizes only the part of an image, or of a batch, that the centre crop keeps.

    Args:
        image: `(height, width, channels)` or a batch.
        preprocess: The size and interpolation.
        resized: Height and width that the whole image would be resized to.
    """
    import tensorflow as tf

    size = tf.constant(preprocess.size)
    shape = tf.shape(image)[-3:-1]
    step = tf.cast(shape, tf.float32) / tf.cast(resized, tf.float32)  # pixels per pixel of the net
    offset = (resized - size) // 2
    if preprocess.interpolation in KERNELS:
        translation = -tf.cast(offset, tf.float32)
        if len(image.shape) == 3:
            return scale_and_translate(image, size, 1 / step, translation, preprocess.interpolation)
        # As `tf.image.resize` does with this operation, at another place.
        return tf.raw_ops.ScaleAndTranslate(
            images=image,
            size=size,
            scale=1 / step,
            translation=translation,
            kernel_type=KERNELS[preprocess.interpolation],
            antialias=True,
        )
    # The filter of an area reaches one pixel of the larger grid; 8 leave room for rounding.
    reach = tf.cast(tf.math.ceil(8 * tf.maximum(step, 1)), tf.int32)
    first = tf.cast(tf.floor(tf.cast(offset, tf.float32) * step), tf.int32) - reach
    last = tf.cast(tf.math.ceil(tf.cast(offset + size, tf.float32) * step), tf.int32) + reach
    first, last = tf.maximum(first, 0), tf.minimum(last, shape)
    part = image[..., first[0] : last[0], first[1] : last[1], :]
    # Where the part begins, in pixels of the net: the crop is placed to the nearest whole pixel.
    begins = tf.cast(tf.round(tf.cast(first, tf.float32) / step), tf.int32)
    larger = tf.cast(tf.round(tf.cast(last - first, tf.float32) / step), tf.int32)
    larger = tf.maximum(larger, size)
    part = tf.image.resize(part, larger, method=preprocess.interpolation, antialias=True)
    top, left = tf.unstack(tf.clip_by_value(offset - begins, 0, larger - size))
    height, width = preprocess.size
    part = part[..., top : top + height, left : left + width, :]
    return tf.cast(part, tf.float32)


def normalize(images: Any, preprocess: PreprocessSpec) -> Any:
    """Returns `preprocess.normalize(images)` for tensors of known width and channels.

    The values are the same to the bit. Normalising rows takes TensorFlow half the time of
    normalising pixels, because the operand that is broadcast is as long as a row.
    """
    import tensorflow as tf

    width, channels = images.shape[-2:]
    known = width is not None and len(preprocess.mean) == channels
    if preprocess.channel_order == "bgr" or not known:
        return preprocess.normalize(images)
    row = dataclasses.replace(preprocess, mean=preprocess.mean * width, std=preprocess.std * width)
    shape = tf.shape(images)
    rows = tf.reshape(images, tf.concat([shape[:-2], [width * channels]], axis=0))
    return tf.ensure_shape(tf.reshape(row.normalize(rows), shape), images.shape)
