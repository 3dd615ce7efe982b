"""Axis `branch`: what a residual unit computes beside its shortcut."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras

from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.layers import Scalar
from keras_resnet.nets.primitives import Primitives
from keras_resnet.nets.spec import ResNetSpec


class _Convolution(NamedTuple):
    """One convolution of a branch."""

    filters: int
    size: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1


def branch(x: Any, make: Primitives, unit: Unit) -> Any:
    """Applies a unit's convolutions, and squeeze-and-excitation where the spec has it.

    In pre-activation order `x` is already normed and rectified by the unit, because its shortcut
    may start there too; in post-activation order the last norm is not followed by a ReLU, which
    stands behind the merge.

    Source: He et al. 2015, Figure 5; He et al. 2016, Figure 4 (a) to (e).
    """
    spec = make.spec
    if spec.branch == "repvgg":
        return _repvgg(x, make, unit)
    if spec.merge == "fixup":
        return _fixup(x, make, unit)
    plan = _convolutions(spec, unit)
    for number, step in enumerate(plan, start=1):
        last = number == len(plan)
        normed = spec.norms_branch_end or not last
        zero = last and spec.zero_init_residual
        blurred = spec.blur and step.stride > 1
        x = make.conv(
            x,
            f"{unit.name}_conv{number}",
            **step._replace(stride=1 if blurred else step.stride)._asdict(),
            normed=normed,
            zero=zero and not make.norms(spec.norms_branch_end),
        )
        # Between two convolutions stand norm and ReLU in every order; the names differ, because a
        # pre-activation norm belongs to the convolution after it.
        if spec.order == "pre":
            x = x if last else make.norm_relu(x, f"{unit.name}_norm{number + 1}")
        elif normed:
            x = make.norm(x, f"{unit.name}_norm{number}", zero_gamma=zero)
            if not last or spec.order == "relu_before_add":
                x = make.relu(x, f"{unit.name}_{_activation(spec, number)}")
        if blurred:
            x = make.blur(x, f"{unit.name}_blur", step.stride)
    return squeeze_excite(x, make, unit) if spec.se_reduction else x


def _activation(spec: ResNetSpec, number: int) -> str:
    """Returns the role of the ReLU behind a convolution; each one has a name of its own."""
    return f"act{number + spec.activates_first}"


def _convolutions(spec: ResNetSpec, unit: Unit) -> list[_Convolution]:
    if spec.branch == "single":
        return [_Convolution(unit.out_channels, 3, unit.stride, unit.first_dilation)]
    if spec.branch == "basic":
        return [
            _Convolution(unit.inner, 3, unit.stride, unit.first_dilation),
            _Convolution(unit.out_channels, 3, 1, unit.dilation),
        ]
    early = spec.stride_placement == "1x1"
    # A stride in the 1x1 stands before the 3x3, which then sees the later dilation already.
    stride, dilation = (1, unit.dilation) if early else (unit.stride, unit.first_dilation)
    return [
        _Convolution(unit.inner, 1, unit.stride if early else 1),
        _Convolution(unit.inner, 3, stride, dilation, spec.groups),
        _Convolution(unit.out_channels, 1),
    ]


def squeeze_excite(x: Any, make: Primitives, unit: Unit) -> Any:
    """Weighs the channels by a gate that sees their means over space.

    Source: Hu et al. 2017 (arXiv:1709.01507), section 3, Figure 3.
    """
    squeezed = max(1, unit.out_channels // make.spec.se_reduction)
    gate = make.layer("GlobalAveragePooling")(keepdims=True, name=f"{unit.name}_se_pool")(x)
    for part, filters, activation in (
        ("fc1", squeezed, "relu"),
        ("fc2", unit.out_channels, "sigmoid"),
    ):
        name = f"{unit.name}_se_{part}"
        gate = make.layer("Conv")(
            filters,
            1,
            activation=activation,
            kernel_initializer=make.initializer(name),
            name=name,
        )(gate)
    return keras.layers.Multiply(name=f"{unit.name}_se_scale")([x, gate])


def _repvgg(x: Any, make: Primitives, unit: Unit) -> Any:
    """Sums a 3x3 and a 1x1 convolution, each with its norm.

    Source: Ding et al. 2021 (arXiv:2101.03697), section 3.2, Figure 2 (b).
    """
    paths = []
    for number, size in enumerate((3, 1), start=1):
        path = make.conv(
            x,
            f"{unit.name}_conv{number}",
            filters=unit.out_channels,
            size=size,
            stride=unit.stride,
            dilation=unit.first_dilation if size > 1 else 1,
        )
        paths.append(make.norm(path, f"{unit.name}_norm{number}"))
    return keras.layers.Add(name=f"{unit.name}_sum")(paths)


def _fixup(x: Any, make: Primitives, unit: Unit) -> Any:
    """Applies convolutions between learned scalar biases; the last one starts at zero.

    The others start smaller by L^(-1 / (2m - 2)), with L the units of the net and m the
    convolutions of a branch. `x` carries the first bias already, because the projection shares it.

    Source: Zhang et al. 2019 (arXiv:1901.09321), section 3, "Fixup initialization".
    """
    plan = _convolutions(make.spec, unit)
    gain = sum(make.spec.depths) ** (-1 / (2 * len(plan) - 2))
    for number, step in enumerate(plan, start=1):
        last = number == len(plan)
        if number > 1:
            x = Scalar("add", 0.0, name=f"{unit.name}_bias{number}a")(x)
        x = make.conv(x, f"{unit.name}_conv{number}", **step._asdict(), zero=last, gain=gain)
        if not last:
            x = Scalar("add", 0.0, name=f"{unit.name}_bias{number}b")(x)
            x = make.relu(x, f"{unit.name}_act{number}")
    x = Scalar("multiply", 1.0, name=f"{unit.name}_scale")(x)
    return Scalar("add", 0.0, name=f"{unit.name}_bias{len(plan)}b")(x)
