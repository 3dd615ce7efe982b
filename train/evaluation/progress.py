"""The progress of a long evaluation on stderr; stdout is for the results."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_QUIET_SECONDS = 30.0


class ProgressLine:
    """A line that is updated on a terminal; elsewhere, a new line every 30 seconds.

    Args:
        total: Number of images.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._live = sys.stderr.isatty()
        self._started = self._last = time.monotonic()
        self._begun = 0

    def __enter__(self) -> ProgressLine:
        if self._live:  # the first chunk may take a while
            print(f"{self._total:,} images", end="", file=sys.stderr, flush=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __call__(self, done: int) -> None:
        """Reports the number of images done."""
        now = time.monotonic()
        if not self._begun:  # the first chunk includes tracing the graph: exclude it from the rate
            self._begun, self._started = done, now - 1e-9
        if now - self._last < (0.1 if self._live else _QUIET_SECONDS):
            return
        self._last = now
        line = f"{done:,} of {self._total:,} images"
        if done > self._begun:
            rate = (done - self._begun) / (now - self._started)
            line += f", {rate:,.1f} images/s, {(self._total - done) / rate:,.0f} s left"
        start, end = ("\r", "\x1b[K") if self._live else ("", "\n")
        print(f"{start}{line}", end=end, file=sys.stderr, flush=True)
