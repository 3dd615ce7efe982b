"""Learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from .config import ScheduleConfig


def make_schedule(config: ScheduleConfig, *, total_steps: int, steps_per_epoch: float) -> Schedule:
    """Returns a schedule with its fractions and epochs converted to steps.

    Args:
        config: The schedule's configuration.
        total_steps: Length of the run in steps.
        steps_per_epoch: Steps per pass over the training images.

    Raises:
        ValueError: If the warm-up is not shorter than the run, or has no rate, if a change of the
            rate lies outside of the run, or if changes are given in two units.
    """
    warmup = config.warmup_steps + round(config.warmup_epochs * steps_per_epoch)
    _check_warmup(config, warmup, total_steps)
    return Schedule(
        kind=config.kind,
        rate=config.learning_rate,
        total_steps=total_steps,
        boundaries=_boundaries(config, total_steps, steps_per_epoch),
        factor=config.factor,
        warmup_steps=warmup,
        warmup_constant=config.warmup == "constant",
        warmup_rate=config.warmup_rate,
        final_rate=config.final_rate,
        power=config.power,
        cycle=(config.cycle_rise, config.cycle_start_divisor, config.cycle_end_divisor),
        cycle_linear=config.cycle_shape == "linear",
        swa_steps=_swa_steps(config, total_steps, steps_per_epoch),
        swa_rates=(config.swa_rate, config.swa_low_rate if config.swa_cycle else None),
    )


def _check_warmup(config: ScheduleConfig, warmup: int, total_steps: int) -> None:
    names = [name for name in ("warmup_steps", "warmup_epochs") if getattr(config, name)]
    given = " and ".join(f"`schedule.{name}`" for name in names)
    if warmup >= total_steps:
        raise ValueError(
            f"The warm-up must be shorter than the run of {total_steps} steps: lower "
            f"{given.replace(' and ', ' or ')} or train longer. Received: {warmup} warm-up steps"
        )
    if warmup and config.kind == "one_cycle":
        raise ValueError(f"`schedule.kind=one_cycle` rises by itself: leave out {given}")
    if warmup and config.warmup == "constant" and not config.warmup_rate:
        raise ValueError(
            "A constant warm-up needs `schedule.warmup_rate` above 0. "
            f"Received: {config.warmup_rate}"
        )


def _boundaries(config: ScheduleConfig, total_steps: int, steps_per_epoch: float) -> list[int]:
    """Returns the steps at which a rate that changes by `factor` does so."""
    if config.kind == "step":
        changes = math.ceil(total_steps / (config.every_epochs * steps_per_epoch)) + 1
        steps = [round(n * config.every_epochs * steps_per_epoch) for n in range(1, changes)]
        return [step for step in steps if step < total_steps]
    if config.kind != "piecewise":
        return []
    names = ("boundaries", "boundary_epochs", "boundary_steps")
    given = [f"`schedule.{name}`" for name in names if getattr(config, name)]
    if len(given) > 1:
        raise ValueError(
            "Give the places where the rate changes once: as fractions, in epochs or in steps. "
            f"Received: {' and '.join(given)}"
        )
    steps = [round(fraction * total_steps) for fraction in config.boundaries]
    steps += [round(epoch * steps_per_epoch) for epoch in config.boundary_epochs]
    steps += config.boundary_steps
    # Fractions lie within it; in a run of few steps the last may round to its end.
    if not config.boundaries and steps and steps[-1] >= total_steps:
        name = "boundary_epochs" if config.boundary_epochs else "boundary_steps"
        raise ValueError(
            f"`schedule.{name}` must lie within the run of {total_steps} steps "
            f"({total_steps / steps_per_epoch:g} epochs). Received: {getattr(config, name)}"
        )
    return steps


def swa_epoch(config: ScheduleConfig, total_steps: int, steps_per_epoch: float) -> int:
    """Returns the number of the epoch after which stochastic weight averaging begins.

    Args:
        config: The schedule's configuration, with `swa_start`.
        total_steps: Length of the run in steps.
        steps_per_epoch: Steps per pass over the training images.
    """
    return round(config.swa_start * total_steps / steps_per_epoch)


def _swa_steps(config: ScheduleConfig, total_steps: int, steps_per_epoch: float) -> list[int]:
    """Returns the step at which averaging begins, then the ends of its cycles; or no steps."""
    if not config.swa_start:
        return []
    epoch = swa_epoch(config, total_steps, steps_per_epoch)
    steps = [round(epoch * steps_per_epoch)]
    while config.swa_cycle and steps[-1] < total_steps:
        epoch += config.swa_cycle
        steps.append(round(epoch * steps_per_epoch))
    return steps


@keras.saving.register_keras_serializable(package="keras_resnet_train")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step: a warm-up, then one of several curves.

    Steps count from 0: the rate at step k is that of the update that follows k others. A boundary
    at 32,000 leaves the first 32,000 updates at the old rate.

    A linear warm-up of m steps from a rate a to b has the rate a + (b - a) k / m at step k. From
    a = 0 this would waste the first update, so there the rate is b (k + 1) / m. One cycle leaves
    the momentum as it is; PyTorch's scheduler changes it too unless `cycle_momentum=False`.

    Source: He et al. 2015, section 4.2 (piecewise, constant warm-up); Goyal et al. 2017, section
    2.2 (linear warm-up from a rate); He et al. 2018 (arXiv:1812.01187), section 3.1 (from 0: the
    i-th of m batches, counted from 1, has the rate b i / m);
    Loshchilov and Hutter 2017 (arXiv:1608.03983), equation 5 (cosine); Smith and Topin 2017
    (arXiv:1708.07120) and `torch.optim.lr_scheduler.OneCycleLR` (one cycle, its divisors and
    steps); Izmailov et al. 2018 (arXiv:1803.05407), section 3.2 (rates of weight averaging).
    """

    def __init__(
        self,
        kind: str,
        rate: float,
        total_steps: int,
        boundaries: Sequence[int] = (),
        factor: float = 0.1,
        warmup_steps: int = 0,
        warmup_constant: bool = False,
        warmup_rate: float = 0.0,
        final_rate: float = 0.0,
        power: float = 1.0,
        cycle: Sequence[float] = (0.3, 25.0, 1e4),
        cycle_linear: bool = False,
        swa_steps: Sequence[int] = (),
        swa_rates: Sequence[float | None] = (None, None),
    ) -> None:
        super().__init__()
        self._config: dict[str, Any] = {
            "kind": kind,
            "rate": rate,
            "total_steps": total_steps,
            "boundaries": boundaries,
            "factor": factor,
            "warmup_steps": warmup_steps,
            "warmup_constant": warmup_constant,
            "warmup_rate": warmup_rate,
            "final_rate": final_rate,
            "power": power,
            "cycle": cycle,
            "cycle_linear": cycle_linear,
            "swa_steps": swa_steps,
            "swa_rates": swa_rates,
        }

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of the update that follows `step` others."""
        step = ops.cast(step, "float32")
        rate = self._rate(step)
        if not self._config["swa_steps"]:
            return rate
        return ops.where(step >= self._config["swa_steps"][0], self._swa_rate(step), rate)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return dict(self._config)

    def _rate(self, step: Any) -> Any:
        config = self._config
        rate = _CURVES[config["kind"]](config, step)
        warmup, base, start = config["warmup_steps"], config["rate"], config["warmup_rate"]
        if not warmup:
            return rate
        if config["warmup_constant"]:
            rising = ops.full((), start, dtype="float32")
        elif start:
            rising = start + (base - start) / warmup * step
        else:
            rising = base / warmup * (step + 1)
        return ops.where(step < warmup, rising, rate)

    def _swa_rate(self, step: Any) -> Any:
        """Returns the rate of weight averaging: constant, or falling in each cycle."""
        steps, (high, low) = self._config["swa_steps"], self._config["swa_rates"]
        if high is None:
            high = self._rate(ops.cast(steps[0], "float32"))
        if low is None:
            return ops.zeros((), "float32") + high
        cycle = ops.sum(ops.cast(step >= ops.array(steps[1:-1], "float32"), "int32"))
        begin, end = (
            ops.take(ops.array(part, "float32"), cycle) for part in (steps[:-1], steps[1:])
        )
        done = (step - begin + 1) / (end - begin)
        return (1 - done) * high + done * low


Config = dict[str, Any]


def _constant(config: Config, step: Any) -> Any:
    return ops.full((), config["rate"], dtype="float32")


def _piecewise(config: Config, step: Any) -> Any:
    boundaries = config["boundaries"]
    rates = [config["rate"] * config["factor"] ** n for n in range(len(boundaries) + 1)]
    passed = ops.sum(ops.cast(step >= ops.array(boundaries, "float32"), "int32"))
    return ops.take(ops.array(rates, "float32"), passed)


def _done(config: Config, step: Any) -> Any:
    """Returns the part of the run after the warm-up that is done, in [0, 1]."""
    warmup = config["warmup_steps"]
    return ops.clip((step - warmup) / max(1, config["total_steps"] - warmup), 0.0, 1.0)


def _cosine(config: Config, step: Any) -> Any:
    final = config["final_rate"]
    shape = 0.5 * (1 + ops.cos(math.pi * _done(config, step)))
    return final + (config["rate"] - final) * shape


def _polynomial(config: Config, step: Any) -> Any:
    final = config["final_rate"]
    return final + (config["rate"] - final) * (1 - _done(config, step)) ** config["power"]


def _one_cycle(config: Config, step: Any) -> Any:
    rise, start_divisor, end_divisor = config["cycle"]
    total, top = config["total_steps"], config["rate"]
    start = top / start_divisor
    peak = rise * total - 1
    up = ops.clip(step / max(peak, 1e-6), 0.0, 1.0)
    down = ops.clip((step - peak) / max(total - 1 - peak, 1e-6), 0.0, 1.0)
    if not config["cycle_linear"]:
        up, down = (0.5 * (1 - ops.cos(math.pi * part)) for part in (up, down))
    return ops.where(
        step <= peak, start + (top - start) * up, top + (start / end_divisor - top) * down
    )


_CURVES = {
    "constant": _constant,
    "piecewise": _piecewise,
    "step": _piecewise,
    "cosine": _cosine,
    "polynomial": _polynomial,
    "one_cycle": _one_cycle,
}
