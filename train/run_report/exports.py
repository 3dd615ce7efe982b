"""The table of exported formats, for the report and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from ..presentation import Table
from ..presentation.formats import milliseconds, number, percent, size

if TYPE_CHECKING:
    import rich.table

# Heading -> key of a row of `metrics.json`.
_KEYS = {
    "Format": "format",
    "Precision": "precision",
    "Size": "bytes",
    "Accuracy": "accuracy",
    "Agreement": "top1_agreement",
    "Max Δ logit": "max_abs_difference",
    "Latency per image": "latency_ms",
    "File": "file",
}
_FORMATS = {
    "Size": size,
    "Accuracy": percent,
    "Agreement": percent,
    "Max Δ logit": lambda value: number(value, ".2g"),
    "Latency per image": milliseconds,
}


def exports(rows: Sequence[Mapping[str, object]], headings: Sequence[str] = tuple(_KEYS)) -> Table:
    """Returns one row per exported file, with the given columns."""
    return Table(
        "exports",
        "",
        tuple(headings),
        tuple(tuple(row.get(_KEYS[heading]) for heading in headings) for row in rows),
        formats=_FORMATS,
    )


def export_table(rows: Sequence[Mapping[str, object]]) -> rich.table.Table:
    """Returns the exports for a `rich` console.

    A console is narrow: the file's name stands first, without its folder, and tells the format. The
    folder stays where it tells files apart: those of clients, and the versions of a SavedModel.
    """
    paths = [PurePath(str(row.get("file") or "")) for row in rows]
    names = [path.name for path in paths]
    short = [
        {**row, "file": str(path) if names.count(name) > 1 or name.isdigit() else name}
        for row, path, name in zip(rows, paths, names, strict=True)
    ]
    return exports(short, ("File", *list(_KEYS)[1:-1])).terminal()
