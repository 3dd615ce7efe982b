"""The report of a comparison: table, figures, sentences, and how it was measured."""

from __future__ import annotations

import importlib.metadata
import math
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence

from keras_resnet_train.presentation.findings import Findings, Table
from keras_resnet_train.presentation.plots import Line, Plot
from keras_resnet_train.studies.comparison import provenance

from .results import Row, ratio, reference
from .settings import OURS, Settings
from .targets import sentences

_LIBRARIES = {
    "keras-hub": "KerasHub",
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "ai-edge-litert": "LiteRT",
}


def findings(rows: Sequence[Row], peak: float, facts: Mapping[str, object]) -> Findings:
    """Returns the table, a figure per work, and the sentences."""
    return Findings(
        title="Speed beside other libraries",
        words=tuple(sentences(rows, peak)),
        plots=tuple(_plots(rows)),
        tables=(_table(rows, peak), _rounds_table(rows)),
        facts=facts,
    )


def facts_of(settings: Settings, rounds: int, peak: float, load: float) -> dict[str, object]:
    """Returns what a reader needs to repeat the measurement."""
    size = settings.sizes.product
    facts = {
        "Rounds": "contenders in processes of their own, measured one at a time; medians and "
        f"ranges of {rounds} rounds; ratios are taken round by round",
        "Threads": settings.threads,
        "Load before the run": round(load, 2),
        "GPUs": settings.gpus or "none: mixed precision, XLA and several devices were not run",
        "Peak": f"{peak / 1e9:.1f} GFLOP/s, the fastest float32 product of two matrices of "
        f"{size} rows, by NumPy or TensorFlow, in the same run"
        if math.isfinite(peak)
        else "not measured",
        "Peers": ", ".join(_versions()),
    }
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    return {**provenance(facts), "Command": command}


def _table(rows: Sequence[Row], peak: float) -> Table:
    """Returns the table; `peak` is in float32 operations per second."""
    lines = []
    for row in rows:
        other = reference(row, rows) if row.values else None
        spread = f"{min(row.values):.4g} to {max(row.values):.4g}" if row.values else row.note
        lines.append(
            (
                row.work,
                row.name,
                row.precision,
                row.median if row.values else None,
                spread,
                "images/s" if row.throughput else "s",
                ratio(row, other).median if other else None,
                100 * row.share(peak),
                None if row.peak_bytes is None else row.peak_bytes / 1e6,
            )
        )
    return Table(
        "benchmark",
        "Medians of interleaved rounds; speed relative to the best peer of equal precision (to the "
        "first line in sections without peers); share of the float32 peak; memory above the "
        "imports'",
        (
            "Work",
            "Contender",
            "Precision",
            "Median",
            "Range",
            "Unit",
            "Ratio",
            "Of peak (%)",
            "Memory (MB)",
        ),
        tuple(lines),
    )


def _rounds_table(rows: Sequence[Row]) -> Table:
    return Table(
        "rounds",
        "Each round",
        ("Work", "Contender", "Round", "Value"),
        tuple(
            (row.work, row.name, str(number), value)
            for row in rows
            for number, value in enumerate(row.values, start=1)
        ),
        shown=False,
    )


def _plots(rows: Sequence[Row]) -> Iterator[Plot]:
    for work in dict.fromkeys(row.work for row in rows if row.values):
        done = [row for row in rows if row.work == work and row.values]
        lines = []
        for label, ours in ((OURS, True), ("peers", False)):
            group = [(place, row) for place, row in enumerate(done) if row.ours is ours]
            if group:
                lines.append(
                    Line(
                        label,
                        [place for place, _ in group],
                        [row.median for _, row in group],
                        [min(row.values) for _, row in group],
                        [max(row.values) for _, row in group],
                    )
                )
        yield Plot(
            re.sub(r"\W+", "-", work).strip("-"),
            work[0].upper() + work[1:],
            "",
            "images/s" if done[0].throughput else "seconds",
            tuple(lines),
            categories=tuple(row.name for row in done),
        )


def _versions() -> Iterator[str]:
    for distribution, name in _LIBRARIES.items():
        try:
            yield f"{name} {importlib.metadata.version(distribution)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} not installed"
