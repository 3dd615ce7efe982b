"""Encoded images at the net's input size: JPEGs that are much larger, at a fraction of theirs.

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

from ..resizing import KERNELS, resize_crop_pixels, scale_and_translate
from .decoding import STANDARD, Decoding, decode
from .images import fit, fits_whole, resized_size, whole_values
from .jpeg_parts import (
    chosen_box,
    jpeg_header,
    oriented_part,
    part_of_pixels,
    some_part,
    upright_part,
)

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
    encoded: Any,
    channels: int,
    preprocess: PreprocessSpec,
    decoding: Decoding = STANDARD,
    *,
    complete: bool = False,
) -> Any:
    """Returns `fit(decode(encoded, channels, decoding), preprocess)`, large JPEGs at a fraction.

    Of a JPEG, the rows and columns are decoded that the centre crop needs, and those before them.

    Args:
        encoded: The content of an image file, a scalar string.
        channels: Number of channels.
        preprocess: Size, crop fraction and interpolation.
        decoding: Orientation and accuracy; `scaled` allows fractions. Without it, and for images
            that are less than `2 * MARGIN` times as large as the result, pixels are the same to the
            bit as those of the whole image.
        complete: Whether a JPEG is read to its last row, so that a file that ends too early is an
            error also where what it lacks is cropped away.
    """
    import tensorflow as tf

    def whole() -> Any:
        return fit(decode(encoded, channels, decoding), preprocess)

    if not decoding.accurate or channels not in (1, 3) or preprocess.interpolation not in KERNELS:
        return whole()

    header = jpeg_header(encoded, decoding)
    shape, turned = header
    original = tf.cast(tf.maximum(shape, 1), tf.float32)
    resized = resized_size(original, preprocess)
    step = original / tf.cast(resized, tf.float32)

    def part() -> Any:
        first = tf.cast((resized - preprocess.size) // 2, tf.float32) * step
        found = _resized_part(
            encoded,
            header,
            first,
            step,
            preprocess.size,
            channels,
            preprocess.interpolation,
            complete=complete,
        )
        return whole_values(found)

    def near() -> Any:
        return _fit_near(encoded, channels, preprocess, shape, resized, complete=complete)

    large = (_ratio(step) > 1) & decoding.scaled
    plain = (shape[0] > 0) & (turned == 1) & tf.reduce_any(resized != shape)
    plain &= fits_whole(resized, preprocess)
    kind = tf.where(large, 2, tf.where(plain, 1, 0))
    image = tf.switch_case(kind, [whole, near, part])
    return tf.ensure_shape(image, (*preprocess.size, channels))


def _fit_near(
    encoded: Any,
    channels: int,
    preprocess: PreprocessSpec,
    shape: Any,
    resized: Any,
    *,
    complete: bool,
) -> Any:
    """Decodes what lies above and left of the last pixel of the centre crop, and resizes that.

    Without what lies above and left of the crop, its pixels would have other numbers, and the
    weights of the filter, which are computed of the numbers in float32, other last bits.

    Args:
        encoded: A JPEG that is stored as it is seen.
        channels: 1 or 3.
        preprocess: Size and interpolation.
        shape: Height and width of the image, int32 `(2,)`.
        resized: Height and width that the whole image would be resized to, int32 `(2,)`.
        complete: As for `decode_and_fit`.

    Returns:
        uint8 `(*size, channels)`: the pixels of `fit` to the bit.
    """
    import tensorflow as tf

    method = preprocess.interpolation
    scale = tf.cast(resized, tf.float32) / tf.cast(shape, tf.float32)
    corner = (resized - preprocess.size) // 2
    last = corner + preprocess.size
    ends = tf.cast(last, tf.float32) / scale + _reach(method, 1 / scale)
    ends = tf.minimum(tf.cast(tf.math.ceil(ends), tf.int32), shape)
    ends = tf.stack([shape[0], ends[1]]) if complete else ends
    pixels = upright_part(encoded, channels, ends, shape)
    found = scale_and_translate(pixels, last, scale, tf.zeros(2), method, corner=tf.unstack(corner))
    return whole_values(found, clip=method != "bilinear")


def decode_and_crop(
    encoded: Any,
    channels: int,
    choose: Callable[[Any], Any],
    size: Any,
    decoding: Decoding = STANDARD,
) -> Any:
    """Returns a rectangle of an image, resized to a size.

    Args:
        encoded: An encoded image.
        channels: Number of channels.
        choose: As for `decode_part`.
        size: Height and width of the result.
        decoding: Orientation and accuracy; `scaled` allows large JPEGs at a fraction. Without it,
            pixels are the same to the bit as those of the rectangle of the whole image.

    Returns:
        float32 `(height, width, channels)`, pixel values 0..255 up to rounding.
    """
    import tensorflow as tf

    if channels not in (1, 3):
        whole = decode(encoded, channels, decoding)
        return resize_crop_pixels(part_of_pixels(whole, choose).alone(), size)
    header = jpeg_header(encoded, decoding)
    box = chosen_box(header, choose)

    def plain() -> Any:
        part = some_part(encoded, channels, choose, box, header, decoding)
        return resize_crop_pixels(part.pixels, size, (part.first, part.width))

    if not decoding.scaled:
        return plain()
    chosen = tf.cast(box, tf.float32)
    step = chosen[2:] / tf.cast(size, tf.float32)

    def part() -> Any:
        return _resized_part(encoded, header, chosen[:2], step, size, channels)

    return tf.ensure_shape(tf.cond(_ratio(step) > 1, part, plain), (None, None, channels))


def _reach(interpolation: str, step: Any) -> Any:
    """Returns how many pixels beside a pixel of the result count for it, and room for rounding."""
    return step * _REACH[interpolation] + 8


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
    *,
    complete: bool = False,
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
        complete: As for `decode_and_fit`.
    """
    import tensorflow as tf

    ratio = _ratio(step)
    extent = step * tf.cast(size, tf.float32)
    reach = 0.0 if interpolation is None else _reach(interpolation, step)
    shape = tf.cast(header[0], tf.float32)
    begin = tf.maximum(tf.floor(first - reach), 0)
    end = tf.minimum(tf.math.ceil(first + extent + reach), shape)
    window = tf.cast(tf.concat([begin, tf.maximum(end - begin, 1)], axis=0), tf.int32)
    part, origin = oriented_part(encoded, window, ratio, channels, header, complete=complete)
    scale = tf.cast(ratio, tf.float32) / step
    found = scale_and_translate(
        part,
        tf.convert_to_tensor(size, tf.int32),
        scale,
        (origin - first) / step,
        interpolation or "bilinear",
    )
    return tf.clip_by_value(found, 0, 255)
