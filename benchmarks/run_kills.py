"""One process that trains, killed at random moments until its run has ended: the same end?

The run has augmentation, moving averages of the weights and stochastic depth. A third of the kills
meet a checkpoint that is being written; the others fall anywhere between start and end.
"""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_STEPS = 300
_SECONDS = 600
_TRAIN = (
    "train --recipe digits --dataset digits --model cifar_resnet8 --set data.image_size=8 "
    "--set model.spec.widths=[4,8,8] --set model.spec.stochastic_depth=0.2 --augment rand "
    "--ema 0.9 --batch-size 64 --steps-per-call 5 "
    f"--steps {_STEPS} --checkpoint-steps 10"
)


class Kill(NamedTuple):
    """How one process ended.

    Attributes:
        phase: What it did when it was killed: start, training, save or end; "" if it ended before.
        step: The newest checkpoint then.
    """

    phase: str
    step: int


def run(kills: int, seed: int, strategy: str) -> int:
    """Prints one line per kill and per run; returns 1 if one ended otherwise than never killed.

    Args:
        kills: Number of SIGKILLs in all; the last run then goes on to its end.
        seed: Of the moments.
        strategy: `one-device` or `cpu:2`.
    """
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder, phases = Path(name), Counter[str]()
        started = time.monotonic()
        _train(folder / "whole", strategy, None)
        seconds = time.monotonic() - started
        expected = everything(folder / "whole")
        arrays = sum(isinstance(value, np.ndarray) for value in expected.values())
        print(f"never killed: {_STEPS} steps, {arrays} arrays, {seconds:.1f} s", flush=True)
        runs = wrong = 0
        while runs == 0 or phases.total() < kills:
            runs += 1
            output = folder / f"run{runs}"
            for kill in _until_it_ends(output, strategy, draw, seconds, kills - phases.total()):
                phases[kill.phase] += 1
                print(
                    f"kill {phases.total()}: run {runs}, {kill.phase}, step {kill.step}", flush=True
                )
            differs = differences(expected, everything(output))
            wrong += bool(differs)
            print(f"run {runs} ended: {', '.join(differs) or 'the same to the bit'}", flush=True)
    counted = ", ".join(f"{count} in {phase}" for phase, count in sorted(phases.items()))
    print(f"{wrong} of {runs} runs differ after {phases.total()} kills ({counted})")
    return int(wrong > 0)


def _until_it_ends(
    output: Path, strategy: str, draw: random.Random, seconds: float, most: int
) -> Iterator[Kill]:
    """Starts a training again and again, and kills it at most so often; yields each kill."""
    while most > 0:
        at_save = draw.random() < 1 / 3
        kill = _train(
            output, strategy, (at_save, draw.uniform(0, 0.05 if at_save else 0.9 * seconds))
        )
        if not kill.phase:
            return
        most -= 1
        yield kill
    _train(output, strategy, None)


def _train(output: Path, strategy: str, moment: tuple[bool, float] | None) -> Kill:
    """Starts a training, and kills it.

    Args:
        output: The directory of the run.
        strategy: The strategy.
        moment: Whether to wait for a checkpoint that is being written, and seconds to the kill;
            None lets it end.
    """
    words = [sys.executable, "-m", "keras_resnet_train.cli", *_TRAIN.split()]
    words += ["--strategy", strategy, "--output", str(output)]
    log, before = output.with_suffix(".log"), time.time()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file)
        try:
            if moment is not None:
                _sleep(process, output, *moment)
                process.kill()
            status = process.wait(timeout=_SECONDS)
        finally:
            process.kill()
            process.wait()
    if status > 0 or (moment is None and status):
        raise ValueError(f"The training ended with status {status}: {log.read_text()[-3000:]}")
    return Kill(_phase(output, before) if status else "", _newest(output))


def _sleep(process: subprocess.Popen[bytes], output: Path, at_save: bool, seconds: float) -> None:
    """Waits until the moment of a kill, or the end of the process."""
    started = time.time()
    while at_save and process.poll() is None and not _writes(output, started):
        time.sleep(0.002)
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        time.sleep(min(0.02, max(0.0, end - time.monotonic())))


def _writes(output: Path, since: float) -> bool:
    """Whether a checkpoint is being written that was begun after a time."""
    for path in (output / "checkpoints").glob(".*"):
        try:
            if path.stat().st_mtime > since:
                return True
        except FileNotFoundError:
            continue
    return False


def _phase(output: Path, since: float) -> str:
    """Returns what a killed process did, from the files that it has left."""
    log = output / "metrics.jsonl"
    if not log.is_file() or log.stat().st_mtime < since:
        return "start"
    if _writes(output, since):
        return "save"
    lines = log.read_bytes().splitlines() or [b"{}"]
    ended = lines[-1].endswith(b"}") and json.loads(lines[-1]).get("step") == _STEPS
    return "end" if ended else "training"


def _newest(output: Path) -> int:
    return max((int(path.name[5:]) for path in output.glob("checkpoints/step_*")), default=0)


def everything(output: Path) -> dict[str, Any]:
    """Returns all that a run ends with, by name: arrays, history and measurements."""
    newest = max((output / "checkpoints").glob("step_*"))
    found: dict[str, Any] = {}
    for path in sorted(newest.glob("*.h5")):
        found |= _arrays(path.name, path.read_bytes())
    for path in sorted(newest.glob("*.npz")):
        with np.load(path) as stored:
            found |= {f"{path.name}/{name}": stored[name] for name in stored.files}
    with zipfile.ZipFile(output / "model.keras") as archive:
        found |= _arrays("model.keras", archive.read("model.weights.h5"))
    with (output / "history.csv").open(encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    return {**found, "history.csv": rows, "test metrics": metrics["test"]}


def _arrays(name: str, content: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of an HDF5 file, by their paths."""
    import h5py

    arrays: dict[str, np.ndarray] = {}
    with h5py.File(io.BytesIO(content)) as file:

        def keep(path: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                arrays[f"{name}/{path}"] = np.asarray(item)

        file.visititems(keep)
    return arrays


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Returns the names of what is not the same to the bit."""
    names = sorted(expected.keys() ^ found.keys())
    for name in sorted(expected.keys() & found.keys()):
        one, other = expected[name], found[name]
        if isinstance(one, np.ndarray):
            same = one.dtype == other.dtype and one.tobytes() == other.tobytes()
        else:
            same = one == other
        if not same:
            names.append(name)
    return names
