"""Progress of a run on the terminal: a bar where it is interactive, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from keras_resnet.texts import escaped

from .terminal import own_stream

_SECONDS_BETWEEN_LINES = 30.0


class Console:
    """Prints messages and progress.

    Args:
        quiet: Whether to print nothing, as on workers other than the chief.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._done = self._total = 0
        self._last_line = 0.0

    def say(self, text: str) -> None:
        """Prints one line."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(escaped(text), markup=False, highlight=False)
        else:
            print(text, flush=True)

    @contextlib.contextmanager
    def progress(self, total: int, done: int) -> Iterator[None]:
        """Shows progress from step `done` to step `total` while the block runs."""
        self._total, self._done = total, done
        self._last_line = time.monotonic()
        if self._quiet or not sys.stdout.isatty():
            yield
            return
        import rich.console
        from rich import progress

        columns = (
            progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[note]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        console = rich.console.Console(file=own_stream(sys.stdout))
        with progress.Progress(*columns, console=console) as self._bar:
            self._task = self._bar.add_task("train", total=total, completed=done, note="starting")
            try:
                yield
            finally:
                self._bar = None

    def advance(
        self,
        steps: int,
        *,
        loss: float,
        accuracy: float,
        images_per_second: float | None,
        left: float | None = None,
    ) -> None:
        """Shows that `steps` further steps are done, with their mean loss and accuracy.

        Args:
            steps: Number of steps.
            loss: Their mean loss.
            accuracy: Their accuracy.
            images_per_second: The speed so far, or None.
            left: Seconds that the rest of the run takes at this speed, or None.
        """
        self._done += steps
        now = time.monotonic()
        note = f"loss {loss:.4f}  accuracy {accuracy:.4f}  {images_per_second or 0:.0f} images/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=note)
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.say(f"step {self._done}/{self._total}  {note}{_time_left(left)}")

    def epoch(
        self,
        row: Mapping[str, float],
        epochs: int,
        *,
        images_per_second: float | None = None,
        left: float | None = None,
    ) -> None:
        """Prints the history's row of an epoch that has ended, and the time left."""
        self._last_line = time.monotonic()
        split = next((name for name in ("val", "test") if f"{name}_loss" in row), None)
        evaluated = (
            f"  {split} loss {row[f'{split}_loss']:.4f}"
            f"  {split} accuracy {row[f'{split}_accuracy']:.4f}"
            if split
            else ""
        )
        speed = f"  {images_per_second:.0f} images/s" if images_per_second else ""
        self.say(
            f"epoch {row['epoch']:.0f}/{epochs}  step {row['step']:.0f}  "
            f"loss {row['loss']:.4f}  accuracy {row['accuracy']:.4f}{evaluated}  "
            f"lr {row['learning_rate']:.3g}  {row['seconds']:.0f} s"
            f"{speed}{_time_left(left)}"
        )


def _time_left(seconds: float | None) -> str:
    """Returns the time left in words, or "" where it is unknown or nothing is left."""
    if not seconds:
        return ""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"  {seconds / size:.1f} {unit} left"
    return f"  {seconds:.0f} s left"


@contextlib.contextmanager
def quiet_retracing() -> Iterator[None]:
    """Silences TensorFlow's warning about retracing where one process trains many networks."""
    import tensorflow as tf

    def keep(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    tf.get_logger().addFilter(keep)
    try:
        yield
    finally:
        tf.get_logger().removeFilter(keep)
