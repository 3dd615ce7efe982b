"""The one table of a comparison, its figures, its words, and how it was measured."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterator, Mapping, Sequence

from ..presentation.findings import Findings, Table
from ..presentation.plots import Line, Plot
from ..studies.comparison import provenance
from .results import Row, best_peer, ratio
from .setting import OURS, Setting
from .targets import words

_LIBRARIES = {
    "keras-hub": "KerasHub",
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "ai-edge-litert": "LiteRT",
}


def findings(rows: Sequence[Row], peak: float, facts: Mapping[str, object]) -> Findings:
    """Returns the table, a figure for each work, and the words."""
    return Findings(
        title="Speed beside others",
        words=tuple(words(rows, peak)),
        plots=tuple(_plots(rows)),
        tables=(table(rows, peak), _turns_table(rows)),
        facts=facts,
    )


def facts_of(setting: Setting, rounds: int, peak: float, load: float) -> dict[str, object]:
    """Returns what a reader must know to measure again."""
    facts = {
        "Turns": "contenders in processes of their own take turns; medians and ranges of "
        f"{rounds} rounds; ratios are taken round by round",
        "Threads": setting.threads,
        "Load before it": round(load, 2),
        "GPUs": setting.gpus or "none: mixed precision, XLA and images a device were not run",
        "Peak": f"{peak / 1e9:.1f} GFLOP/s, the fastest float32 product of two matrices of "
        f"{setting.scale.product} rows, by NumPy or TensorFlow, in the same run"
        if math.isfinite(peak)
        else "not measured",
        "Peers": ", ".join(_versions()),
    }
    return provenance(facts)


def table(rows: Sequence[Row], peak: float) -> Table:
    """Returns the one table; `peak` is in float32 operations a second."""
    lines = []
    for row in rows:
        peer = best_peer(row, rows)
        known = bool(row.values)
        lines.append(
            (
                row.work,
                row.name,
                row.precision,
                row.median if known else None,
                f"{min(row.values):.4g} to {max(row.values):.4g}" if known else row.note,
                "images/s" if row.rate else "s",
                ratio(row, peer).median if peer and known else None,
                100 * row.share(peak),
                None if row.peak_bytes is None else row.peak_bytes / 1e6,
            )
        )
    return Table(
        "benchmark",
        "Medians of alternating turns; times as fast as the best peer of equal precision; "
        "share of the float32 peak; memory above the imports'",
        (
            "Work",
            "Contender",
            "Precision",
            "Median",
            "Range",
            "Unit",
            "To best peer",
            "Of peak (%)",
            "Memory (MB)",
        ),
        tuple(lines),
    )


def _turns_table(rows: Sequence[Row]) -> Table:
    return Table(
        "turns",
        "Each turn",
        ("Work", "Contender", "Round", "Value"),
        tuple(
            (row.work, row.name, str(number), value)
            for row in rows
            for number, value in enumerate(row.values, start=1)
        ),
        shown=False,
    )


def _plots(rows: Sequence[Row]) -> Iterator[Plot]:
    for work in dict.fromkeys(row.work for row in rows):
        done = [row for row in rows if row.work == work and row.values]
        if not done:
            continue
        unit = "images a second" if done[0].rate else "seconds"
        lines = tuple(
            Line(
                label,
                [place for place, _ in group],
                [row.median for _, row in group],
                [min(row.values) for _, row in group],
                [max(row.values) for _, row in group],
            )
            for label, group in (
                (name, [(place, row) for place, row in enumerate(done) if row.ours is ours])
                for name, ours in ((OURS, True), ("peers", False))
            )
            if group
        )
        name = "-".join("".join(c if c.isalnum() else " " for c in work).split())
        yield Plot(
            name,
            work[0].upper() + work[1:],
            "",
            unit,
            lines,
            categories=tuple(row.name for row in done),
        )


def _versions() -> Iterator[str]:
    for distribution, name in _LIBRARIES.items():
        try:
            yield f"{name} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} not installed"
