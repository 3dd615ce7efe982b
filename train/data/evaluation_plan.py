"""The plan of an evaluation: which examples each worker has, and their rows. No TensorFlow.

Each worker has a range of the examples, as long as those of the others to one example, so that it
reads its range only. All workers make the same number of steps, because they communicate in each:
what a worker has less is filled with rows that nobody counts.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
    """The plan of an evaluation.

    Attributes:
        size: Number of examples.
        batch: Rows of a global batch, divided equally among the workers.
        workers: Number of workers.

    Example:
        >>> plan = EvaluationPlan(size=7, batch=4, workers=2)
        >>> plan.steps, plan.range_of(0), plan.range_of(1)
        (2, (0, 3), (3, 7))
        >>> plan.places()
        array([0, 1, 4, 2, 3, 6, 7])
    """

    size: int
    batch: int
    workers: int = 1

    @property
    def steps(self) -> int:
        """Number of steps of every worker."""
        return -(-self.size // self.batch)

    @property
    def rows(self) -> int:
        """Number of rows of every worker: its examples, and what is filled."""
        return self.steps * (self.batch // self.workers)

    def range_of(self, worker: int) -> tuple[int, int]:
        """Returns a worker's first example, and the one after its last; equal if it has none."""
        return worker * self.size // self.workers, (worker + 1) * self.size // self.workers

    def places(self) -> np.ndarray:
        """Returns the row of each example among the rows of all global batches.

        Returns:
            int64 `(size,)`.
        """
        begins = np.arange(self.workers) * self.size // self.workers
        numbers = np.arange(self.size)
        worker = np.searchsorted(begins, numbers, side="right") - 1
        per_worker = self.batch // self.workers
        step, row = np.divmod(numbers - begins[worker], per_worker)
        return step * self.batch + worker * per_worker + row
