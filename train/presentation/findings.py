"""Findings: sentences, tables and figures; as files, on the terminal and as one HTML page."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_json, write_text
from .drawing import figure_svg, inline_figure
from .markup import element
from .page import facts_list, folded, html_page, listing, section
from .plots import Plot
from .tables import Table as Table

_ROWS = 50  # a longer table is folded in the report


@dataclasses.dataclass(frozen=True)
class Findings:
    """The results of a study, a search or a benchmark.

    Attributes:
        title: Heading of the report.
        words: Sentences that state the results.
        plots: Figures.
        tables: Tables.
        facts: What a reader needs to repeat the measurement: command, data, seeds, machine.
        listings: Heading -> text of further sections, such as a configuration as JSON.
    """

    title: str
    words: tuple[str, ...]
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
    listings: Mapping[str, str] = dataclasses.field(default_factory=dict)


def publish(output: Path, findings: Findings) -> int:
    """Writes the findings, prints them, and returns the exit status of success."""
    report = write_findings(output, findings)
    print_findings(findings)
    print(f"Report: {report}")
    return 0


def write_findings(output: Path, findings: Findings) -> Path:
    """Writes `results.json`, each table as CSV, each figure as SVG, CSV and JSON, `report.html`.

    Each file appears whole or not at all; the report is written last.

    Args:
        output: Directory; created if missing.
        findings: What to write.

    Returns:
        The report's path.
    """
    output.mkdir(parents=True, exist_ok=True)
    for plot in findings.plots:
        write_text(output / f"{plot.name}.svg", figure_svg(plot))
        write_text(output / f"{plot.name}.csv", plot.csv())
        write_json(output / f"{plot.name}.json", json_values(dataclasses.asdict(plot)))
    for table in findings.tables:
        write_text(output / f"{table.name}.csv", table.csv())
    results = {
        "title": findings.title,
        "words": findings.words,
        "facts": findings.facts,
        "tables": {table.name: table.records() for table in findings.tables},
    }
    write_json(output / "results.json", json_values(results))
    report = output / "report.html"
    write_text(report, render_findings(findings))
    return report


def print_findings(findings: Findings) -> None:
    """Prints the tables and the sentences."""
    from rich.console import Console
    from rich.text import Text

    # A file or a pipe has no width, so lines may be long there.
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in findings.tables:
        if table.shown:
            console.print(table.terminal())
    for sentence in findings.words:
        console.print(Text(sentence))


def render_findings(findings: Findings) -> str:
    """Returns the report: one HTML page that needs no other file."""
    parts: dict[str, list[object]] = {
        "Findings": [element("p", sentence) for sentence in findings.words]
    }
    if findings.plots:
        figures = (
            element("figure", element("figcaption", plot.title), inline_figure(plot), class_="wide")
            for plot in findings.plots
        )
        parts["Figures"] = [element("div", *figures, class_="curves")]
    if findings.tables:
        parts["Tables"] = [
            folded(f"{table.caption}: {len(table.rows)} rows", table.html())
            if len(table.rows) > _ROWS
            else table.html()
            for table in findings.tables
        ]
    for heading, text in findings.listings.items():
        parts[heading] = [listing(text)]
    if findings.facts:
        parts["Method"] = [facts_list(findings.facts)]
    names = {heading.lower().replace(" ", "-"): heading for heading in parts}
    return html_page(
        findings.title,
        element("h1", findings.title),
        names,
        [section(name, heading, *parts[heading]) for name, heading in names.items()],
    )


def json_values(values: Any) -> Any:
    """Returns values as JSON knows them; numbers that are not finite become null."""
    return _finite(json.loads(json.dumps(values, default=_plain)))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """Converts what JSON does not know: mappings, ranges, NumPy's numbers and arrays, paths."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, range):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
