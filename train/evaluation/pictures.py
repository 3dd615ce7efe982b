"""Figures of an evaluation: the reliability diagram and a grid of misclassified images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..presentation.drawing import INK, MUTED, SERIES_COLOURS, style_axes, svg_file
from .calibration import Calibration
from .tally import Mistake

_CELL = 168  # pixels of a picture's side in the grid
_MARGIN, _LINE, _TEXT = 8, 16, 12
_COLUMNS = 6
_WRONG, _RIGHT, _INK = "#b3261e", "#1a6b3c", "#202020"


def reliability_svg(calibration: Calibration) -> str:
    """Draws accuracy against confidence, and the share of predictions in each bin.

    Source: Guo et al. 2017 (arXiv:1706.04599), figure 1.
    """
    from matplotlib.figure import Figure

    bins = len(calibration.counts)
    width = 1 / bins
    centres = (np.arange(bins) + 0.5) * width
    full = calibration.counts > 0
    counts = np.maximum(calibration.counts, 1)
    confidence, accuracy = calibration.confidence / counts, calibration.right / counts
    share = calibration.counts / max(calibration.counts.sum(), 1)
    figure = Figure(figsize=(4.8, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, height_ratios=(3, 1), sharex=True)
    blue, orange = SERIES_COLOURS[:2]
    bars = {"width": 0.9 * width, "alpha": 0.75}
    upper.bar(centres[full], accuracy[full], color=blue, label="accuracy", **bars)
    upper.plot([0, 1], [0, 1], "--", color=MUTED, label="perfect calibration")
    upper.plot(
        confidence[full], accuracy[full], "o", color=orange, markersize=4, label="mean confidence"
    )
    upper.set(ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"expected calibration error {calibration.error:.4f}", fontsize=11)
    upper.legend(frameon=False, labelcolor=INK, fontsize=9, loc="upper left")
    lower.bar(centres, share, color=MUTED, **bars)
    lower.set(xlim=(0, 1), xlabel="confidence", ylabel="share of images")
    style_axes(upper)
    style_axes(lower)
    return svg_file(figure, "reliability")


def mistakes_png(mistakes: Sequence[Mistake], names: Sequence[str]) -> bytes:
    """Draws misclassified images in a grid, with predicted class, its probability and true class.

    Args:
        mistakes: At least one; drawn row by row.
        names: Names of the classes.
    """
    from PIL import Image, ImageDraw

    columns = min(_COLUMNS, len(mistakes))
    rows = -(-len(mistakes) // columns)
    wide, high = _CELL + 2 * _MARGIN, _CELL + 2 * _LINE + 3 * _MARGIN
    sheet = Image.new("RGB", (columns * wide, rows * high), "white")
    pen, font = ImageDraw.Draw(sheet), _font()
    for place, case in enumerate(mistakes):
        left, top = place % columns * wide + _MARGIN, place // columns * high + _MARGIN
        picture = _picture(case.image)
        across, down = (_CELL - picture.width) // 2, (_CELL - picture.height) // 2
        sheet.paste(picture, (left + across, top + down))
        share = f" {case.probability:.1%}"
        room = _CELL - font.getlength(share)
        y = top + _CELL + _MARGIN
        predicted = _shortened(names[case.predicted], font, room)
        pen.text((left, y), predicted, _WRONG, font)
        pen.text((left + font.getlength(predicted), y), share, _INK, font)
        word = "true "
        pen.text((left, y + _LINE), word, _INK, font)
        start = font.getlength(word)
        true = _shortened(names[case.true], font, _CELL - start)
        pen.text((left + start, y + _LINE), true, _RIGHT, font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _picture(image: np.ndarray) -> Any:
    """Returns an image whose longer side fills the cell; small ones are enlarged by pixels."""
    from PIL import Image

    picture = Image.fromarray(
        np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
    )
    scale = _CELL / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize((width, height), method)


def _font() -> Any:
    """Returns a font of Matplotlib's: Pillow's own has Latin letters only."""
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), _TEXT)


def _shortened(name: str, font: Any, room: float) -> str:
    """Returns as much of a name as fits into the given number of pixels, on one line."""
    name = " ".join(name.split())
    if font.getlength(name) <= room:
        return name
    while name and font.getlength(f"{name}…") > room:
        name = name[:-1]
    return f"{name}…"
