"""Changes of an image's pixel values, the same as Pillow's for uint8 images.

Each function takes a uint8 image `(height, width, channels)` of 1 or 3 channels and a float32
scalar, and returns a uint8 image of the same shape. Its docstring names the function of Pillow.
"""

from __future__ import annotations

from typing import Any


def autocontrast(image: Any, _: Any) -> Any:
    """Stretches each channel to 0..255: `ImageOps.autocontrast`."""
    import tensorflow as tf

    pixels = tf.cast(image, tf.int32)  # TensorFlow reduces uint8 slowly
    low = tf.cast(tf.reduce_min(pixels, axis=(0, 1)), tf.float64)
    high = tf.cast(tf.reduce_max(pixels, axis=(0, 1)), tf.float64)
    # In float64 and in this order, as Pillow: fractions are dropped, and float32 may fall below a
    # whole number where float64 does not.
    scale = tf.where(high > low, 255 / tf.maximum(high - low, 1), 1)
    offset = tf.where(high > low, -low * scale, 0)
    table = tf.range(256, dtype=tf.float64) * scale[:, None] + offset[:, None]
    return _look_up(_to_uint8(table), pixels)


def equalize(image: Any, _: Any) -> Any:
    """Makes the histogram of each channel even: `ImageOps.equalize`."""
    import tensorflow as tf

    channels = image.shape[-1]
    pixels = tf.cast(image, tf.int32)
    numbered = pixels + 256 * tf.range(channels)
    counts = tf.math.bincount(tf.reshape(numbered, [-1]), minlength=256 * channels)
    counts = tf.reshape(counts[: 256 * channels], (channels, 256))
    highest = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), axis=1)
    last = tf.gather(counts, highest, axis=1, batch_dims=1)
    step = (tf.reduce_sum(counts, axis=1) - last) // 255
    before = tf.cumsum(counts, axis=1, exclusive=True)
    safe = tf.maximum(step, 1)[:, None]
    table = tf.minimum((step[:, None] // 2 + before) // safe, 255)
    table = tf.where(step[:, None] > 0, table, tf.range(256))
    return _look_up(tf.cast(table, tf.uint8), pixels)


def invert(image: Any, _: Any) -> Any:
    """Returns the negative: `ImageOps.invert`."""
    return 255 - image


def posterize(image: Any, bits: Any) -> Any:
    """Keeps the highest `bits` bits, 0 (black) to 8: `ImageOps.posterize`."""
    import tensorflow as tf

    dropped = tf.bitwise.left_shift(1, 8 - tf.cast(bits, tf.int32))
    return tf.bitwise.bitwise_and(image, tf.cast(256 - dropped, tf.uint8))


def solarize(image: Any, threshold: Any) -> Any:
    """Inverts values of `threshold` and above: `ImageOps.solarize`."""
    import tensorflow as tf

    # Values are whole: those of at least `threshold` are those of at least the next whole number.
    first = tf.cast(tf.math.ceil(threshold), tf.int32)
    kept = tf.cast(tf.minimum(first, 255), tf.uint8)
    return tf.where((image < kept) | (first > 255), image, 255 - image)


def solarize_add(image: Any, added: Any) -> Any:
    """Adds `added` to values below 128: timm's `solarize_add`."""
    import tensorflow as tf

    more = tf.minimum(tf.cast(image, tf.int32) + tf.cast(added, tf.int32), 255)
    return tf.where(image < 128, tf.cast(more, tf.uint8), image)


def brightness(image: Any, factor: Any) -> Any:
    """Blends with black: `ImageEnhance.Brightness`."""
    import tensorflow as tf

    return _to_uint8(tf.cast(image, tf.float32) * factor)


def contrast(image: Any, factor: Any) -> Any:
    """Blends with the mean of the grey image: `ImageEnhance.Contrast`."""
    import tensorflow as tf

    grey = _grey(image)
    mean = tf.reduce_mean(tf.cast(grey, tf.float64))
    return _blend(tf.cast(tf.cast(mean + 0.5, tf.int32), tf.float32), image, factor)


def color(image: Any, factor: Any) -> Any:
    """Blends with the grey image: `ImageEnhance.Color`. A grey image stays as it is."""
    import tensorflow as tf

    if image.shape[-1] == 1:
        return image
    return _blend(tf.cast(_grey(image), tf.float32), image, factor)


def sharpness(image: Any, factor: Any) -> Any:
    """Blends with the image smoothed by a 3x3 filter: `ImageEnhance.Sharpness`."""
    import tensorflow as tf

    pixels = tf.cast(image, tf.float32)
    # The sum of 3x3 pixels as two sums of 3; the filter's centre has weight 5, the others 1.
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    smooth = tf.floor((sums + 4 * pixels[1:-1, 1:-1]) / 13 + 0.5)
    inner = _blend(smooth, image[1:-1, 1:-1], factor)
    # Pillow leaves the pixels of the edge as they are.
    inner = tf.concat([image[1:-1, :1], inner, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], inner, image[-1:]], axis=0)


def gaussian_blur(image: Any, radius: Any) -> Any:
    """Blurs with a standard deviation of `radius` pixels, up to 2.4: `ImageFilter.GaussianBlur`.

    Three passes of a box filter whose ends have a fractional weight, as Pillow's `BoxBlur.c`.
    """
    import tensorflow as tf

    variance = radius * radius / 3  # of one pass
    whole = tf.floor((tf.sqrt(12 * variance + 1) - 1) / 2)
    length = 2 * whole + 1
    end = length * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    distance = tf.range(3.0)
    weights = tf.where(distance <= whole, 1.0, 0.0) + tf.where(distance == whole + 1, end, 0.0)
    weights /= length + 2 * end
    pixels = tf.cast(image, tf.float32)
    for axis in (1, 1, 1, 0, 0, 0):
        pixels = _blur_pass(pixels, weights, axis)
    return tf.cast(pixels, tf.uint8)


def _blur_pass(pixels: Any, weights: Any, axis: int) -> Any:
    """Filters along an axis with weights of distances 0, 1, 2; repeats the pixels of the edge."""
    import tensorflow as tf

    size = tf.shape(pixels)[axis]
    shifted = [
        tf.gather(pixels, tf.clip_by_value(tf.range(size) + shift, 0, size - 1), axis=axis)
        for shift in (-2, -1, 1, 2)
    ]
    total = weights[0] * pixels + weights[1] * (shifted[1] + shifted[2])
    # Halves are rounded down: Pillow's weights are whole numbers, a little too small.
    return tf.floor(total + weights[2] * (shifted[0] + shifted[3]) + 0.4999)


def _look_up(table: Any, pixels: Any) -> Any:
    """Returns `table[channel, value]` of each value of an int32 image."""
    import tensorflow as tf

    return tf.gather(tf.reshape(table, [-1]), pixels + 256 * tf.range(pixels.shape[-1]))


def _grey(image: Any) -> Any:
    """Returns int32 `(height, width, 1)`: `Image.convert("L")`."""
    import tensorflow as tf

    whole = tf.cast(image, tf.int32)
    if image.shape[-1] == 1:
        return whole
    red, green, blue = whole[..., 0:1], whole[..., 1:2], whole[..., 2:3]
    return (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536


def _blend(other: Any, image: Any, factor: Any) -> Any:
    """Moves from `other` through `image`, where `factor` is 1: `Image.blend`."""
    import tensorflow as tf

    return _to_uint8(other + factor * (tf.cast(image, tf.float32) - other))


def _to_uint8(pixels: Any) -> Any:
    """Clips to 0..255 and drops fractions, as Pillow does."""
    import tensorflow as tf

    return tf.cast(tf.clip_by_value(pixels, 0, 255), tf.uint8)
