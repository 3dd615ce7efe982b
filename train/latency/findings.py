"""The table and the plot of timed files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ..presentation.findings import Findings, Table
from ..presentation.formats import milliseconds, size
from ..presentation.plots import Line, Plot
from .turns import Timing
from .worker import folder_bytes

_NAME = 28  # characters of a name in the terminal


def findings(timings: Sequence[Timing], facts: dict[str, object]) -> Findings:
    """Returns what was measured as sentences, a table and a plot.

    Args:
        timings: The files, in the order of their rows.
        facts: What a reader needs to repeat it.
    """
    return Findings(
        title="Latency",
        words=tuple(_words(timings)),
        plots=(_plot(timings),),
        tables=(_table(timings),),
        facts={**facts, "Runtimes": "; ".join(dict.fromkeys(each.version for each in timings))},
    )


def names_of(paths: Sequence[str]) -> dict[str, str]:
    """Returns short names of files: the last parts of their paths that tell them apart."""
    for count in (1, 2, 3):
        names = {path: "/".join(Path(path).parts[-count:]) for path in paths}
        if len(set(names.values())) == len(set(paths)):
            return names
    return {path: path for path in paths}


def shortened(name: str) -> str:
    """Returns a name that fits into a column: its start and its end, with the format."""
    if len(name) <= _NAME:
        return name
    end = 2 * _NAME // 3
    return f"{name[: _NAME - end - 1]}…{name[-end:]}"


def stored_bytes(path: str) -> int | None:
    """Returns the size of a file, of a SavedModel, or of a run's model, bytes."""
    model = Path(path, "model.keras")
    return folder_bytes(model if model.is_file() else Path(path))


def _table(timings: Sequence[Timing]) -> Table:
    names = names_of([each.timed.path for each in timings])
    fastest = min(each.median for each in timings)
    rows = []
    for each in timings:
        values = each.to_dict()
        rows.append(
            {
                "File": names[each.timed.path],
                "Runtime": each.version,
                "Threads": each.timed.threads,
                "Batch": each.timed.batch,
                "Median": values["median_ms"],
                "p95": values["p95_ms"],
                "Least": values["min_ms"],
                "CPU": values["cpu_ms"],
                "Images/s": values["images_per_second"],
                "Relative": each.median / fastest,
                "Memory": values["memory_bytes"],
                "Peak": values["peak_bytes"],
                "Size": stored_bytes(each.timed.path),
            }
        )
    times = dict.fromkeys(("Median", "p95", "Least", "CPU"), milliseconds)
    sizes = dict.fromkeys(("Memory", "Peak", "Size"), size)
    return Table.of(
        "latency",
        "Times of a batch, timed in turns; memory of the file, and peak of its process",
        rows,
        shown=False,
        formats={**times, **sizes, "Relative": "{:.2f}".format, "Images/s": _rate},
    )


def for_terminal(results: Findings, timings: Sequence[Timing]) -> Findings:
    """Returns the findings with the columns that a terminal has room for.

    A number of threads or images that all rows have is in the caption, the runtimes in a sentence.

    Args:
        results: From `findings`.
        timings: The files, in the order of their rows.
    """
    runtimes = f"Runtimes: {results.facts['Runtimes']}."
    words = (runtimes, *results.words)
    return dataclasses.replace(results, tables=(_short_table(timings),), words=words)


def _short_table(timings: Sequence[Timing]) -> Table:
    whole = _table(timings)
    rows = whole.records()
    single = [heading for heading in ("Threads", "Batch") if len({r[heading] for r in rows}) == 1]
    same = [f"{heading.lower()} {rows[0][heading]}" for heading in single]
    names = {str(row["File"]): shortened(str(row["File"])) for row in rows}
    if len({*names.values()}) < len(names):
        names = {name: name for name in names}
    left_out = {"Runtime", "Least", "CPU", "Peak", *single}
    records = [
        {
            **{heading: value for heading, value in row.items() if heading not in left_out},
            "File": names[str(row["File"])],
        }
        for row in rows
    ]
    caption = ", ".join(["Times of a batch, timed in turns; memory of the file", *same])
    return Table.of("latency-short", caption, records, formats=whole.formats)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plot(timings: Sequence[Timing]) -> Plot:
    paths = list(dict.fromkeys(each.timed.path for each in timings))
    names = names_of(paths)
    lines = []
    for threads, batch in dict.fromkeys((t.timed.threads, t.timed.batch) for t in timings):
        chosen = [t for t in timings if (t.timed.threads, t.timed.batch) == (threads, batch)]
        lines.append(
            Line(
                f"{threads} thread{'s' if threads > 1 else ''}, batch {batch}",
                [paths.index(t.timed.path) for t in chosen],
                [1e3 * t.median for t in chosen],
                [1e3 * min(t.seconds) for t in chosen],
                [1e3 * t.p95 for t in chosen],
                form="points",
            )
        )
    return Plot(
        "latency",
        "Median, least and 95th percentile",
        "file",
        "milliseconds per batch",
        tuple(lines),
        categories=tuple(names[path] for path in paths),
        log_y=True,
    )


def _words(timings: Sequence[Timing]) -> list[str]:
    words = []
    names = names_of([each.timed.path for each in timings])
    for each in timings:
        if each.calls > 1:
            words.append(
                f"{names[each.timed.path]} has a fixed batch of {each.timed.batch // each.calls}: "
                f"it runs {each.calls} times for {each.timed.batch} images."
            )
    cores = os.cpu_count() or 1
    most = max(each.timed.threads for each in timings)
    if most > cores:
        words.append(
            f"This machine has {cores} CPU cores, and up to {most} threads were asked for."
        )
    if len({each.timed.batch for each in timings}) == 1 and len(timings) > 1:
        best = min(timings, key=lambda each: each.median)
        words.append(
            f"Fastest: {names[best.timed.path]} under {best.version}, {best.timed.threads} "
            f"thread{'s' if best.timed.threads > 1 else ''}, {1e3 * best.median:.3g} ms."
        )
    return words
