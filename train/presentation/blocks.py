"""Building blocks that the sections of a report share."""

from collections.abc import Sequence

from .markup import Html, element, join, shorten


def section(name: str, heading: str, *children: object) -> Html:
    """A section labelled by its heading; `name` is its anchor."""
    head = element("h2", heading, id=f"{name}-heading")
    return element("section", head, *children, id=name, aria_labelledby=f"{name}-heading")


def note(*children: object) -> Html:
    """A paragraph in quieter type."""
    return element("p", *children, class_="note")


def class_name(name: object, length: int = 48) -> Html:
    """A class name: cut to a readable length, and isolated, so that it turns no other text."""
    short = shorten(name, length)
    return element("bdi", short, title=None if short == str(name) else str(name))


def data_table(
    caption: str, headings: Sequence[tuple[str, bool]], rows: Sequence[Sequence[object]]
) -> Html:
    """A data table; a heading says whether its column holds numbers; the first one names rows."""
    head = (element("th", text, scope="col", class_="n" if n else None) for text, n in headings)
    body = (
        element(
            "tr",
            element("th", row[0], scope="row", class_="n" if headings[0][1] else None),
            *(
                element("td", cell, class_="n" if n else None)
                for cell, (_, n) in zip(row[1:], headings[1:], strict=True)
            ),
        )
        for row in rows
    )
    table = element(
        "table",
        element("caption", caption) if caption else "",
        element("thead", element("tr", *head)),
        element("tbody", join(body, "\n")),
        class_="data",
    )
    return scrollable(table, caption or "Table")


def scrollable(table: Html, label: str) -> Html:
    """A table that, where it is wider than the window, scrolls by itself, by keyboard too."""
    return element("div", table, class_="scroll", tabindex="0", role="group", aria_label=label)


def folded(label: str, content: Html) -> Html:
    """Content that a reader opens; paper shows it as the reader left it."""
    return element("details", element("summary", label), element("div", content))
