"""Accuracy against cost: the trials of a search and its Pareto front, as SVG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple

from ..presentation.figures import INK, LINE, MUTED, TRAIN, VAL, inline_svg
from ..presentation.markup import Html
from .results import Results, pareto

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Colours(NamedTuple):
    """What is drawn in which colour."""

    ink: str
    muted: str
    line: str
    trial: str
    front: str


# Stand-ins, which the report's style sheet turns into colours for light, dark and paper.
IN_PAGE = Colours(INK, MUTED, LINE, TRAIN, VAL)
ALONE = Colours("#1a1f26", "#59636f", "#e1e5ea", "#b4530a", "#0b62a8")


def draw(results: Results, colours: Colours) -> Figure:
    """Draws the finished trials with their 95 % intervals, and the front as a line."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure = Figure(figsize=(10.6, 4.2), layout="constrained")
        axes = figure.add_subplot()
    axes.patch.set_visible(False)
    figure.patch.set_visible(colours is ALONE)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colours.muted)
    axes.tick_params(which="both", color=colours.muted, labelcolor=colours.muted, labelsize=9.5)
    axes.grid(color=colours.line, linewidth=0.8)
    axes.set_axisbelow(True)
    for row in results.finished:
        low, high = row.record.interval
        colour = colours.front if row.front else colours.trial
        x, y = results.cost(row), 100 * (row.record.accuracy or 0)
        axes.plot([x, x], [100 * low, 100 * high], color=colour, linewidth=1.0, alpha=0.45)
        axes.plot(x, y, "o" if row.front else "x", color=colour, markersize=6)
        axes.annotate(
            row.record.id.lstrip("0") or "0",
            (x, y),
            xytext=(5, 4),
            textcoords="offset points",
            color=colours.muted,
            fontsize=8.5,
        )
    front = pareto(results.finished, results.by_latency)
    points = [(results.cost(row), 100 * (row.record.accuracy or 0)) for row in front]
    axes.step(*zip(*points, strict=True), where="post", color=colours.front, linewidth=1.6)
    if results.by_latency:
        axes.set_xlabel("latency, ms an image (LiteRT, 1 thread)", color=colours.ink)
    else:
        axes.set_xlabel("multiply-adds an image (logarithmic)", color=colours.ink)
    axes.set_xscale("log")
    _label(axes)
    axes.set_ylabel("validation accuracy (%)", color=colours.ink)
    return figure


def _label(axes: object) -> None:
    """Labels a logarithmic axis in plain numbers, also where it spans less than a decade."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    axis = axes.xaxis  # type: ignore[attr-defined]
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(EngFormatter(sep="\N{NO-BREAK SPACE}"))
    axis.set_minor_formatter(NullFormatter())


def svg_file(results: Results) -> str:
    """Returns the plot as an SVG file's content."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "keras_resnet tune"}):
        draw(results, ALONE).savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def svg_inline(results: Results) -> Html:
    """Returns the plot as an element of a page."""
    import matplotlib

    front = ", ".join(
        f"trial {row.record.id} {100 * (row.record.accuracy or 0):.2f} %"
        for row in pareto(results.finished, results.by_latency)
    )
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "keras_resnet tune"}):
        return inline_svg(
            draw(results, IN_PAGE), "pareto", f"Accuracy against cost; on the front: {front}"
        )
