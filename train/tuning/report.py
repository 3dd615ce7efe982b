"""The findings of a search: sentences, the Pareto front, tables, and the files and output."""

from __future__ import annotations

from ..files import write_text
from ..presentation import Findings, Line, Plot, Table
from ..presentation.drawing import figure_svg
from ..presentation.findings import render_findings
from ..presentation.formats import percent
from .plan import PreparedSearch
from .results import (
    CandidateResult,
    SearchResults,
    pareto,
    trials_table,
    write_best,
    write_tables,
)
from .search import Search

_PRINTED = 20  # trials that the terminal shows; the files have all
_LISTED = 200  # rejected candidates that the report lists


def publish(search: Search, results: SearchResults) -> None:
    """Writes the files of a search and, where a trial has finished, the report; prints both."""
    from rich.console import Console

    path = search.directory.path
    write_tables(search, results)
    if not results.finished:
        return
    write_best(search, results)
    found = findings(search, results)
    write_text(path / "pareto.svg", figure_svg(found.plots[0]))
    write_text(path / "report.html", render_findings(found))
    print()
    Console().print(trials_table(results, changes=False, limit=_PRINTED).terminal())
    for trial in results.trials[:_PRINTED]:
        print(f"{trial.record.id}  {trial.changes}")
    print()
    print("\n".join(found.words))
    print(f"Report: {path / 'report.html'}")
    print(f"At full length: keras-resnet train --config {path / 'best.json'} --output DIRECTORY")


def findings(search: Search, results: SearchResults) -> Findings:
    """Returns the findings of a search with at least one finished trial."""
    plan = search.prepared.plan
    length = f"{plan.epochs:g} epochs" if plan.epochs is not None else f"{plan.steps} steps"
    at_most = " at most" if plan.tuner == "hyperband" else ""
    axes = ", ".join(axis.name for axis in search.prepared.candidates.axes)
    best = search.prepared.full(results.finished[0].record.values)
    rejected = tuple((each.changes, each.record.reason) for each in results.rejected[:_LISTED])
    caption = f"Rejected before training: {len(rejected)} of {len(results.rejected)} candidates"
    rejected_table = Table("rejected", caption, ("Changes from the base", "Reason"), rejected)
    return Findings(
        title=f"Search of {plan.space} around {plan.base.model.name} on {plan.base.data.dataset}",
        words=tuple(sentences(search, results)),
        plots=(pareto_plot(results),),
        tables=(trials_table(results, changes=True), *([rejected_table] if rejected else [])),
        facts={
            "Space": f"{plan.space}: {axes}",
            "Tuner": f"{plan.tuner} of KerasTuner, seed {plan.base.seed}",
            "Recipe": f"{plan.base.recipe}, shortened to {length}{at_most}",
            "Limits": limits_text(search.prepared),
            "Trials": f"{len(results.trials)} in {search.seconds:.0f} s",
            "Command for the best run": "keras-resnet train --config best.json --output DIRECTORY",
        },
        listings={"Best run": best.to_json()},
    )


def sentences(search: Search, results: SearchResults) -> list[str]:
    """Returns the results in sentences, with their statistical certainty."""
    best = results.finished[0]
    words = [
        f"Trial {best.record.id} has the highest accuracy: {_accuracy(best)} of "
        f"{search.prepared.held_out} validation images ({best.changes}).",
        _against_base(results, best),
        *_against_others(results, best),
        _front(results),
    ]
    unfinished = [trial.record.status for trial in results.trials if trial not in results.finished]
    if unfinished:
        kinds = sorted(set(unfinished))
        counts = ", ".join(f"{unfinished.count(kind)} {kind}" for kind in kinds)
        words.append(f"Trials without an accuracy: {counts}.")
    if results.rejected:
        words.append(
            f"{len(results.rejected)} candidates were rejected before training: "
            f"{', '.join(results.rejections())}."
        )
    words.append(
        "The highest of several accuracies is biased upwards. Train best.json and report its test "
        "accuracy: the search did not use the test images."
    )
    return words


def _against_base(results: SearchResults, best: CandidateResult) -> str:
    base = next((trial for trial in results.finished if trial.changes == "the base"), None)
    if base is None:
        return "The base itself has no accuracy to compare with."
    if base is best:
        return "It is the base itself: the search found nothing better."
    return f"The base, trial {base.record.id}, has {_accuracy(base)}."


def _against_others(results: SearchResults, best: CandidateResult) -> list[str]:
    within = [
        trial
        for trial in results.finished
        if trial is not best and trial.record.interval[1] >= best.accuracy
    ]
    if not within:
        return []
    words = [
        f"The intervals of {len(within)} of the {len(results.finished) - 1} other finished trials "
        "include its accuracy: these validation images are too few to tell them apart."
    ]
    cheapest = min(within, key=results.cost)
    share = results.cost(cheapest) / results.cost(best)
    if share < 1:
        words.append(
            f"The cheapest of them, trial {cheapest.record.id}, needs {100 * share:.3g} % of its "
            f"{_cost_name(results)}."
        )
    return words


def _front(results: SearchResults) -> str:
    front = [trial for trial in results.finished if trial.front]
    if len(front) < 2:
        return "It is also the cheapest net of all trials, so it is the whole Pareto front."
    cheapest = min(front, key=results.cost)
    share = results.cost(cheapest) / results.cost(front[0])
    return (
        f"The Pareto front has {len(front)} nets, down to trial {cheapest.record.id} with "
        f"{percent(cheapest.record.accuracy)} at {100 * share:.3g} % of the best one's "
        f"{_cost_name(results)}."
    )


def _cost_name(results: SearchResults) -> str:
    return "latency" if results.by_latency else "multiply-adds"


def _accuracy(trial: CandidateResult) -> str:
    low, high = trial.record.interval
    return f"{percent(trial.record.accuracy)} (95 % interval {percent(low)} to {percent(high)})"


def limits_text(prepared: PreparedSearch) -> str:
    """Returns the limits of a search in words."""
    limits = prepared.plan.limits
    parts = []
    if limits.parameters is not None:
        parts.append(f"{limits.parameters:,} parameters")
    if limits.multiply_adds is not None:
        parts.append(f"{limits.multiply_adds:,} multiply-adds")
    if limits.latency_ms is not None:
        parts.append(f"{limits.latency_ms:g} ms ({limits.precision} LiteRT, 1 thread)")
    return ", ".join(parts) or "none"


def pareto_plot(results: SearchResults) -> Plot:
    """Returns accuracy against cost: the finished trials with 95 % intervals, and the front."""
    front = pareto(results.finished, results.by_latency)
    others = [trial for trial in results.finished if not trial.front]
    cost = "latency (ms per image; LiteRT, 1 thread)"
    return Plot(
        "pareto",
        "Accuracy against cost, with 95 % intervals: trials and the Pareto front",
        cost if results.by_latency else "multiply-adds per image",
        "validation accuracy (%)",
        (
            _points("Pareto front", results, front, 0),
            *([_points("other trials", results, others, 1)] if others else []),
        ),
        log_x=True,
        size=(10.6, 4.2),
    )


def _points(label: str, results: SearchResults, trials: list[CandidateResult], colour: int) -> Line:
    return Line(
        label,
        [results.cost(trial) for trial in trials],
        [100 * trial.accuracy for trial in trials],
        [100 * trial.record.interval[0] for trial in trials],
        [100 * trial.record.interval[1] for trial in trials],
        colour=colour,
        form="points" if colour else "steps",
        names=tuple(trial.record.id.lstrip("0") or "0" for trial in trials),
    )
