"""Averages of a run's weights, which are what is evaluated and kept."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras

from .config import RunConfig
from .length import Length
from .schedules import swa_epoch


@dataclasses.dataclass(frozen=True)
class AveragingPlan:
    """Which weights are averaged.

    Attributes:
        decay: Decay of a moving average over the steps; 0 for equal weights at ends of epochs.
        at_steps: The numbers of steps done when weights are taken, for equal weights.
    """

    decay: float = 0.0
    at_steps: tuple[int, ...] = ()

    def count(self, step: int) -> int:
        """Returns how many weights the average holds when `step` steps are done."""
        return step if self.decay else sum(step >= each for each in self.at_steps)


def averaging_plan(config: RunConfig, length: Length) -> AveragingPlan | None:
    """Returns which weights a run averages, or None.

    Raises:
        ValueError: If the configuration asks for averages of two kinds, or if there is nothing to
            average before the run ends.
    """
    optimizer, schedule = config.optimizer, config.schedule
    asked = {
        "optimizer.ema": optimizer.ema,
        "optimizer.average_last": optimizer.average_last,
        "schedule.swa_start": schedule.swa_start,
    }
    given = [f"{name}={value}" for name, value in asked.items() if value]
    if len(given) > 1:
        raise ValueError(f"Choose one average of the weights. Received: {', '.join(given)}")
    if not given:
        return None
    if optimizer.ema:
        return AveragingPlan(decay=optimizer.ema)
    last, every = length.epochs, 1
    if optimizer.average_last:
        first = max(1, last - optimizer.average_last + 1)
    else:
        every = schedule.swa_cycle or 1
        first = swa_epoch(schedule, length.steps, length.steps_per_epoch) + every
    if first > last:
        raise ValueError(
            f"`schedule.swa_start` leaves no whole cycle of {every} epoch(s) in a run of {last}. "
            f"Received: {schedule.swa_start}"
        )
    return AveragingPlan(
        at_steps=tuple(length.end_of(epoch) for epoch in range(first, last + 1, every))
    )


class WeightAverages:
    """Averages of all weights of a model, batch-norm statistics among them.

    Weights are averaged with the statistics that belong to them: normalized by those of the newest
    weights, averaged weights compute another function. Each replica averages its own statistics,
    as batch norm itself does (`replica_statistics`).

    A moving average begins with the weights of the first step. Its decay in step t, counted from 0,
    is min(decay, (1 + t) / (10 + t)), so that a short run does not end near its first weights.

    Source: `tf.train.ExponentialMovingAverage`, argument `num_updates` (warm-up); Izmailov et al.
    2018 (arXiv:1803.05407), Algorithm 1 (equal weights).

    Args:
        model: The model, built under the strategy; the averages are made under the same scope.
        plan: Which weights are averaged.

    Example:
        >>> averages = WeightAverages(model, AveragingPlan(decay=0.999))
        >>> averages.update(step)  # after `strategy.run` of a training step, in the same graph
        >>> with averages.assigned(model):
        ...     evaluate(model)
    """

    def __init__(self, model: Any, plan: AveragingPlan) -> None:
        import tensorflow as tf

        self.plan = plan
        self._strategy = tf.distribute.get_strategy()
        self._sources = [v for v in model.weights if "float" in str(v.dtype)]
        self.variables = [
            keras.Variable(
                variable.numpy(),
                dtype=variable.dtype,
                trainable=False,
                name=f"{variable.name}_mean",
            )
            for variable in self._sources
        ]

    @property
    def every_step(self) -> bool:
        """Whether `update` must be called in every step."""
        return self.plan.decay > 0

    def holds(self, step: int) -> bool:
        """Whether there is an average when `step` steps are done, or only the raw weights."""
        return self.plan.count(step) > 0

    def update(self, step: Any) -> None:
        """Adds the weights after a step to a moving average; outside of the replicas.

        Args:
            step: The number of the step in the run, from 0, a scalar tensor or a number.
        """
        import tensorflow as tf

        if not self.every_step:
            return
        step = tf.cast(step, tf.float32)
        decay = tf.minimum(self.plan.decay, (1.0 + step) / (10.0 + step))
        self._strategy.run(self._move, args=(1.0 - tf.where(step > 0, decay, 0.0),))

    def end_epoch(self, step: int) -> None:
        """Adds the weights at the end of an epoch to an average of equal weights.

        Args:
            step: The number of steps done.
        """
        import tensorflow as tf

        if step in self.plan.at_steps:
            self._strategy.run(self._move, args=(tf.constant(1.0 / self.plan.count(step)),))

    @property
    def statistics(self) -> list[Any]:
        """The averages of weights that do not train, which each replica averages by itself."""
        pairs = zip(self.variables, self._sources, strict=True)
        return [each for each, source in pairs if not source.trainable]

    def pairs(self, model: Any) -> list[tuple[Any, Any]]:
        """Returns the weights that are averaged, each with the variable of its average."""
        sources = [v for v in model.weights if "float" in str(v.dtype)]
        return list(zip(sources, self.variables, strict=True))

    @contextlib.contextmanager
    def assigned(self, model: Any) -> Iterator[None]:
        """Assigns the averages, which must be equal on all replicas, while the block runs."""
        sources = [v for v in model.weights if "float" in str(v.dtype)]
        kept = [variable.numpy() for variable in sources]
        self.assign(model)
        try:
            yield
        finally:
            for variable, value in zip(sources, kept, strict=True):
                variable.assign(value)

    def assign(self, model: Any) -> None:
        """Assigns the averages to the model for good."""
        for variable, average in self.pairs(model):
            variable.assign(average.numpy())

    def read(self, model: Any) -> None:
        """Takes the model's weights as the averages, where a checkpoint is restored."""
        for variable, average in self.pairs(model):
            average.assign(variable.numpy())

    def _move(self, share: Any) -> None:
        """Moves the averages towards the weights by a share of the difference.

        A share of 1 gives the weights to the last bit, whatever the averages were before: a run
        that resumes from step 0 has made them of other weights.
        """
        for average, source in zip(self.variables, self._sources, strict=True):
            average.value.assign(average.value * (1.0 - share) + source.value * share)


def make_averages(model: Any, config: RunConfig, length: Length) -> WeightAverages | None:
    """Returns the averages that a run asks for, or None; call it in the strategy's scope.

    Raises:
        ValueError: See `averaging_plan`.
    """
    plan = averaging_plan(config, length)
    return None if plan is None else WeightAverages(model, plan)
