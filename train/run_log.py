"""`metrics.jsonl`: the course of a run, one line for each call of the graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras

from .files import naming_full_disks, write_text


class RunLog(keras.callbacks.Callback):
    """Writes step, loss, accuracy, learning rate and images per second of each call as JSON.

    A run can be watched, and a killed run keeps its course. When a run resumes, lines after its
    checkpoint are replaced.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def on_train_begin(self, logs: Any = None) -> None:
        """Keeps the lines up to the `step` that the run resumes from."""
        step = int((logs or {}).get("step", 0))
        kept = [json.dumps(row) + "\n" for row in read_log(self._path) if row["step"] <= step]
        write_text(self._path, "".join(kept))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Adds a line; `batch` is the index of the last step."""
        row = {"step": batch + 1, **{name: _short(value) for name, value in (logs or {}).items()}}
        with (
            naming_full_disks(self._path),
            self._path.open("a", encoding="utf-8", newline="\n") as file,
        ):
            file.write(json.dumps(row) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the whole lines of a `metrics.jsonl`; none if there is no such file."""
    if not path.is_file():
        return []
    rows = []
    # Of a process that was killed while it wrote, the last line is not whole.
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if line.endswith(b"\n") and isinstance(row, dict) and type(row.get("step")) is int:
            rows.append(row)
    return rows


def _short(value: Any) -> Any:
    """Returns a number with seven significant digits, or None for a number that is not finite."""
    number = float(value)
    return float(f"{number:.7g}") if abs(number) < float("inf") else None
