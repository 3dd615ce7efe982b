"""A profile of chosen steps, for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class StepProfiler:
    """Profiles the steps from a first to a last one with TensorFlow's profiler.

    Args:
        steps: First and last step, counted from 0; None profiles nothing.
        directory: Directory of TensorBoard's files.
        say: Prints a message.
    """

    def __init__(
        self, steps: tuple[int, int] | None, directory: Path, say: Callable[[str], None]
    ) -> None:
        self._steps = steps
        self._directory = directory
        self._say = say
        self._running = False

    def next_border(self, step: int) -> int | None:
        """Returns the next step at which a call of the graph must end, or None."""
        if self._steps is None:
            return None
        first, last = self._steps
        return next((border for border in (first, last + 1) if border > step), None)

    def before(self, step: int) -> None:
        """Starts the profile, if `step` is the first one of it."""
        if self._steps is None or self._running or step != self._steps[0]:
            return
        import tensorflow as tf

        tf.profiler.experimental.start(str(self._directory))
        self._running = True

    def after(self, step: int) -> None:
        """Writes the profile, if the step before `step` was the last one of it."""
        if not self._running or self._steps is None or step <= self._steps[1]:
            return
        self.stop()
        first, last = self._steps
        self._say(f"Profile of steps {first} to {last}: tensorboard --logdir {self._directory}")

    def stop(self) -> None:
        """Ends a profile that is running; a run that stops early has a shorter one."""
        if self._running:
            import tensorflow as tf

            tf.profiler.experimental.stop()
            self._running = False
