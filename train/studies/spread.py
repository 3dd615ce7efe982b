"""Means over seeds with their spread, and when one is called different from another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Spread:
    """What several seeds gave.

    Attributes:
        values: One finite number a seed.
    """

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Gathers the values that are finite."""
        return cls(tuple(float(value) for value in values if math.isfinite(value)))

    @property
    def mean(self) -> float:
        """The mean, or NaN of nothing."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation of the sample, with n - 1 below; NaN of fewer than two seeds."""
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
        """Returns the mean, with the deviation where there is one: `1.234 ± 0.005`."""
        if not self.values:
            return "–"
        factor = 100.0 if percent else 1.0
        unit = " %" if percent else ""
        if len(self.values) < 2:
            return f"{factor * self.mean:.{digits}f}{unit}"
        return f"{factor * self.mean:.{digits}f} ± {factor * self.deviation:.{digits}f}{unit}"


def beyond_spread(one: Spread, other: Spread) -> bool | None:
    """Whether two means differ by more than seeds explain.

    They do where every value of one lies above every value of the other, and the means are more
    than two pooled standard deviations apart. None where one of them has fewer than two seeds:
    then nothing is known of the spread.
    """
    if len(one.values) < 2 or len(other.values) < 2:
        return None
    apart = one.low > other.high or other.low > one.high
    degrees = len(one.values) + len(other.values) - 2
    pooled = math.sqrt(sum((len(s.values) - 1) * s.deviation**2 for s in (one, other)) / degrees)
    return apart and abs(one.mean - other.mean) > 2 * pooled


def compared(one: Spread, other: Spread, *, percent: bool = False) -> str:
    """Returns a clause that says how `other` differs from `one`: `0.12 higher, beyond ...`.

    Args:
        one: What is compared with.
        other: What is compared.
        percent: Whether the values are shares; the difference is then in percentage points.
    """
    difference = other.mean - one.mean
    size = f"{100 * abs(difference):.2f} points" if percent else f"{abs(difference):.3g}"
    direction = "higher" if difference > 0 else "lower"
    beyond = beyond_spread(one, other)
    seeds = min(len(one.values), len(other.values))
    verdict = {
        None: "of one seed each, so nothing is known of the spread",
        True: f"beyond the spread of {seeds} seeds",
        False: f"within the spread of {seeds} seeds",
    }[beyond]
    return f"{size} {direction}, {verdict}"
