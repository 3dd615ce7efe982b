"""Figures as data: lines with their spread."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from .tables import csv_text

Form = Literal["line", "points", "steps", "ring"]


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        label: Text in the legend; a line without one does not appear there.
        x: Positions; points that are NaN in `x` or `y` are not drawn.
        y: Values.
        low: Lower end of the spread at each position, or None.
        high: Upper end, or None.
        dashed: Whether the line is dashed.
        colour: Index of the colour, to pair lines; by position where None.
        form: `line`; `points`, not connected; `steps`, which holds each value up to the next
            position; or `ring`, a hollow marker.
        names: Short text beside each point, or none.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False
    colour: int | None = None
    form: Form = "line"
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        name: Name of its files, without the ending.
        title: Title.
        xlabel: Label of the horizontal axis, with the unit.
        ylabel: Label of the vertical axis, with the unit.
        lines: The lines.
        log_x: Whether the horizontal axis is logarithmic.
        log_y: Whether the vertical axis is logarithmic.
        categories: Names of the positions 0, 1, 2 ... where these are not numbers.
        ticks: The only positions that the horizontal axis labels; chosen by Matplotlib if empty.
        size: Width and height, inches.
        from_zero: Whether the vertical axis begins at 0.
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
    size: tuple[float, float] = (7.6, 4.2)
    from_zero: bool = False

    def csv(self) -> str:
        """Returns every point as CSV, one row each."""
        rows: list[tuple[object, ...]] = []
        for line in self.lines:
            missing = [float("nan")] * len(line.y)
            points = zip(line.x, line.y, line.low or missing, line.high or missing, strict=True)
            for x, y, low, high in points:
                position = self.categories[int(x)] if self.categories else x
                rows.append((line.label, position, y, low, high))
        return csv_text(("line", self.xlabel, self.ylabel, "low", "high"), rows)
