"""Convolution, norm, activation and pooling as a spec wants them, over one to three space axes."""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Any

import keras

from keras_resnet.nets.batch_norm import BatchNormalization
from keras_resnet.nets.layers import BlurPool, DeltaOrthogonal, PadEdges
from keras_resnet.nets.spec import Init, ResNetSpec


def channel_axis() -> int:
    """Returns the axis of the channels in a batch of images, from Keras's image data format."""
    return 1 if keras.config.image_data_format() == "channels_first" else -1


def own_seed(name: str, seed: int | None) -> int | None:
    """Returns a layer's own seed, a function of the net's seed and the layer's name.

    Equal names in different nets (a plain net and its residual twin) start from equal weights.
    """
    return None if seed is None else zlib.crc32(f"{seed}/{name}".encode())


def kernel_initializer(
    name: str, seed: int | None, *, init: Init = "he", gain: float = 1.0
) -> keras.initializers.Initializer:
    """Returns the initializer of the layer `name`.

    Args:
        name: The layer's name.
        seed: Seed of the net, or None.
        init: `"he"`, normal with variance 2 / fan-in, or `"delta_orthogonal"`.
        gain: Factor of the standard deviation.

    Source: He et al. 2015 (arXiv:1502.01852), section 2.2, equation 10; Xiao et al. 2018.
    """
    own = own_seed(name, seed)
    if init == "delta_orthogonal":
        return DeltaOrthogonal(math.sqrt(2.0) * gain, seed=own)
    return keras.initializers.VarianceScaling(
        2.0 * gain**2, "fan_in", "untruncated_normal", seed=own
    )


@dataclasses.dataclass(frozen=True)
class Primitives:
    """The layers that the axes are made of.

    Attributes:
        spec: Gives padding, biases, norm and initialisation.
        dims: Space axes: 1 for signals, 2 for images, 3 for volumes.
        seed: Seed of the initial weights, or None.
    """

    spec: ResNetSpec
    dims: int = 2
    seed: int | None = None

    def layer(self, kind: str) -> Any:
        """Returns the Keras layer class `kind` for this number of space axes."""
        return getattr(keras.layers, f"{kind}{self.dims}D")

    def conv(
        self,
        x: Any,
        name: str,
        *,
        filters: int,
        size: int,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        normed: bool = True,
        zero: bool = False,
        gain: float = 1.0,
    ) -> Any:
        """Applies a convolution of `size` in each direction, padded as the spec says.

        Args:
            x: Images, `(batch, height, width, channels)`.
            name: The layer's name; has the role (`..._conv1`); a padding layer is named after it.
            filters: Output channels.
            size: Kernel size in each direction.
            stride: Stride in each direction.
            dilation: Dilation in each direction.
            groups: Groups of channels that do not mix.
            normed: Whether a norm follows, so that `conv_bias="unnormed"` leaves the bias out.
            zero: Whether the kernel starts at zero.
            gain: Factor of the initial kernel's standard deviation.
        """
        padding = "same"
        if size > 1 and stride > 1 and self.spec.padding == "symmetric":
            # At stride 1 "same" is symmetric already; at stride 2 it is not, on even sizes.
            pad = self.layer("ZeroPadding")(size // 2, name=name.replace("conv", "pad"))
            x, padding = pad(x), "valid"
        bias = self.spec.conv_bias
        return self.layer("Conv")(
            filters,
            size,
            strides=stride,
            padding=padding,
            dilation_rate=dilation,
            groups=groups,
            use_bias=bias is True or (bias == "unnormed" and not self.norms(normed)),
            kernel_initializer="zeros" if zero else self.initializer(name, gain),
            name=name,
        )(x)

    def initializer(self, name: str, gain: float = 1.0) -> keras.initializers.Initializer:
        """Returns the initializer of the layer `name`'s kernel."""
        return kernel_initializer(name, self.seed, init=self.spec.init, gain=gain)

    def norms(self, wanted: bool = True) -> bool:
        """Whether a norm really stands where the net's form has one."""
        return wanted and self.spec.norm == "batch"

    def norm(self, x: Any, name: str, *, zero_gamma: bool = False) -> Any:
        """Applies batch norm over the channels, with the spec's eps and momentum, or nothing."""
        if not self.norms():
            return x
        return BatchNormalization(
            axis=channel_axis(),
            momentum=self.spec.norm_momentum,
            epsilon=self.spec.norm_eps,
            gamma_initializer="zeros" if zero_gamma else "ones",
            synchronized=self.spec.norm_sync,
            name=name,
        )(x)

    def relu(self, x: Any, name: str) -> Any:
        """Applies ReLU."""
        return keras.layers.Activation("relu", name=name)(x)

    def norm_relu(self, x: Any, name: str) -> Any:
        """Applies norm, then ReLU; `name` has the role `norm`, which the ReLU's replaces."""
        return self.relu(self.norm(x, name), name.replace("norm", "act"))

    def blur(self, x: Any, name: str, stride: int) -> Any:
        """Subsamples after a low-pass filter."""
        return BlurPool(self.spec.blur, stride, name=name)(x)

    def max_pool(self, x: Any, name: str, *, rectified: bool) -> Any:
        """Applies a 3x3 max pool of stride 2, padded as the spec says.

        Args:
            x: Images.
            name: The layer's name.
            rectified: Whether no value is below zero, so that zeros may stand
                for what is beyond the border.
        """
        stride = 1 if self.spec.blur else 2
        if self.spec.padding == "same" or stride == 1:
            x = self.layer("MaxPooling")(3, stride, padding="same", name=name)(x)
            return self.blur(x, f"{name}_blur", 2) if self.spec.blur else x
        if rectified or self.spec.stem_pool == "max_zero":
            x = self.layer("ZeroPadding")(1, name=f"{name}_pad")(x)
        else:
            x = PadEdges(name=f"{name}_pad")(x)
        return self.layer("MaxPooling")(3, stride, name=name)(x)
