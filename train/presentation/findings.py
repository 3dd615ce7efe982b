"""What a study found: sentences, tables and figures; as files, on the terminal and as one page."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..files import write_json, write_text
from .blocks import data_table, section
from .markup import DASH, Html, element
from .page import html_page
from .plots import Plot, figure_svg, inline_figure


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of results.

    Attributes:
        name: Name of its CSV file, without the ending.
        caption: What it shows.
        columns: Headings; the first column names the rows.
        rows: Texts and numbers, one for each column; None and NaN for what was not measured.
        shown: Whether the terminal shows it too; files and report always do.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    shown: bool = True

    def __post_init__(self) -> None:
        """Checks that each row has a value for each column."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Each row of {self.name!r} needs {len(self.columns)} values. Received: {row}"
                )


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a study found.

    Attributes:
        title: Heading of the report.
        words: What was measured, in sentences that the numbers were put into.
        plots: Figures.
        tables: Tables.
        facts: What a reader must know to do it again: command, data, seeds, machine.
    """

    title: str
    words: tuple[str, ...]
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    facts: Mapping[str, object] = dataclasses.field(default_factory=dict)


def write_findings(output: Path, findings: Findings) -> Path:
    """Writes `results.json`, each table as CSV, each figure as SVG, CSV and JSON, `report.html`.

    Each file appears whole or not at all; the report is written last.

    Args:
        output: A directory; made where it is missing.
        findings: What to write.

    Returns:
        The report's path.
    """
    output.mkdir(parents=True, exist_ok=True)
    for plot in findings.plots:
        write_text(output / f"{plot.name}.svg", figure_svg(plot))
        write_text(output / f"{plot.name}.csv", _csv(plot.columns(), plot.rows()))
        write_json(output / f"{plot.name}.json", _plain(dataclasses.asdict(plot)))
    for table in findings.tables:
        write_text(output / f"{table.name}.csv", _csv(table.columns, table.rows))
    results = {
        "title": findings.title,
        "words": findings.words,
        "facts": findings.facts,
        "tables": {
            table.name: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            for table in findings.tables
        },
    }
    write_json(output / "results.json", _plain(results))
    report = output / "report.html"
    write_text(report, render_findings(findings))
    return report


def say_findings(findings: Findings) -> None:
    """Prints the tables and the sentences."""
    from rich import box, console
    from rich import table as rich_table
    from rich.text import Text

    # A file or a pipe has no width: there a line may be long.
    out = console.Console(width=None if sys.stdout.isatty() else 140)
    for table in findings.tables:
        if not table.shown:
            continue
        drawn = rich_table.Table(
            title=Text(table.caption), box=box.SIMPLE_HEAD, title_justify="left", show_edge=False
        )
        for index, column in enumerate(table.columns):
            justify: Literal["left", "right"] = "right" if _numeric(table, index) else "left"
            drawn.add_column(Text(column), justify=justify, overflow="fold")
        for row in table.rows:
            drawn.add_row(*(Text(cell_text(cell)) for cell in row))
        out.print(drawn)
    for sentence in findings.words:
        out.print(Text(sentence))


def publish(output: Path, findings: Findings) -> int:
    """Writes what was found, prints it, and returns the exit status of success."""
    report = write_findings(output, findings)
    say_findings(findings)
    print(f"Report: {report}")
    return 0


def render_findings(findings: Findings) -> str:
    """Returns the report: one HTML page that needs no other file."""
    parts: list[tuple[str, str, list[Html]]] = [
        ("findings", "What was found", [element("p", sentence) for sentence in findings.words])
    ]
    if findings.plots:
        figures = [
            element("figure", element("figcaption", plot.title), inline_figure(plot), class_="wide")
            for plot in findings.plots
        ]
        parts.append(("figures", "Figures", [element("div", *figures, class_="curves")]))
    if findings.tables:
        parts.append(("numbers", "Numbers", [_html_table(table) for table in findings.tables]))
    if findings.facts:
        pairs = [
            part
            for name, value in findings.facts.items()
            for part in (element("dt", name), element("dd", value))
        ]
        parts.append(("facts", "How it was measured", [element("dl", *pairs)]))
    return html_page(
        findings.title,
        element("h1", findings.title),
        [element("a", heading, href=f"#{name}") for name, heading, _ in parts],
        [section(name, heading, *children) for name, heading, children in parts],
    )


def cell_text(value: object) -> str:
    """Returns a value as a table shows it: four significant digits, a dash for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _html_table(table: Table) -> Html:
    headings = [(column, _numeric(table, i)) for i, column in enumerate(table.columns)]
    return data_table(table.caption, headings, [[cell_text(c) for c in row] for row in table.rows])


def _numeric(table: Table, column: int) -> bool:
    cells = [row[column] for row in table.rows if row[column] is not None]
    return bool(cells) and all(
        isinstance(c, int | float) or (isinstance(c, str) and re.match(r"^-?[\d.]+( |$)", c))
        for c in cells
    )


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        ["" if isinstance(c, float) and math.isnan(c) else c for c in row] for row in rows
    )
    return text.getvalue()


def _plain(values: Any) -> Any:
    """Returns values that JSON knows; what is not finite becomes null."""

    def strict(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, Mapping):
            return {str(key): strict(item) for key, item in value.items()}
        return [strict(item) for item in value] if isinstance(value, list | tuple) else value

    return strict(json.loads(json.dumps(values, default=_number)))


def _number(value: Any) -> Any:
    """What JSON does not know: NumPy's numbers and arrays, ranges, paths."""
    if isinstance(value, range):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
