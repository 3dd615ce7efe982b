"""Antialiased resizing of single images, one axis after the other."""

from __future__ import annotations

from typing import Any

KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic", "lanczos3": "lanczos3"}
"""The kernels of TensorFlow's operation by the methods of `tf.image.resize`."""


def resize_antialiased(image: Any, size: Any, method: str = "bilinear") -> Any:
    """Returns `tf.image.resize(image, size, method, antialias=True)`, to the bit, in less time.

    Args:
        image: `(height, width, channels)`, with a known number of channels.
        size: Height and width of the result.
        method: One of `KERNELS`.

    Returns:
        float32 `(*size, channels)`.
    """
    import tensorflow as tf

    size = tf.convert_to_tensor(size, tf.int32)
    old = tf.cast(tf.shape(image)[:2], tf.float32)
    return scale_and_translate(image, size, tf.cast(size, tf.float32) / old, tf.zeros(2), method)


def scale_and_translate(
    image: Any, size: Any, scale: Any, translation: Any, method: str = "bilinear"
) -> Any:
    """Returns what `tf.raw_ops.ScaleAndTranslate` does with antialiasing, to the bit.

    The operation adds whole rows fast, and columns pixel by pixel: 1.01 ms for 300 x 330 pixels to
    224 x 224, of which rows take 0.14. Here each axis is resized as rows of long pixels, with the
    image transposed in between: 0.32 ms.

    Args:
        image: `(height, width, channels)`, with a known number of channels.
        size: Height and width of the result, int32 `(2,)`.
        scale: Pixels of the result per pixel of the image, float32 `(2,)`.
        translation: Pixels by which the scaled image is moved, float32 `(2,)`.
        method: One of `KERNELS`.

    Returns:
        float32 `(*size, channels)`.
    """
    import tensorflow as tf

    channels = image.shape[-1]

    def along_rows(values: Any, axis: int) -> Any:
        """Resizes the first axis of `(rows, columns, channels)` to `size[axis]`."""
        rows, columns = tf.unstack(tf.shape(values)[:2])
        resized = tf.raw_ops.ScaleAndTranslate(
            images=tf.reshape(values, (1, rows, 1, columns * channels)),
            size=tf.stack([size[axis], 1]),
            scale=tf.stack([scale[axis], 1.0]),
            translation=tf.stack([translation[axis], 0.0]),
            kernel_type=KERNELS[method],
            antialias=True,
        )
        return tf.reshape(resized, (size[axis], columns, channels))

    wide = along_rows(image, 0)
    return tf.transpose(along_rows(tf.transpose(wide, (1, 0, 2)), 1), (1, 0, 2))
