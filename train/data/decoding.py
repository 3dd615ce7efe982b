"""Encoded images as pixels, in TensorFlow. Rectangles of images are in `jpeg_parts.py`."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..config import DataConfig
from .orientation import as_bytes, orientation, upright


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
        image = luma(image) if channels == 1 else image
    else:
        image = _others(encoded, channels)
    image.set_shape((None, None, channels))
    return upright(image, orientation(encoded)) if decoding.oriented else image


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
            lambda content: read_pixels(as_bytes(content), channels),
            [encoded],
            tf.uint8,
            stateful=False,
        ),
        (None, None, channels),
    )


def luma(image: Any) -> Any:
    """Returns the luma of RGB, uint8 `(height, width, 1)`, rounded as Pillow's mode L is."""
    import tensorflow as tf

    weights = tf.constant([19595, 38470, 7471])  # 0.299, 0.587, 0.114 in units of 1 / 65,536
    total = tf.reduce_sum(tf.cast(image, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast((total + 0x8000) // 65_536, tf.uint8)
