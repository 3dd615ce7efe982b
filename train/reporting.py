"""What a run says while it trains: on the terminal, to callbacks, and as a row per epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from .config import RunConfig
from .console import Console
from .length import Length
from .snapshot import Progress
from .throughput import Throughput


class Reporter:
    """Adds up the figures of steps and epochs, and reports them.

    Args:
        config: The run.
        length: Its length.
        console: The terminal.
        callbacks: Keras callbacks; see `Trainer`.
        model: The net, for the callbacks.

    Attributes:
        throughput: The speed so far.
    """

    def __init__(
        self,
        config: RunConfig,
        length: Length,
        console: Console,
        callbacks: Sequence[keras.callbacks.Callback],
        model: Any,
    ) -> None:
        self._config, self._length, self._console = config, length, console
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), add_history=False, model=model
        )
        self.throughput = Throughput()

    def begin(self, progress: Progress) -> None:
        """Tells the callbacks from which step the run goes on."""
        self._callbacks.on_train_begin({"step": progress.step, "history": progress.history})

    def begin_steps(self, progress: Progress) -> None:
        """Tells the callbacks if an epoch begins."""
        if progress.epoch_sums[2] == 0:
            self._callbacks.on_epoch_begin(self._length.epoch_of(progress.step) - 1)

    def add_steps(
        self, progress: Progress, metrics: np.ndarray, seconds: float, learning_rate: float
    ) -> None:
        """Adds steps to the progress and reports them.

        Args:
            progress: The state of the loop; its step and sums are moved on.
            metrics: Loss, accuracy and norm of the gradient of each step, `(steps, 3)`.
            seconds: Time that they took.
            learning_rate: That of the last of them.
        """
        count, batch_size = len(metrics), self._config.batch_size
        images = count * batch_size
        loss, correct, *_ = metrics.astype("float64").sum(axis=0) * batch_size
        sums = progress.epoch_sums
        progress.epoch_sums = [sums[0] + loss, sums[1] + correct, sums[2] + images]
        progress.step += count
        progress.seconds += seconds
        self.throughput.add(images, seconds)
        means = {"loss": loss / images, "accuracy": correct / images}
        self._console.advance(
            count,
            **means,
            images_per_second=self.throughput.images_per_second,
            left=self._left(progress),
        )
        speed = images / max(seconds, 1e-9)
        logs = {**means, "learning_rate": learning_rate, "images_per_second": speed}
        if self._config.runtime.log_gradient_norm:
            logs["gradient_norm"] = float(metrics[:, 2].astype("float64").mean())
        self._callbacks.on_train_batch_end(progress.step - 1, logs)

    def row(
        self, progress: Progress, learning_rate: float, figures: Mapping[str, float]
    ) -> dict[str, float]:
        """Returns the row of the epoch that has ended, and begins to add up the next one.

        Args:
            progress: The state of the loop.
            learning_rate: That of the epoch's last step.
            figures: What was measured on held-out images.
        """
        loss, correct, images = progress.epoch_sums
        row = {
            "epoch": self._length.epoch_of(progress.step - 1),
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "learning_rate": learning_rate,
            "loss": loss / images,
            "accuracy": correct / images,
            **figures,
        }
        progress.epoch_sums = [0.0, 0.0, 0.0]
        return row

    def end_epoch(self, progress: Progress, row: Mapping[str, float]) -> None:
        """Reports the row of an epoch."""
        speed = self.throughput.images_per_second
        left = self._left(progress)
        self._console.epoch(row, self._length.epochs, images_per_second=speed, left=left)
        self._callbacks.on_epoch_end(int(row["epoch"]) - 1, dict(row))

    def end(self) -> None:
        """Tells the callbacks that the training has ended."""
        self._callbacks.on_train_end()

    def _left(self, progress: Progress) -> float | None:
        """Returns the seconds that the remaining steps take at the speed so far, or None."""
        speed = self.throughput.images_per_second
        images = (self._length.steps - progress.step) * self._config.batch_size
        return images / speed if speed else None
