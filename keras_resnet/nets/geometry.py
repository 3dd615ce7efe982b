"""The units of a network: their channels, strides, dilations and drop rates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from keras_resnet.nets.spec import ResNetSpec


@dataclasses.dataclass(frozen=True)
class Unit:
    """The position and shape of one residual unit.

    Attributes:
        stage: Number of the stage, from 1; 0 for a stem that is a unit.
        index: Number of the unit in its stage, from 1.
        in_channels: Channels of the input.
        inner: Filters of the 3x3 convolution.
        out_channels: Channels of the output.
        stride: Stride of the unit.
        first: Whether the unit follows the stem.
        opens: Whether the unit is the first of its stage.
        dilation: Dilation of the 3x3 convolutions.
        first_dilation: Dilation of the first 3x3 convolution. It is that of the unit before if
            this unit's stride became dilation.
        drop_rate: Probability that the branch is dropped in training.
    """

    stage: int
    index: int
    in_channels: int
    inner: int
    out_channels: int
    stride: int
    first: bool = False
    opens: bool = False
    dilation: int = 1
    first_dilation: int = 1
    drop_rate: float = 0.0

    @property
    def name(self) -> str:
        """Prefix of the names of the unit's layers."""
        return f"stage{self.stage}_unit{self.index}" if self.stage else "stem"

    @property
    def changes_shape(self) -> bool:
        """Whether the output has another shape than the input."""
        return self.stride != 1 or self.in_channels != self.out_channels


def units(spec: ResNetSpec) -> Iterator[Unit]:
    """Yields the units of a network in order."""
    channels = spec.stem_filters
    inner = inner_widths(spec)
    stride, dilation, number, total = spec.stem_stride, 1, 0, sum(spec.depths)
    for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True), start=1):
        for index in range(1, depth + 1):
            number += 1
            own, before = _stride(spec, stage, index), dilation
            if spec.max_stride is not None and stride * own > spec.max_stride:
                own, dilation = 1, dilation * own
            stride *= own
            out_channels = width * spec.expansion
            yield Unit(
                stage=stage,
                index=index,
                in_channels=channels,
                inner=inner[stage - 1],
                out_channels=out_channels,
                stride=own,
                first=number == 1,
                opens=index == 1,
                dilation=dilation,
                first_dilation=before,
                drop_rate=spec.stochastic_depth * number / total,
            )
            channels = out_channels


def runs(spec: ResNetSpec) -> Iterator[tuple[Unit, ...]]:
    """Yields the units of a network in order, consecutive equal units together.

    Units are equal if they are in one stage and differ only in their weights and drop rates. A
    stage of n units is usually one that changes the shape and a run of n - 1.
    """
    for _, equal in itertools.groupby(units(spec), lambda unit: _form(spec, unit)):
        yield tuple(equal)


def _form(spec: ResNetSpec, unit: Unit) -> Unit:
    """Returns the unit with the fields that do not change its layers set to one value."""
    return dataclasses.replace(
        unit,
        index=0,
        drop_rate=float(unit.drop_rate > 0),
        first=unit.first and spec.activates_first and spec.stem_activation,
        opens=unit.opens and spec.stage_projection,
    )


def inner_widths(spec: ResNetSpec) -> tuple[int, ...]:
    """Returns the filters of the convolutions inside the units of each stage."""
    if spec.inner_widths is not None:
        return spec.inner_widths
    return tuple(width * spec.base_width // 64 * spec.groups for width in spec.widths)


def squeezed_channels(spec: ResNetSpec, channels: int) -> int:
    """Returns the channels between the two layers of squeeze-and-excitation.

    They are rounded to a multiple of `se_divisor`, and are never fewer.
    """
    divisor = spec.se_divisor
    nearest = int(channels / spec.se_reduction + divisor / 2) // divisor * divisor
    return max(divisor, nearest if divisor > 1 else channels // spec.se_reduction)


def _stride(spec: ResNetSpec, stage: int, index: int) -> int:
    if spec.stride_unit == "last":
        return 2 if stage < len(spec.depths) and index == spec.depths[stage - 1] else 1
    if index > 1:
        return 1
    return spec.first_stride if stage == 1 else 2
