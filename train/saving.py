"""When the state of a run is saved, and how: copied between two steps, written in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable

from .averaging import WeightAverages
from .background import Background
from .checkpoint import Checkpoints
from .config.runtime import CheckpointConfig
from .learner import Learner
from .length import Length
from .replica_statistics import ReplicaStatistics
from .snapshot import Progress, take_snapshot


class Saver:
    """Saves the state of a run while it goes on.

    The state is copied into the host's memory between two steps and then written, flushed and
    renamed in a second thread. One checkpoint is written at a time; a second one waits for it. An
    error of writing is raised at the next step or at the end. No variable is assigned, so that a
    save that a signal or a clock causes does not change the run.

    Args:
        config: When to save.
        length: The length of the run.
        checkpoints: Where to.
        statistics: The values that each replica has of its own.
        write: Whether this process writes, as the chief does; all workers must call `save`.

    Attributes:
        background: The second thread.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        length: Length,
        checkpoints: Checkpoints,
        statistics: ReplicaStatistics,
        *,
        write: bool,
    ) -> None:
        self._config, self._length = config, length
        self._checkpoints, self._statistics = checkpoints, statistics
        self._write = write
        self._saved_at = time.monotonic()
        self.background = Background()

    @property
    def late(self) -> bool:
        """Whether the last save is so many minutes ago that another is due."""
        minutes = self._config.every_minutes
        return time.monotonic() - self._saved_at >= 60 * minutes > 0

    def due(self, step: int) -> bool:
        """Whether to save after a number of steps, whatever the time."""
        every = self._config.every_steps
        return step % every == 0 if every else self._length.ends_epoch(step)

    def save(self, learner: Learner, progress: Progress, averages: WeightAverages | None) -> bool:
        """Copies the state and begins to write it; all workers call it at the same step.

        Args:
            learner: The net, with its optimizer.
            progress: The state of the training loop.
            averages: The averages of the weights; None if there are none yet.

        Returns:
            Whether all weights are finite. Others are not written: the last loss may be finite and
            its update not, and such weights must not replace sound ones.

        Raises:
            OSError: If an earlier state could not be written.
        """
        rows = self._statistics.read()
        means = {} if rows is None else self._statistics.means(rows)
        snapshot = take_snapshot(learner.model, learner.optimizer, progress, averages, rows, means)
        self._saved_at = time.monotonic()
        if not snapshot.finite:
            return False
        if self._write:
            self.background.submit(lambda: self._checkpoints.write(snapshot))
        return True

    def restore_replicas(self, step: int, say: Callable[[str], None]) -> None:
        """Gives each replica what it had of its own at the step that was restored."""
        rows = self._checkpoints.replica_rows(step)
        if rows is None:
            return
        if self._statistics.fits(rows):
            self._statistics.write(rows)
            return
        say(
            f"Note: the checkpoint is of {len(rows)} replicas; each of these takes the mean of "
            "their batch-norm statistics"
        )
