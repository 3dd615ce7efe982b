"""Figures drawn once by Matplotlib, as SVG files and as elements of a page in light and dark."""

from __future__ import annotations

import io
import re
import textwrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_resnet.texts import escaped

from .markup import ILLEGAL, Html, escape
from .plots import Line, Plot
from .style import COLOURS, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib draws in these stand-ins. A file gets the light theme's colours in their place, a page
# the variables of its style sheet.
STAND_INS = {name: f"#{index:02x}{index:02x}{index:02x}" for index, name in enumerate(COLOURS, 1)}
INK, MUTED, GRID = (STAND_INS[name] for name in ("ink", "muted", "line"))
SERIES_COLOURS = tuple(STAND_INS[name] for name in SERIES)

_MARKED_POINTS = 25  # lines of up to so many points get a marker at each
_BARS_UP_TO = 16  # a spread of up to so many points is drawn as bars, otherwise as a band
_LEGEND_INSIDE = 5  # longer legends stand beside the axes


def figure_svg(plot: Plot) -> str:
    """Returns the figure as an SVG file on white."""
    return svg_file(_draw(plot), plot.name)


def inline_figure(plot: Plot, description: str = "") -> Html:
    """Returns the figure as an element of a page, in the colours of its style sheet.

    Args:
        plot: The figure.
        description: Alternative text; title, axes and lines where empty.
    """
    labels = ", ".join(line.label for line in plot.lines if line.label)
    default = f"{plot.title}: {plot.ylabel} against {plot.xlabel or 'the nets'}, of {labels}"
    return _inline_svg(_draw(plot), plot.name, description or default)


def style_axes(axes: Axes) -> None:
    """Gives axes the style of all figures: two spines, a grid behind, muted tick labels."""
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", color=MUTED, labelcolor=MUTED, labelsize=9.5)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set_color(INK)


def svg_file(figure: Figure, name: str) -> str:
    """Returns a figure drawn in `STAND_INS` as an SVG file on white."""
    figure.patch.set(visible=True, facecolor="white")
    svg = _save(figure, name)
    for colour, stand_in in STAND_INS.items():
        svg = svg.replace(stand_in, COLOURS[colour][0])
    # Matplotlib leaves blanks at the end of lines.
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def _inline_svg(figure: Figure, name: str, description: str) -> Html:
    svg = _save(figure, name)
    svg = svg[svg.index("<svg") :].rstrip()
    # The style inside would rule the whole page; the page's own sheet says the same for figures.
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    # Identifiers must be unique in the page; within HTML no namespace needs a declaration.
    svg = re.sub(r'\bid="', f'id="plot-{name}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#plot-{name}-', svg)
    svg = svg.replace("url(#", f"url(#plot-{name}-")
    svg = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1var(--sans)", svg)
    for colour, stand_in in STAND_INS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    view = re.search(r'viewBox="[^"]*"', svg)
    if view is None:
        raise RuntimeError("matplotlib wrote an SVG without a viewBox")
    opening = f'<svg role="img" aria-label="{escape(description)}" {view[0]}>'
    return Html(re.sub(r"^<svg[^>]*>", lambda _: opening, svg))


def _save(figure: Figure, name: str) -> str:
    """Returns the figure as SVG; equal figures give equal text."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"keras_resnet {name}"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": "keras_resnet"})
    return text.getvalue().translate(ILLEGAL)  # of names; XML cannot hold them


def _draw(plot: Plot) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=plot.size, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=plot.xlabel, ylabel=plot.ylabel)
    style_axes(axes)
    for index, line in enumerate(plot.lines):
        chosen = index if line.colour is None else line.colour
        _draw_line(axes, line, SERIES_COLOURS[chosen % len(SERIES_COLOURS)])
    _scale_x(axes, plot)
    if plot.log_y:
        _log_axis(axes, "y")
    elif plot.from_zero:
        axes.set_ylim(bottom=0)
    labelled = [line for line in plot.lines if line.label]
    if len(labelled) > _LEGEND_INSIDE:
        _plain_texts(figure.legend(**_LEGEND, loc="outside right upper"))
    elif len(labelled) > 1:
        _plain_texts(axes.legend(**_LEGEND))
    return figure


_LEGEND: dict[str, Any] = {"frameon": False, "labelcolor": INK, "fontsize": 9.5}


def _plain_texts(legend: Any) -> None:
    """Keeps `$` in labels from being read as mathematics."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_line(axes: Axes, line: Line, colour: str) -> None:
    x, y = np.asarray(line.x, "float64"), np.asarray(line.y, "float64")
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    style: dict[str, Any] = {"color": colour, "label": escaped(line.label) or "_", "linewidth": 1.6}
    if line.form == "ring":
        axes.plot(x, y, "o", markersize=8, markerfacecolor="none", **style)
        return
    if line.form != "line" or len(x) <= _MARKED_POINTS:
        style |= {"marker": "o", "markersize": 3.6 if line.form == "line" else 5}
    style["linestyle"] = "none" if line.form == "points" else "--" if line.dashed else "-"
    axes.plot(x, y, drawstyle="steps-post" if line.form == "steps" else "default", **style)
    names = np.asarray(line.names or [""] * len(kept))[kept]
    for position, value, name in zip(x, y, names, strict=True):
        axes.annotate(
            escaped(name),
            (position, value),
            xytext=(5, 4),
            textcoords="offset points",
            color=MUTED,
            fontsize=8.5,
            parse_math=False,
        )
    if line.low is None or line.high is None:
        return
    low, high = np.asarray(line.low, "float64")[kept], np.asarray(line.high, "float64")[kept]
    if line.form != "line" or len(x) <= _BARS_UP_TO:
        # Rounding may put a mean slightly beyond the ends of its spread.
        ends = np.clip([y - low, high - y], 0, None)
        axes.errorbar(x, y, ends, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3, alpha=0.7)
    else:
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _scale_x(axes: Axes, plot: Plot) -> None:
    from matplotlib.ticker import MaxNLocator

    if plot.categories:
        slanted = len(plot.categories) > 6 and sum(map(len, plot.categories)) > 70
        names = [escaped(name) for name in plot.categories]
        names = names if slanted else [textwrap.fill(name, 18) for name in names]
        axes.set_xticks(
            range(len(names)),
            names,
            rotation=30 if slanted else 0,
            ha="right" if slanted else "center",
            parse_math=False,
        )
        axes.margins(x=0.08)
        return
    if plot.log_x:
        _log_axis(axes, "x")
    elif all(float(x).is_integer() for line in plot.lines for x in line.x):
        axes.xaxis.set_major_locator(
            MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        )
    if plot.ticks:
        axes.set_xticks(plot.ticks, [f"{position:g}" for position in plot.ticks])
        axes.set_xticks([], minor=True)


def _log_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    """Makes an axis logarithmic; one of less than two decades is labelled at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    if low > 0 and high / low < 100:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 10 * factor or (unit != "k" and value >= factor):
            return f"{value / factor:g}\N{NO-BREAK SPACE}{unit}"
    return f"{value:g}"
