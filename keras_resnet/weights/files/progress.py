"""Progress of a download on stderr."""

from __future__ import annotations

import sys
import time


class Progress:
    """Progress of one transfer: a line that a terminal rewrites, else one at start and end.

    Args:
        name: Name of the file, as it is printed.
        shown: Whether to print at all.
    """

    def __init__(self, name: str, *, shown: bool) -> None:
        self._name, self._stream = name, sys.stderr if shown else None
        self._live = bool(self._stream and self._stream.isatty())
        self._started, self._first, self._last = 0.0, 0, 0.0

    def begin(self, have: int, total: int | None) -> None:
        """Records the bytes at the start of an attempt; announces the first attempt."""
        first, self._started, self._first = not self._started, time.monotonic(), have
        if self._stream and first and not self._live:
            size = "" if total is None else f", {megabytes(total)} MB"
            print(f"Fetching {self._name}{size}", file=self._stream)

    def update(self, have: int, total: int | None) -> None:
        """Prints the progress on a terminal, at most ten times per second."""
        now = time.monotonic()
        if self._stream and self._live and now - self._last >= 0.1:
            self._last = now
            print(f"\r{self._line(have, total)}\x1b[K", end="", file=self._stream, flush=True)

    def end(self, have: int, total: int | None) -> None:
        """Prints the final state if the transfer began."""
        if self._stream and self._started:
            start, rest = ("\r", "\x1b[K") if self._live else ("", "")
            print(f"{start}{self._line(have, total)}{rest}", file=self._stream, flush=True)

    def _line(self, have: int, total: int | None) -> str:
        rate = (have - self._first) / max(time.monotonic() - self._started, 1e-3)
        of = "" if total is None else f" of {megabytes(total)}"
        return f"{self._name}: {megabytes(have)}{of} MB, {megabytes(rate)} MB/s"


def megabytes(count: float) -> str:
    """Returns a number of bytes in MB, with one decimal."""
    return f"{count / 1e6:.1f}"
