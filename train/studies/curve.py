"""The training curve of a run in steps, finer than its epochs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO, Any

import keras

from ..files import write_text

HEADING = "step,loss,accuracy\n"


class StepCurve(keras.callbacks.Callback):
    """Writes the mean training loss and accuracy of each call of the graph as CSV.

    Each row is handed to the system at once, so that a run that is killed has its whole curve up to
    its last checkpoint. A run that resumes goes on behind the step of its checkpoint; rows that
    lay beyond it, from the session that was killed, are replaced.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file: IO[str] | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds a row; `batch` is the number of the last step, from 0."""
        values = logs or {}
        if self._file is None:
            self._file = self._open(batch + 1)
        self._file.write(f"{batch + 1},{values['loss']!r},{values['accuracy']!r}\n")
        self._file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Closes the file; a run that was stopped has not done so."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, step: int) -> IO[str]:
        """Keeps what earlier sessions wrote of the steps before this one."""
        before = self._path.read_text(encoding="utf-8") if self._path.is_file() else ""
        lines = before.splitlines(keepends=True)[1:]
        # The last line of a process that was killed may be torn.
        whole = [line for line in lines if line.endswith("\n")]
        kept = [line for line in whole if int(line.split(",")[0]) < step]
        write_text(self._path, HEADING + "".join(kept))
        return self._path.open("a", encoding="utf-8")


def read_curve(path: Path) -> list[tuple[int, float, float]]:
    """Returns the rows (step, mean loss since the row before, accuracy likewise).

    Raises:
        ValueError: If the file is not what `StepCurve` writes.
    """
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [
                (int(row["step"]), float(row["loss"]), float(row["accuracy"]))
                for row in csv.DictReader(file)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no curve of a study's run: {error!r}") from error
