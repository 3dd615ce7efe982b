"""`keras-resnet bench`: the comparison from its options to the files that it leaves."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_resnet.analysis import count_spec

from ..presentation.findings import publish, write_findings
from .job import Job
from .results import Row, best_peer, ratio, rows_of
from .sections import comparisons, files_needed
from .setting import Comparison, Setting
from .summary import facts_of, findings
from .turns import Contender, take_turns

_FOLDER = "keras-resnet-bench."
_QUIET = 0.5  # load average up to which a machine is called quiet


def run_comparison(
    sections: Sequence[str], setting: Setting, output: Path, *, rounds: int, limit: float
) -> int:
    """Runs the sections one after another and publishes what they came to.

    What is known is written after each comparison, so that an interrupt loses one at most.

    Args:
        sections: Names of sections.
        setting: What the comparisons share; its folder is ignored.
        output: Directory of table, figures and report.
        rounds: Turns that count, of each contender.
        limit: Seconds that setting up a contender or one turn may take.
    """
    output.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    if load > _QUIET:
        print(
            f"The machine is busy (load {load:.1f}): ratios lean, most against libraries whose "
            "threads wait by spinning, as PyTorch's do",
            flush=True,
        )
    rows: list[Row] = []
    peak = math.nan
    with _ended_as_interrupted(), tempfile.TemporaryDirectory(prefix=_FOLDER) as folder:
        setting = Setting(setting.scale, setting.threads, folder, setting.peers, setting.gpus)
        for section in sections:
            wanted = comparisons(section, setting)
            _make_files(wanted, limit)
            for comparison in wanted:
                print(comparison.title, flush=True)
                found, peak = _compare(comparison, setting, rounds, limit, peak)
                rows = [*rows, *found]
                _say(found, rows)
                facts = facts_of(setting, rounds, peak, load)
                write_findings(output, findings(rows, peak, facts))
    return publish(output, findings(rows, peak, facts))


def _compare(
    comparison: Comparison, setting: Setting, rounds: int, limit: float, peak: float
) -> tuple[list[Row], float]:
    """Returns the rows, and the peak as it is known now; its product takes a turn in each round."""
    job = comparison.contenders[0].job
    product = Job(job.net, job.depths, job.cifar, setting.scale.product, 1, 1, job.threads, "")
    counted = comparison.section in ("train", "inference")
    contenders = comparison.contenders
    if counted:
        place = f"{__package__}.runtimes:matmul"
        contenders = (*contenders, Contender("machine", "matrix product", place, product))
    measured = take_turns(
        contenders, rounds=rounds, units=comparison.units, limit=limit, say=_progress
    )
    multiply_adds = 0
    if counted:
        operations = 2 * setting.scale.product**3
        speeds = [operations / turn["fastest"] for turn in measured.pop().turns]
        peak = max([*speeds, *([] if math.isnan(peak) else [peak])], default=math.nan)
        form: dict[str, Any] = {"classes": job.classes, "input_shape": job.shape}
        multiply_adds = count_spec(job.net, **form).multiply_adds
    rows = rows_of(
        comparison,
        measured,
        multiply_adds=multiply_adds,
        devices=max(1, setting.gpus) if comparison.section == "train" else 1,
    )
    return rows, peak


def _make_files(section: Sequence[Comparison], limit: float) -> None:
    """Makes the files that contenders read, each in a process of its own.

    Where one cannot be made, those who need it say so when they look for it.
    """
    jobs = {c.job.route: c.job for comparison in section for c in comparison.contenders}
    place = f"{__package__}.files:make"
    for name in files_needed(section):
        print(f"making {name}", flush=True)
        maker = Contender("file", name, place, jobs[name], fresh=True)
        take_turns([maker], rounds=0, units=1, limit=limit, say=_only_errors)


@contextlib.contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Makes SIGTERM end the block as Ctrl-C does: workers are stopped and files removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _progress(line: str) -> None:
    print(line, flush=True)


def _only_errors(line: str) -> None:
    if line.startswith("  file"):
        print(line, flush=True)


def _say(found: Sequence[Row], rows: Sequence[Row]) -> None:
    for row in found:
        peer = best_peer(row, rows)
        figure = f"{row.median:10.4g} {'images/s' if row.rate else 's':<9}" if row.values else "-"
        beside = f"x {ratio(row, peer).median:.2f}" if peer and row.values else row.note
        print(f"    {row.work if not row.rate else ''} {row.name:<44}{figure:<20}{beside}")
