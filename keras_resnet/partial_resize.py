"""Resizing only the part of an image that is kept, for images that are far longer than wide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np


def resize_part(
    images: np.ndarray,
    resized: Sequence[int],
    offset: Sequence[int],
    size: Sequence[int],
    interpolation: str,
) -> np.ndarray:
    """Returns a rectangle of the resized images, without making the rest of them.

    The pixels are those of `keras.ops.image.resize(..., antialias=True)` cropped afterwards, up to
    the rounding of float32: each side is resized on its own by the same filter, whose weights
    depend only on where a pixel lies.

    Args:
        images: `(..., height, width, channels)`.
        resized: Height and width that the whole images would be resized to.
        offset: Top and left of the rectangle in the resized images.
        size: Height and width of the rectangle.
        interpolation: `"bilinear"`, `"bicubic"`, `"lanczos3"` or `"nearest"`.

    Returns:
        float32 `(..., *size, channels)`.

    Example:
        >>> resize_part(np.ones((2, 20_000, 3)), (224, 2_240_000), (0, 1_119_888), (224, 224),
        ...             "bilinear").shape
        (224, 224, 3)
    """
    for axis in (-3, -2):
        side, old = axis + 3, images.shape[axis]
        first, weights = _weights(old, resized[side], offset[side], size[side], interpolation)
        part = np.take(images, np.arange(first, first + weights.shape[1]), axis=axis)
        product = np.tensordot(weights, part.astype("float32"), axes=(1, axis))
        images = np.moveaxis(product, 0, axis)
    return images


def _weights(
    old: int, resized: int, offset: int, count: int, interpolation: str
) -> tuple[int, np.ndarray]:
    """Returns the first pixel that is needed, and the weight of each pixel from it on.

    Source: TensorFlow, `scale_and_translate_op.cc`, `ComputeSpansCore`: pixel centres at halves,
    a kernel that is widened by the reduction, and weights that sum to 1.

    Returns:
        The first pixel, and float32 `(count, pixels)`.
    """
    step = old / resized  # pixels per pixel of the result
    centers = (offset + np.arange(count) + 0.5) * step - 0.5
    if interpolation == "nearest":
        wide, support, kernel = 1.0, 1.0, None
    else:
        wide = max(step, 1.0)
        support, kernel = _KERNELS[interpolation]
    reach = support * wide + 1
    first = max(0, int(np.floor(centers[0] - reach)))
    last = min(old - 1, int(np.ceil(centers[-1] + reach)))
    pixels = np.arange(first, last + 1)
    if kernel is None:
        nearest = np.clip(np.floor(centers + 0.5), 0, old - 1)
        return first, (pixels == nearest[:, None]).astype("float32")
    weights = kernel(np.abs(pixels - centers[:, None]) / wide)
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - x, 0)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys's cubic convolution (1981, equation 15) with a = -1/2."""
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


def _lanczos3(x: np.ndarray) -> np.ndarray:
    return np.where(x < 3, np.sinc(x) * np.sinc(x / 3), 0)


_KERNELS: Mapping[str, tuple[float, Callable[[np.ndarray], np.ndarray]]] = {
    "bilinear": (1, _triangle),
    "bicubic": (2, _cubic),
    "lanczos3": (3, _lanczos3),
}
