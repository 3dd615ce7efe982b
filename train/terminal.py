"""What reaches the terminal: no control characters of names, files and servers."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from keras_resnet.texts import escaped

# What this package and Rich write themselves: line ends, colours, and the end of a line erased.
_OWN = re.compile(r"([\n\t]|\r\n|^\r|\x1b\[[0-9;]*m|\x1b\[K)")


class EscapingStream:
    """A text stream that writes control characters as escapes.

    Colours and a carriage return at the beginning, of lines that are updated, pass on a terminal.

    Args:
        stream: The stream that it writes to.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text."""
        if text.isprintable():
            return int(self._stream.write(text))
        own = self._stream.isatty()
        parts = _OWN.split(text) if own else re.split(r"([\n\t])", text)
        self._stream.write("".join(p if n % 2 else escaped(p) for n, p in enumerate(parts)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes texts one after another."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Returns any other attribute of the stream."""
        return getattr(self._stream, name)


@contextlib.contextmanager
def escaping_terminal() -> Iterator[None]:
    """Escapes control characters in all that is printed while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (EscapingStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
