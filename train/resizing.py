"""Antialiased resizing of single images, one axis after the other."""

from __future__ import annotations

from typing import Any

KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic", "lanczos3": "lanczos3"}
"""The kernels of TensorFlow's operation by the methods of `tf.image.resize`."""


def resize_antialiased(
    image: Any, size: Any, method: str = "bilinear", columns: tuple[Any, Any] | None = None
) -> Any:
    """Returns `tf.image.resize(image, size, method, antialias=True)`, to the bit, in less time.

    Args:
        image: `(height, width, channels)`, with a known number of channels.
        size: Height and width of the result.
        method: One of `KERNELS`.
        columns: First column and number of columns of the image that count. By default all.

    Returns:
        float32 `(*size, channels)`.
    """
    import tensorflow as tf

    size = tf.convert_to_tensor(size, tf.int32)
    shape = tf.shape(image)
    first, width = (0, shape[1]) if columns is None else columns
    old = tf.cast(tf.stack([shape[0], width]), tf.float32)
    scale = tf.cast(size, tf.float32) / old
    return scale_and_translate(image, size, scale, tf.zeros(2), method, (first, width))


def resize_crop_pixels(image: Any, size: Any, columns: tuple[Any, Any] | None = None) -> Any:
    """Resizes a crop, bilinearly, with antialiasing where an axis shrinks.

    Args:
        image: `(height, width, channels)`, with a known number of channels.
        size: Height and width of the result.
        columns: First column and number of columns of the image that count. By default all.

    Returns:
        float32 `(*size, channels)`.
    """
    import tensorflow as tf

    shape = tf.shape(image)
    first, width = (0, shape[1]) if columns is None else columns
    # Antialiasing changes nothing where an image does not shrink, and takes twice as long.
    return tf.cond(
        tf.reduce_all(tf.stack([shape[0], width]) <= size),
        lambda: tf.image.resize(image[:, first : first + width], size),
        lambda: resize_antialiased(image, size, columns=(first, width)),
    )


def scale_and_translate(
    image: Any,
    size: Any,
    scale: Any,
    translation: Any,
    method: str = "bilinear",
    columns: tuple[Any, Any] | None = None,
    corner: tuple[Any, Any] = (0, 0),
) -> Any:
    """Returns what `tf.raw_ops.ScaleAndTranslate` does with antialiasing, to the bit.

    The operation adds whole rows fast, and columns pixel by pixel: 1.01 ms for 300 x 330 pixels to
    224 x 224, of which rows take 0.14. Here each axis is resized as rows of numbers, with the image
    transposed in between as a matrix, which takes TensorFlow half the time of transposing pixels.

    Args:
        image: `(height, width, channels)`, with a known number of channels.
        size: Height and width of the result, int32 `(2,)`.
        scale: Pixels of the result per pixel of the image, float32 `(2,)`.
        translation: Pixels by which the scaled image is moved, float32 `(2,)`.
        method: One of `KERNELS`.
        columns: First column and number of columns of the image that count. By default all.
        corner: Rows and columns at the beginning of the result that are left out.

    Returns:
        float32 `(size[0] - corner[0], size[1] - corner[1], channels)`.
    """
    import tensorflow as tf

    channels = image.shape[-1]

    def along_rows(values: Any, axis: int, count: Any) -> Any:
        """Resizes the first axis of `(rows, count)` to `size[axis]`."""
        resized = tf.raw_ops.ScaleAndTranslate(
            images=tf.reshape(values, (1, -1, 1, count)),
            size=tf.stack([size[axis], 1]),
            scale=tf.stack([scale[axis], 1.0]),
            translation=tf.stack([translation[axis], 0.0]),
            kernel_type=KERNELS[method],
            antialias=True,
        )
        return tf.reshape(resized, (size[axis], count))[corner[axis] :]

    high = size[0] - corner[0]
    by_columns = tf.transpose(along_rows(image, 0, tf.shape(image)[1] * channels))
    if columns is not None:
        first, width = columns
        by_columns = by_columns[first * channels : (first + width) * channels]
    # Rows are columns of the result, of all values of the first channel, then of the second.
    resized = along_rows(by_columns, 1, channels * high)
    resized = tf.transpose(tf.reshape(resized, (-1, high)))
    return tf.reshape(resized, (high, -1, channels))
