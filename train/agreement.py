"""Agreement between the workers of a run, which have clocks and signals of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Total = Callable[[Sequence[float]], Sequence[float]]


class Agreement:
    """Decisions that all workers of a run take alike.

    Args:
        total: Sums values over all replicas of all workers (`sum_over_workers`); None where the run
            has one worker, which decides alone.
    """

    def __init__(self, total: Total | None = None) -> None:
        self._total = total

    def any(self, *votes: bool) -> tuple[bool, ...]:
        """Returns, for each of several questions, whether any worker votes yes.

        All workers must call it at the same point of their run.
        """
        if self._total is None:
            return votes
        return tuple(count > 0 for count in self._total([float(vote) for vote in votes]))

    def check_step(self, step: int) -> None:
        """Checks that all workers start from the same step.

        Args:
            step: The step of this worker's newest checkpoint, or 0.

        Raises:
            ValueError: If another worker found a checkpoint of another step.
        """
        if self._total is None:
            return
        total, replicas = self._total([float(step), 1.0])
        if total != step * replicas:
            raise ValueError(
                f"The workers start from different steps (this one from {step}): --output must be "
                "one directory that all of them share"
            )


def sum_over_workers(strategy: Any) -> Total:
    """Returns a function that sums values over all replicas of a `tf.distribute` strategy."""
    import tensorflow as tf

    reduce = tf.function(
        lambda values: strategy.reduce("SUM", strategy.run(lambda: values), axis=None)
    )
    return lambda values: [float(total) for total in reduce(tf.constant(values)).numpy()]
