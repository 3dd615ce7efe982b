"""The weights that did best on the validation images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .checkpoint import Checkpoints, Progress


class BestWeights:
    """Keeps the weights of the epoch with the highest validation accuracy.

    The lower loss wins among equal accuracies, and the earlier epoch among equal losses. The
    figures of the best epoch are part of `Progress`; its weights are held in memory and in the
    `best` checkpoint.

    Args:
        model: The model.
        checkpoints: The checkpoints of the run.
        write: Whether this process writes the `best` checkpoint.
        submit: Takes the work of writing it, to be done later; None does it at once.
    """

    def __init__(
        self,
        model: Any,
        checkpoints: Checkpoints,
        *,
        write: bool = True,
        submit: Callable[[Callable[[], object]], None] | None = None,
    ) -> None:
        self._submit = submit
        self._model = model
        self._checkpoints = checkpoints
        self._write = write
        self._weights: list[np.ndarray] | None = None

    def update(self, progress: Progress, epoch: int, accuracy: float, loss: float) -> None:
        """Keeps the model's current weights if they are better than the best so far."""
        if not is_better(progress, accuracy, loss):
            return
        progress.best_value, progress.best_loss, progress.best_epoch = accuracy, loss, epoch
        weights = self._weights = self._model.get_weights()
        if not self._write:
            return
        figures = {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss}
        if self._submit is None:
            self._checkpoints.save_best(self._model, figures)
        else:
            self._submit(lambda: self._checkpoints.save_best(self._model, figures, weights))

    def resume(self, progress: Progress, say: Callable[[str], None]) -> None:
        """Reads the best weights of a run that resumes; the model's own weights do not change.

        The `best` checkpoint may be newer than the one that the run resumes from, so `progress`
        takes its figures. If it is missing or damaged, the best weights are chosen from the epochs
        to come.

        Args:
            progress: The restored progress; updated.
            say: Called with a message if the checkpoint is missing or damaged.
        """
        if progress.best_value is None:
            return
        current = self._model.get_weights()
        try:
            figures = self._checkpoints.load_weights(self._model, "best")
            found = figures["val_accuracy"], figures["val_loss"], figures["epoch"]
        except (FileNotFoundError, KeyError, ValueError) as error:
            say(f"The best checkpoint cannot be read and is chosen again: {error}")
            found = None, None, None
        else:
            self._weights = self._model.get_weights()
        progress.best_value, progress.best_loss, progress.best_epoch = found
        self._model.set_weights(current)

    def assign(self) -> bool:
        """Assigns the best weights to the model; returns False if there are none."""
        if self._weights is None:
            return False
        self._model.set_weights(self._weights)
        return True


def is_better(progress: Progress, accuracy: float, loss: float) -> bool:
    """Returns whether an epoch is better than the best one so far."""
    if progress.best_value is None or progress.best_loss is None:
        return True
    return (accuracy, -loss) > (progress.best_value, -progress.best_loss)
