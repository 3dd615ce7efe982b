"""Views of an image: its centre, ten crops, or the whole image at several scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np

from keras_resnet import PreprocessSpec, ResNetSpec

from ..data.images import fit
from ..data.scaled import Encoded

ViewName = Literal["center", "ten-crop", "multi-scale"]
VIEWS: tuple[ViewName, ...] = get_args(ViewName)

# He et al. 2015, Table 4, for nets of 224 pixels; those of another size get the same multiples.
_PAPER_SCALES, _PAPER_SIZE = (224, 256, 384, 480, 640), 224
# Krizhevsky et al. 2012: crops of 224 out of 256.
_TEN_CROP_FRACTION = 0.875
_LARGEST_SCALE = 4096
# A strip of 1 x 100 at scale 640 would take more memory than a batch.
_LONGEST = 4


@dataclasses.dataclass(frozen=True)
class View:
    """The views of each image that a net is evaluated on; its predictions are averaged.

    `center` is the net's own preprocessing. `ten-crop` resizes the shorter side to
    `size / crop_fraction` (fraction 0.875 where the net's own is 1, so that CIFAR's 32 pixels are
    enlarged to 37), cuts out the central square and takes crops of the net's size at its four
    corners and its centre, and their mirror images. `multi-scale` resizes the shorter side to
    each scale and takes the whole image, which a fully convolutional net pools over, and its
    mirror image; images longer than four times their width are cropped to that ratio.

    Attributes:
        name: The kind of views.
        preprocess: The net's preprocessing: size, crop fraction and interpolation.
        scales: Shorter sides, pixels; for `multi-scale` only.

    Source: Krizhevsky et al. 2012, section 4.1 (ten crops); He et al. 2015 (arXiv:1512.03385),
    section 3.4 and Tables 2 to 4.
    """

    name: ViewName
    preprocess: PreprocessSpec
    scales: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Number of views of one image."""
        return {"center": 1, "ten-crop": 10, "multi-scale": 2 * len(self.scales)}[self.name]

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of the image that ten crops are taken from, pixels."""
        fraction = self.preprocess.crop_fraction
        fraction = fraction if fraction < 1 else _TEN_CROP_FRACTION
        height, width = (max(side + 1, round(side / fraction)) for side in self.preprocess.size)
        return height, width

    def prepare(self, image: Any) -> tuple[Any, ...]:
        """Resizes an image, as part of a `tf.data` pipeline.

        Args:
            image: uint8 tensor `(height, width, channels)`; not resized if its static shape is
                already the target's. Or an encoded image, of which a large JPEG is decoded at a
                fraction of its size; `multi-scale` decodes all pixels.

        Returns:
            uint8 images: one for each scale, or one.
        """
        if self.name == "multi-scale":
            image = image.pixels if isinstance(image, Encoded) else image
            method = self.preprocess.interpolation
            return tuple(_shorter_side(image, side, method) for side in self.scales)
        target = self.preprocess
        if self.name == "ten-crop":
            target = dataclasses.replace(target, size=self.frame, crop_fraction=1.0)
        if isinstance(image, Encoded):
            return (image.fit(target),)
        return (image if tuple(image.shape[:2]) == target.size else fit(image, target),)

    def patches(self, images: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the views of images that `prepare` returned.

        Args:
            images: uint8 `(batch, height, width, channels)`.
        """
        if self.name == "ten-crop":
            height, width = self.preprocess.size
            down, right = images.shape[1] - height, images.shape[2] - width
            corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
            crops = [images[:, y : y + height, x : x + width] for y, x in corners]
        else:
            crops = [images]
        for crop in crops:
            yield crop
            if self.name != "center":
                yield crop[:, :, ::-1]

    def __str__(self) -> str:
        """Returns a description of the views."""
        size = _by(self.preprocess.size)
        if self.name == "ten-crop":
            return f"ten-crop: {size} at the corners and the centre of {_by(self.frame)}, mirrored"
        if self.name == "multi-scale":
            sides = ", ".join(map(str, self.scales))
            return f"multi-scale: whole images of shorter side {sides}, mirrored"
        return f"center: {size}"


def make_view(
    name: ViewName,
    preprocess: PreprocessSpec,
    spec: ResNetSpec,
    scales: Sequence[int] | None = None,
) -> View:
    """Returns the views for a net.

    Args:
        name: `center`, `ten-crop` or `multi-scale`.
        preprocess: The net's preprocessing.
        spec: The net, which has a smallest input size.
        scales: Scales of `multi-scale`, pixels; the paper's, relative to the net's size, if None.

    Raises:
        ValueError: If there is no such view, or a scale is invalid or too small.
    """
    if name not in VIEWS:
        raise ValueError(f"`views` must be one of {', '.join(VIEWS)}. Received: {name!r}")
    if name != "multi-scale":
        if scales is not None:
            raise ValueError(f"`scales` applies to multi-scale views only. Received: {name!r}")
        return View(name, preprocess)
    if scales is None:
        unit = min(preprocess.size) / _PAPER_SIZE
        scales = [round(side * unit) for side in _PAPER_SCALES]
    check_scales(scales)
    if min(scales) < spec.smallest_input:
        raise ValueError(
            f"`scales` must be at least the smallest input of {spec.name}, "
            f"{spec.smallest_input} pixels. Received: {min(scales)}"
        )
    return View(name, preprocess, tuple(scales))


def check_scales(scales: Sequence[int]) -> None:
    """Checks scales as far as possible without the net.

    Raises:
        ValueError: If there is none, one is out of range, or one is repeated.
    """
    if not scales or any(not 1 <= side <= _LARGEST_SCALE for side in scales):
        raise ValueError(
            f"`scales` must be one or more sides of 1 to {_LARGEST_SCALE} pixels. "
            f"Received: {', '.join(map(str, scales)) or 'none'}"
        )
    if len(set(scales)) < len(scales):
        raise ValueError(
            f"`scales` must name each side once. Received: {', '.join(map(str, scales))}"
        )


def parse_scales(text: str) -> tuple[int, ...]:
    """Reads `224,256,384`.

    Raises:
        ValueError: If it is not a list of whole numbers.
    """
    try:
        scales = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"`scales` must be whole numbers with commas between, 224,256. Received: {text!r}"
        ) from None
    check_scales(scales)
    return scales


def _shorter_side(image: Any, side: int, method: str) -> Any:
    """Resizes an image of any shape so that its shorter side has `side` pixels."""
    import tensorflow as tf

    channels = image.shape[-1]
    known = image.shape.is_fully_defined()
    least = min if known else tf.minimum
    have = [int(n) for n in image.shape[:2]] if known else tf.unstack(tf.shape(image)[:2])
    short = least(*have)
    for axis in (0, 1):
        length = least(have[axis], _LONGEST * short)
        start = (have[axis] - length) // 2
        image = image[start : start + length] if axis == 0 else image[:, start : start + length]
        have[axis] = length
    # Whole numbers, rounded to the nearest: exact for the shorter side.
    height, width = ((length * side + short // 2) // short for length in have)
    if not (known and short == side):
        image = tf.image.resize(image, [height, width], method=method, antialias=True)
        image = tf.cast(tf.clip_by_value(tf.round(tf.cast(image, tf.float32)), 0, 255), tf.uint8)
    return tf.ensure_shape(image, (height, width, channels) if known else (None, None, channels))


def _by(size: tuple[int, int]) -> str:
    return " x ".join(map(str, size))
