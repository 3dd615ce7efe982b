"""What the turns come to: a row for each contender and part, and how rows compare."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from .setting import OURS, Comparison
from .turns import Contender, Measured


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender at one work.

    Attributes:
        section: Of the comparison.
        work: What was done; rows of one work are compared.
        library: Whose it is.
        way: How it was run.
        precision: Rows of equal precision are compared.
        values: Of each round; images a second, or seconds.
        rate: Whether `values` are images a second, of which more is better.
        operations: float32 operations that an image costs, or None where that says nothing.
        peak_bytes: Memory above what the process held after its imports, or None.
        note: Why there are no values.
    """

    section: str
    work: str
    library: str
    way: str
    precision: str
    values: tuple[float, ...]
    rate: bool
    operations: float | None = None
    peak_bytes: float | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """In tables."""
        return f"{self.library}, {self.way}"

    @property
    def ours(self) -> bool:
        """Whether it is this package's net in this package's or Keras's runtime."""
        return self.library == OURS

    @property
    def median(self) -> float:
        """Over the rounds; NaN without any."""
        return statistics.median(self.values) if self.values else math.nan

    def share(self, peak: float) -> float:
        """Returns the share of a peak, in operations a second, that was reached; NaN if unknown."""
        return math.nan if self.operations is None else self.operations * self.median / peak


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as fast one row is as another, round by round.

    A round's turns lie side by side, so what else the machine did falls on both.

    Attributes:
        median: Over the rounds; NaN where one of the two has none.
        low: Smallest of a round.
        high: Largest of a round.
    """

    median: float
    low: float
    high: float


def ratio(one: Row, other: Row) -> Ratio:
    """Returns how many times as fast `one` is as `other`."""
    pairs = zip(one.values, other.values, strict=False)
    found = [a / b if one.rate else b / a for a, b in pairs]
    if not found:
        return Ratio(math.nan, math.nan, math.nan)
    return Ratio(statistics.median(found), min(found), max(found))


def best_peer(row: Row, rows: Sequence[Row]) -> Row | None:
    """Returns the fastest peer at the same work in the same precision, or None."""
    peers = [
        other
        for other in rows
        if other.work == row.work
        and other.precision == row.precision
        and other.values
        and not other.ours
    ]
    if not peers:
        return None
    return (max if row.rate else min)(peers, key=lambda peer: peer.median)


def rows_of(
    comparison: Comparison,
    measured: Sequence[Measured],
    *,
    multiply_adds: int,
    devices: int = 1,
) -> list[Row]:
    """Returns the rows of a comparison, part by part.

    Args:
        comparison: What was compared.
        measured: What its contenders did.
        multiply_adds: Of the comparison's net, one image forward.
        devices: That share a batch; rates are told a device.
    """
    return [
        _row(comparison, part, contender, done, (multiply_adds, devices))
        for part in comparison.parts
        for contender, done in zip(comparison.contenders, measured, strict=True)
    ]


def _row(
    comparison: Comparison,
    part: str,
    contender: Contender,
    done: Measured,
    shared: tuple[int, int],
) -> Row:
    multiply_adds, devices = shared
    seconds = [turn[part] / comparison.units for turn in done.turns]
    images = contender.job.batch / devices
    values = tuple(images / s if comparison.rate else s for s in seconds)
    operations = 2 * comparison.passes * (done.multiply_adds or multiply_adds)
    counted = operations > 0 and comparison.rate and contender.job.precision == "float32"
    return Row(
        comparison.section,
        comparison.parts[part],
        contender.library,
        contender.way,
        contender.job.precision,
        values,
        comparison.rate,
        operations if counted else None,
        done.peak_bytes if done.turns else None,
        done.note,
    )
