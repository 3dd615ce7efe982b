"""One process whose run is in an object store, killed at random moments: the same end?

After every second kill the local directory is removed, as if another machine went on. The
checkpoints are close together, so that many kills meet one that is being written or uploaded.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from .kills import final_weights

_STEPS = 400
_TRAIN = (
    "train --recipe digits --dataset digits --model cifar_resnet8 --set data.image_size=8 "
    "--set model.spec.widths=[4,8,8] --set model.spec.stochastic_depth=0.1 --set augment.pad=1 "
    "--set optimizer.ema=0.9 --batch-size 64 --set runtime.steps_per_call=2 "
    f"--steps {_STEPS} --checkpoint-steps 4"
)


def run(kills: int, seed: int, url: str | None) -> int:
    """Prints one line per kill; returns 1 if the run ends otherwise than one never killed.

    Args:
        kills: Number of kills.
        seed: Of the moments.
        url: An empty place; None makes one in a temporary folder.
    """
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = url or f"file://{folder / 'store'}"
        started = time.monotonic()
        _finish(folder / "whole.log", "--output", str(folder / "whole"))
        seconds = time.monotonic() - started
        words = ("--output", place, "--work-dir", str(folder / "work"))
        print(f"never killed: {_STEPS} steps in {seconds:.0f} s", flush=True)
        for kill in range(kills):
            ended = _kill_after(folder / "killed.log", draw.uniform(0.4, 1) * seconds, words)
            wiped = kill % 2 == 1
            step = _step(folder / "work")
            if wiped:
                for path in (folder / "work").iterdir():
                    if path.is_dir():
                        shutil.rmtree(path)
            print(
                f"kill {kill + 1}: {ended}, local step {step}{', then wiped' if wiped else ''}",
                flush=True,
            )
        said = _finish(folder / "last.log", *words)
        resumed = [line for line in said.splitlines() if "Resuming" in line or "Download" in line]
        print("; ".join(resumed))
        (local,) = (path for path in (folder / "work").iterdir() if path.is_dir())
        expected, found = final_weights(folder / "whole"), final_weights(local)
        largest = max(float(np.abs(found[key] - expected[key]).max()) for key in expected)
    print(f"largest difference of {len(expected)} arrays: {largest:.2g}")
    return int(largest != 0)


def _words(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "keras_resnet_train.cli", *_TRAIN.split(), *words]


def _finish(log: Path, *words: str) -> str:
    """Runs a training to its end; returns what it said."""
    with log.open("w+", encoding="utf-8") as file:
        status = subprocess.run(_words(words), stdout=file, stderr=file, check=False).returncode
    said = log.read_text(encoding="utf-8")
    if status:
        raise ValueError(f"The training ended with status {status}: {said[-2000:]}")
    return said


def _kill_after(log: Path, seconds: float, words: tuple[str, ...]) -> str:
    """Starts a training, kills it after a time; returns how it ended."""
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(_words(words), stdout=file, stderr=file)
        try:
            return f"ended with status {process.wait(timeout=seconds)} before"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"killed after {seconds:.1f} s"


def _step(work: Path) -> int:
    return max((int(path.name[5:]) for path in work.glob("*/checkpoints/step_*")), default=0)
