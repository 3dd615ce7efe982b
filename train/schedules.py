"""Learning-rate schedules."""

from __future__ import annotations

import math
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
        ValueError: If the warm-up is not shorter than the run.
    """
    warmup = config.warmup_steps + round(config.warmup_epochs * steps_per_epoch)
    if warmup >= total_steps:
        names = [name for name in ("warmup_steps", "warmup_epochs") if getattr(config, name)]
        raise ValueError(
            f"The warm-up must be shorter than the run of {total_steps} steps: lower "
            f"{' or '.join(f'`schedule.{name}`' for name in names)} or train longer. "
            f"Received: {warmup} warm-up steps"
        )
    return Schedule(
        kind=config.kind,
        rate=config.learning_rate,
        total_steps=total_steps,
        boundaries=[round(fraction * total_steps) for fraction in config.boundaries],
        factor=config.factor,
        warmup_steps=warmup,
        warmup_constant=config.warmup == "constant",
        warmup_rate=config.warmup_rate,
    )


@keras.saving.register_keras_serializable(package="keras_resnet_train")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up, then a constant, piecewise constant or cosine learning rate.

    Steps count from 0: the rate at step k is that of the update that follows k others. A boundary
    at 32,000 leaves the first 32,000 updates at the old rate.

    Source: He et al. 2015, section 4.2 (piecewise, constant warm-up); Goyal et al. 2017, section
    2.2 (linear warm-up); Loshchilov and Hutter 2017 (arXiv:1608.03983), equation 5 (cosine).
    """

    def __init__(
        self,
        kind: str,
        rate: float,
        total_steps: int,
        boundaries: list[int],
        factor: float,
        warmup_steps: int,
        warmup_constant: bool,
        warmup_rate: float,
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
        }

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of the update that follows `step` others."""
        config = self._config
        step = ops.cast(step, "float32")
        warmup, base = config["warmup_steps"], config["rate"]
        rate: Any = ops.full((), base, dtype="float32")
        if config["kind"] == "piecewise":
            for boundary in config["boundaries"]:
                rate = ops.where(step >= boundary, rate * config["factor"], rate)
        elif config["kind"] == "cosine":
            done = (step - warmup) / max(1, config["total_steps"] - warmup)
            rate = base * 0.5 * (1 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0)))
        if not warmup:
            return rate
        start = config["warmup_rate"]
        rise = 0.0 if config["warmup_constant"] else (base - start) / warmup
        return ops.where(step < warmup, start + rise * step, rate)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return dict(self._config)
