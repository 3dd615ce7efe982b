"""What a worker of Ray Train reports: the figures of each epoch, checkpoints, and the model."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras

from .checkpoint import Checkpoints
from .rundir import RunDirectory

_OF_MODEL = ("model.keras", "config.json", "metrics.json", "labels.txt", "dataset.json")


class RayReports(keras.callbacks.Callback):
    """A callback that gives the figures of each epoch, and new checkpoints, to Ray Train.

    Each worker needs one: Ray waits until all of them have reported an epoch. The chief's report
    carries the newest checkpoint of the run if there is one that Ray does not have.

    Args:
        directory: The directory of the run.
        chief: Whether this worker writes the run.
    """

    def __init__(self, directory: RunDirectory, *, chief: bool) -> None:
        super().__init__()
        self._directory, self._chief = directory, chief
        self._checkpoints = Checkpoints(directory.checkpoints)
        self._reported = self._checkpoints.last_step()
        self._row: dict[str, float] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Reports the row of `history.csv`, with `step`, `loss` and the validation's figures."""
        from ray import train as ray_train

        newest = self._checkpoints.last_step() if self._chief else 0
        checkpoint = None
        if newest > self._reported:
            self._reported = newest
            checkpoint = ray_train.Checkpoint.from_directory(self._checkpoints.steps()[-1])
        self._row = dict(logs or {})
        ray_train.report(self._row, checkpoint=checkpoint)

    def report_model(self) -> None:
        """Reports the finished model and the measured metrics, as the last checkpoint."""
        from ray import train as ray_train

        if not self._chief:
            ray_train.report({})
            return
        with tempfile.TemporaryDirectory() as copy:
            for name in _OF_MODEL:
                path = self._directory.path / name
                if path.is_file():
                    shutil.copy2(path, Path(copy) / name)
            ray_train.report(self._figures(), checkpoint=ray_train.Checkpoint.from_directory(copy))

    def _figures(self) -> dict[str, float]:
        """Returns the last epoch's row and what was measured on each split at the end."""
        figures = dict(self._row)
        for split in ("validation", "test"):
            measured = self._directory.metrics.get(split, {})
            figures |= {
                f"{split}_{name}": value
                for name, value in measured.items()
                if isinstance(value, int | float)
            }
        return figures
