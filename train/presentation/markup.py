"""An HTML writer that escapes by construction: whatever is not `Html` is text."""

from __future__ import annotations

import html
from collections.abc import Iterable

_VOID = ("img", "meta", "wbr")

# Control characters are not allowed in HTML, not even as references; lone surrogates (undecodable
# bytes of a path) cannot be encoded.
ILLEGAL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "�")
ILLEGAL |= dict.fromkeys(range(55296, 57344), "�")


class Html(str):
    """Text that is already HTML, with all user data in it escaped."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Returns `Html` unchanged and anything else as escaped text."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(str(value).translate(ILLEGAL), quote=True))


def join(parts: Iterable[object], separator: object = "") -> Html:
    """Returns the parts, each escaped, one after another."""
    return Html(escape(separator).join(escape(part) for part in parts))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Returns one element.

    Args:
        tag: Element name; `img`, `meta` and `wbr` get no end tag.
        *children: Contents; what is not `Html` is escaped.
        **attributes: `class_` becomes `class` and `aria_label` becomes `aria-label`; None omits
            the attribute.
    """
    pairs = (
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    start = f"<{tag}{''.join(pairs)}>"
    return Html(start if tag in _VOID else f"{start}{join(children)}</{tag}>")


def shorten(name: object, length: int = 48) -> str:
    """Returns the text, cut to `length` characters with an ellipsis."""
    text = str(name)
    return text if len(text) <= length else text[: length - 1] + "…"
