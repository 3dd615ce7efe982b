"""Signals that ask a run to stop."""

from __future__ import annotations

import signal
from typing import Any

# Windows does not deliver SIGTERM; Ctrl-Break sends SIGBREAK there.
_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")


class StopSignals:
    """A context manager that notes the first SIGINT or SIGTERM instead of ending the process.

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
        try:
            for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
                self._previous[number] = signal.signal(number, self._receive)
        except ValueError:  # not the main thread
            pass
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the previous handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
