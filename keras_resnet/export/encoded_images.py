"""Encoded images as pixels in a TensorFlow graph, for SavedModels that take JPEG and PNG files.

Decoding, orientation, resizing and cropping are operators of TensorFlow, so a server needs no
Python. The pixels are those of `PreprocessSpec.fit` on the decoded image; float32 rounding may
change a value by 1 of 255.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_resnet.preprocessing import PreprocessSpec

# Kernels of `ScaleAndTranslate`, as `tf.image.resize(..., antialias=True)` chooses them.
_KERNELS = {"bilinear": "triangle", "bicubic": "keyscubic", "lanczos3": "lanczos3"}
# The segments of a JPEG's header that can hold the orientation are shorter than this.
_HEADER_BYTES = 65_536
_ORIENTATION = 0x0112  # EXIF 2.32 (CIPA DC-008), tag 274


def decode_and_fit(encoded: Any, preprocess: PreprocessSpec, channels: int) -> Any:
    """Returns the pixels of JPEG and PNG files at a net's input size.

    JPEG is decoded by its accurate transform and turned as its EXIF orientation says. One channel
    is the luma of colours (ITU-R 601-2, rounded as Pillow does); transparency is dropped; of
    16 bits the upper 8 are kept.

    Args:
        encoded: String tensor `(batch,)`, contents of files.
        preprocess: Size, crop and interpolation.
        channels: 1 or 3.

    Returns:
        uint8 `(batch, height, width, channels)`, RGB.
    """
    import tensorflow as tf

    def one(content: Any) -> Any:
        image = _upright(_decode(content, channels), _orientation(content))
        return _fit(image, preprocess, channels)

    shape = (*preprocess.size, channels)
    return tf.map_fn(one, encoded, fn_output_signature=tf.TensorSpec(shape, tf.uint8))


def _decode(content: Any, channels: int) -> Any:
    import tensorflow as tf

    image = tf.cond(
        tf.io.is_jpeg(content),
        lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
    )
    image.set_shape((None, None, 3))
    if channels == 3:
        return image
    weights = tf.constant([19595, 38470, 7471])  # 0.299, 0.587, 0.114 in units of 1 / 65,536
    total = tf.reduce_sum(tf.cast(image, tf.int32) * weights, axis=-1, keepdims=True)
    return tf.cast((total + 0x8000) // 65_536, tf.uint8)


def _orientation(content: Any) -> Any:
    """Returns the EXIF orientation of an encoded image, 1 to 8; 1 where it has none.

    Source: EXIF 2.32 (CIPA DC-008), sections 4.5.4 (APP1) and 4.6.2 (IFD); PNG, third edition,
    section 11.3.3.5 (eXIf).
    """
    import tensorflow as tf

    header = tf.strings.substr(content, 0, _HEADER_BYTES)
    padded = tf.strings.join([header, "\0" * 16])  # so that a short file can be searched
    values = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int32)
    in_jpeg = _find(values, [0xFF, 0xE1, None, None, *b"Exif\0\0"])
    in_png = _find(values, [*b"eXIf"])
    start = tf.where(tf.io.is_jpeg(content), in_jpeg, in_png)
    found = tf.cond(start >= 0, lambda: _first_directory(values, start), lambda: tf.constant(1))
    return tf.where((found >= 1) & (found <= 8), found, 1)


def _find(values: Any, pattern: list[int | None]) -> Any:
    """Returns the position after the first occurrence of a pattern of bytes, or -1."""
    import tensorflow as tf

    count = tf.size(values) - len(pattern) + 1
    equal = [
        values[offset : offset + count] == byte
        for offset, byte in enumerate(pattern)
        if byte is not None
    ]
    places = tf.where(tf.reduce_all(tf.stack(equal), axis=0))[:, 0]
    first = tf.cast(tf.reduce_min(places), tf.int32) + len(pattern)
    return tf.where(tf.size(places) > 0, first, -1)


def _first_directory(values: Any, start: Any) -> Any:
    """Returns the orientation of the TIFF directory that starts there; 1 where it has none."""
    import tensorflow as tf

    last = tf.size(values) - 1
    big_endian = values[tf.minimum(start, last)] == ord("M")

    def number(place: Any, count: int) -> Any:
        steps = tf.range(count)
        taken = tf.gather(values, tf.clip_by_value(place[..., None] + steps, 0, last))
        powers = tf.where(big_endian, count - 1 - steps, steps)
        return tf.reduce_sum(tf.bitwise.left_shift(taken, 8 * powers), axis=-1)

    directory = start + number(start + 4, 4)
    entries = directory + 2 + 12 * tf.range(tf.minimum(number(directory, 2), 64))
    is_orientation = (number(entries, 2) == _ORIENTATION) & (entries + 10 <= last)
    oriented = tf.boolean_mask(number(entries + 8, 2), is_orientation)
    return tf.concat([oriented, [1]], axis=0)[0]


def _upright(image: Any, turned: Any) -> Any:
    """Returns an image as its orientation says it is seen."""
    import tensorflow as tf

    upside_down = tf.reduce_any(turned == [3, 4, 7, 8])
    mirrored = tf.reduce_any(turned == [2, 3, 6, 7])
    seen = tf.cond(turned >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    seen = tf.cond(upside_down, lambda: tf.reverse(seen, [0]), lambda: seen)
    seen = tf.cond(mirrored, lambda: tf.reverse(seen, [1]), lambda: seen)
    seen.set_shape((None, None, image.shape[-1]))
    return seen


def _fit(image: Any, preprocess: PreprocessSpec, channels: int) -> Any:
    """Resizes and centre-crops an image as `PreprocessSpec.fit` does, the kept part only."""
    import tensorflow as tf

    old = tf.shape(image)[:2]
    new = np.asarray(preprocess.size)
    scale = tf.reduce_max(new / preprocess.crop_fraction / tf.cast(old, tf.float64))
    resized = tf.cast(tf.round(tf.cast(old, tf.float64) * scale), tf.int32)
    resized = tf.maximum(resized, new.astype("int32"))
    offset = (resized - new) // 2
    height, width = preprocess.size
    if preprocess.interpolation == "area":
        whole = tf.image.resize(image, resized, "area")
        part = whole[offset[0] : offset[0] + height, offset[1] : offset[1] + width]
    elif preprocess.interpolation == "nearest":
        part = image
        for axis, side in enumerate(preprocess.size):
            step = tf.cast(old[axis], tf.float32) / tf.cast(resized[axis], tf.float32)
            place = (tf.cast(offset[axis] + tf.range(side), tf.float32) + 0.5) * step
            nearest = tf.minimum(tf.cast(tf.floor(place), tf.int32), old[axis] - 1)
            part = tf.gather(part, nearest, axis=axis)
    else:
        part = tf.raw_ops.ScaleAndTranslate(
            images=tf.cast(image, tf.float32)[None],
            size=preprocess.size,
            scale=tf.cast(resized, tf.float32) / tf.cast(old, tf.float32),
            translation=-tf.cast(offset, tf.float32),
            kernel_type=_KERNELS[preprocess.interpolation],
            antialias=True,
        )[0]
    rounded = tf.clip_by_value(tf.round(tf.cast(part, tf.float32)), 0, 255)
    return tf.ensure_shape(tf.cast(rounded, tf.uint8), (height, width, channels))
