"""Numbers as text, for tables and sentences; a dash where there is no number."""

from __future__ import annotations

import math
import numbers
import os

DASH = "–"


def is_number(value: object) -> bool:
    """Whether the value is a number other than NaN (and not a bool)."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and not math.isnan(float(value))  # type: ignore[arg-type]


def number(value: object, spec: str = ".4g") -> str:
    """Returns a number in the given format."""
    return format(value, spec) if is_number(value) else DASH


def percent(value: object, digits: int = 2) -> str:
    """Returns a share in 0..1 as `98.61 %`."""
    if not is_number(value):
        return DASH
    return f"{100 * float(value):.{digits}f}\N{NO-BREAK SPACE}%"  # type: ignore[arg-type]


def milliseconds(value: object) -> str:
    """Returns a time in milliseconds as `0.222 ms`."""
    return f"{number(value, '.3g')}\N{NO-BREAK SPACE}ms" if is_number(value) else DASH


def size(value: object) -> str:
    """Returns a number of bytes in decimal units: `812 B`, `284 KB`, `94.2 MB`."""
    if not is_number(value):
        return DASH
    amount = float(value)  # type: ignore[arg-type]
    if amount < 1000:
        return f"{amount:.0f}\N{NO-BREAK SPACE}B"
    for unit in ("KB", "MB", "GB"):
        amount /= 1000
        if amount < 999.5 or unit == "GB":
            break
    return f"{amount:.{0 if amount >= 99.95 else 1}f}\N{NO-BREAK SPACE}{unit}"


def cell_text(value: object) -> str:
    """Returns a value with four significant digits; text, HTML included, stays as it is."""
    if isinstance(value, str):
        return value or DASH
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def file_text(path: object, *, line: bool = False) -> str:
    """Returns a path as text that can be written; bytes that are not UTF-8 become escapes.

    Args:
        path: The path.
        line: Whether to write characters that end or change a line as escapes too.
    """
    text = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
    if not line:
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
