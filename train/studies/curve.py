"""The training curve of a run by step, finer than its epochs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO, Any

import keras

from ..files import write_text

_HEADING = "step,loss,accuracy\n"


class StepCurve(keras.callbacks.Callback):
    """Writes the mean training loss and accuracy of each call of the graph as CSV.

    Each row is flushed, so that a run that is killed keeps its curve up to its last checkpoint.
    When a run resumes, rows after its checkpoint are replaced.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file: IO[str] | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds a row; `batch` is the index of the last step."""
        values = logs or {}
        if self._file is None:
            self._file = self._open(batch + 1)
        self._file.write(f"{batch + 1},{values['loss']!r},{values['accuracy']!r}\n")
        self._file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Closes the file, also of a run that was stopped."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, step: int) -> IO[str]:
        """Opens the file, keeping earlier sessions' rows of the steps before this one."""
        before = self._path.read_text(encoding="utf-8") if self._path.is_file() else ""
        lines = before.splitlines(keepends=True)[1:]
        # The last line of a process that was killed may be incomplete.
        whole = [line for line in lines if line.endswith("\n")]
        kept = [line for line in whole if int(line.split(",")[0]) < step]
        write_text(self._path, _HEADING + "".join(kept))
        return self._path.open("a", encoding="utf-8", newline="\n")


def read_curve(path: Path) -> list[tuple[int, float, float]]:
    """Returns the rows (step, mean loss and mean accuracy since the previous row).

    Raises:
        ValueError: If the file was not written by `StepCurve`.
    """
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return [
                (int(row["step"]), float(row["loss"]), float(row["accuracy"]))
                for row in csv.DictReader(file)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a training curve of a study: {error!r}") from error
