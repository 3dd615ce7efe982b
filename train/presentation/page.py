"""The page: sections put together, and written to disk whole or not at all."""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..files import write_text
from . import predictions, sections
from .data import ReportData
from .markup import Html, element, join
from .style import STYLE

# Even if an escape were forgotten, nothing would run and nothing would be fetched.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_LINKS = (
    ("summary", "Summary"),
    ("curves", "Training"),
    ("confusion", "Confusion"),
    ("classes", "Recall by class"),
    ("samples", "Samples"),
    ("exports", "Exports"),
    ("configuration", "Configuration"),
)


def render_report(data: ReportData) -> str:
    """The report as one HTML page that needs no other file; equal data gives an equal page."""
    links = (element("a", text, href=f"#{name}") for name, text in _LINKS)
    parts = (
        sections.summary(data),
        sections.curves(data),
        predictions.confusion(data),
        predictions.per_class(data),
        predictions.samples(data),
        sections.exports(data),
        sections.configuration(_json(data.config)),
    )
    return html_page(data.title, sections.header(data), links, parts)


def html_page(title: str, heading: Html, links: Iterable[Html], parts: Iterable[object]) -> str:
    """One HTML page that needs no other file.

    Args:
        title: of the window.
        heading: stands on top.
        links: to the sections.
        parts: the sections.
    """
    head = (
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    body = (
        element("header", heading, element("nav", *links, aria_label="Sections")),
        element("main", join(parts, "\n")),
        element("footer", element("p", "Written by keras_resnet.")),
    )
    page = element("html", element("head", join(head, "\n")), element("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def write_report(path: str | os.PathLike[str], data: ReportData) -> None:
    """Writes the report as one HTML file that needs no other.

    The file appears whole or not at all: it is written under another name in the same folder and
    then renamed. A failure leaves an older report as it was, and creates no folder.

    Args:
        path: file to write; its folder has to exist.
        data: what to show.

    Raises:
        OSError: if the file cannot be written.
    """
    write_text(Path(path), render_report(data))


def _json(config: Mapping[str, object]) -> str:
    return json.dumps(dict(config), indent=2, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    """What JSON does not know: mappings, dataclasses, sets, NumPy values; else the text of it."""
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)
