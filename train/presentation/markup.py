"""A tiny HTML writer that escapes by construction: whatever is not `Html` is text."""

import html
import math
import numbers
from collections.abc import Iterable

DASH = "–"
_VOID = ("img", "meta", "wbr")

# Control characters are not allowed in HTML, not even as references; lone surrogates (undecodable
# bytes of a path) cannot be encoded.
_ILLEGAL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "�")
_ILLEGAL |= dict.fromkeys(range(55296, 57344), "�")


class Html(str):
    """Text that is HTML already, with all user data in it escaped."""

    __slots__ = ()


def escape(value: object) -> Html:
    """The value as HTML: `Html` as it is, anything else as escaped text."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(str(value).translate(_ILLEGAL), quote=True))


def join(parts: Iterable[object], separator: object = "") -> Html:
    """The parts, each escaped, one after another."""
    return Html(escape(separator).join(escape(part) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """One element.

    Args:
        tag: element name; `img`, `meta` and `wbr` get no end tag.
        *children: contents; what is not `Html` is escaped.
        **attributes: `class_` becomes `class` and `aria_label` becomes `aria-label`; None leaves
            the attribute out.
    """
    pairs = (
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    start = f"<{tag}{''.join(pairs)}>"
    return Html(start if tag in _VOID else f"{start}{join(children)}</{tag}>")


def is_number(value: object) -> bool:
    """Whether the value is a number other than NaN (and not a bool)."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and not math.isnan(float(value))  # type: ignore[arg-type]


def percent(value: object, digits: int = 2) -> str:
    """A share 0..1 as `98.61 %`; a dash where it is no number."""
    if not is_number(value):
        return DASH
    return f"{100 * float(value):.{digits}f}\N{NO-BREAK SPACE}%"  # type: ignore[arg-type]


def number(value: object, spec: str = ".4g") -> str:
    """A number in the given format; a dash where it is no number."""
    return format(value, spec) if is_number(value) else DASH


def shorten(name: object, length: int = 48) -> str:
    """The text, cut to `length` characters with an ellipsis."""
    text = str(name)
    return text if len(text) <= length else text[: length - 1] + "…"
