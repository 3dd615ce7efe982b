"""Axis `shortcut`: how a unit's input reaches its merge."""

from __future__ import annotations

from typing import Any

from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.layers import PadChannels
from keras_resnet.nets.primitives import Primitives
from keras_resnet.nets.spec import ResNetSpec


def projects(spec: ResNetSpec, unit: Unit) -> bool:
    """Whether the unit's shortcut carries a projection."""
    if spec.shortcut == "A" or subsamples(spec, unit):
        return False
    return spec.shortcut == "C" or unit.changes_shape or (spec.stage_projection and unit.opens)


def subsamples(spec: ResNetSpec, unit: Unit) -> bool:
    """Whether the unit's shortcut is its input at every second pixel (`stride_unit="last"`)."""
    return spec.stride_unit == "last" and unit.stride > 1 and unit.in_channels == unit.out_channels


def shortcut(x: Any, make: Primitives, unit: Unit) -> Any | None:
    """Carries `x` to the shape of the branch: identity, zero padding or projection.

    Returns None where there is no shortcut: RepVGG's units that change the shape.

    Source: He et al. 2015, section 3.2 (equation 2) and section 4.1, options A, B and C; He et
    al. 2018 (arXiv:1812.01187), Figure 2c, option D.
    """
    spec = make.spec
    if spec.branch == "repvgg":
        return None if unit.changes_shape else make.norm(x, f"{unit.name}_shortcut_norm")
    if subsamples(spec, unit):
        return make.layer("MaxPooling")(1, unit.stride, name=f"{unit.name}_shortcut_pool")(x)
    if not projects(spec, unit):
        if not unit.changes_shape:
            return x
        return PadChannels(unit.out_channels, unit.stride, name=f"{unit.name}_shortcut_pad")(x)
    stride = unit.stride
    if stride > 1 and spec.blur:
        x, stride = make.blur(x, f"{unit.name}_shortcut_blur", stride), 1
    elif stride > 1 and spec.shortcut == "D":
        # "same" averages what is there at an odd border: PyTorch's `count_include_pad=False`.
        pool = make.layer("AveragePooling")
        x = pool(2, stride, padding="same", name=f"{unit.name}_shortcut_pool")(x)
        stride = 1
    normed = spec.norms_branch_end and spec.shortcut_norm
    x = make.conv(
        x,
        f"{unit.name}_shortcut_conv",
        filters=unit.out_channels,
        size=1,
        stride=stride,
        normed=normed,
    )
    return make.norm(x, f"{unit.name}_shortcut_norm") if normed else x
