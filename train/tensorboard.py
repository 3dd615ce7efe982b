"""The history of a run for TensorBoard."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras


class TensorBoardHistory(keras.callbacks.Callback):
    """Writes the history's columns as TensorBoard scalars over the steps.

    Each session writes the files from the beginning, so that a resumed run shows no step twice.
    Keras's own callback appends.

    Args:
        directory: Directory of the event files; its content is removed.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Writes the `history` of earlier sessions."""
        import tensorflow as tf

        shutil.rmtree(self._directory, ignore_errors=True)
        self._writer = tf.summary.create_file_writer(str(self._directory))
        for row in (logs or {}).get("history", ()):
            self.on_epoch_end(int(row["epoch"]) - 1, row)

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
