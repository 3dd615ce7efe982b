"""Results: one row per contender and part, and the ratios between rows."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence

from .rounds import Contender, Measurement
from .settings import OURS, Comparison


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender at one work.

    Attributes:
        section: Section of the comparison.
        work: Name of the work; rows of equal work are compared.
        library: Library of the contender.
        label: How it ran.
        precision: Rows of equal precision are compared.
        values: One per round; images/s per device, or seconds.
        throughput: Whether `values` are images/s, of which more is better.
        operations: float32 operations per image; None where they say nothing.
        peak_bytes: Peak memory above the process's memory after its imports, or None.
        note: Reason why there are no values.
        baseline: Whether the ratios of this work are to this row rather than to the best peer.
    """

    section: str
    work: str
    library: str
    label: str
    precision: str
    values: tuple[float, ...]
    throughput: bool
    operations: float | None = None
    peak_bytes: float | None = None
    note: str = ""
    baseline: bool = False

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.library}, {self.label}"

    @property
    def ours(self) -> bool:
        """Whether it is this package's net."""
        return self.library == OURS

    @property
    def median(self) -> float:
        """Median over the rounds; NaN without any."""
        return statistics.median(self.values) if self.values else math.nan

    def share(self, peak: float) -> float:
        """Returns the share of a peak in operations per second; NaN if unknown."""
        return math.nan if self.operations is None else self.operations * self.median / peak


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Speed of one row divided by another's, round by round.

    The measurements of a round are close in time, so that other load affects both.

    Attributes:
        median: Median over the rounds; NaN where one of the two has none.
        low: Smallest of a round.
        high: Largest of a round.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} times ({self.low:.2f} to {self.high:.2f})"


def ratio(one: Row, other: Row) -> Ratio:
    """Returns the speed of `one` divided by the speed of `other`."""
    pairs = zip(one.values, other.values, strict=False)
    found = [a / b if one.throughput else b / a for a, b in pairs]
    if not found:
        return Ratio(math.nan, math.nan, math.nan)
    return Ratio(statistics.median(found), min(found), max(found))


def fastest(rows: Iterable[Row]) -> Row | None:
    """Returns the fastest row that has values, or None."""
    done = [row for row in rows if row.values]
    if not done:
        return None
    return (max if done[0].throughput else min)(done, key=lambda row: row.median)


def best_peer(row: Row, rows: Iterable[Row]) -> Row | None:
    """Returns the fastest peer at the same work in the same precision, or None."""
    kind = (row.work, row.precision)
    return fastest(r for r in rows if not r.ours and (r.work, r.precision) == kind)


def reference(row: Row, rows: Sequence[Row]) -> Row | None:
    """Returns the row of `row`'s ratio: the baseline of its work, or the best peer; or None."""
    baseline = fastest(r for r in rows if r.baseline and r.work == row.work)
    return baseline or best_peer(row, rows)


def rows_of(
    comparison: Comparison,
    measurements: Sequence[Measurement],
    *,
    multiply_adds: int,
    devices: int = 1,
) -> list[Row]:
    """Returns the rows of a comparison, part by part.

    Args:
        comparison: The comparison.
        measurements: One per contender.
        multiply_adds: Multiply-adds of the comparison's net, one image forward; 0 if unknown.
        devices: Devices that share a batch; throughput is per device.
    """
    return [
        _row(comparison, part, contender, measurement, multiply_adds, devices)
        for part in comparison.parts
        for contender, measurement in zip(comparison.contenders, measurements, strict=True)
    ]


def _row(
    comparison: Comparison,
    part: str,
    contender: Contender,
    measurement: Measurement,
    multiply_adds: int,
    devices: int,
) -> Row:
    seconds = [done[part] / comparison.units for done in measurement.rounds]
    images = contender.workload.batch / devices
    precision = contender.workload.precision
    operations = None
    if multiply_adds and comparison.throughput and precision == "float32":
        operations = 2 * comparison.passes * (measurement.multiply_adds or multiply_adds)
    return Row(
        comparison.section,
        comparison.parts[part],
        contender.library,
        contender.label,
        precision,
        tuple(images / s for s in seconds) if comparison.throughput else tuple(seconds),
        comparison.throughput,
        operations,
        measurement.peak_bytes if measurement.rounds else None,
        measurement.note,
        comparison.baseline and contender == comparison.contenders[0],
    )
