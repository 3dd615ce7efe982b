"""Values that each replica has of its own: batch norm's statistics, and their averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class ReplicaStatistics:
    """The variables whose values differ between the replicas of a strategy.

    Without synchronization each replica's batch norm moves its own statistics. A reader (an
    evaluation, a file) gets their means. A checkpoint also keeps each replica's own values, so that
    saving, which a signal or a clock may cause, does not change the run.

    Args:
        variables: The variables. Those that are equal on all replicas may be among them.
        strategy: The strategy under which they were made.

    Example:
        >>> statistics = ReplicaStatistics(model.non_trainable_variables, strategy)
        >>> rows = statistics.read()  # (replicas, values)
        >>> means = statistics.means(rows)
    """

    def __init__(self, variables: Sequence[Any], strategy: Any) -> None:
        import tensorflow as tf

        several = strategy.num_replicas_in_sync > 1
        self._variables = [v for v in variables if "float" in str(v.dtype)] if several else []
        self._strategy = strategy
        self._gather = tf.function(self._gathered)
        self._scatter = tf.function(self._scattered)

    def read(self) -> np.ndarray | None:
        """Returns the values of all replicas, float32 `(replicas, values)`; None if there are none.

        All workers must call it at the same point of their run.
        """
        return np.asarray(self._gather()) if self._variables else None

    def write(self, rows: np.ndarray) -> None:
        """Gives each replica its own values again; `rows` as `read` returned them.

        Raises:
            ValueError: If there are rows of another number of replicas or values.
        """
        if not self.fits(rows):
            raise ValueError(
                f"The statistics must have the shape {self._shape}. Received: {rows.shape}"
            )
        self._scatter(rows)

    def fits(self, rows: np.ndarray) -> bool:
        """Whether rows belong to as many replicas and values."""
        return rows.shape == self._shape

    def assign_means(self) -> None:
        """Assigns the mean over the replicas to each of them."""
        rows = self.read()
        if rows is not None:
            self._assign_means(rows)

    def means(self, rows: np.ndarray) -> dict[int, np.ndarray]:
        """Returns the mean of each variable over the replicas, by the variable's `id`.

        Args:
            rows: The values of all replicas, as `read` returned them.
        """
        parts = np.split(_mean(rows), np.cumsum(self._sizes)[:-1])
        pairs = zip(self._variables, parts, strict=True)
        return {id(v): part.reshape(v.shape).astype(str(v.dtype)) for v, part in pairs}

    @property
    def _shape(self) -> tuple[int, int]:
        return self._strategy.num_replicas_in_sync, sum(self._sizes)

    @property
    def _sizes(self) -> list[int]:
        return [int(np.prod(variable.shape)) for variable in self._variables]

    def _assign_means(self, rows: np.ndarray) -> None:
        self._scatter(np.broadcast_to(_mean(rows), rows.shape))

    def _gathered(self) -> Any:
        import tensorflow as tf

        def flat() -> Any:
            values = [tf.reshape(tf.cast(v.value, tf.float32), [-1]) for v in self._variables]
            return tf.concat(values, axis=0)[None]

        return self._strategy.gather(self._strategy.run(flat), axis=0)

    def _scattered(self, rows: Any) -> None:
        import tensorflow as tf

        def assign() -> None:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            parts = tf.split(tf.gather(rows, replica), self._sizes)
            for variable, part in zip(self._variables, parts, strict=True):
                value = tf.cast(tf.reshape(part, variable.shape), variable.value.dtype)
                variable.value.assign(value)

        self._strategy.run(assign)


def _mean(rows: np.ndarray) -> np.ndarray:
    # In float64: the mean of equal values is that value.
    return np.asarray(rows.mean(axis=0, dtype="float64"), "float32")
