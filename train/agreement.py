"""Agreement between the workers of a run, which have clocks and signals of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Largest = Callable[[Sequence[int]], Sequence[int]]


class Agreement:
    """Decisions that all workers of a run take alike.

    Args:
        largest: Returns, for each of several whole numbers, the largest that any worker gives
            (`largest_of_workers`); None where the run has one worker, which decides alone.
    """

    def __init__(self, largest: Largest | None = None) -> None:
        self._largest = largest

    def any(self, *votes: bool) -> tuple[bool, ...]:
        """Returns, for each of several questions, whether any worker votes yes.

        All workers must call it at the same point of their run.
        """
        if self._largest is None:
            return votes
        return tuple(vote > 0 for vote in self._largest([int(vote) for vote in votes]))

    def check_step(self, step: int) -> None:
        """Checks that all workers start from the same step.

        Args:
            step: The step of this worker's newest checkpoint, or 0.

        Raises:
            ValueError: If another worker found a checkpoint of another step.
        """
        if self._largest is None:
            return
        highest, lowest = self._largest([step, -step])
        if (highest, -lowest) != (step, step):
            raise ValueError(
                f"The workers start from different steps, {-lowest} to {highest} (this one from "
                f"{step}): --output must be one directory that all of them share"
            )


def largest_of_workers(strategy: Any) -> Largest:
    """Returns a function that takes the largest of whole numbers over a strategy's replicas.

    The numbers stay whole: sums in float32 are exact up to 2^24 only, which 64 replicas pass at
    step 262,144.
    """
    import tensorflow as tf

    def gather(values: Any) -> Any:
        return strategy.gather(strategy.run(lambda: values[None]), axis=0)

    run = tf.function(gather)
    return lambda values: [
        int(value) for value in run(tf.constant(list(values), tf.int64)).numpy().max(axis=0)
    ]
