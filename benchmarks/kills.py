"""Two workers, of `keras-resnet launch` or on Ray, killed at random moments: the same weights?"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

KILLED = {"worker": (1,), "chief": (0,), "both": (0, 1)}
_STEPS, _EVERY = 400, 20
_SECONDS = 600
_TRAIN = (
    "train --recipe digits --dataset digits --model cifar_resnet8 --set data.image_size=8 "
    "--set model.spec.widths=[4,8,8] --batch-size 64 --set runtime.steps_per_call=5 "
    f"--steps {_STEPS} --checkpoint-steps {_EVERY}"
)


class Ended(NamedTuple):
    """One run whose processes were killed.

    Attributes:
        killed: Which were.
        step: The newest checkpoint when they were.
        status: The launcher's exit status.
        restarts: How often it started the workers again.
        difference: The largest difference of a final weight from the run that was never killed.
        seconds: Wall time of the whole run.
    """

    killed: str
    step: int
    status: int
    restarts: int
    difference: float
    seconds: float


class Engine(NamedTuple):
    """A command that starts the workers of a run, and starts them again.

    Attributes:
        words: Words of the command before those of `train`.
        worker: A pattern for the processes in what it prints, worker 0 first.
        start: A pattern for each start of all workers.
    """

    words: str
    worker: str
    start: str


ENGINES = {
    "launch": Engine(
        "launch --workers 2", r"(?:processes |, )(\d+)(?=, \d+$|$)", r": processes \d"
    ),
    "ray": Engine("ray --workers 2", r"pid=(\d+)\) world_rank=", r"pid=\d+\) world_rank=0"),
}


def run(repeats: int, seed: int, under: str = "launch") -> int:
    """Prints one line per kill; returns 1 if any run ended otherwise than one never killed."""
    engine = ENGINES[under]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "whole")
        _launch(engine, whole, (), 0)
        expected = final_weights(whole)
        print(f"never killed: {_STEPS} steps, {len(expected)} arrays", flush=True)
        wrong = 0
        for ended in _kills(engine, Path(folder), expected, repeats, random.Random(seed)):
            bad = ended.status != 0 or ended.difference != 0.0 or ended.restarts != 1
            wrong += bad
            print(
                f"killed {ended.killed:6} after step {ended.step:4}: status {ended.status}, "
                f"{ended.restarts} restart(s), largest difference {ended.difference:.2g}, "
                f"{ended.seconds:.0f} s{'   <-- differs' if bad else ''}",
                flush=True,
            )
    print(f"{wrong} of {repeats * len(KILLED)} differ")
    return int(wrong > 0)


def _kills(
    engine: Engine,
    folder: Path,
    expected: dict[str, np.ndarray],
    repeats: int,
    draw: random.Random,
) -> Iterator[Ended]:
    for repeat in range(repeats):
        for name, indices in KILLED.items():
            path, started = folder / f"{name}{repeat}", time.monotonic()
            after = draw.randrange(_EVERY, _STEPS - 4 * _EVERY, _EVERY)
            step, status, said = _launch(engine, path, indices, after, draw.uniform(0, 0.4))
            weights = final_weights(path)
            yield Ended(
                name,
                step,
                status,
                len(re.findall(engine.start, said)) - 1,
                max(float(np.abs(weights[key] - expected[key]).max()) for key in expected),
                time.monotonic() - started,
            )


def _launch(
    engine: Engine, output: Path, indices: tuple[int, ...], after: int, pause: float = 0.0
) -> tuple[int, int, str]:
    """Runs two workers; kills some once a checkpoint is there. Returns step, status, output."""
    words = [sys.executable, "-m", "keras_resnet_train.cli", *engine.words.split(), "--"]
    with open(output.with_suffix(".log"), "w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*words, *_TRAIN.split(), "--output", str(output)], stdout=log, stderr=log
        )
        checkpoints, end = output / "checkpoints", time.monotonic() + _SECONDS
        while indices and _newest(checkpoints) < after and process.poll() is None:
            if time.monotonic() > end:
                raise TimeoutError(f"No checkpoint of step {after} after {_SECONDS} s")
            time.sleep(0.02)
        time.sleep(pause)
        step = _newest(checkpoints)
        log.seek(0)
        numbers = re.findall(engine.worker, log.read(), re.MULTILINE)
        for index in indices:
            subprocess.run(["kill", "-9", numbers[index]], check=False)
        status = process.wait(timeout=_SECONDS)
        log.seek(0)
        said = log.read()
    if status != 0:
        print(said[-3000:])
    return step, status, said


def _newest(checkpoints: Path) -> int:
    return max((int(path.name[5:]) for path in checkpoints.glob("step_*")), default=0)


def final_weights(output: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a run's last checkpoint by their paths in its file of weights."""
    import h5py

    newest = max((output / "checkpoints").glob("step_*"))
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(newest / "model.weights.h5") as file:

        def keep(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                arrays[name] = np.asarray(item)

        file.visititems(keep)
    if not arrays:
        raise ValueError(f"{newest} holds no weights")
    return arrays
