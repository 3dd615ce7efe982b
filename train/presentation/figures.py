"""Pictures of a report: training curves as inline SVG, images as data addresses.

No text of the user's gets into a figure, so neither mathematics marks nor missing glyphs matter.
"""

import base64
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .data import best_row, column, epochs
from .markup import Html, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Matplotlib draws in these stand-ins, and the page's style sheet says what each looks like in
# light, in dark and on paper.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--line)",
    "#040404": "var(--train)",
    "#050505": "var(--val)",
}
INK, MUTED, LINE, TRAIN, VAL = _COLOURS
_MARKED_POINTS = 25  # up to so many epochs, each gets a marker
_LOG_RATIO = 100.0  # a loss that falls by more than this is drawn on a logarithmic axis


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a panel: history column, legend text, colour and line style."""

    key: str
    label: str
    colour: str
    style: str


@dataclasses.dataclass(frozen=True)
class Panel:
    """One figure: name, axis label, its lines, and width and height in inches."""

    name: str
    ylabel: str
    series: tuple[Series, ...]
    size: tuple[float, float] = (5.2, 3.2)


PANELS = (
    Panel(
        "accuracy",
        "accuracy (%)",
        (
            Series("accuracy", "train", TRAIN, "--"),
            Series("val_accuracy", "validation", VAL, "-"),
            Series("test_accuracy", "test", VAL, "-"),
        ),
    ),
    Panel(
        "loss",
        "loss",
        (
            Series("loss", "train", TRAIN, "--"),
            Series("val_loss", "validation", VAL, "-"),
            Series("test_loss", "test", VAL, "-"),
        ),
    ),
    Panel(
        "learning rate",
        "learning rate",
        (Series("learning_rate", "learning rate", MUTED, "-"),),
        (10.6, 1.5),
    ),
)


def curve(history: Sequence[Mapping[str, float]], panel: Panel, description: str) -> Html | None:
    """One panel of training curves against the epoch.

    Args:
        history: rows of `ReportData.history`.
        panel: what to draw.
        description: alternative text.

    Returns:
        An `<svg>` element, or None where the history holds no finite value to draw.
    """
    drawn = []
    for series in panel.series:
        values = column(history, series.key)
        finite = np.isfinite(values)
        if finite.any():
            # Validation may run every few epochs: gaps are bridged, not drawn as holes.
            drawn.append((series, epochs(history)[finite], values[finite]))
    if not drawn:
        return None
    import matplotlib
    from matplotlib.figure import Figure

    name = panel.name.replace(" ", "-")
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"keras_resnet {name}"}):
        figure = Figure(figsize=panel.size, layout="constrained")
        axes = figure.add_subplot()
        _style(axes, panel)
        for series, x, y in drawn:
            _draw(axes, panel, series, x, y)
        best = best_row(history)
        if panel.name == "accuracy" and best is not None:
            place = epochs(history)[best], 100 * column(history, "val_accuracy")[best]
            axes.plot(*place, "o", markersize=8, mfc="none", mec=VAL, mew=1.5)
        _scale(axes, panel, np.concatenate([y for _, _, y in drawn]))
        if len(panel.series) > 1:
            axes.legend(frameon=False, labelcolor=INK, fontsize=10)
        return inline_svg(figure, f"curve-{name}", description)


def _style(axes: "Axes", panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(MUTED)
    axes.tick_params(which="both", color=MUTED, labelcolor=MUTED, labelsize=9.5)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("epoch", color=INK)
    axes.set_ylabel(panel.ylabel, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1))


def _draw(axes: "Axes", panel: Panel, series: Series, x: np.ndarray, y: np.ndarray) -> None:
    if panel.name == "accuracy":
        y = 100 * y
    marker = "o" if len(x) <= _MARKED_POINTS else ""
    (line,) = axes.plot(x, y, series.style, color=series.colour, label=series.label)
    line.set(linewidth=1.8, marker=marker, markersize=3.2)
    if panel.name == "learning rate":
        axes.fill_between(x, y, color=LINE, linewidth=0)


def _scale(axes: "Axes", panel: Panel, values: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

    if panel.name == "loss" and values.min() > 0 and values.max() / values.min() > _LOG_RATIO:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("loss (log scale)", color=INK)
    elif panel.name == "learning rate":
        axes.set_ylim(bottom=0 if values.min() >= 0 else None)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3))


def inline_svg(figure: "Figure", prefix: str, description: str) -> Html:
    """The figure as an `<svg>` element fit to stand in a page next to others.

    Args:
        figure: drawn in `INK`, `MUTED` and `LINE` where the page's style sheet shall choose.
        prefix: of the identifiers inside; unique in the page.
        description: alternative text.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].rstrip()
    # The style inside would rule the whole page; the page's own sheet says the same for figures.
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    # Identifiers must be unique in the page; within HTML no namespace needs a declaration.
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-")
    svg = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1var(--sans)", svg)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    view = re.search(r'viewBox="[^"]*"', svg)
    if view is None:
        raise RuntimeError("matplotlib wrote an SVG without a viewBox")
    label = escape(description)
    opening = f'<svg role="img" aria-label="{label}" {view[0]}>'
    return Html(re.sub(r"^<svg[^>]*>", lambda _: opening, svg))


def png_address(image: np.ndarray, longest: int) -> str:
    """The image as a `data:image/png;base64,` address.

    Args:
        image: uint8 of shape (height, width, channels) with 1 or 3 channels.
        longest: a longer side than this (pixels) is scaled down to it; never up.
    """
    from PIL import Image

    picture = Image.fromarray(
        np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
    )
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
