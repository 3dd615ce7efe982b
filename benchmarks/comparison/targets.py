"""Targets of this package beside its peers, and sentences on what it reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .results import Row, best_peer, fastest, ratio
from .settings import APPLICATIONS, OURS

LOOP, FIT = "training loop", "fit"


class Target(NamedTuple):
    """The ratio that one row of ours is to reach beside one of a peer."""

    factor: float
    ours: Row
    peer: Row


def targets(rows: Sequence[Row]) -> list[Target]:
    """Returns the targets that apply to these rows.

    Training: 1.4 times keras.io's example under `fit`, and once PyTorch channels_last. Inference:
    our fastest row once the fastest peer, in each precision. All sections: once keras.applications
    run the same way; our training loop is compared with its `fit` too.
    """
    found = []
    for ours in (row for row in rows if row.ours):
        for peer in (row for row in rows if not row.ours):
            if (peer.work, peer.precision) == (ours.work, ours.precision):
                factor = _factor(ours, peer)
                found += [Target(factor, ours, peer)] if factor else []
    inference = [row for row in rows if row.section == "inference"]
    for work, precision in dict.fromkeys((row.work, row.precision) for row in inference):
        found += [Target(1.0, *pair) for pair in _fastest_pair(inference, work, precision)]
    return found


def _factor(ours: Row, peer: Row) -> float | None:
    """Returns the ratio to reach, or None if the two have no target."""
    loop = ours.label.startswith(LOOP)
    if peer.library == "keras.io example" and loop:
        return 1.4
    if peer.library == "PyTorch" and loop and ours.section == "train":
        return 1.0
    if peer.library == APPLICATIONS:
        same = ours.label == peer.label or (loop and peer.label.startswith(FIT))
        return 1.0 if same or ours.section == "checkpoint" else None
    return None


def _fastest_pair(rows: Sequence[Row], work: str, precision: str) -> list[tuple[Row, Row]]:
    """Returns our fastest row with the fastest peer, if there are both."""
    kind = (work, precision)
    ours = fastest(row for row in rows if row.ours and (row.work, row.precision) == kind)
    peer = best_peer(ours, rows) if ours else None
    return [(ours, peer)] if ours and peer else []


def sentences(rows: Sequence[Row], peak: float) -> list[str]:
    """Returns a sentence per target and work, one on the peak and one on what was not measured."""
    found = [_verdict(target) for target in targets(rows)]
    for work in dict.fromkeys(row.work for row in rows):
        found += [
            f"Fastest at {work}: ours {_figure(ours)} ({ours.label}), peers' {_figure(peer)} "
            f"({peer.name}): {ratio(ours, peer)}."
            for ours, peer in _fastest_pair(rows, work, "float32")
        ]
    if math.isfinite(peak):
        found.append(f"The machine's float32 peak (matrix product): {peak / 1e9:.0f} GFLOP/s.")
    absent = sorted({f"{row.name} ({row.note})" for row in rows if row.note})
    if absent:
        found.append(f"Not measured: {'; '.join(absent)}.")
    return found


def _verdict(target: Target) -> str:
    factor, ours, peer = target
    start = f"{ours.work}: {OURS}, {ours.label}, at least {factor:g} times as fast as {peer.name}"
    reached = ratio(ours, peer)
    if math.isnan(reached.median):
        missing = ours if peer.values else peer
        return f"{start}: not measured ({missing.note or 'no rounds'})."
    verdict = "met" if reached.median >= factor else "not met"
    if reached.low < factor <= reached.high:
        verdict += " by the median, with rounds on both sides"
    return f"{start}: {verdict}, {reached}."


def _figure(row: Row) -> str:
    return f"{row.median:.4g} images/s" if row.throughput else f"{row.median:.3g} s"
