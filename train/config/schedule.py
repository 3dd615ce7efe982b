"""The section `schedule` of a configuration: the learning rate."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from .fields import ABOVE_0, AT_LEAST_0, FRACTION, Bounds, Section, setting


@dataclasses.dataclass(frozen=True)
class ScheduleConfig(Section):
    """The learning rate as a function of the step."""

    section: ClassVar[str] = "schedule"

    kind: Literal["constant", "piecewise", "step", "cosine", "polynomial", "one_cycle"] = setting(
        "constant",
        "`constant`; `piecewise`: multiplied by `factor` at each of `boundaries`, "
        "`boundary_epochs` or `boundary_steps`; `step`: multiplied by `factor` every "
        "`every_epochs` epochs; `cosine` or `polynomial`: to `final_rate` at the end of the run; "
        "`one_cycle`: up to `learning_rate` and down again, without a warm-up.",
    )
    learning_rate: float = setting(
        0.1, "Learning rate after the warm-up.", ABOVE_0, option="--learning-rate", metavar="RATE"
    )
    boundaries: tuple[float, ...] = setting(
        (),
        "Where a `piecewise` rate changes, as fractions of the run.",
        Bounds(above=0, below=1, ascending=True),
    )
    boundary_epochs: tuple[float, ...] = setting(
        (), "The same in epochs.", Bounds(above=0, ascending=True)
    )
    boundary_steps: tuple[int, ...] = setting(
        (), "The same in steps.", Bounds(above=0, ascending=True)
    )
    factor: float = setting(
        0.1, "Factor of the rate at each change of `piecewise` and `step`.", ABOVE_0
    )
    every_epochs: float = setting(30.0, "Epochs between the changes of `step`.", ABOVE_0)
    final_rate: float = setting(
        0.0, "Learning rate at the end of `cosine` and `polynomial`.", AT_LEAST_0
    )
    power: float = setting(1.0, "Exponent of `polynomial`; 1 falls linearly.", ABOVE_0)
    cycle_rise: float = setting(
        0.3, "Fraction of the run in which `one_cycle` rises.", Bounds(above=0, below=1)
    )
    cycle_start_divisor: float = setting(
        25.0, "`one_cycle` starts at `learning_rate` divided by this.", Bounds(minimum=1)
    )
    cycle_end_divisor: float = setting(
        1e4, "`one_cycle` ends at its starting rate divided by this.", Bounds(minimum=1)
    )
    cycle_shape: Literal["cosine", "linear"] = setting(
        "cosine", "Shape of the two parts of `one_cycle`."
    )
    warmup_steps: int = setting(0, "Length of the warm-up in steps.", AT_LEAST_0)
    warmup_epochs: float = setting(
        0.0, "Length of the warm-up in epochs; added to `warmup_steps`.", AT_LEAST_0
    )
    warmup: Literal["linear", "constant"] = setting(
        "linear",
        "`linear` from `warmup_rate` to `learning_rate`, or `constant` at `warmup_rate`.",
    )
    warmup_rate: float = setting(
        0.0,
        "Learning rate that the warm-up starts at. A linear warm-up from 0 counts updates from 1, "
        "so that the first one has a rate.",
        AT_LEAST_0,
    )
    swa_start: float = setting(
        0.0,
        "Stochastic weight averaging: from this fraction of the run on, the weights at the end of "
        "each epoch, or of each of its cycles, are averaged; 0 for none.",
        FRACTION,
    )
    swa_rate: float | None = setting(
        None,
        "Learning rate from `swa_start` on. By default the one that the schedule has reached.",
        ABOVE_0,
    )
    swa_cycle: int = setting(
        0,
        "Epochs in which the rate falls linearly from `swa_rate` to `swa_low_rate`, again and "
        "again; 0 for a constant rate.",
        AT_LEAST_0,
    )
    swa_low_rate: float = setting(0.0, "Lowest rate of each `swa_cycle`.", AT_LEAST_0)
