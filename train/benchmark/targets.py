"""What this package is to reach beside its peers, and sentences on what it did reach."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from .results import Ratio, Row, best_peer, ratio
from .setting import OURS

LOOP, FIT = "training loop", "fit"


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure of ours, a peer's, and how many times as fast ours is to be.

    Attributes:
        factor: What the ratio is to reach.
        ours: Our row.
        peer: The peer's.
    """

    factor: float
    ours: Row
    peer: Row


def targets(rows: Sequence[Row]) -> list[Target]:
    """Returns the targets that these rows can be held to.

    Training: 1.4 times keras.io's example under `fit`, once PyTorch channels_last. Inference: our
    fastest way once the fastest peer, in each precision. Everything: once keras.applications, run
    the same way; our training loop stands beside its `fit` too.
    """
    found = []
    for ours in (row for row in rows if row.ours):
        for peer in (row for row in rows if row.work == ours.work and not row.ours):
            if peer.precision != ours.precision:
                continue
            loop = ours.way.startswith(LOOP)
            same = ours.way == peer.way or (loop and peer.way.startswith(FIT))
            if peer.library == "keras.io example" and loop:
                found.append(Target(1.4, ours, peer))
            elif (peer.library == "PyTorch" and loop and ours.section == "train") or (
                peer.library == "keras.applications" and (same or ours.section == "checkpoint")
            ):
                found.append(Target(1.0, ours, peer))
    return [*found, *_best_ways([row for row in rows if row.section == "inference"])]


def _best_ways(rows: Sequence[Row]) -> Iterator[Target]:
    """Yields our fastest row beside the fastest peer, of each work and precision."""
    for work, precision in dict.fromkeys((row.work, row.precision) for row in rows):
        ours = _fastest(rows, work, precision)
        peer = best_peer(ours, rows) if ours else None
        if ours is not None and peer is not None:
            yield Target(1.0, ours, peer)


def words(rows: Sequence[Row], peak: float) -> list[str]:
    """Returns what was reached, a sentence a target, then one on the peak and what is missing."""
    sentences = [_verdict(target) for target in targets(rows)]
    for work in dict.fromkeys(row.work for row in rows):
        fastest = _fastest(rows, work, "float32")
        peer = best_peer(fastest, rows) if fastest else None
        if fastest is None or peer is None:
            continue
        sentences.append(
            f"Fastest at {work}: ours {_figure(fastest)} ({fastest.way}), peers' {_figure(peer)} "
            f"({peer.name}): {_times(ratio(fastest, peer))}."
        )
    if math.isfinite(peak):
        sentences.append(f"The machine's float32 peak (matrix product): {peak / 1e9:.0f} GFLOP/s.")
    absent = sorted({f"{row.name} ({row.note})" for row in rows if row.note})
    if absent:
        sentences.append(f"Not measured: {'; '.join(absent)}.")
    return sentences


def _fastest(rows: Sequence[Row], work: str, precision: str) -> Row | None:
    """Returns our fastest row at a work in a precision, or None."""
    done = [
        row
        for row in rows
        if row.ours and row.values and (row.work, row.precision) == (work, precision)
    ]
    if not done:
        return None
    return (max if done[0].rate else min)(done, key=lambda row: row.median)


def _verdict(target: Target) -> str:
    found = ratio(target.ours, target.peer)
    wanted = f"at least {target.factor:g} times as fast as {target.peer.name}"
    start = f"{target.ours.work}: {OURS}, {target.ours.way}, is to be {wanted}"
    if math.isnan(found.median):
        missing = target.peer if not target.peer.values else target.ours
        return f"{start}: not measured ({missing.note or 'no turns'})."
    verdict = "met" if found.median >= target.factor else "not met"
    if found.low < target.factor <= found.high:
        verdict += " by the median, with rounds on both sides"
    return f"{start}: {verdict}, {_times(found)}."


def _times(found: Ratio) -> str:
    return f"{found.median:.2f} times ({found.low:.2f} to {found.high:.2f})"


def _figure(row: Row) -> str:
    return f"{row.median:.4g} images/s" if row.rate else f"{row.median:.3g} s"
