"""Parts of a residual branch that the units share: its convolutions and what stands at its end."""

from __future__ import annotations

from typing import NamedTuple

import keras

from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.primitives import Convolution, Primitives
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

    That is squeeze-and-excitation, a constant factor and stochastic depth, in this order.
    """
    if nn.spec.se_reduction:
        y = squeeze_excite(y, nn, unit)
    if nn.spec.branch_scale != 1:
        y = keras.layers.Rescaling(nn.spec.branch_scale, name=nn.name("branch_scale"))(y)
    return nn.stochastic_depth(y, "drop", unit.drop_rate) if unit.drop_rate else y


def squeeze_excite(y: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Scales the channels by a gate that is computed from their means over space.

    Source: Hu et al. 2017 (arXiv:1709.01507), section 3, Figure 3.
    """
    squeezed = max(1, unit.out_channels // nn.spec.se_reduction)
    gate = nn.layer("GlobalAveragePooling")(keepdims=True, name=nn.name("se_pool"))(y)
    gate = nn.pointwise("se_fc1", squeezed, "relu")(gate)
    gate = nn.pointwise("se_fc2", unit.out_channels, "sigmoid")(gate)
    return keras.layers.Multiply(name=nn.name("se_scale"))([y, gate])
