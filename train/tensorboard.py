"""The course and the history of a run for TensorBoard."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .run_log import read_log


class TensorBoardHistory(keras.callbacks.Callback):
    """Writes the history's columns and the figures of each call as scalars over the steps.

    The figures of earlier sessions come from `metrics.jsonl`. Augmented training images, 16 of
    them, are written once. Each session writes the files from the beginning, so that a resumed
    run shows no step twice. Keras's own callback appends.

    Args:
        directory: Directory of the event files; its content is removed.
        log: The run's `metrics.jsonl`.
        pictures: Returns uint8 images `(count, height, width, channels)`.
    """

    def __init__(
        self, directory: Path, log: Path, pictures: Callable[[], np.ndarray] | None = None
    ) -> None:
        super().__init__()
        self._directory = directory
        self._log = log
        self._pictures = pictures
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Writes the `history` of earlier sessions."""
        import tensorflow as tf

        shutil.rmtree(self._directory, ignore_errors=True)
        self._writer = tf.summary.create_file_writer(str(self._directory))
        step = int((logs or {}).get("step", 0))
        for row in (logs or {}).get("history", ()):
            self.on_epoch_end(int(row["epoch"]) - 1, row)
        for row in read_log(self._log):
            if row["step"] <= step:
                self.on_train_batch_end(row.pop("step") - 1, row)
        if self._pictures is not None:
            images = self._pictures()
            with self._writer.as_default():
                tf.summary.image("augmented", images, step=0, max_outputs=len(images))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Writes the figures of a call of the graph."""
        import tensorflow as tf

        with self._writer.as_default():
            for name, value in (logs or {}).items():
                if value is not None:
                    tf.summary.scalar(f"step/{name}", value, step=batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the row of an epoch."""
        import tensorflow as tf

        row = logs or {}
        with self._writer.as_default():
            for name, value in row.items():
                if name not in ("epoch", "step"):
                    tf.summary.scalar(name, value, step=int(row["step"]))
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the files."""
        self._writer.close()
