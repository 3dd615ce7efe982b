"""The results of a search: trials and rejected candidates, the Pareto front, and their files."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..config import load_config
from ..files import write_json, write_text
from ..presentation import Table
from ..presentation.formats import milliseconds, number, percent
from ..rundir import spec_of
from .directory import TrialRecord
from .limits import Cost
from .search import Search


@dataclasses.dataclass(frozen=True)
class CandidateResult:
    """A trial or a rejected candidate, with its cost if the candidate is a valid net.

    Attributes:
        record: How it ended.
        changes: The values in which it differs from the base, as text.
        cost: Cost of its net, or None.
        front: Whether no finished trial is as accurate and cheaper, or as cheap and better.
    """

    record: TrialRecord
    changes: str
    cost: Cost | None
    front: bool = False

    @property
    def accuracy(self) -> float:
        """Validation accuracy in 0..1; 0 without one."""
        return self.record.accuracy or 0.0

    def cost_value(self, by_latency: bool) -> float:
        """Returns milliseconds or multiply-adds; infinite where unknown."""
        if self.cost is None:
            return float("inf")
        if by_latency:
            return self.cost.latency_ms or float("inf")
        return float(self.cost.multiply_adds)


@dataclasses.dataclass(frozen=True)
class SearchResults:
    """All candidates of a search, and the cost that they are compared by.

    Attributes:
        trials: Trials, the most accurate first; of equals the cheaper first.
        rejected: Candidates that were not trained, in order.
        by_latency: Whether latency is the cost; otherwise multiply-adds.
    """

    trials: tuple[CandidateResult, ...]
    rejected: tuple[CandidateResult, ...]
    by_latency: bool

    @property
    def finished(self) -> tuple[CandidateResult, ...]:
        """The trials with an accuracy."""
        return tuple(trial for trial in self.trials if trial.record.status == "finished")

    def cost(self, trial: CandidateResult) -> float:
        """Returns the cost that a finished trial is compared by."""
        return trial.cost_value(self.by_latency)

    def rejections(self) -> list[str]:
        """Returns how many candidates were rejected for each reason, the most frequent first."""
        kinds = Counter(
            "no such net"
            if each.cost is None
            else each.record.reason.split(", limit")[0].split()[-1]
            for each in self.rejected
        )
        return [f"{count} by {kind}" for kind, count in kinds.most_common()]


def collect(search: Search) -> SearchResults:
    """Reads the results of a search from its directory."""
    by_latency = search.prepared.plan.limits.latency_ms is not None
    trials = [_result(search, record) for record in search.directory.records()]
    finished = [trial for trial in trials if trial.record.status == "finished"]
    front = {trial.record.id for trial in pareto(finished, by_latency)}
    trials = [dataclasses.replace(trial, front=trial.record.id in front) for trial in trials]
    trials.sort(key=lambda trial: _rank(trial, by_latency))
    rejected = tuple(_result(search, record) for record in search.directory.rejected())
    return SearchResults(tuple(trials), rejected, by_latency)


def _rank(trial: CandidateResult, by_latency: bool) -> tuple[float, ...]:
    if trial.record.status != "finished":
        return (1.0,)
    return (0.0, -trial.accuracy, trial.cost_value(by_latency))


def _result(search: Search, record: TrialRecord) -> CandidateResult:
    changes = search.prepared.candidates.difference(record.values)
    try:
        cost = search.costs.of(spec_of(search.prepared.trial(record.values)))
    except (ValueError, TypeError):
        return CandidateResult(record, changes, None)
    return CandidateResult(record, changes, cost)


def pareto(trials: Sequence[CandidateResult], by_latency: bool) -> list[CandidateResult]:
    """Returns the trials that no other dominates, the cheapest first; of equals the first."""
    front: list[CandidateResult] = []
    for trial in sorted(trials, key=lambda trial: (trial.cost_value(by_latency), -trial.accuracy)):
        if not front or trial.accuracy > front[-1].accuracy:
            front.append(trial)
    return front


def trials_table(results: SearchResults, *, changes: bool, limit: int | None = None) -> Table:
    """Returns the best trials as a table.

    Args:
        results: The results.
        changes: Whether a last column tells how each differs from the base; it is wide.
        limit: Number of trials; all where None.
    """
    records = []
    for trial in results.trials[:limit]:
        record, cost = trial.record, trial.cost
        values: dict[str, object] = {
            "Trial": record.id,
            "Accuracy": record.accuracy if record.status == "finished" else record.status,
            "Parameters": cost and cost.parameters,
            "Multiply-adds": cost and cost.multiply_adds,
            "Latency": cost and cost.latency_ms,
            "Epochs": record.epochs,
            "Seconds": record.seconds,
            "Front": "*" if trial.front else " ",
            "Changes from the base": trial.changes,
        }
        hidden = [] if results.by_latency else ["Latency"]
        hidden += [] if changes else ["Changes from the base"]
        records.append({key: value for key, value in values.items() if key not in hidden})
    formats = {
        "Accuracy": lambda value: value if isinstance(value, str) else percent(value),
        "Parameters": lambda value: number(value, ","),
        "Multiply-adds": lambda value: f"{number(value and value / 1e6, ',.3g')} M",
        "Latency": milliseconds,
        "Epochs": lambda value: number(value, "g"),
        "Seconds": lambda value: number(value, ".0f"),
    }
    return Table.of("trials", "", records, formats=formats)


def write_tables(search: Search, results: SearchResults) -> None:
    """Writes `trials.csv` and `trials.json`."""
    path = search.directory.path
    axes = [axis.name for axis in search.prepared.candidates.axes]
    candidates = (*results.trials, *results.rejected)
    rows = [
        {**_values(each), **{name: each.record.values.get(name) for name in axes}}
        | {"reason": each.record.reason}
        for each in candidates
    ]
    write_text(path / "trials.csv", Table.of("trials", "", rows).csv())
    # JSON has no infinity, which is the loss of a diverged trial.
    trials = [
        {
            **_values(each),
            "reason": each.record.reason,
            "val_loss": each.record.loss,
            "values": each.record.values,
        }
        for each in candidates
    ]
    contents = {
        "plan": search.prepared.plan.to_dict(),
        "seconds": round(search.seconds, 1),
        "validation_images": search.prepared.held_out,
        "trials": trials,
    }
    write_json(path / "trials.json", contents)


def _values(candidate: CandidateResult) -> dict[str, Any]:
    record, cost = candidate.record, candidate.cost
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
        "front": candidate.front,
        "what": candidate.changes,
    }


def write_best(search: Search, results: SearchResults) -> None:
    """Writes the best trial's run at the recipe's full length as `best.json`, and reads it back.

    Raises:
        RuntimeError: If the file does not read as it was written.
    """
    path = search.directory.path / "best.json"
    config = search.prepared.full(results.finished[0].record.values)
    write_text(path, config.to_json())
    if load_config(path) != config:
        raise RuntimeError(f"{path} does not read as it was written")
