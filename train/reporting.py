"""What a run says while it goes: a bar on a terminal, plain lines elsewhere, TensorBoard."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

_QUIET_SECONDS = 30.0


class Reporter:
    """Tells of a run's progress.

    Args:
        quiet: Whether to say nothing (workers other than the chief).
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._console: Any = None
        self._last_line = 0.0
        self._done = self._total = self._images = 0
        self._started = 0.0

    def say(self, text: str) -> None:
        """Writes one line."""
        if self._quiet:
            return
        if self._console is not None:
            self._console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    @contextlib.contextmanager
    def session(self, total: int, done: int) -> Iterator[None]:
        """Shows progress from step `done` to step `total` while the block runs."""
        self._total, self._done, self._images = total, done, 0
        self._started = self._last_line = time.monotonic()
        if self._quiet or not sys.stdout.isatty():
            yield
            return
        from rich import progress

        columns = (
            progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[note]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns) as bar:
            self._bar, self._console = bar, bar.console
            self._task = bar.add_task("train", total=total, completed=done, note="starting")
            try:
                yield
            finally:
                self._bar = self._console = None

    def advance(self, steps: int, images: int, loss: float, accuracy: float) -> None:
        """Tells of steps just taken."""
        self._done += steps
        now = time.monotonic()
        if not self._images:  # the first call traces the graph: leave it out of the rate
            self._started = now - 1e-9
        self._images += images
        rate = (self._images - images) / (now - self._started) if self._images > images else 0.0
        note = f"loss {loss:.4f}  accuracy {accuracy:.4f}  {rate:.0f} images/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=note)
        elif now - self._last_line >= _QUIET_SECONDS:
            self._last_line = now
            self.say(f"step {self._done}/{self._total}  {note}")

    def epoch(self, row: Mapping[str, float], epochs: int) -> None:
        """Tells of an epoch just ended."""
        self._last_line = time.monotonic()
        split = next((name for name in ("val", "test") if f"{name}_loss" in row), None)
        watched = (
            f"  {split} loss {row[f'{split}_loss']:.4f}"
            f"  {split} accuracy {row[f'{split}_accuracy']:.4f}"
            if split
            else ""
        )
        self.say(
            f"epoch {row['epoch']:.0f}/{epochs}  step {row['step']:.0f}  "
            f"loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}{watched}  "
            f"lr {row['learning_rate']:.3g}  {row['seconds']:.0f} s"
        )


@contextlib.contextmanager
def quiet_retracing() -> Iterator[None]:
    """Keeps TensorFlow from wondering that each of many nets is traced anew."""
    import tensorflow as tf

    def pertinent(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    tf.get_logger().addFilter(pertinent)
    try:
        yield
    finally:
        tf.get_logger().removeFilter(pertinent)


class TensorBoardHistory(keras.callbacks.Callback):
    """Writes the history for TensorBoard.

    The files are a function of the history: each session begins them anew, so a resumed run shows
    no step twice.

    Args:
        directory: Where the files go; emptied.
        history: Returns the rows of the epochs that earlier sessions ended.
    """

    def __init__(
        self, directory: Path, history: Callable[[], Sequence[Mapping[str, float]]]
    ) -> None:
        super().__init__()
        self._directory = directory
        self._history = history
        self._writer: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Writes what earlier sessions measured."""
        import tensorflow as tf

        shutil.rmtree(self._directory, ignore_errors=True)
        self._writer = tf.summary.create_file_writer(str(self._directory))
        for row in self._history():
            self.on_epoch_end(int(row["epoch"]) - 1, row)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds an epoch's row."""
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
