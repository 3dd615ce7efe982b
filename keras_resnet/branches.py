"""Axis `branch`: what a residual unit computes beside its shortcut."""

from __future__ import annotations

from typing import Any

from keras_resnet.layers import conv, norm, relu
from keras_resnet.spec import ResNetSpec
from keras_resnet.units import Unit


def branch(x: Any, spec: ResNetSpec, unit: Unit, *, seed: int | None) -> Any:
    """Applies a unit's convolutions.

    In pre-activation order `x` is already normed and rectified by the unit, because its shortcut
    may start there too; in post-activation order the last norm is not followed by a ReLU, which
    stands behind the merge.

    Source: He et al. 2015, Figure 5; He et al. 2016, Figure 4 (a) and (e).
    """
    plan = _convolutions(spec, unit)
    for number, (filters, size, stride) in enumerate(plan, start=1):
        last = number == len(plan)
        zero = last and spec.zero_init_residual
        if spec.order == "pre" and number > 1:
            x = relu(norm(x, spec, f"{unit.name}_norm{number}"), f"{unit.name}_act{number}")
        x = conv(
            x, spec, f"{unit.name}_conv{number}",
            filters=filters, size=size, stride=stride, seed=seed,
            zero=zero and spec.order == "pre",
        )  # fmt: skip
        if spec.order == "post":
            x = norm(x, spec, f"{unit.name}_norm{number}", zero_gamma=zero)
            if not last:
                x = relu(x, f"{unit.name}_act{number}")
    return x


def _convolutions(spec: ResNetSpec, unit: Unit) -> list[tuple[int, int, int]]:
    """Returns filters, kernel size and stride of each convolution."""
    if spec.branch == "basic":
        return [(unit.width, 3, unit.stride), (unit.out_channels, 3, 1)]
    early = spec.stride_placement == "1x1"
    return [
        (unit.width, 1, unit.stride if early else 1),
        (unit.width, 3, 1 if early else unit.stride),
        (unit.out_channels, 1, 1),
    ]
