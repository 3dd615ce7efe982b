"""The HTML page: one file that needs no other, and the blocks that its sections share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .markup import Html, element, join
from .style import STYLE

# Even if an escape were forgotten, no script would run and nothing would be fetched.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def section(name: str, heading: str, *children: object) -> Html:
    """Returns a section labelled by its heading; `name` is its anchor."""
    head = element("h2", heading, id=f"{name}-heading")
    return element("section", head, *children, id=name, aria_labelledby=f"{name}-heading")


def note(*children: object) -> Html:
    """Returns a paragraph in quieter type."""
    return element("p", *children, class_="note")


def folded(label: str, content: Html) -> Html:
    """Returns content that a reader opens; paper shows it as the reader left it."""
    return element("details", element("summary", label), element("div", content))


def scrollable(table: Html, label: str) -> Html:
    """Returns a table that scrolls, by keyboard too, where it is wider than the window."""
    return element("div", table, class_="scroll", tabindex="0", role="group", aria_label=label)


def facts_list(facts: Mapping[str, object]) -> Html:
    """Returns labels and their values as a description list."""
    pairs = ((element("dt", label), element("dd", value)) for label, value in facts.items())
    return element("dl", join(map(join, pairs), "\n"))


def listing(text: str) -> Html:
    """Returns preformatted text, such as JSON."""
    return element("pre", element("code", text))


def html_page(
    title: str, heading: Html, links: Mapping[str, str], sections: Sequence[object]
) -> str:
    """Returns one HTML page that needs no other file.

    Args:
        title: Title of the window.
        heading: Content of the header.
        links: Anchor -> text of the links to the sections.
        sections: The sections.
    """
    head = (
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    anchors = (element("a", text, href=f"#{name}") for name, text in links.items())
    body = (
        element("header", heading, element("nav", *anchors, aria_label="Sections")),
        element("main", join(sections, "\n")),
        element("footer", element("p", "Written by keras_resnet.")),
    )
    page = element("html", element("head", join(head, "\n")), element("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"
