"""Shortcuts: how a unit's input reaches the addition."""

from __future__ import annotations

from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.layers import PadChannels
from keras_resnet.nets.primitives import Convolution, Primitives
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.tensor import Tensor


def shortcut(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Brings `x` to the shape of the branch: the identity, padding with zeros, or a projection.

    Source: He et al. 2015, section 3.2 (equation 2) and section 4.1, options A, B and C; He et
    al. 2018 (arXiv:1812.01187), Figure 2c, option D.
    """
    if subsamples(nn.spec, unit):
        return nn.layer("MaxPooling")(1, unit.stride, name=nn.name("shortcut_pool"))(x)
    if projects(nn.spec, unit):
        return projection(x, nn, unit)
    if unit.changes_shape:
        pad = PadChannels(unit.out_channels, unit.stride, name=nn.name("shortcut_pad"))
        return pad(x)
    return x


def projects(spec: ResNetSpec, unit: Unit) -> bool:
    """Whether the unit's shortcut is a projection."""
    if spec.shortcut == "A" or subsamples(spec, unit):
        return False
    return spec.shortcut == "C" or unit.changes_shape or (spec.stage_projection and unit.opens)


def subsamples(spec: ResNetSpec, unit: Unit) -> bool:
    """Whether the unit's shortcut is its input at every second pixel (`stride_unit="last"`)."""
    return spec.stride_unit == "last" and unit.stride > 1 and unit.in_channels == unit.out_channels


def projection(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Applies a 1x1 convolution, with a norm where the branch ends in one."""
    stride = unit.stride
    if stride > 1 and nn.spec.blur and nn.spec.blur_shortcut:
        x, stride = nn.blur(x, "shortcut_blur", stride), 1
    elif stride > 1 and nn.spec.shortcut == "D":
        # "same" averages the pixels that exist at an odd border: PyTorch's
        # `count_include_pad=False`.
        pool = nn.layer("AveragePooling")
        x = pool(2, stride, padding="same", name=nn.name("shortcut_pool"))(x)
        stride = 1
    normed = nn.spec.norms_branch_end and nn.spec.shortcut_norm
    x = nn.conv(x, "shortcut_conv", Convolution(unit.out_channels, 1, stride), normed=normed)
    return nn.norm(x, "shortcut_norm") if normed else x
