"""Rectangles of encoded images: of a JPEG, only the blocks that are needed are decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .decoding import STANDARD, Decoding, decode, luma
from .orientation import flips, orientation_of_jpeg, stored_box, upright

_ACCURATE = "INTEGER_ACCURATE"


class Part(NamedTuple):
    """Pixels of a rectangle, with columns beside it that the decoder gives and nothing needs.

    Leaving the columns out copies the pixels, which resizing can do on the way.

    Attributes:
        pixels: uint8 `(height, width or more, channels)`.
        first: The first column of the rectangle, int32.
        width: Its number of columns, int32.
    """

    pixels: Any
    first: Any
    width: Any

    def alone(self) -> Any:
        """Returns the pixels of the rectangle only."""
        return self.pixels[:, self.first : self.first + self.width]


def decode_part(
    encoded: Any, channels: int, choose: Callable[[Any], Any], decoding: Decoding = STANDARD
) -> Any:
    """Decodes a rectangle of an image; of a JPEG, only the blocks that it needs.

    Args:
        encoded: An encoded image.
        channels: Number of channels to return.
        choose: A function from height and width, int32 `(2,)`, to top, left, height and width of
            the rectangle, int32 `(4,)`, in the image as it is seen: after its orientation.
        decoding: Orientation and accuracy.

    Returns:
        uint8 `(height, width, channels)`: that rectangle of `decode(encoded, channels, decoding)`.
    """
    if channels not in (1, 3):
        return part_of_pixels(decode(encoded, channels, decoding), choose).alone()
    header = jpeg_header(encoded, decoding)
    box = chosen_box(header, choose)
    return some_part(encoded, channels, choose, box, header, decoding).alone()


def chosen_box(header: tuple[Any, Any], choose: Callable[[Any], Any]) -> Any:
    """Returns the rectangle of a JPEG, int32 `(4,)`; zeros for any other format."""
    import tensorflow as tf

    shape = header[0]
    return tf.cond(shape[0] > 0, lambda: choose(shape), lambda: tf.zeros(4, tf.int32))


def some_part(
    encoded: Any,
    channels: int,
    choose: Callable[[Any], Any],
    box: Any,
    header: tuple[Any, Any],
    decoding: Decoding = STANDARD,
) -> Part:
    """Decodes a rectangle of an image of any format.

    Args:
        encoded: An encoded image.
        channels: 1 or 3.
        choose: As for `decode_part`; it is called where the image is no JPEG.
        box: What `chosen_box` returned.
        header: What `jpeg_header` returned.
        decoding: Orientation and accuracy.
    """
    import tensorflow as tf

    def upright_jpeg() -> Part:
        return _stored_part(encoded, channels, box, header[0], decoding)

    def turned_jpeg() -> Part:
        seen, turned = header
        stored = tf.where(turned >= 5, seen[::-1], seen)
        place = stored_box(box, seen, turned)
        part = _stored_part(encoded, channels, place, stored, decoding)
        pixels = upright(part.alone(), turned)
        return Part(pixels, tf.constant(0), tf.shape(pixels)[1])

    def other() -> Part:
        return part_of_pixels(decode(encoded, channels, decoding), choose)

    kind = tf.where(header[0][0] > 0, tf.where(header[1] > 1, 1, 0), 2)
    part = tf.switch_case(kind, [upright_jpeg, turned_jpeg, other])
    part.pixels.set_shape((None, None, channels))
    return part


def upright_part(encoded: Any, channels: int, ends: Any, shape: Any) -> Any:
    """Decodes what lies above and left of a place in a JPEG that is stored as it is seen.

    Args:
        encoded: The JPEG.
        channels: 1 or 3.
        ends: Height and width of the part, int32 `(2,)`.
        shape: Height and width of the image, int32 `(2,)`.

    Returns:
        uint8 `(height, width or one more, channels)`.
    """
    import tensorflow as tf

    box = tf.concat([[0, 0], ends], axis=0)
    return _stored_part(encoded, channels, box, shape, STANDARD).pixels


def part_of_pixels(image: Any, choose: Callable[[Any], Any]) -> Part:
    """Returns a rectangle of an image that is decoded."""
    import tensorflow as tf

    top, left, height, width = tf.unstack(choose(tf.shape(image)[:2]))
    return Part(image[top : top + height], left, width)


def jpeg_header(encoded: Any, decoding: Decoding = STANDARD) -> tuple[Any, Any]:
    """Returns height and width of a JPEG as it is seen, int32 `(2,)`, and its orientation.

    Of any other format, zeros and 1.
    """
    import tensorflow as tf

    def read() -> tuple[Any, Any]:
        shape = tf.image.extract_jpeg_shape(encoded)[:2]
        turned = orientation_of_jpeg(encoded) if decoding.oriented else tf.constant(1)
        return tf.where(turned >= 5, tf.reverse(shape, [0]), shape), turned

    return tf.cond(tf.io.is_jpeg(encoded), read, lambda: (tf.zeros(2, tf.int32), tf.constant(1)))


def oriented_part(
    encoded: Any,
    box: Any,
    ratio: Any,
    channels: int,
    header: tuple[Any, Any],
    *,
    complete: bool = False,
) -> tuple[Any, Any]:
    """Decodes the part of a JPEG that holds a rectangle, at a fraction of its size.

    Args:
        encoded: A JPEG.
        box: Top, left, height and width of the rectangle in the image as it is seen, int32 `(4,)`.
        ratio: How much smaller the image is decoded: 1, 2, 4 or 8, int32.
        channels: 1 or 3.
        header: What `jpeg_header` returned.
        complete: Whether the file is read to its last row, also where that is not needed.

    Returns:
        uint8 `(height, width, channels)`, and where its top left corner lies in the image as it is
        seen, in pixels of the whole image, float32 `(2,)`: up to `2 * ratio` before the rectangle.
    """
    import tensorflow as tf

    seen, turned = header
    stored = tf.where(turned >= 5, seen[::-1], seen)
    place = stored_box(box, seen, turned)
    first = place[:2] // ratio
    last = -(-(place[:2] + place[2:]) // ratio)
    # One more column on each side, as in `_stored_part`.
    first = tf.maximum(first - tf.constant([0, 1]), 0)
    whole = -(-stored // ratio)
    last = tf.minimum(last + tf.constant([0, 1]), whole)
    height, width = tf.unstack((tf.stack([whole[0], last[1]]) if complete else last) - first)
    window = tf.stack([*tf.unstack(first), height, width])

    def decoder(fraction: int) -> Any:
        return lambda: tf.io.decode_and_crop_jpeg(
            encoded, window, channels=3, ratio=fraction, dct_method=_ACCURATE
        )

    branches = {0: decoder(1), 1: decoder(2), 2: decoder(4), 3: decoder(8)}
    part = tf.switch_case(tf.reduce_sum(tf.cast(ratio >= [2, 4, 8], tf.int32)), branches)
    part = part[: last[0] - first[0]] if complete else part
    part = luma(part) if channels == 1 else part
    before = tf.cast(first * ratio, tf.float32)
    after = tf.cast(stored - last * ratio, tf.float32)  # may be negative: half a block beyond
    upside_down, mirrored = flips(turned)
    before, after = (tf.where(turned >= 5, each[::-1], each) for each in (before, after))
    corner = tf.where(tf.stack([upside_down, mirrored]), after, before)
    return upright(part, turned), corner


def _stored_part(encoded: Any, channels: int, box: Any, shape: Any, decoding: Decoding) -> Part:
    """Decodes a rectangle of a JPEG as it is stored, with a column on each side.

    Colours are stored at half the width and interpolated between neighbours, which the columns at
    the edge of the decoder's window do not have.
    """
    import tensorflow as tf

    top, left, height, width = tf.unstack(box)
    first, last = tf.maximum(left - 1, 0), tf.minimum(left + width + 1, shape[1])
    pixels = tf.image.decode_and_crop_jpeg(
        encoded,
        tf.stack([top, first, height, last - first]),
        channels=3 if decoding.accurate else channels,
        dct_method=_ACCURATE if decoding.accurate else "",
    )
    pixels = luma(pixels) if decoding.accurate and channels == 1 else pixels
    return Part(pixels, left - first, width)
