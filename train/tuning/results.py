"""What a search found: rows, the Pareto front, `trials.csv`, `trials.json` and `best.json`."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_resnet import ResNetSpec

from ..config import load_config
from ..files import write_json, write_text
from ..presentation.markup import DASH, number, percent
from ..rundir import spec_of
from .directory import Record
from .limits import Cost
from .search import Searched

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 20  # trials that the terminal shows; the files have all


@dataclasses.dataclass(frozen=True)
class Row:
    """A trial or a rejected candidate, with its cost where it is a net at all.

    Attributes:
        record: How it ended.
        what: In which values it differs from the base.
        cost: Of its net, or None.
        front: Whether no finished trial is as accurate and cheaper, or as cheap and better.
    """

    record: Record
    what: str
    cost: Cost | None
    front: bool = False


@dataclasses.dataclass(frozen=True)
class Results:
    """A search's rows, the best first, and what they are compared by.

    Attributes:
        trials: Trials, the most accurate first, the cheaper first of equals.
        rejected: Candidates that were not trained, in order.
        by_latency: Whether latency is the cost; multiply-adds otherwise.
    """

    trials: tuple[Row, ...]
    rejected: tuple[Row, ...]
    by_latency: bool

    @property
    def finished(self) -> tuple[Row, ...]:
        """The trials with an accuracy."""
        return tuple(row for row in self.trials if row.record.status == "finished")

    def cost(self, row: Row) -> float:
        """Returns what a finished trial is compared by: milliseconds or multiply-adds."""
        return _cost(row, self.by_latency)


def collect(searched: Searched) -> Results:
    """Gathers the rows of a search."""
    by_latency = searched.prepared.plan.limits.latency_ms is not None
    rows = [_row(searched, record) for record in searched.directory.records()]
    finished = [row for row in rows if row.record.status == "finished"]
    front = {row.record.id for row in pareto(finished, by_latency)}
    rows = [dataclasses.replace(row, front=row.record.id in front) for row in rows]
    rows.sort(key=lambda row: _rank(row, by_latency))
    rejected = tuple(_row(searched, record) for record in searched.directory.rejected())
    return Results(tuple(rows), rejected, by_latency)


def pareto(rows: Sequence[Row], by_latency: bool) -> list[Row]:
    """Returns the rows that no other beats, the cheapest first; of equals the first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (_cost(row, by_latency), -_accuracy(row))):
        if not front or _accuracy(row) > _accuracy(front[-1]):
            front.append(row)
    return front


def write_tables(searched: Searched, results: Results) -> None:
    """Writes `trials.csv` and `trials.json`."""
    axes = [axis.name for axis in searched.prepared.candidates.axes]
    rows = [_flat(row) for row in (*results.trials, *results.rejected)]
    keys = [key for key in _flat(Row(Record("", {}, "rejected"), "", None)) if key != "reason"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *axes, "reason"])
    for flat, row in zip(rows, (*results.trials, *results.rejected), strict=True):
        chosen = [row.record.values.get(name) for name in axes]
        writer.writerow([*(flat[key] for key in keys), *chosen, flat["reason"]])
    write_text(searched.directory.path / "trials.csv", text.getvalue())
    for flat, row in zip(rows, (*results.trials, *results.rejected), strict=True):
        flat |= {"val_loss": row.record.loss, "values": row.record.values}
    found = {
        "plan": searched.prepared.plan.to_dict(),
        "seconds": round(searched.seconds, 1),
        "validation_images": searched.prepared.held_out,
        "trials": rows,
    }
    write_json(searched.directory.path / "trials.json", found)


def write_best(searched: Searched, results: Results) -> None:
    """Writes the best trial's run at the recipe's full length as `best.json`, and reads it back.

    Raises:
        RuntimeError: If what is read differs from what was written.
    """
    path = searched.directory.path / "best.json"
    config = searched.prepared.full(results.finished[0].record.values)
    write_text(path, config.to_json())
    if load_config(path) != config:
        raise RuntimeError(f"{path} does not read as it was written")


def table(results: Results) -> Table:
    """Returns the best trials as a table for a `rich` console, narrow enough for 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading, numeric in headings(results)[:-1]:
        heading = heading.replace("-", "-\n")  # with latencies too it shall fit 80 columns
        shown.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
    for row in results.trials[:SHOWN]:
        shown.add_row(*map(Text, cells(results, row)[:-1]))
    return shown


def headings(results: Results) -> list[tuple[str, bool]]:
    """Returns the columns of a table of trials, and whether they hold numbers."""
    latency = [("Latency", True)] if results.by_latency else []
    return [
        ("Trial", False),
        ("Accuracy", True),
        ("Parameters", True),
        ("Multiply-adds", True),
        *latency,
        ("Epochs", True),
        ("Seconds", True),
        ("Front", False),
        ("What differs from the base", False),
    ]


def cells(results: Results, row: Row) -> list[str]:
    """Returns a trial's texts, one a heading."""
    record, cost = row.record, row.cost
    latency = [f"{number(cost and cost.latency_ms, '.3g')} ms"] if results.by_latency else []
    finished = record.status == "finished"
    return [
        record.id,
        percent(record.accuracy) if finished else record.status,
        f"{cost.parameters:,}" if cost else DASH,
        f"{cost.multiply_adds / 1e6:,.3g} M" if cost else DASH,
        *latency,
        number(record.epochs, "g"),
        number(record.seconds, ".0f"),
        "*" if row.front else "",
        row.what,
    ]


def rejections(results: Results) -> list[str]:
    """Says how many candidates were rejected for what, the most frequent first."""
    kinds = Counter(
        "no such net" if row.cost is None else row.record.reason.split(", limit")[0].split()[-1]
        for row in results.rejected
    )
    return [f"{count} by {kind}" for kind, count in kinds.most_common()]


def _row(searched: Searched, record: Record) -> Row:
    candidates = searched.prepared.candidates
    try:
        spec: ResNetSpec = spec_of(searched.prepared.trial(record.values))
        cost = searched.costs.of(spec)
    except (ValueError, TypeError):
        return Row(record, candidates.difference(record.values), None)
    return Row(record, candidates.difference(record.values), cost)


def _flat(row: Row) -> dict[str, Any]:
    record, cost = row.record, row.cost
    low, high = record.interval or (None, None)
    return {
        "id": record.id,
        "status": record.status,
        "val_accuracy": record.accuracy,
        "val_accuracy_low": low,
        "val_accuracy_high": high,
        "val_loss": record.final_loss,
        "parameters": cost and cost.parameters,
        "multiply_adds": cost and cost.multiply_adds,
        "latency_ms": cost and cost.latency_ms,
        "epochs": record.epochs,
        "seconds": record.seconds,
        "front": row.front,
        "what": row.what,
        "reason": record.reason,
    }


def _rank(row: Row, by_latency: bool) -> tuple[float, ...]:
    if row.record.status != "finished":
        return (1.0, 0.0, 0.0)
    return (0.0, -_accuracy(row), _cost(row, by_latency))


def _accuracy(row: Row) -> float:
    return row.record.accuracy or 0.0


def _cost(row: Row, by_latency: bool) -> float:
    if row.cost is None:
        return float("inf")
    return row.cost.latency_ms or float("inf") if by_latency else float(row.cost.multiply_adds)
