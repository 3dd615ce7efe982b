"""Parts of a residual branch that the units share: its convolutions and what stands at its end."""

from __future__ import annotations

import math
from typing import NamedTuple

import keras

from keras_resnet.nets.geometry import Unit, squeezed_channels
from keras_resnet.nets.primitives import Convolution, Primitives, channel_axis
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.tensor import Tensor


class Bottleneck(NamedTuple):
    """The convolutions of a bottleneck, 1x1, 3x3 and 1x1 (He et al. 2015, Figure 5, right)."""

    conv1: Convolution
    conv2: Convolution
    conv3: Convolution


class Basic(NamedTuple):
    """The convolutions of a basic branch, two 3x3 (He et al. 2015, Figure 5, left)."""

    conv1: Convolution
    conv2: Convolution


def convolutions(spec: ResNetSpec, unit: Unit) -> Basic | Bottleneck:
    """Returns the convolutions of a unit's branch, in order."""
    return bottleneck(spec, unit) if spec.branch == "bottleneck" else basic(spec, unit)


def basic(spec: ResNetSpec, unit: Unit) -> Basic:
    """Returns the convolutions of a basic branch; the first one strides."""
    return Basic(
        _subsampling(spec, Convolution(unit.inner, 3, unit.stride, unit.first_dilation)),
        Convolution(unit.out_channels, 3, dilation=unit.dilation),
    )


def bottleneck(spec: ResNetSpec, unit: Unit) -> Bottleneck:
    """Returns the convolutions of a bottleneck; the first or the second one strides."""
    if spec.stride_placement == "1x1":
        conv1 = Convolution(unit.inner, 1, unit.stride)
        # Behind the stride of the 1x1, the 3x3 has the dilation of the later units already.
        conv2 = Convolution(unit.inner, 3, dilation=unit.dilation, groups=spec.groups)
    else:
        conv1 = Convolution(unit.inner, 1)
        conv2 = Convolution(unit.inner, 3, unit.stride, unit.first_dilation, spec.groups)
    conv3 = Convolution(unit.out_channels, 1)
    return Bottleneck(_subsampling(spec, conv1), _subsampling(spec, conv2), conv3)


def _subsampling(spec: ResNetSpec, conv: Convolution) -> Convolution:
    """Moves a stride into the low-pass filter behind the activation, where the net has filters."""
    return conv._replace(stride=1, blur_stride=conv.stride) if spec.blur else conv


def end_branch(y: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Applies what stands between a branch and its merge, where the spec has it.

    That is channel attention, a constant factor and stochastic depth, in this order.
    """
    if nn.spec.se_reduction:
        y = squeeze_excite(y, nn, unit)
    if nn.spec.eca:
        y = channel_attention(y, nn, unit)
    if nn.spec.branch_scale != 1:
        y = keras.layers.Rescaling(nn.spec.branch_scale, name=nn.name("branch_scale"))(y)
    return nn.stochastic_depth(y, "drop", unit.drop_rate) if unit.drop_rate else y


def squeeze_excite(y: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Scales the channels by a gate that is computed from their means over space.

    Source: Hu et al. 2017 (arXiv:1709.01507), section 3, Figure 3.
    """
    squeezed = squeezed_channels(nn.spec, unit.out_channels)
    gate = nn.layer("GlobalAveragePooling")(keepdims=True, name=nn.name("se_pool"))(y)
    gate = nn.pointwise("se_fc1", squeezed, "relu")(gate)
    gate = nn.pointwise("se_fc2", unit.out_channels, "sigmoid")(gate)
    return keras.layers.Multiply(name=nn.name("se_scale"))([y, gate])


def channel_attention(y: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Scales the channels by a gate: a convolution over the means of neighbouring channels.

    Source: Wang et al. 2020 (arXiv:1910.03151), section 3.2.3, equations 9 and 12.
    """
    channels = unit.out_channels
    gate = nn.layer("GlobalAveragePooling")(name=nn.name("se_pool"))(y)
    gate = keras.layers.Reshape((channels, 1), name=nn.name("se_channels"))(gate)
    gate = keras.layers.Conv1D(
        1,
        attention_size(channels),
        padding="same",
        data_format="channels_last",
        use_bias=False,
        activation="sigmoid",
        kernel_initializer=nn.initializer(nn.name("se_conv")),
        name=nn.name("se_conv"),
    )(gate)
    shape = [1] * nn.dims
    shape.insert(0 if channel_axis() == 1 else nn.dims, channels)
    gate = keras.layers.Reshape(shape, name=nn.name("se_gate"))(gate)
    return keras.layers.Multiply(name=nn.name("se_scale"))([y, gate])


def attention_size(channels: int) -> int:
    """Returns the kernel size of efficient channel attention: an odd number of channels."""
    size = int(abs(math.log2(channels) + 1) / 2)
    return max(3, size if size % 2 else size + 1)
