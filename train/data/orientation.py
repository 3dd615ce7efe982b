"""The EXIF orientation of encoded images, and images as they are to be seen, in TensorFlow."""

from __future__ import annotations

from typing import Any

_SEARCHED = 2**18
"""Bytes of a JPEG that are searched for the name of EXIF. Python reads longer files."""
_SEARCHED_PLAIN = 2**12
"""Bytes that are searched where tables or a frame come first, as EXIF may not follow these."""


def orientation(encoded: Any) -> Any:
    """Returns the EXIF orientation of an encoded image, int32 in 1..8; 1 is upright.

    Files that have none are recognised in the graph, because a call of Python takes as long as
    decoding half of a photograph of ImageNet. The others are read by `headers.orientation_of`.

    Args:
        encoded: The content of an image file, a scalar string.

    Example:
        >>> int(orientation(tf.io.read_file("upright.jpg")))
        1
    """
    import tensorflow as tf

    return tf.cond(
        tf.io.is_jpeg(encoded), lambda: orientation_of_jpeg(encoded), lambda: _of_other(encoded)
    )


def flips(turned: Any) -> tuple[Any, Any]:
    """Returns whether an orientation mirrors rows and columns, after any transposition.

    Source: EXIF 2.32 (CIPA DC-008), tag 274.
    """
    import tensorflow as tf

    upside_down = tf.reduce_any(turned == [3, 4, 7, 8])
    mirrored = tf.reduce_any(turned == [2, 3, 6, 7])
    return upside_down, mirrored


def upright(image: Any, turned: Any) -> Any:
    """Returns an image as it is meant to be seen."""
    import tensorflow as tf

    def turn() -> Any:
        upside_down, mirrored = flips(turned)
        seen = tf.cond(turned >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        seen = tf.cond(upside_down, lambda: tf.reverse(seen, [0]), lambda: seen)
        return tf.cond(mirrored, lambda: tf.reverse(seen, [1]), lambda: seen)

    found = tf.cond(turned > 1, turn, lambda: image)
    found.set_shape((None, None, image.shape[-1]))
    return found


def stored_box(box: Any, seen: Any, turned: Any) -> Any:
    """Returns where the rectangle of an image as it is seen lies in the stored image.

    Args:
        box: Top, left, height and width, `(4,)`.
        seen: Height and width of the image as it is seen, int32 `(2,)`.
        turned: Its orientation.

    Returns:
        int32 `(4,)`.
    """
    import tensorflow as tf

    def turn() -> Any:
        upside_down, mirrored = flips(turned)
        top, left, height, width = tf.unstack(box)
        top = tf.where(upside_down, seen[0] - top - height, top)
        left = tf.where(mirrored, seen[1] - left - width, left)
        straight, transposed = [top, left, height, width], [left, top, width, height]
        return tf.where(turned >= 5, tf.stack(transposed), tf.stack(straight))

    box = tf.cast(box, tf.int32)
    return tf.cond(turned > 1, turn, lambda: box)


def padded_head(encoded: Any) -> Any:
    """Returns the first 32 bytes, a scalar string, with zeros after the end of a shorter file."""
    import tensorflow as tf

    return tf.strings.substr(tf.strings.join([tf.strings.substr(encoded, 0, 32), "\0" * 32]), 0, 32)


def orientation_of_jpeg(encoded: Any) -> Any:
    """Returns `orientation` of a JPEG: read by Python where a segment may have it."""
    import tensorflow as tf

    words = _words(padded_head(encoded))
    jfif = (words[1] == 0xFFE0) & (words[2] == 16) & (words[10] >= 0xFF00)
    # Tables and frames begin the image. EXIF should come before them, but may stand between them.
    begins = tf.where(jfif, words[10], words[1])
    plain = tf.reduce_any(begins == [0xFFC0, 0xFFC2, 0xFFC4, 0xFFDB])
    searched = tf.where(plain, _SEARCHED_PLAIN, _SEARCHED)
    by_python = _has_exif_name(encoded, searched) | (
        ~plain & (tf.strings.length(encoded) >= _SEARCHED)
    )
    return tf.cond(by_python, lambda: _by_python(encoded), lambda: tf.constant(1))


def _has_exif_name(encoded: Any, count: Any) -> Any:
    """Whether the name of an EXIF segment is in the first bytes of a JPEG.

    A search takes a tenth of the time that walking the segments takes in a graph.
    """
    import tensorflow as tf

    first = tf.strings.substr(encoded, 0, count)
    without = tf.strings.regex_replace(first, r"Exif\x00\x00", "", replace_global=False)
    return tf.strings.length(without) < tf.strings.length(first)


def _words(content: Any) -> Any:
    """Returns a string as numbers of 16 bits, the upper half first, int32."""
    import tensorflow as tf

    return tf.cast(tf.io.decode_raw(content, tf.uint16, little_endian=False), tf.int32)


def _of_other(encoded: Any) -> Any:
    """Returns the orientation of a WebP or PNG; Pillow turns TIFF itself."""
    import tensorflow as tf

    head = padded_head(encoded)
    flags = tf.io.decode_raw(tf.strings.substr(head, 20, 1), tf.uint8)[0]
    webp = (tf.strings.substr(head, 8, 8) == b"WEBPVP8X") & (flags & 0x08 != 0)
    png = tf.strings.substr(head, 0, 4) == b"\x89PNG"
    return tf.cond(webp | png, lambda: _by_python(encoded), lambda: tf.constant(1))


def _by_python(encoded: Any) -> Any:
    import numpy as np
    import tensorflow as tf

    from .headers import orientation_of

    found = tf.numpy_function(
        lambda content: np.int32(orientation_of(as_bytes(content))),
        [encoded],
        tf.int32,
        stateful=False,
    )
    return tf.ensure_shape(found, ())


def as_bytes(value: Any) -> bytes:
    """Returns a string that `tf.numpy_function` passes: outside a graph, an array of one."""
    return value if isinstance(value, bytes) else value.item()
