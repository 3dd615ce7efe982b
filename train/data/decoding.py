"""Encoded images as pixels, in TensorFlow: formats, orientation, and rectangles of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..config import DataConfig


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How encoded images become pixels.

    Attributes:
        oriented: Whether images are turned as their EXIF orientation says; TIFF always is.
        accurate: Whether pixel values are Pillow's. Otherwise TensorFlow decodes every format, and
            JPEG by its fast transform, as earlier versions did.
        scaled: Whether JPEGs that are much larger than the net's input are decoded at 1/2, 1/4 or
            1/8 of their size; see `scaled.py`.
    """

    oriented: bool = True
    accurate: bool = True
    scaled: bool = False

    @classmethod
    def of(cls, config: DataConfig) -> Decoding:
        """Returns how a run's configuration decodes images."""
        accurate = config.decoding == "accurate"
        scaled = accurate and config.large_jpeg == "scaled"
        return cls(config.orientation == "exif", accurate, scaled)


STANDARD = Decoding()


def decode(encoded: Any, channels: int, decoding: Decoding = STANDARD) -> Any:
    """Decodes an image to uint8 `(height, width, channels)`.

    JPEG, PNG and plain WebP are decoded by TensorFlow. GIF (its first frame), BMP, other WebP, TIFF
    and `.npy` files are decoded by Pillow and NumPy. One channel is the luma of colours (ITU-R
    601-2, rounded as Pillow does); three channels of a grey image are equal; transparency is
    dropped; of 16 bits the upper 8 are kept. Images of any other number of channels must have it.

    Args:
        encoded: The content of an image file, a scalar string.
        channels: Number of channels to return.
        decoding: Orientation and accuracy.

    Raises:
        tf.errors.OpError, ValueError: If it cannot be decoded.
    """
    import tensorflow as tf

    if not decoding.accurate:
        image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    elif channels in (1, 3):
        image = tf.cond(
            _by_tensorflow(encoded), lambda: _colours(encoded), lambda: _others(encoded, 3)
        )
        image.set_shape((None, None, 3))
        image = _luma(image) if channels == 1 else image
    else:
        image = _others(encoded, channels)
    image.set_shape((None, None, channels))
    return _upright(image, orientation(encoded)) if decoding.oriented else image


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
    import tensorflow as tf

    def jpeg() -> Any:
        turned = orientation(encoded) if decoding.oriented else tf.constant(1)
        shape = tf.image.extract_jpeg_shape(encoded)[:2]
        seen = tf.where(turned >= 5, shape[::-1], shape)
        top, left, height, width = tf.unstack(_stored_box(choose(seen), seen, turned))
        # One more column on each side: colours are stored at half the width and interpolated
        # between neighbours, which the columns at the edge of the window do not have.
        first, last = tf.maximum(left - 1, 0), tf.minimum(left + width + 1, shape[1])
        window = tf.stack([top, first, height, last - first])
        part = tf.image.decode_and_crop_jpeg(
            encoded,
            window,
            channels=3 if decoding.accurate else channels,
            dct_method="INTEGER_ACCURATE" if decoding.accurate else "",
        )
        part = _luma(part) if decoding.accurate and channels == 1 else part
        return _upright(part[:, left - first : left - first + width], turned)

    def other() -> Any:
        image = decode(encoded, channels, decoding)
        top, left, height, width = tf.unstack(choose(tf.shape(image)[:2]))
        return image[top : top + height, left : left + width]

    if channels not in (1, 3):
        return other()
    image = tf.cond(tf.io.is_jpeg(encoded), jpeg, other)
    image.set_shape((None, None, channels))
    return image


def jpeg_header(encoded: Any, decoding: Decoding = STANDARD) -> tuple[Any, Any]:
    """Returns height and width of a JPEG as it is seen, int32 `(2,)`, and its orientation.

    Of any other format, zeros and 1.
    """
    import tensorflow as tf

    def read() -> tuple[Any, Any]:
        shape = tf.image.extract_jpeg_shape(encoded)[:2]
        turned = orientation(encoded) if decoding.oriented else tf.constant(1)
        return tf.where(turned >= 5, shape[::-1], shape), turned

    return tf.cond(tf.io.is_jpeg(encoded), read, lambda: (tf.zeros(2, tf.int32), tf.constant(1)))


def oriented_part(
    encoded: Any, box: Any, ratio: Any, channels: int, header: tuple[Any, Any]
) -> tuple[Any, Any]:
    """Decodes the part of a JPEG that holds a rectangle, at a fraction of its size.

    Args:
        encoded: A JPEG.
        box: Top, left, height and width of the rectangle in the image as it is seen, int32 `(4,)`.
        ratio: How much smaller the image is decoded: 1, 2, 4 or 8, int32.
        channels: 1 or 3.
        header: What `jpeg_header` returned.

    Returns:
        uint8 `(height, width, channels)`, and where its top left corner lies in the image as it is
        seen, in pixels of the whole image, float32 `(2,)`: up to `2 * ratio` before the rectangle.
    """
    import tensorflow as tf

    seen, turned = header
    stored = tf.where(turned >= 5, seen[::-1], seen)
    place = _stored_box(box, seen, turned)
    first = place[:2] // ratio
    last = -(-(place[:2] + place[2:]) // ratio)
    # One more column on each side, as in `decode_part`.
    first = tf.maximum(first - tf.constant([0, 1]), 0)
    last = tf.minimum(last + tf.constant([0, 1]), -(-stored // ratio))

    window = tf.stack([*tf.unstack(first), *tf.unstack(last - first)])

    def decoder(fraction: int) -> Any:
        return lambda: tf.io.decode_and_crop_jpeg(
            encoded,
            window,
            channels=3,
            ratio=fraction,
            dct_method="INTEGER_ACCURATE",
        )

    branches = {0: decoder(1), 1: decoder(2), 2: decoder(4), 3: decoder(8)}
    part = tf.switch_case(tf.reduce_sum(tf.cast(ratio >= [2, 4, 8], tf.int32)), branches)
    part = _luma(part) if channels == 1 else part
    before = tf.cast(first * ratio, tf.float32)
    after = tf.cast(stored - last * ratio, tf.float32)  # may be negative: half a block beyond
    upside_down, mirrored = _flips(turned)
    before, after = (tf.where(turned >= 5, each[::-1], each) for each in (before, after))
    corner = tf.where(tf.stack([upside_down, mirrored]), after, before)
    return _upright(part, turned), corner


def orientation(encoded: Any) -> Any:
    """Returns the EXIF orientation of an encoded image, int32 in 1..8; 1 is upright.

    Files that cannot have one, such as a JPEG whose first segments are those of the image itself,
    are recognised in the graph; the others are read by `headers.orientation_of`.
    """
    import numpy as np
    import tensorflow as tf

    from .headers import orientation_of

    def read() -> Any:
        found = tf.numpy_function(
            lambda content: np.int32(orientation_of(_content(content))),
            [encoded],
            tf.int32,
            stateful=False,
        )
        return tf.ensure_shape(found, ())

    return tf.cond(_may_be_turned(_head(encoded)), read, lambda: tf.constant(1))


def _head(encoded: Any) -> Any:
    """Returns the first 32 bytes as int32, with zeros after the end of a shorter file."""
    import tensorflow as tf

    padded = tf.strings.join([tf.strings.substr(encoded, 0, 32), "\0" * 32])
    return tf.cast(tf.io.decode_raw(padded, tf.uint8)[:32], tf.int32)


def _equal(head: Any, start: int, content: bytes) -> Any:
    import tensorflow as tf

    return tf.reduce_all(head[start : start + len(content)] == list(content))


def _by_tensorflow(encoded: Any) -> Any:
    """Whether TensorFlow's decoder gives the right colours: JPEG, PNG, WebP without transparency.

    Source: WebP Container Specification, "Extended File Format"; WebP Lossless Bitstream
    Specification, section 3.
    """
    head = _head(encoded)
    jpeg, png = _equal(head, 0, b"\xff\xd8\xff"), _equal(head, 0, b"\x89PNG\r\n\x1a\n")
    webp = _equal(head, 0, b"RIFF") & _equal(head, 8, b"WEBP")
    lossy = _equal(head, 12, b"VP8 ")
    lossless = _equal(head, 12, b"VP8L") & (head[24] & 0x10 == 0)
    extended = _equal(head, 12, b"VP8X") & (head[20] & 0x12 == 0)
    return jpeg | png | (webp & (lossy | lossless | extended))


def _may_be_turned(head: Any) -> Any:
    """Whether a file may hold an orientation, by its first 32 bytes; Pillow turns TIFF itself."""
    import tensorflow as tf

    jfif = _equal(head, 2, b"\xff\xe0\x00\x10") & (head[20] == 0xFF)
    # Tables (0xC4, 0xDB) and frames (0xC0, 0xC2) begin the image: no segment of EXIF before them.
    begins = tf.where(jfif, head[21], tf.where(head[2] == 0xFF, head[3], 0))
    plain_jpeg = tf.reduce_any(begins == [0xC0, 0xC2, 0xC4, 0xDB])
    jpeg = _equal(head, 0, b"\xff\xd8\xff") & ~plain_jpeg
    webp = _equal(head, 8, b"WEBPVP8X") & (head[20] & 0x08 != 0)
    return jpeg | webp | _equal(head, 0, b"\x89PNG")


def _colours(encoded: Any) -> Any:
    """Decodes a JPEG, PNG or WebP to three channels."""
    import tensorflow as tf

    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )
    image.set_shape((None, None, 3))
    return image


def _others(encoded: Any, channels: int) -> Any:
    """Decodes any other image by Pillow or NumPy."""
    import tensorflow as tf

    from .other_formats import read_pixels

    return tf.ensure_shape(
        tf.numpy_function(
            lambda content: read_pixels(_content(content), channels),
            [encoded],
            tf.uint8,
            stateful=False,
        ),
        (None, None, channels),
    )


def _content(value: Any) -> bytes:
    """Returns a string that `tf.numpy_function` passes: outside a graph, an array of one."""
    return value if isinstance(value, bytes) else value.item()


def _luma(image: Any) -> Any:
    """Returns the luma of RGB, uint8 `(height, width, 1)`, rounded as Pillow's mode L is."""
    import tensorflow as tf

    weights = tf.constant([19595, 38470, 7471])  # 0.299, 0.587, 0.114 in units of 1 / 65,536
    total = tf.reduce_sum(tf.cast(image, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast((total + 0x8000) // 65_536, tf.uint8)


def _flips(turned: Any) -> tuple[Any, Any]:
    """Returns whether an orientation mirrors rows and columns, after any transposition.

    Source: EXIF 2.32 (CIPA DC-008), tag 274.
    """
    import tensorflow as tf

    upside_down = tf.reduce_any(turned == [3, 4, 7, 8])
    mirrored = tf.reduce_any(turned == [2, 3, 6, 7])
    return upside_down, mirrored


def _upright(image: Any, turned: Any) -> Any:
    """Returns an image as it is meant to be seen."""
    import tensorflow as tf

    def turn() -> Any:
        upside_down, mirrored = _flips(turned)
        seen = tf.cond(turned >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        seen = tf.cond(upside_down, lambda: tf.reverse(seen, [0]), lambda: seen)
        return tf.cond(mirrored, lambda: tf.reverse(seen, [1]), lambda: seen)

    found = tf.cond(turned > 1, turn, lambda: image)
    found.set_shape((None, None, image.shape[-1]))
    return found


def _stored_box(box: Any, seen: Any, turned: Any) -> Any:
    """Returns where the rectangle of an image as it is seen lies in the stored image."""
    import tensorflow as tf

    upside_down, mirrored = _flips(turned)
    top, left, height, width = tf.unstack(tf.cast(box, tf.int32))
    top = tf.where(upside_down, seen[0] - top - height, top)
    left = tf.where(mirrored, seen[1] - left - width, left)
    straight, transposed = [top, left, height, width], [left, top, width, height]
    return tf.where(turned >= 5, tf.stack(transposed), tf.stack(straight))
