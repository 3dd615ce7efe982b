"""Signals that ask a run to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

# SIGHUP: the terminal has closed. Windows does not deliver SIGTERM; Ctrl-Break sends SIGBREAK.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class StopSignals:
    """A context manager that notes the first SIGINT, SIGTERM or SIGHUP and lets the process go on.

    The training loop reads `received` between its calls of the graph, saves and stops. A second
    signal raises KeyboardInterrupt. On Windows, SIGBREAK stands for SIGTERM. Outside the main
    thread Python does not allow signal handlers; the block then runs without them.

    Attributes:
        received: Number of the signal that was received, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Installs the handlers."""
        self._previous = _handle(self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the previous handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Lets every signal that asks a run to stop raise KeyboardInterrupt while the block runs.

    So a stop has one exit status, whether it comes while data is read, in training, where
    `StopSignals` takes over, or in the evaluation after it. A signal that the parent has had
    ignored, as `nohup` does with SIGHUP, stays ignored.
    """

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    previous = _handle(stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _handle(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Installs a handler of all stop signals that are not ignored; returns those before."""
    previous: dict[int, Any] = {}
    try:
        for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, handler)
    except ValueError:  # not the main thread
        pass
    return previous
