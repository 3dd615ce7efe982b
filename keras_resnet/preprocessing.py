"""What is done to an image before a net sees it, as data that travels with weights and exports."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

Interpolation = Literal["bilinear", "bicubic", "nearest", "area", "lanczos3"]


@dataclasses.dataclass(frozen=True)
class PreprocessSpec:
    """Resize, crop, channel order, and `(pixels - mean) / std`.

    Attributes:
        size: Height and width that the net is given, pixels.
        mean: Subtracted from each channel; in pixel values, 0..255, in the net's channel order.
        std: Each channel is divided by it; in pixel values too.
        channel_order: Order in which the net expects the channels; images come as RGB.
        crop_fraction: The image is resized until its shorter side is `size / crop_fraction`, and
            the centre is cropped; 1 crops the largest centred rectangle.
        interpolation: How the image is resized.

    Raises:
        ValueError: If a field has a value outside its range.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    crop_fraction: float = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        """Checks the fields; lists become tuples."""
        for field in ("size", "mean", "std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"`size` must be (height, width). Received: size={self.size}")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(
                f"`crop_fraction` must lie in (0, 1]. Received: crop_fraction={self.crop_fraction}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"`std` must be above 0. Received: std={self.std}")
        if len(self.mean) != len(self.std):
            raise ValueError(
                "`mean` and `std` need the same number of channels. "
                f"Received: mean={self.mean}, std={self.std}"
            )
        if self.channel_order not in ("rgb", "bgr"):
            raise ValueError(
                "`channel_order` must be 'rgb' or 'bgr'. "
                f"Received: channel_order={self.channel_order!r}"
            )
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(
                f"`interpolation` must be one of {', '.join(map(repr, get_args(Interpolation)))}. "
                f"Received: interpolation={self.interpolation!r}"
            )

    def __call__(self, images: Any) -> Any:
        """Makes images of any size into the net's input: `normalize(fit(images))`.

        Args:
            images: RGB, `(..., height, width, channels)`, pixel values 0..255.

        Returns:
            float32 `(..., *size, channels)`, or with the channels first where Keras has them so.
        """
        made = self.normalize(self.fit(images))
        if keras.config.image_data_format() == "channels_first":
            made = np.moveaxis(made, -1, -3)
        return made

    def fit(self, images: Any) -> np.ndarray:
        """Resizes and centre-crops images to the net's size, as evaluation does.

        Args:
            images: `(height, width, channels)` or a batch of such, pixel values 0..255.

        Returns:
            uint8 of the net's size, channels last.

        Raises:
            ValueError: If `images` has another number of axes, or Keras cannot resize by this
                `interpolation` (`"area"`).
        """
        if len(images.shape) not in (3, 4):
            raise ValueError(
                "`images` must be (height, width, channels) or a batch of such. "
                f"Received: shape {tuple(images.shape)}"
            )
        if self.interpolation == "area":
            raise ValueError("Keras resizes images by no 'area' interpolation: resize them before")
        have, want = np.asarray(images.shape[-3:-1], "float64"), np.asarray(self.size)
        scale = float((want / self.crop_fraction / have).max())
        resized = np.maximum(np.round(have * scale).astype("int64"), want)
        if tuple(resized) != tuple(images.shape[-3:-1]):
            images = ops.image.resize(
                ops.cast(images, "float32"),
                tuple(int(side) for side in resized),
                interpolation=self.interpolation,
                antialias=True,
                data_format="channels_last",
            )
        top, left = (resized - want) // 2
        height, width = self.size
        cropped = ops.convert_to_numpy(images)[..., top : top + height, left : left + width, :]
        return np.clip(np.round(cropped), 0, 255).astype("uint8")

    def normalize(self, images: Any) -> Any:
        """Reorders and normalises channels.

        Args:
            images: RGB images at the net's size, `(..., height, width, channels)`, pixel values
                0..255 of any dtype: NumPy or a tensor of the backend, eager or symbolic.

        Returns:
            float32 images of the same shape; NumPy where NumPy came in.
        """
        # Functions, not operators: PyTorch takes no slice of negative step, nor NumPy operands
        # without a warning.
        math: Any = np if isinstance(images, np.ndarray) else ops
        x = images.astype("float32") if math is np else ops.cast(images, "float32")
        if self.channel_order == "bgr":
            x = math.flip(x, axis=-1)
        if any(self.mean):
            x = math.subtract(x, np.asarray(self.mean, "float32"))
        if any(value != 1 for value in self.std):
            # One product in place of a quotient: what a converter would make of it anyway.
            x = math.multiply(x, (1 / np.asarray(self.std, "float64")).astype("float32"))
        return x

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec as JSON-ready values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessSpec:
        """Makes a spec from what `to_dict` returned."""
        return cls(**values)
