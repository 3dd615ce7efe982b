"""One table of results: as CSV, as HTML and on the terminal."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_resnet.texts import escaped

from .formats import cell_text
from .markup import Html, element, join
from .page import scrollable

if TYPE_CHECKING:
    import rich.table

# What begins a formula in a spreadsheet, also behind which one may begin.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NUMBER = re.compile(r"-?[\d.]+(\s|$)")


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        name: Name of its CSV file, without the ending.
        caption: Caption; may be empty.
        columns: Headings; the first column names the rows.
        rows: One value for each column: text, a number, or None or NaN for a missing value.
        shown: Whether the terminal shows the table; files and report always do.
        formats: Heading -> function from a value to its text, for numbers whose text is not the
            default's four significant digits. CSV and JSON hold the values themselves.

    Raises:
        ValueError: If a row does not have one value for each column.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    shown: bool = True
    formats: Mapping[str, Callable[[Any], str]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks the length of the rows."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Each row of {self.name!r} needs {len(self.columns)} values. Received: {row}"
                )

    @classmethod
    def of(
        cls,
        name: str,
        caption: str,
        records: Iterable[Mapping[str, object]],
        *,
        shown: bool = True,
        formats: Mapping[str, Callable[[Any], str]] | None = None,
    ) -> Table:
        """Returns the table of records that all have the same headings."""
        rows = list(records)
        columns = tuple(rows[0]) if rows else ()
        values = tuple(tuple(row.values()) for row in rows)
        return cls(name, caption, columns, values, shown, formats or {})

    def records(self) -> list[dict[str, object]]:
        """Returns each row as a mapping from heading to value."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def csv(self) -> str:
        """Returns the values as CSV."""
        return csv_text(self.columns, self.rows)

    def texts(self) -> list[list[str]]:
        """Returns the text of each cell, row by row; a cell may be `Html`."""
        formats = [self.formats.get(heading, cell_text) for heading in self.columns]
        return [[show(cell) for show, cell in zip(formats, row, strict=True)] for row in self.rows]

    def numeric(self, column: int) -> bool:
        """Whether a column holds numbers, which are aligned at the right."""
        if self.columns[column] in self.formats:
            return True
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(
            isinstance(cell, int | float) or (isinstance(cell, str) and _NUMBER.match(cell))
            for cell in cells
        )

    def html(self) -> Html:
        """Returns the table as an element of a page."""
        kinds = ["n" if self.numeric(index) else None for index in range(len(self.columns))]
        head = (
            element("th", heading, scope="col", class_=kind)
            for heading, kind in zip(self.columns, kinds, strict=True)
        )
        body = (
            element(
                "tr",
                element("th", first, scope="row", class_=kinds[0]),
                *(
                    element("td", cell, class_=kind)
                    for cell, kind in zip(rest, kinds[1:], strict=True)
                ),
            )
            for first, *rest in self.texts()
        )
        table = element(
            "table",
            element("caption", self.caption) if self.caption else "",
            element("thead", element("tr", *head)),
            element("tbody", join(body, "\n")),
            class_="data",
        )
        return scrollable(table, self.caption or "Table")

    def terminal(self) -> rich.table.Table:
        """Returns the table for a `rich` console; headings of numbers take a line per word."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(
            title=Text(escaped(self.caption)) if self.caption else None,
            box=box.SIMPLE_HEAD,
            title_justify="left",
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        for index, heading in enumerate(self.columns):
            if self.numeric(index):
                narrow = heading.replace(" ", "\n").replace("-", "-\n")
                table.add_column(Text(narrow), justify="right", no_wrap=True)
            else:
                table.add_column(Text(heading), overflow="fold")
        for row in self.texts():
            # As `Text`, which does not interpret brackets.
            table.add_row(*(Text(escaped(cell)) for cell in row))
        return table


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns rows under their headings as CSV; None and NaN become empty cells."""
    return "".join(csv_line(cells) for cells in (columns, *rows))


def csv_line(cells: Iterable[object]) -> str:
    """Returns one row of a CSV file; None and NaN become empty cells.

    A spreadsheet runs text that begins with `=`, `+`, `-`, `@`, a tab or a line break as a formula,
    `=cmd|...` for instance. Such text, unless it is a number, gets an apostrophe in front.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(_cell, cells))
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, str) and value.startswith(_FORMULA) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
