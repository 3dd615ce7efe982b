"""Convolution, norm and activation as this package writes them, and its custom layers."""

from __future__ import annotations

import math
import zlib
from typing import Any

import keras
from keras import ops

from keras_resnet.spec import ResNetSpec


def channel_axis() -> int:
    """Returns the axis of the channels in a batch of images, from Keras's image data format."""
    return 1 if keras.config.image_data_format() == "channels_first" else -1


def kernel_initializer(name: str, seed: int | None) -> keras.initializers.Initializer:
    """Returns He's initializer for the layer `name`: normal, variance 2 / fan-in.

    With a seed, each layer's own seed is a function of the seed and the layer's name, so that
    equal names in different nets (a plain net and its residual twin) start from equal weights.

    Source: He et al. 2015 (arXiv:1502.01852), section 2.2, equation 10.
    """
    own_seed = None if seed is None else zlib.crc32(f"{seed}/{name}".encode())
    return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal", seed=own_seed)


def conv(  # noqa: PLR0913
    x: Any, spec: ResNetSpec, name: str, *, filters: int, size: int, stride: int, seed: int | None,
    zero: bool = False,
) -> Any:  # fmt: skip
    """Applies a `size` x `size` convolution, padded as the spec says.

    Args:
        x: Images, `(batch, height, width, channels)`.
        spec: Gives padding and bias.
        name: The layer's name; ends in the role (`..._conv1`); a padding layer is named after it.
        filters: Output channels.
        size: Kernel height and width.
        stride: Stride in both directions.
        seed: Seed of the initial kernel, or None.
        zero: Whether the kernel starts at zero instead.
    """
    padding = "same"
    if size > 1 and stride > 1 and spec.padding == "symmetric":
        # At stride 1 "same" is symmetric already; at stride 2 it is not, on even sizes.
        x = keras.layers.ZeroPadding2D(size // 2, name=name.replace("conv", "pad"))(x)
        padding = "valid"
    return keras.layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding=padding,
        use_bias=spec.conv_bias,
        kernel_initializer="zeros" if zero else kernel_initializer(name, seed),
        name=name,
    )(x)


def norm(x: Any, spec: ResNetSpec, name: str, *, zero_gamma: bool = False) -> Any:
    """Applies batch norm over the channels, with the spec's eps and momentum."""
    return keras.layers.BatchNormalization(
        axis=channel_axis(),
        momentum=spec.norm_momentum,
        epsilon=spec.norm_eps,
        gamma_initializer="zeros" if zero_gamma else "ones",
        synchronized=spec.norm_sync,
        name=name,
    )(x)


def relu(x: Any, name: str) -> Any:
    """Applies ReLU."""
    return keras.layers.Activation("relu", name=name)(x)


@keras.saving.register_keras_serializable(package="keras_resnet")
class PadChannels(keras.layers.Layer):
    """Subsamples in space and pads the channels with zeros: the shortcut of option A.

    The zeros stand half before and half behind the channels, as in the widely used PyTorch
    CIFAR weights; for a net trained from scratch the place makes no difference.

    Source: He et al. 2015, section 3.3 and 4.2, option A.

    Args:
        filters: Channels of the output; at least those of the input.
        stride: Every `stride`-th row and column is kept.
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: `(batch, height, width, channels)` to
    `(batch, ceil(height / stride), ceil(width / stride), filters)`.
    """

    def __init__(self, filters: int, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.stride = stride
        self._channels_first = keras.config.image_data_format() == "channels_first"

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks that there are channels to add."""
        channels = input_shape[1 if self._channels_first else -1]
        if channels is None or channels > self.filters:
            raise ValueError(
                f"`filters` must be at least the input's channels ({channels}). "
                f"Received: filters={self.filters}"
            )
        self.built = True

    def call(self, x: Any) -> Any:
        """Returns the subsampled and padded images."""
        axis = 1 if self._channels_first else 3
        added = self.filters - x.shape[axis]
        pads = [[0, 0]] * 4
        pads[axis] = [added // 2, added - added // 2]
        step = slice(None, None, self.stride)
        if self.stride > 1:
            x = x[:, :, step, step] if self._channels_first else x[:, step, step, :]
        return ops.pad(x, pads)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape after subsampling and padding."""
        batch = input_shape[0]
        space = input_shape[2:] if self._channels_first else input_shape[1:3]
        kept = [None if size is None else math.ceil(size / self.stride) for size in space]
        return (
            (batch, self.filters, *kept) if self._channels_first else (batch, *kept, self.filters)
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "filters": self.filters, "stride": self.stride}
