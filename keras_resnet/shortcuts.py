"""Axis `shortcut`: how a unit's input reaches its merge."""

from __future__ import annotations

from typing import Any

from keras_resnet.layers import PadChannels, conv, norm
from keras_resnet.spec import ResNetSpec
from keras_resnet.units import Unit


def projects(spec: ResNetSpec, unit: Unit) -> bool:
    """Whether the unit's shortcut carries a projection."""
    return spec.shortcut == "C" or (spec.shortcut == "B" and unit.changes_shape)


def shortcut(x: Any, spec: ResNetSpec, unit: Unit, *, seed: int | None) -> Any:
    """Carries `x` to the shape of the branch: identity, zero padding or projection.

    Source: He et al. 2015, section 3.2 (equation 2) and section 4.1, options A, B and C.
    """
    if projects(spec, unit):
        x = conv(
            x, spec, f"{unit.name}_shortcut_conv",
            filters=unit.out_channels, size=1, stride=unit.stride, seed=seed,
        )  # fmt: skip
        if spec.order == "post" and spec.shortcut_norm:
            x = norm(x, spec, f"{unit.name}_shortcut_norm")
        return x
    if unit.changes_shape:
        return PadChannels(unit.out_channels, unit.stride, name=f"{unit.name}_shortcut_pad")(x)
    return x
