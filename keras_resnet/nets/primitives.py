"""The layers that units and stems consist of, as a spec describes them, in 1-D, 2-D or 3-D."""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Any, NamedTuple

import keras

from keras_resnet.nets.aliases import LayerNames, applications_name, from_applications_name
from keras_resnet.nets.batch_norm import BatchNormalization
from keras_resnet.nets.layers import BlurPool, DeltaOrthogonal, Dropout, PadEdges, StochasticDepth
from keras_resnet.nets.spec import Init, ResNetSpec
from keras_resnet.nets.tensor import Tensor


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


class Convolution(NamedTuple):
    """Geometry of a convolution.

    Attributes:
        filters: Output channels.
        size: Kernel size in each direction.
        stride: Stride in each direction.
        dilation: Dilation in each direction.
        groups: Groups of channels that do not mix.
        blur_stride: Stride of the low-pass filter behind the activation; it replaces `stride` in
            nets with `blur`.
    """

    filters: int
    size: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    blur_stride: int = 1


@dataclasses.dataclass(frozen=True)
class Primitives:
    """Makes and applies the layers of a net.

    Each method takes the role of a layer, such as `"conv1"`; the layer's name is the scope and the
    role, such as `"stage2_unit1_conv1"`.

    Attributes:
        spec: Gives padding, biases, norm and initialization.
        dims: Space axes: 1 for signals, 2 for images, 3 for volumes.
        seed: Seed of the initial weights, or None.
        drop_rate: A scalar tensor that replaces the rates of stochastic depth, where one traced
            unit stands for several.
        scope: Prefix of the layers' names.
        names: Whose names the layers have. Initial weights depend on our names only.
    """

    spec: ResNetSpec
    dims: int = 2
    seed: int | None = None
    drop_rate: Tensor | None = None
    scope: str = ""
    names: LayerNames = "own"

    def scoped(self, scope: str) -> Primitives:
        """Returns the same layers with another prefix of their names."""
        return dataclasses.replace(self, scope=scope)

    def name(self, role: str) -> str:
        """Returns the name of the layer with a role."""
        own = f"{self.scope}_{role}" if self.scope else role
        if self.names == "own":
            return own
        return applications_name(own, preactivated=self.spec.activates_first)

    def _own(self, name: str) -> str:
        if self.names == "own":
            return name
        return from_applications_name(name, preactivated=self.spec.activates_first)

    def layer(self, kind: str) -> Any:
        """Returns the Keras layer class `kind` for this number of space axes."""
        return getattr(keras.layers, f"{kind}{self.dims}D")

    def layer_seed(self, name: str) -> int | None:
        """Returns the seed of the layer with a name."""
        return own_seed(self._own(name), self.seed)

    def conv(
        self,
        x: Tensor,
        role: str,
        conv: Convolution,
        *,
        normed: bool = True,
        ends_branch: bool = False,
        gain: float = 1.0,
    ) -> Tensor:
        """Applies a convolution, padded as the spec says.

        Args:
            x: Images, `(batch, height, width, channels)`.
            role: Role of the layer; a padding layer has the same one with `pad` for `conv`.
            conv: Its geometry.
            normed: Whether the net has a norm behind it, so that `conv_bias="unnormed"` leaves out
                the bias.
            ends_branch: Whether it is the last of a branch: with `zero_init_residual` it starts at
                zero, unless the norm behind it does.
            gain: Factor of the initial kernel's standard deviation; 0 starts at zero.
        """
        name, padding = self.name(role), "same"
        if conv.size > 1 and conv.stride > 1 and self.spec.padding == "symmetric":
            # At stride 1 "same" is symmetric already; at stride 2 it is not, on even sizes.
            pad = self.layer("ZeroPadding")(
                conv.size // 2, name=self.name(role.replace("conv", "pad"))
            )
            x, padding = pad(x), "valid"
        normed = normed and self.spec.norm in ("batch", "group")
        zero = gain == 0 or (ends_branch and self.spec.zero_init_residual and not normed)
        bias = self.spec.conv_bias
        return self.layer("Conv")(
            conv.filters,
            conv.size,
            strides=conv.stride,
            padding=padding,
            dilation_rate=conv.dilation,
            groups=conv.groups,
            use_bias=bias is True or (bias == "unnormed" and not normed),
            kernel_initializer="zeros" if zero else self.initializer(name, gain),
            name=name,
        )(x)

    def pointwise(self, role: str, filters: int, activation: str, *, bias: float = 0.0) -> Any:
        """Returns a layer that maps the channels of each pixel: a 1x1 convolution of a gate."""
        name = self.name(role)
        return self.layer("Conv")(
            filters,
            1,
            activation=activation,
            kernel_initializer=self.initializer(name),
            bias_initializer=keras.initializers.Constant(bias) if bias else "zeros",
            name=name,
        )

    def initializer(self, name: str, gain: float = 1.0) -> keras.initializers.Initializer:
        """Returns the initializer of the kernel of the layer with a name."""
        return kernel_initializer(self._own(name), self.seed, init=self.spec.init, gain=gain)

    def norm(self, x: Tensor, role: str, *, ends_branch: bool = False) -> Tensor:
        """Applies batch norm or group norm, or nothing in nets without norms.

        Args:
            x: Images.
            role: Role of the layer.
            ends_branch: Whether it is the last layer of a branch: with `zero_init_residual` its
                scale starts at zero.
        """
        if self.spec.norm not in ("batch", "group"):
            return x
        zero = ends_branch and self.spec.zero_init_residual
        if self.spec.norm == "group":
            return keras.layers.GroupNormalization(
                32,
                axis=channel_axis(),
                epsilon=self.spec.norm_eps,
                gamma_initializer="zeros" if zero else "ones",
                name=self.name(role),
            )(x)
        return BatchNormalization(
            axis=channel_axis(),
            momentum=self.spec.norm_momentum,
            epsilon=self.spec.norm_eps,
            gamma_initializer="zeros" if zero else "ones",
            synchronized=self.spec.norm_sync,
            name=self.name(role),
        )(x)

    def relu(self, x: Tensor, role: str) -> Tensor:
        """Applies ReLU."""
        return keras.layers.Activation("relu", name=self.name(role))(x)

    def norm_relu(self, x: Tensor, role: str) -> Tensor:
        """Applies norm, then ReLU, whose role is that of the norm with `act` for `norm`."""
        return self.relu(self.norm(x, role), role.replace("norm", "act"))

    def blur(self, x: Tensor, role: str, stride: int) -> Tensor:
        """Subsamples behind a low-pass filter; returns `x` at stride 1."""
        if stride == 1:
            return x
        if self.spec.blur == 2:  # the mean of the pixels that exist, at an odd border too
            pool = self.layer("AveragePooling")
            return pool(2, stride, padding="same", name=self.name(role))(x)
        return BlurPool(self.spec.blur, stride, name=self.name(role))(x)

    def stochastic_depth(self, x: Tensor, role: str, rate: float) -> Tensor:
        """Drops the branch of single examples in training."""
        name = self.name(role)
        drop = StochasticDepth(rate, seed=self.layer_seed(name), name=name)
        return drop(x) if self.drop_rate is None else drop(x, rate=self.drop_rate)

    def dropout(self, x: Tensor, name: str, rate: float) -> Tensor:
        """Sets single values to zero in training."""
        seed = self.layer_seed(name)
        # PyTorch keeps the state of a seed generator as an int32.
        return Dropout(rate, seed=None if seed is None else seed % 2**31, name=name)(x)

    def max_pool(self, x: Tensor, role: str, *, rectified: bool) -> Tensor:
        """Applies a 3x3 max pool of stride 2, padded as the spec says.

        Args:
            x: Images.
            role: Role of the layer.
            rectified: Whether no value is below zero, so that zeros may pad the border.
        """
        pool, name = self.layer("MaxPooling"), self.name(role)
        if self.spec.blur:
            x = pool(3, 1, padding="same", name=name)(x)
            return self.blur(x, f"{role}_blur", 2)
        if self.spec.padding == "same":
            return pool(3, 2, padding="same", name=name)(x)
        if rectified or self.spec.stem_pool == "max_zero":
            x = self.layer("ZeroPadding")(1, name=self.name(f"{role}_pad"))(x)
        else:
            x = PadEdges(name=self.name(f"{role}_pad"))(x)
        return pool(3, 2, name=name)(x)
