"""A search's `report.html`: what was found, in words, a table, a plot and the best run."""

from __future__ import annotations

from ..files import write_text
from ..presentation.blocks import data_table, folded, note, section
from ..presentation.markup import Html, element, join, percent
from ..presentation.page import html_page
from .plan import Prepared
from .plot import svg_file, svg_inline
from .results import Results, Row, cells, headings, rejections
from .search import Searched

_LINKS = (
    ("summary", "Summary"),
    ("front", "Accuracy and cost"),
    ("trials", "Trials"),
    ("rejected", "Rejected"),
    ("best", "Best run"),
)
_LISTED = 200  # rejected candidates that the page lists; the tables have all


def write_pages(searched: Searched, results: Results) -> None:
    """Writes `pareto.svg` and `report.html`."""
    path = searched.directory.path
    write_text(path / "pareto.svg", svg_file(results))
    write_text(path / "report.html", render(searched, results))


def render(searched: Searched, results: Results) -> str:
    """Returns the page."""
    plan = searched.prepared.plan
    title = f"Search of {plan.space} about {plan.base.model.name} on {plan.base.data.dataset}"
    paragraphs = [element("p", sentence) for sentence in findings(searched, results)]
    links = [element("a", text, href=f"#{name}") for name, text in _LINKS]
    parts = (
        section("summary", "Summary", *paragraphs, _facts(searched, results)),
        section(
            "front",
            "Accuracy and cost",
            element("figure", svg_inline(results), class_="wide"),
            note(
                "Dots and the line are the front: no trial is cheaper and as accurate. Bars are "
                "95 % intervals of the accuracy; numbers are trials."
            ),
        ),
        section("trials", "Trials", data_table("", headings(results), _cells(results))),
        _rejected(results),
        _best(searched, results),
    )
    return html_page(title, element("h1", title), links, parts)


def findings(searched: Searched, results: Results) -> list[str]:
    """Says in sentences what was found, and how sure it is."""
    best = results.finished[0]
    held = searched.prepared.held_out
    said = [
        f"Trial {best.record.id} did best: {_right(best)} of {held} validation images "
        f"right ({best.what}).",
        _against_base(results, best),
        _against_others(results, best),
        _front(results),
    ]
    lost = [row.record.status for row in results.trials if row.record.status != "finished"]
    if lost:
        kinds = ", ".join(f"{lost.count(kind)} {kind}" for kind in sorted(set(lost)))
        said.append(f"Without an accuracy: {kinds}.")
    if results.rejected:
        said.append(
            f"{len(results.rejected)} candidates were rejected before training: "
            f"{', '.join(rejections(results))}."
        )
    said.append(
        "The best of several figures is flattered by the choice. Train best.json and take its "
        "test accuracy: the test images had no part in the choice."
    )
    return [sentence for sentence in said if sentence]


def _against_base(results: Results, best: Row) -> str:
    base = next((row for row in results.finished if row.what == "the base"), None)
    if base is None:
        return "The base itself has no accuracy to compare with."
    if base is best:
        return "That is the base itself: the search found nothing better."
    return f"The base, trial {base.record.id}, has {_right(base)}."


def _against_others(results: Results, best: Row) -> str:
    reach = [
        row
        for row in results.finished
        if row is not best and row.record.interval[1] >= (best.record.accuracy or 0)
    ]
    if not reach:
        return ""
    said = (
        f"The intervals of {len(reach)} of the {len(results.finished) - 1} other finished trials "
        "reach its accuracy: so many validation images do not tell these apart."
    )
    cheapest = min(reach, key=results.cost)
    share = results.cost(cheapest) / results.cost(best)
    if share < 1:
        said += (
            f" The cheapest of them, trial {cheapest.record.id}, takes {100 * share:.3g} % of its "
            f"{_measure(results)}."
        )
    return said


def _front(results: Results) -> str:
    front = [row for row in results.finished if row.front]
    if len(front) < 2:
        return "It is the cheapest net of all trials too, and so the whole Pareto front."
    cheapest = min(front, key=results.cost)
    share = results.cost(cheapest) / results.cost(front[0])
    return (
        f"The Pareto front has {len(front)} nets, from trial {cheapest.record.id} with "
        f"{percent(cheapest.record.accuracy)} at {100 * share:.3g} % of the best one's "
        f"{_measure(results)}."
    )


def _measure(results: Results) -> str:
    return "latency" if results.by_latency else "multiply-adds"


def _right(row: Row) -> str:
    low, high = row.record.interval
    return f"{percent(row.record.accuracy)} (95 % interval {percent(low)} to {percent(high)})"


def _facts(searched: Searched, results: Results) -> Html:
    plan = searched.prepared.plan
    length = f"{plan.epochs:g} epochs" if plan.epochs is not None else f"{plan.steps} steps"
    axes = ", ".join(axis.name for axis in searched.prepared.candidates.axes)
    pairs = {
        "Space": f"{plan.space}: {axes}",
        "Tuner": f"{plan.tuner} of KerasTuner, seed {plan.base.seed}",
        "Recipe": f"{plan.base.recipe}, squeezed to {length}"
        + (" at most" if plan.tuner == "hyperband" else ""),
        "Limits": limits_text(searched.prepared),
        "Trials": f"{len(results.trials)} in {searched.seconds:.0f} s",
        "Again": "keras-resnet train --config best.json --output DIRECTORY",
    }
    return element(
        "dl",
        join((element("dt", key) + element("dd", value) for key, value in pairs.items()), "\n"),
    )


def limits_text(prepared: Prepared) -> str:
    """Returns the plan's limits in words."""
    limits = prepared.plan.limits
    parts = []
    if limits.parameters is not None:
        parts.append(f"{limits.parameters:,} parameters")
    if limits.multiply_adds is not None:
        parts.append(f"{limits.multiply_adds:,} multiply-adds")
    if limits.latency_ms is not None:
        parts.append(f"{limits.latency_ms:g} ms ({limits.precision} LiteRT, 1 thread)")
    return ", ".join(parts) or "none"


def _cells(results: Results) -> list[list[object]]:
    return [list(cells(results, row)) for row in results.trials]


def _rejected(results: Results) -> Html:
    if not results.rejected:
        return section("rejected", "Rejected", element("p", "No candidate was rejected."))
    columns = [("What differs from the base", False), ("Reason", False)]
    rows = [[row.what, row.record.reason] for row in results.rejected[:_LISTED]]
    return section(
        "rejected",
        "Rejected",
        element("p", f"Not trained: {', '.join(rejections(results))}."),
        folded(f"{len(rows)} of {len(results.rejected)} candidates", data_table("", columns, rows)),
    )


def _best(searched: Searched, results: Results) -> Html:
    config = searched.prepared.full(results.finished[0].record.values)
    return section(
        "best",
        "Best run",
        element("p", "At the recipe's full length, as best.json has it:"),
        element("pre", element("code", config.to_json())),
    )
