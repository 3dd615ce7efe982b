"""What reaches the terminal: no control characters of names, files and servers."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# What this package, Rich and tqdm write: line ends, colours, and the end of a line erased.
_OWN = re.compile(r"([\n\t]|\r\n|^\r|\r$|\x1b\[[0-9;]*m|\x1b\[K)")
# tqdm's moves between the bars of TFDS, which are nothing but moves.
_MOVES = re.compile(r"[\r\n]*(\x1b\[\d*A)*[\r\n]*")


class EscapingStream:
    """A text stream that writes control characters as escapes.

    Colours and a carriage return at the beginning, of lines that are updated, pass on a terminal.

    Args:
        stream: The stream that it writes to.

    Attributes:
        shown: Texts that are replaced by others: paths of copies by the addresses of the places.
    """

    def __init__(self, stream: Any) -> None:
        self.behind = stream
        self.shown: Mapping[str, str] = {}

    def write(self, text: str) -> int:
        """Writes a text."""
        for path, address in self.shown.items():
            text = text.replace(path, address)
        if text.isprintable():
            return int(self.behind.write(text))
        own = self.behind.isatty()
        if own and _MOVES.fullmatch(text):
            return int(self.behind.write(text))
        parts = _OWN.split(text) if own else re.split(r"([\n\t])", text)
        self.behind.write("".join(p if n % 2 else _safe(p) for n, p in enumerate(parts)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes texts one after another."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        """Returns any other attribute of the stream."""
        return getattr(self.behind, name)


def _safe(text: str) -> str:
    if text.isprintable():
        return text
    # The command line imports this module, and the library imports Keras.
    from keras_resnet.texts import escaped

    return escaped(text)


def show_instead(texts: Mapping[str, str]) -> None:
    """Has the terminal show texts in place of others, until the next call."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, EscapingStream):
            stream.shown = texts


def own_stream(stream: Any) -> Any:
    """Returns the stream behind an `EscapingStream`, for Rich's bars, which move the cursor."""
    return stream.behind if isinstance(stream, EscapingStream) else stream


@contextlib.contextmanager
def escaping_terminal() -> Iterator[None]:
    """Escapes control characters in all that is printed while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (EscapingStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
