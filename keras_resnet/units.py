"""Where a unit stands in a net: the geometry that every axis reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from keras_resnet.spec import ResNetSpec


@dataclasses.dataclass(frozen=True)
class Unit:
    """One residual unit of a net.

    Attributes:
        stage: Number of the stage, from 1.
        index: Number of the unit in its stage, from 1.
        in_channels: Channels that come in.
        width: Filters of the 3x3 convolution.
        out_channels: Channels that go out.
        stride: Stride of the unit.
        first: Whether it follows the stem.
    """

    stage: int
    index: int
    in_channels: int
    width: int
    out_channels: int
    stride: int
    first: bool

    @property
    def name(self) -> str:
        """Prefix of the unit's layer names."""
        return f"stage{self.stage}_unit{self.index}"

    @property
    def changes_shape(self) -> bool:
        """Whether what goes out has another shape than what comes in."""
        return self.stride != 1 or self.in_channels != self.out_channels


def units(spec: ResNetSpec) -> Iterator[Unit]:
    """Yields the units of a net in order."""
    channels = spec.widths[0]
    for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True), start=1):
        for index in range(1, depth + 1):
            out_channels = width * spec.expansion
            yield Unit(
                stage=stage,
                index=index,
                in_channels=channels,
                width=width,
                out_channels=out_channels,
                stride=2 if stage > 1 and index == 1 else 1,
                first=stage == 1 and index == 1,
            )
            channels = out_channels
