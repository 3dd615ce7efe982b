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
_SECONDS = 600
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
        _finish(folder / "whole.log", "--output", str(folder / "whole"))
        words = ("--output", place, "--work-dir", str(folder / "work"))
        print(f"never killed: {_STEPS} steps", flush=True)
        targets = sorted(draw.randrange(4, _STEPS - 20) for _ in range(kills))
        for kill, target in enumerate(targets):
            ended = _kill_after(folder, target, draw.uniform(0, 0.3), words)
            wiped = kill % 2 == 1
            step = _step(folder / "work")
            if wiped:
                for path in (folder / "work").iterdir():
                    if path.is_dir():
                        shutil.rmtree(path)
            then = ", then wiped" if wiped else ""
            print(f"kill {kill + 1}: {ended} after step {target}, at {step}{then}", flush=True)
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


def _kill_after(folder: Path, target: int, pause: float, words: tuple[str, ...]) -> str:
    """Starts a training and kills it some time after a step; returns how it ended."""
    work, before, end = folder / "work", time.time(), time.monotonic() + _SECONDS
    with (folder / "killed.log").open("w", encoding="utf-8") as file:
        process = subprocess.Popen(_words(words), stdout=file, stderr=file)
        # A step that was saved in this session, so that each kill meets a run that trains.
        while process.poll() is None and not _has_saved(work, target, before):
            if time.monotonic() > end:
                raise TimeoutError(f"No step {target} after {_SECONDS} s")
            time.sleep(0.01)
        time.sleep(pause)
        process.kill()
        status = process.wait()
    return "killed" if status < 0 else f"ended with status {status} before"


def _has_saved(work: Path, target: int, since: float) -> bool:
    steps = work.glob("*/checkpoints/step_*")
    return any(int(path.name[5:]) >= target and path.stat().st_mtime > since for path in steps)


def _step(work: Path) -> int:
    return max((int(path.name[5:]) for path in work.glob("*/checkpoints/step_*")), default=0)
