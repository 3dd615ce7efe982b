"""Means over seeds with their spread, and when two means are called different."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from ..presentation import Line


@dataclasses.dataclass(frozen=True)
class Spread:
    """The values of one quantity over several seeds.

    Attributes:
        values: One finite number per seed.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Returns the spread of the finite values."""
        return cls(tuple(float(value) for value in values if math.isfinite(value)))

    @property
    def mean(self) -> float:
        """The arithmetic mean; NaN without values."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def geometric_mean(self) -> float:
        """The geometric mean; the arithmetic one where a value is not positive."""
        if not self.values or min(self.values) <= 0:
            return self.mean
        return float(np.exp(np.mean(np.log(self.values))))

    @property
    def deviation(self) -> float:
        """The sample standard deviation, over n - 1; NaN with fewer than two seeds."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan

    @property
    def low(self) -> float:
        """The smallest value, or NaN."""
        return min(self.values, default=math.nan)

    @property
    def high(self) -> float:
        """The largest value, or NaN."""
        return max(self.values, default=math.nan)

    def text(self, digits: int = 3, *, percent: bool = False) -> str:
        """Returns the mean, with the deviation if there is one: `1.234 ± 0.005`."""
        if not self.values:
            return "–"
        factor = 100.0 if percent else 1.0
        unit = " %" if percent else ""
        deviation = f" ± {factor * self.deviation:.{digits}f}" if len(self.values) > 1 else ""
        return f"{factor * self.mean:.{digits}f}{deviation}{unit}"


def spread_line(
    label: str,
    x: Sequence[float],
    spreads: Sequence[Spread],
    *,
    factor: float = 1.0,
    mean: Literal["mean", "geometric_mean"] = "mean",
    dashed: bool = False,
    colour: int | None = None,
) -> Line:
    """Returns a line through means, with the range over seeds where there are several.

    Args:
        label: Label of the line.
        x: Positions.
        spreads: One for each position.
        factor: Factor of the values; 100 for percent.
        mean: Which mean.
        dashed: Whether the line is dashed.
        colour: Index of its colour; by position where None.
    """
    several = any(len(spread.values) > 1 for spread in spreads)
    return Line(
        label,
        x,
        [factor * getattr(spread, mean) for spread in spreads],
        [factor * spread.low for spread in spreads] if several else None,
        [factor * spread.high for spread in spreads] if several else None,
        dashed,
        colour,
    )


def beyond_spread(one: Spread, other: Spread) -> bool | None:
    """Whether two means differ by more than the spread over seeds.

    They do if every value of one is above every value of the other, and the means are more than
    two pooled standard deviations apart. None if one of them has fewer than two seeds, so that
    the spread is unknown.
    """
    if len(one.values) < 2 or len(other.values) < 2:
        return None
    apart = one.low > other.high or other.low > one.high
    degrees = len(one.values) + len(other.values) - 2
    pooled = math.sqrt(sum((len(s.values) - 1) * s.deviation**2 for s in (one, other)) / degrees)
    return apart and abs(one.mean - other.mean) > 2 * pooled


def compared(one: Spread, other: Spread, *, percent: bool = False) -> str:
    """Returns a clause on how `other` differs from `one`: `0.12 higher, beyond the spread ...`.

    Args:
        one: The reference.
        other: The spread compared with it.
        percent: Whether the values are shares; the difference is then in percentage points.
    """
    difference = other.mean - one.mean
    size = f"{100 * abs(difference):.2f} points" if percent else f"{abs(difference):.3g}"
    direction = "higher" if difference > 0 else "lower"
    seeds = min(len(one.values), len(other.values))
    certainty = {
        None: "with one seed each, so the spread is unknown",
        True: f"beyond the spread of {seeds} seeds",
        False: f"within the spread of {seeds} seeds",
    }[beyond_spread(one, other)]
    return f"{size} {direction}, {certainty}"
