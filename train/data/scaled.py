"""JPEGs that are much larger than the net's input: decoded at a fraction of their size.

The decoder of JPEG gives an image at 1/2, 1/4 or 1/8 of its size in a fraction of the time. Each
pixel is the mean of a block, up to rounding of the inverse transform. The smallest image is taken
that leaves at least `MARGIN` pixels for each pixel of the result; antialiased resizing does the
rest, with the geometry of the whole image.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from keras_resnet import PreprocessSpec

from ..resizing import KERNELS, scale_and_translate
from .decoding import STANDARD, Decoding, decode, jpeg_header, oriented_part
from .images import fit

MARGIN = 2.0
"""Fewest pixels that are decoded, along each axis, for a pixel of the resized image."""

_REACH = {"bilinear": 1, "bicubic": 2, "lanczos3": 3}


class Encoded:
    """An encoded image in a graph, which is decoded as far as is needed, and once for each use.

    Args:
        content: The content of an image file, a scalar string.
        channels: Number of channels.
        decoding: Orientation and accuracy; `scaled` allows fractions.
    """

    def __init__(self, content: Any, channels: int, decoding: Decoding = STANDARD) -> None:
        self._content, self._channels, self._decoding = content, channels, decoding
        self._fitted: dict[Any, Any] = {}

    @functools.cached_property
    def pixels(self) -> Any:
        """All pixels, uint8 `(height, width, channels)`."""
        return decode(self._content, self._channels, self._decoding)

    def fit(self, preprocess: PreprocessSpec) -> Any:
        """Returns what `decode_and_fit` does, once for all that ask for the same."""
        key = (preprocess.size, preprocess.crop_fraction, preprocess.interpolation)
        if key not in self._fitted:
            self._fitted[key] = decode_and_fit(
                self._content, self._channels, preprocess, self._decoding
            )
        return self._fitted[key]


def decode_and_fit(
    encoded: Any, channels: int, preprocess: PreprocessSpec, decoding: Decoding = STANDARD
) -> Any:
    """Returns `fit(decode(encoded, channels, decoding), preprocess)`, large JPEGs at a fraction.

    Args:
        encoded: The content of an image file, a scalar string.
        channels: Number of channels.
        preprocess: Size, crop fraction and interpolation.
        decoding: Orientation and accuracy; `scaled` allows fractions. Without it, and for images
            that are less than `2 * MARGIN` times as large as the result, pixels are the same to the
            bit as those of the whole image.
    """
    import tensorflow as tf

    def whole() -> Any:
        return fit(decode(encoded, channels, decoding), preprocess)

    if not _possible(channels, decoding, preprocess.interpolation):
        return whole()

    def box(shape: Any) -> tuple[Any, Any]:
        """Returns the kept rectangle, float32, and the pixels per pixel of the result."""
        size = tf.constant(preprocess.size, tf.float32)
        original = tf.maximum(tf.cast(shape, tf.float32), 1)
        scale = tf.reduce_max(size / preprocess.crop_fraction / original)
        resized = tf.maximum(tf.round(original * scale), size)
        step = original / resized
        return tf.floor((resized - size) / 2) * step, step

    header = jpeg_header(encoded, decoding)
    first, step = box(header[0])

    def part() -> Any:
        found = _resized_part(
            encoded, header, first, step, preprocess.size, channels, preprocess.interpolation
        )
        return tf.cast(tf.clip_by_value(tf.round(found), 0, 255), tf.uint8)

    large = _ratio(step) > 1
    image = tf.cond(large, part, whole)
    return tf.ensure_shape(image, (*preprocess.size, channels))


def decode_and_crop(
    encoded: Any,
    channels: int,
    choose: Callable[[Any], Any],
    size: Any,
    otherwise: Callable[[], Any],
    decoding: Decoding = STANDARD,
) -> Any:
    """Returns a rectangle of an image, of a large JPEG resized already to the size that is given.

    Args:
        encoded: An encoded image.
        channels: Number of channels.
        choose: As for `decode_part`.
        size: Height and width of the result.
        otherwise: Returns the rectangle of any other image, of any size.
        decoding: Orientation and accuracy; `scaled` allows fractions.

    Returns:
        float32 `(height, width, channels)`, pixel values 0..255.
    """
    import tensorflow as tf

    def plain() -> Any:
        return tf.cast(otherwise(), tf.float32)

    if not _possible(channels, decoding, "bilinear"):
        return plain()

    header = jpeg_header(encoded, decoding)
    chosen = tf.cast(choose(tf.maximum(header[0], 1)), tf.float32)
    step = chosen[2:] / tf.cast(size, tf.float32)

    def part() -> Any:
        return _resized_part(encoded, header, chosen[:2], step, size, channels)

    large = (_ratio(step) > 1) & (header[0][0] > 0)
    return tf.ensure_shape(tf.cond(large, part, plain), (None, None, channels))


def _possible(channels: int, decoding: Decoding, interpolation: str) -> bool:
    return decoding.scaled and channels in (1, 3) and interpolation in KERNELS


def _ratio(step: Any) -> Any:
    """Returns 1, 2, 4 or 8: how much smaller an image is decoded."""
    import tensorflow as tf

    fractions = tf.constant([2.0, 4.0, 8.0])
    fit_in = tf.cast(fractions * MARGIN <= tf.reduce_min(step), tf.int32)
    return tf.bitwise.left_shift(tf.constant(1), tf.reduce_sum(fit_in))


def _resized_part(
    encoded: Any,
    header: tuple[Any, Any],
    first: Any,
    step: Any,
    size: Any,
    channels: int,
    interpolation: str | None = None,
) -> Any:
    """Decodes a rectangle at a fraction of its size, and resizes it.

    Args:
        encoded: A JPEG.
        header: What `jpeg_header` returned.
        first: Top and left of the rectangle in the image as it is seen, float32 `(2,)`.
        step: Pixels of the image per pixel of the result, float32 `(2,)`.
        size: Height and width of the result.
        channels: Number of channels.
        interpolation: Where the image is resized before it is cropped, by which method: pixels
            beside the rectangle then count at its edge. None for bilinear without them.
    """
    import tensorflow as tf

    ratio = _ratio(step)
    extent = step * tf.cast(size, tf.float32)
    reach = 0.0 if interpolation is None else step * _REACH[interpolation] + 8
    shape = tf.cast(header[0], tf.float32)
    begin = tf.maximum(tf.floor(first - reach), 0)
    end = tf.minimum(tf.math.ceil(first + extent + reach), shape)
    window = tf.cast(tf.concat([begin, tf.maximum(end - begin, 1)], axis=0), tf.int32)
    part, origin = oriented_part(encoded, window, ratio, channels, header)
    scale = tf.cast(ratio, tf.float32) / step
    found = scale_and_translate(
        part,
        tf.convert_to_tensor(size, tf.int32),
        scale,
        (origin - first) / step,
        interpolation or "bilinear",
    )
    return tf.clip_by_value(found, 0, 255)
