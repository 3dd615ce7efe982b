"""The figures of a study: lines with their spread, on linear or logarithmic axes."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import INK, LINE, MUTED, inline_svg
from .markup import Html

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers, on white and on black.
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#b58900")
_MARKED_POINTS = 25
_BARS_UP_TO = 16  # points of a spread that are drawn as bars rather than as a band


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        label: In the legend.
        x: Places; NaN is not drawn.
        y: Values.
        low: Lower end of the spread at each place, or None.
        high: Upper end.
        dashed: Whether the line is broken (training, in the paper's figures).
        colour: Index of the colour, to pair lines; by position where None.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False
    colour: int | None = None


@dataclasses.dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        name: Name of its files, without the ending.
        title: What it shows.
        xlabel: With the unit.
        ylabel: With the unit.
        lines: What is drawn.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical axis is.
        categories: Names of the places 0, 1, 2 ... where they are no numbers.
        ticks: Places that the horizontal axis names, where it is to name these alone.
    """

    name: str
    title: str
    xlabel: str
    ylabel: str
    lines: tuple[Line, ...]
    log_x: bool = False
    log_y: bool = False
    categories: tuple[str, ...] = ()
    ticks: tuple[float, ...] = ()

    def columns(self) -> tuple[str, ...]:
        """Returns the headings of the figure's CSV."""
        return ("line", self.xlabel, self.ylabel, "low", "high")

    def rows(self) -> list[tuple[object, ...]]:
        """Returns every point drawn, a row each."""
        found: list[tuple[object, ...]] = []
        for line in self.lines:
            nothing = [float("nan")] * len(line.y)
            points = zip(line.x, line.y, line.low or nothing, line.high or nothing, strict=True)
            for x, y, low, high in points:
                place = self.categories[int(x)] if self.categories else x
                found.append((line.label, place, y, low, high))
        return found


def figure_svg(plot: Plot) -> str:
    """Returns the figure as an SVG file of its own, on white."""
    import matplotlib

    with matplotlib.rc_context(_settings(plot)):
        figure = _figure(plot, ink="#1a1f26", muted="#59636f", grid="#e1e5ea")
        figure.patch.set_facecolor("white")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "keras_resnet"})
    # Trailing blanks would show in every reader's editor.
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def inline_figure(plot: Plot) -> Html:
    """Returns the figure as an element of a page, in the colours of its style sheet."""
    import matplotlib

    with matplotlib.rc_context(_settings(plot)):
        figure = _figure(plot, ink=INK, muted=MUTED, grid=LINE)
        figure.patch.set_visible(False)
        return inline_svg(figure, f"plot-{plot.name}", _description(plot))


def _settings(plot: Plot) -> dict[str, Any]:
    return {"svg.fonttype": "none", "svg.hashsalt": f"keras_resnet {plot.name}"}


def _figure(plot: Plot, *, ink: str, muted: str, grid: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(muted)
    axes.grid(color=grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for index, line in enumerate(plot.lines):
        _draw(axes, line, _PALETTE[(index if line.colour is None else line.colour) % 8])
    axes.set_xscale("log" if plot.log_x else "linear")
    axes.set_yscale("log" if plot.log_y else "linear")
    axes.set_xlabel(plot.xlabel, color=ink)
    axes.set_ylabel(plot.ylabel, color=ink)
    if plot.categories:
        slanted = sum(map(len, plot.categories)) > 70
        axes.set_xticks(
            range(len(plot.categories)),
            plot.categories,
            rotation=30 if slanted else 0,
            ha="right" if slanted else "center",
            parse_math=False,
        )
        axes.margins(x=0.08)
    if plot.ticks:
        axes.set_xticks(plot.ticks, [f"{place:g}" for place in plot.ticks])
        axes.set_xticks([], minor=True)
    axes.tick_params(which="both", color=muted, labelcolor=muted, labelsize=9.5)
    if len(plot.lines) > 1:
        legend = axes.legend(frameon=False, labelcolor=ink, fontsize=9.5)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _draw(axes: Any, line: Line, colour: str) -> None:
    x, y = np.asarray(line.x, "float64"), np.asarray(line.y, "float64")
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    marker = "o" if len(x) <= _MARKED_POINTS else ""
    style = "--" if line.dashed else "-"
    axes.plot(
        x, y, style, color=colour, label=line.label, linewidth=1.6, marker=marker, markersize=3.6
    )
    if line.low is None or line.high is None:
        return
    low, high = np.asarray(line.low, "float64")[kept], np.asarray(line.high, "float64")[kept]
    if len(x) <= _BARS_UP_TO:
        # Rounding may put a mean a hair beyond the ends of its spread.
        ends = np.clip([y - low, high - y], 0, None)
        axes.errorbar(x, y, ends, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3)
    else:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _description(plot: Plot) -> str:
    names = ", ".join(line.label for line in plot.lines)
    return f"{plot.title}: {plot.ylabel} against {plot.xlabel or 'the nets'}, of {names}"
