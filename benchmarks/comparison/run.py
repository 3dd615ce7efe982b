"""Runs the comparisons of some sections and publishes their results."""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from keras_resnet.analysis import count_spec
from keras_resnet_train.presentation.findings import publish, write_findings

from .report import facts_of, findings
from .results import Row, ratio, reference, rows_of
from .rounds import Contender, run_rounds
from .sections import comparisons, files_needed
from .settings import Comparison, Settings
from .workload import Workload

_QUIET_LOAD = 0.5  # load average up to which a machine counts as quiet


def run_comparisons(
    sections: Sequence[str], settings: Settings, output: Path, *, rounds: int, limit: float
) -> int:
    """Runs the sections one after another and publishes the results.

    Results are written after each comparison, so that an interrupt loses one at most.

    Args:
        sections: Names of sections.
        settings: Settings of all comparisons; the folder is ignored.
        output: Directory of table, figures and report.
        rounds: Rounds that count.
        limit: Seconds that one set-up or measurement may take.
    """
    output.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    if load > _QUIET_LOAD:
        print(
            f"The machine is busy (load {load:.1f}): ratios are biased, most against libraries "
            "whose threads spin while they wait, such as PyTorch",
            flush=True,
        )
    rows: list[Row] = []
    peak = math.nan
    with tempfile.TemporaryDirectory(prefix="keras-resnet-bench.") as folder:
        settings = dataclasses.replace(settings, folder=folder)
        for section in sections:
            for comparison in _with_files(comparisons(section, settings), limit):
                print(comparison.title, flush=True)
                new, speed = _run_comparison(comparison, settings, rounds, limit)
                rows += new
                peak = max(peak, speed) if math.isfinite(peak) else speed
                _print_rows(new)
                facts = facts_of(settings, rounds, peak, load)
                write_findings(output, findings(rows, peak, facts))
    return publish(output, findings(rows, peak, facts))


def _run_comparison(
    comparison: Comparison, settings: Settings, rounds: int, limit: float
) -> tuple[list[Row], float]:
    """Returns the rows and, where a matrix product took part, its operations per second."""
    workload = comparison.contenders[0].workload
    with_product = comparison.section in ("train", "inference")
    size = settings.sizes.product
    contenders = list(comparison.contenders)
    if with_product:
        contenders.append(_matrix_product(workload, size))
    measurements = run_rounds(
        contenders, rounds=rounds, units=comparison.units, limit=limit, log=_log
    )
    multiply_adds, peak = 0, math.nan
    if with_product:
        seconds = [done[""] for done in measurements.pop().rounds]
        peak = 2 * size**3 / min(seconds) if seconds else math.nan
        shape = workload.shape
        counts = count_spec(workload.net, classes=workload.classes, input_shape=shape)
        multiply_adds = counts.multiply_adds
    devices = max(1, settings.gpus) if comparison.section == "train" else 1
    rows = rows_of(comparison, measurements, multiply_adds=multiply_adds, devices=devices)
    return rows, peak


def _matrix_product(workload: Workload, size: int) -> Contender:
    product = dataclasses.replace(workload, size=size, folder="")
    return Contender("machine", "matrix product", f"{__package__}.runtimes:matmul", product)


def _with_files(section: Sequence[Comparison], limit: float) -> list[Comparison]:
    """Writes the files that contenders read, each in a process of its own.

    Returns:
        The comparisons; readers of a file that could not be written have that problem.
    """
    factory = f"{__package__}.files:write"
    problems = {}
    for name, workload in files_needed(section).items():
        print(f"writing {name}", flush=True)
        writer = Contender("file", name, factory, dataclasses.replace(workload, mode=name))
        (written,) = run_rounds([writer], rounds=0, units=0, limit=limit, log=lambda line: None)
        if written.note:
            print(f"  {name}: {written.note}", flush=True)
            problems[name] = written.note
    return [
        dataclasses.replace(
            comparison,
            contenders=tuple(
                dataclasses.replace(c, problem=problems.get(c.workload.mode, ""))
                for c in comparison.contenders
            ),
        )
        for comparison in section
    ]


def _log(line: str) -> None:
    print(line, flush=True)


def _print_rows(rows: Sequence[Row]) -> None:
    for row in rows:
        other = reference(row, rows)
        unit = "images/s" if row.throughput else "s"
        figure = f"{row.median:10.4g} {unit:<9}" if row.values else "-"
        comment = f"x {ratio(row, other).median:.2f}" if other and row.values else row.note
        print(f"    {'' if row.throughput else row.work} {row.name:<44}{figure:<20}{comment}")
