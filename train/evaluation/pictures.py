"""Pictures of an evaluation: the reliability diagram, and a grid of mistakes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .calibration import Calibration
from .tally import Mistake

_CELL = 168  # pixels of a picture's side in the grid
_MARGIN, _LINE, _TEXT = 8, 16, 12
_COLUMNS = 6
_WRONG, _RIGHT, _INK = "#b3261e", "#1a6b3c", "#202020"


def reliability_svg(calibration: Calibration) -> bytes:
    """Draws accuracy over confidence, and how many predictions each bin holds.

    Source: Guo et al. 2017 (arXiv:1706.04599), figure 1.
    """
    import matplotlib
    from matplotlib.figure import Figure

    bins = len(calibration.counts)
    width = 1 / bins
    centres = (np.arange(bins) + 0.5) * width
    full = calibration.counts > 0
    counts = np.maximum(calibration.counts, 1)
    confidence, accuracy = calibration.confidence / counts, calibration.right / counts
    settings = {"svg.fonttype": "none", "svg.hashsalt": "keras_resnet reliability"}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(4.8, 5.6), layout="constrained")
        upper, lower = figure.subplots(2, height_ratios=(3, 1), sharex=True)
        upper.bar(
            centres[full],
            accuracy[full],
            width,
            color="#4477aa",
            edgecolor="white",
            label="accuracy",
        )
        upper.plot([0, 1], [0, 1], "--", color="#666666", label="as right as sure")
        upper.plot(
            confidence[full],
            accuracy[full],
            "o",
            color="#222222",
            markersize=3.5,
            label="mean confidence",
        )
        upper.set(ylim=(0, 1), ylabel="accuracy")
        upper.set_title(f"expected calibration error {calibration.error:.4f}", fontsize=11)
        upper.legend(frameon=False, fontsize=9, loc="upper left")
        share = calibration.counts / max(calibration.counts.sum(), 1)
        lower.bar(centres, share, width, color="#999999", edgecolor="white")
        lower.set(xlim=(0, 1), xlabel="confidence", ylabel="share")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def mistakes_png(mistakes: Sequence[Mistake], names: Sequence[str]) -> bytes:
    """Draws mistakes in a grid, each above the predicted class, its probability and the true class.

    Args:
        mistakes: At least one; drawn row by row.
        names: Of the classes.
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
    """Returns an image whose longer side fills the cell; small ones keep their pixels' edges."""
    from PIL import Image

    picture = Image.fromarray(
        np.ascontiguousarray(image[..., 0] if image.shape[-1] == 1 else image)
    )
    scale = _CELL / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return picture.convert("RGB").resize((width, height), method)


def _font() -> Any:
    """Returns the font that Matplotlib brings along: Pillow's own knows Latin letters alone."""
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), _TEXT)


def _shortened(name: str, font: Any, room: float) -> str:
    """Returns as much of a name as fits in so many pixels, on one line."""
    name = " ".join(name.split())
    if font.getlength(name) <= room:
        return name
    while name and font.getlength(f"{name}…") > room:
        name = name[:-1]
    return f"{name}…"
