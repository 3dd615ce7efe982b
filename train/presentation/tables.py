"""The table of exported formats, for the report, for plain text and for the terminal."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from .markup import DASH, is_number, number, percent

if TYPE_CHECKING:
    from rich.table import Table

ExportRow = Mapping[str, object]


def size(value: object) -> str:
    """Bytes in decimal units: `812 B`, `284 KB`, `94.2 MB`."""
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


def _text(value: object) -> str:
    return DASH if value is None or value == "" or value != value else str(value)


def _milliseconds(value: object) -> str:
    return f"{number(value, '.3g')}\N{NO-BREAK SPACE}ms" if is_number(value) else DASH


def _difference(value: object) -> str:
    return number(value, ".2g")


@dataclasses.dataclass(frozen=True)
class ExportColumn:
    """One column: the row's key, the heading, the formatter and whether it holds numbers."""

    key: str
    heading: str
    show: Callable[[object], str]
    numeric: bool = True


EXPORT_COLUMNS = (
    ExportColumn("format", "Format", _text, numeric=False),
    ExportColumn("precision", "Precision", _text, numeric=False),
    ExportColumn("bytes", "Size", size),
    ExportColumn("accuracy", "Accuracy", percent),
    ExportColumn("top1_agreement", "Agreement", percent),
    ExportColumn("max_abs_difference", "Max Δ logit", _difference),
    ExportColumn("latency_ms", "Latency per image", _milliseconds),
    ExportColumn("file", "File", _text, numeric=False),
)


def export_cells(row: ExportRow) -> list[str]:
    """The row's texts, one per entry of `EXPORT_COLUMNS`; a dash for what is missing."""
    return [entry.show(row.get(entry.key)) for entry in EXPORT_COLUMNS]


def format_export_table(rows: Sequence[ExportRow]) -> str:
    """The exports as plain aligned text, one line a row under a heading and a rule."""
    cells = [[entry.heading for entry in EXPORT_COLUMNS], *map(export_cells, rows)]
    lines = [[" ".join(cell.split()) for cell in line] for line in cells]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    aligned = (
        "  ".join(
            f"{cell:>{width}}" if entry.numeric else f"{cell:<{width}}"
            for cell, width, entry in zip(line, widths, EXPORT_COLUMNS, strict=True)
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in aligned)


def export_table(rows: Sequence[ExportRow]) -> "Table":
    """The exports as a table for a `rich` console."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False)
    # A console is narrow: the file's name stands first, without its folder, and says the format.
    columns = [EXPORT_COLUMNS[-1], *EXPORT_COLUMNS[1:-1]]
    short = [{**row, "file": PurePath(str(row.get("file") or "")).name} for row in rows]
    for entry in columns:
        table.add_column(
            entry.heading.replace(" ", "\n"),
            justify="right" if entry.numeric else "left",
            overflow="fold",
            no_wrap=entry.key != "file",  # the figures stay whole
        )
    for row in short:
        # As `Text`, since brackets in a file name are no console markup.
        table.add_row(*(Text(entry.show(row.get(entry.key))) for entry in columns))
    return table
