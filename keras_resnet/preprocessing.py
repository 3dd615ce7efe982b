"""`PreprocessSpec`: the preprocessing of images, as data stored with weights and exports."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import ops

from keras_resnet.nets.tensor import Tensor
from keras_resnet.partial_resize import resize_part

# Above these, a stored preprocessing is damaged or hostile.
_MAX_SIDE, _MAX_CHANNELS = 2**16, 2**16
_MAX_PIXELS, _LEAST_CROP = 2**26, 0.01
_INFINITE = 1e30
# Largest number of resized pixels for each that the crop keeps.
_LARGEST_EXCESS = 16
Interpolation = Literal["bilinear", "bicubic", "nearest", "area", "lanczos3"]


@dataclasses.dataclass(frozen=True)
class PreprocessSpec:
    """The preprocessing of images for a net: resize, crop, channel order, `(x - mean) / std`.

    Attributes:
        size: Height and width of the net's input, pixels.
        mean: Subtracted from each channel; in pixel values, 0..255, in the net's channel order.
            One value, or one per channel.
        std: Divides each channel; in pixel values too. As many values as `mean`.
        channel_order: Channel order of the net's input; images are RGB.
        crop_fraction: Images are resized so that `size` covers this fraction of the shorter side,
            and the centre is cropped. 1 crops the largest centred rectangle.
        interpolation: Resizing method.

    Raises:
        ValueError: If a field has a value outside its range.

    Example:
        >>> preprocess = keras_resnet.PreprocessSpec((224, 224), (127.5,), (127.5,))
        >>> images = np.zeros((2, 480, 640, 3), "uint8")
        >>> x = preprocess(images)
        >>> x.shape, x.dtype, float(x.min())
        ((2, 224, 224, 3), dtype('float32'), -1.0)
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
            object.__setattr__(self, field, _numbers(field, getattr(self, field)))
        sides = self.size
        if len(sides) != 2 or not all(1 <= side <= _MAX_SIDE and side % 1 == 0 for side in sides):
            raise ValueError(
                "`size` must be (height, width), whole numbers of pixels from 1 to "
                f"{_MAX_SIDE}. Received: size={sides}"
            )
        if sides[0] * sides[1] > _MAX_PIXELS:
            raise ValueError(
                f"`size` must have at most {_MAX_PIXELS:,} pixels. Received: size={sides}"
            )
        object.__setattr__(self, "size", tuple(int(side) for side in sides))
        (fraction,) = _numbers("crop_fraction", (self.crop_fraction,))
        if not _LEAST_CROP <= fraction <= 1:
            raise ValueError(
                f"`crop_fraction` must lie in [{_LEAST_CROP}, 1]. "
                f"Received: crop_fraction={self.crop_fraction}"
            )
        if not 1 <= len(self.std) <= _MAX_CHANNELS:
            raise ValueError(
                f"`std` must have one value, or one per channel. Received: {len(self.std)} values"
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

    def __call__(self, images: Tensor) -> np.ndarray:
        """Converts images of any size to the net's input: `normalize(fit(images))`.

        Args:
            images: RGB images, `(height, width, channels)` or a batch, pixel values 0..255.

        Returns:
            float32 `(..., *size, channels)`; channels first if that is Keras's data format.

        Raises:
            ValueError: As `fit`.

        Example:
            >>> model = keras_resnet.from_pretrained("akamaster", "cifar_resnet20")
            >>> logits = model.predict(model.preprocess(images))
        """
        x = self.normalize(self.fit(images))
        if keras.config.image_data_format() == "channels_first":
            x = np.moveaxis(x, -1, -3)
        return x

    def fit(self, images: Tensor) -> np.ndarray:
        """Resizes and centre-crops images to the net's size, as evaluation does.

        Args:
            images: `(height, width, channels)` or a batch, pixel values 0..255.

        Returns:
            uint8 `(..., *size, channels)`, rounded.

        Raises:
            ValueError: If `images` has another number of axes, or `interpolation` is `"area"`,
                which Keras does not have.

        Example:
            >>> keras_resnet.PreprocessSpec((32, 32)).fit(np.zeros((48, 64, 3), "uint8")).shape
            (32, 32, 3)
        """
        if len(images.shape) not in (3, 4):
            raise ValueError(
                "`images` must be (height, width, channels) or a batch. "
                f"Received: shape {tuple(images.shape)}"
            )
        if self.interpolation == "area":
            raise ValueError(
                "Keras cannot resize by `interpolation='area'`: resize the images before"
            )
        old, new = np.asarray(images.shape[-3:-1], "float64"), np.asarray(self.size)
        scale = float((new / self.crop_fraction / old).max())
        resized = np.maximum(np.round(old * scale).astype("int64"), new)
        if new.prod() * _LARGEST_EXCESS < resized.prod():
            # 2 x 20,000 pixels would become 224 x 2,240,000: only what is kept is resized.
            sides, offset = tuple(map(int, resized)), tuple(map(int, (resized - new) // 2))
            pixels = ops.convert_to_numpy(images)
            part = resize_part(pixels, sides, offset, self.size, self.interpolation)
            return np.clip(np.round(part), 0, 255).astype("uint8")
        if tuple(resized) != tuple(images.shape[-3:-1]):
            images = ops.image.resize(
                ops.cast(images, "float32"),
                tuple(int(side) for side in resized),
                interpolation=self.interpolation,
                antialias=True,
                data_format="channels_last",
            )
        top, left = (resized - new) // 2
        height, width = self.size
        cropped = ops.convert_to_numpy(images)[..., top : top + height, left : left + width, :]
        return np.clip(np.round(cropped), 0, 255).astype("uint8")

    def normalize(self, images: Tensor) -> Tensor:
        """Reorders and normalises the channels of images that have the net's size.

        Args:
            images: RGB images, `(..., height, width, channels)`, pixel values 0..255 of any dtype;
                a NumPy array or a tensor of the backend, eager or symbolic.

        Returns:
            float32 images of the same shape; a NumPy array for a NumPy array.

        Example:
            >>> spec = keras_resnet.PreprocessSpec((1, 1), (127.5,), (127.5,))
            >>> spec.normalize(np.array([[[0, 255, 255]]], "uint8"))
            array([[[-1.,  1.,  1.]]], dtype=float32)
        """
        # Functions, not operators: PyTorch does not support slices with a negative step, and
        # warns about NumPy operands.
        library: Any = np if isinstance(images, np.ndarray) else ops
        x = images.astype("float32") if library is np else ops.cast(images, "float32")
        if self.channel_order == "bgr":
            x = library.flip(x, axis=-1)
        if any(self.mean):
            x = library.subtract(x, np.asarray(self.mean, "float32"))
        if any(value != 1 for value in self.std):
            # A product instead of a quotient, as converters of exported graphs do.
            x = library.multiply(x, (1 / np.asarray(self.std, "float64")).astype("float32"))
        return x

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as values that JSON can store.

        Example:
            >>> keras_resnet.PreprocessSpec((32, 32)).to_dict()["size"]
            [32, 32]
        """
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessSpec:
        """Returns the spec of a dict that `to_dict` returned.

        Raises:
            ValueError: If it is not a mapping, has other fields, or a value is not allowed.

        Example:
            >>> spec = keras_resnet.PreprocessSpec((32, 32))
            >>> keras_resnet.PreprocessSpec.from_dict(spec.to_dict()) == spec
            True
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, Mapping) or "size" not in values or not known >= set(values):
            raise ValueError(
                f"A preprocessing needs `size` and may have {', '.join(sorted(known - {'size'}))}. "
                f"Received: {str(values)[:200]}"
            )
        return cls(**values)


def _is_finite(value: Any) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and abs(value) < _INFINITE


def _numbers(field: str, values: Any) -> tuple[Any, ...]:
    """Returns finite numbers as a tuple, or raises a ValueError."""
    items = () if isinstance(values, str | bytes | Mapping) else values
    try:
        found = tuple(items)
    except TypeError:
        found = ()
    valid = all(_is_finite(item) for item in found)
    if not found or not valid:
        form = "be (height, width)" if field == "size" and not found else "hold finite numbers"
        raise ValueError(f"`{field}` must {form}. Received: {field}={repr(values)[:200]}")
    return found


def __getattr__(name: str) -> Any:
    """Returns the functions that this module had before `PreprocessSpec` moved here.

    `for_weights` is now `keras_resnet.weights.preprocess_spec`; `preprocess_input` and
    `decode_predictions` are in `keras_resnet.imagenet_utils`. They are imported on first use
    because their modules import this one.
    """
    if name == "for_weights":
        return importlib.import_module("keras_resnet.weights").preprocess_spec
    if name in ("decode_predictions", "preprocess_input"):
        return getattr(importlib.import_module("keras_resnet.imagenet_utils"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
