"""Two workers of `keras-resnet launch`, killed while they share the reading of a folder of images.

Half of the kills come while the workers have begun and nothing is written yet, the others after the
index of the images was first written.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .kills import ENGINES, KILLED, final_weights

_SECONDS = 600
_TRAIN = (
    "train --recipe digits --model cifar_resnet8 --set data.image_size=8 --test-size 0.1 "
    "--set model.spec.widths=[4,8,8] --batch-size 64 --steps 10"
)
_ENGINE = ENGINES["launch"]


class Ended(NamedTuple):
    """One run.

    Attributes:
        known: Images in the index when workers were killed.
        missing: Images that each worker had to read after the restart, at most.
        status: The launcher's exit status.
        said: Its output.
    """

    known: int
    missing: int
    status: int
    said: str


def run(images: int, repeats: int, seed: int) -> int:
    """Prints one line per kill; returns 1 if any run ended otherwise than one never killed.

    Args:
        images: Number of images.
        repeats: Of the kills of worker, chief and both.
        seed: Of the moments.
    """
    draw = random.Random(seed)
    wrong = number = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_images(folder / "images", images)
        whole = folder / "whole"
        ended = _launch(folder, whole, (), 0.0, written=False)
        expected = final_weights(whole)
        print(f"never killed: status {ended.status}, {images} images", flush=True)
        for repeat in range(repeats):
            for killed, indices in KILLED.items():
                output, number = folder / f"{killed}{repeat}", number + 1
                written = number % 2 == 0
                ended = _launch(folder, output, indices, draw.uniform(0, 2), written=written)
                faults = _faults(ended, output, whole, expected, images)
                wrong += bool(faults)
                print(
                    f"killed {killed:6} with {ended.known:6} images known: status {ended.status}, "
                    f"{ended.missing} to read after the restart"
                    f"{'   <-- ' + ', '.join(faults) if faults else ''}",
                    flush=True,
                )
    print(f"{wrong} of {number} differ")
    return int(wrong > 0)


def _faults(
    ended: Ended, output: Path, whole: Path, expected: dict[str, np.ndarray], images: int
) -> list[str]:
    """Returns what is not as in the run that was never killed."""
    if ended.status:
        return [f"status {ended.status}: {ended.said[-2000:]}"]
    faults = []
    starts = len(re.findall(_ENGINE.start, ended.said))
    if starts != 2:
        faults.append(f"{starts} starts")
    if ended.missing > images - ended.known:
        faults.append("images were read again")
    listings = [(path / "data_files.csv.gz").read_bytes() for path in (whole, output)]
    if listings[0] != listings[1]:
        faults.append("another listing of files")
    if len(_names(output / "data_index.csv.gz")) != images:
        faults.append("an index of other files")
    left = [path.name for path in output.rglob(".*") if path.name != ".lock"]
    if left:
        faults.append(f"left: {left}")
    weights = final_weights(output)
    if any((weights[key] != expected[key]).any() for key in expected):
        faults.append("other weights")
    return faults


def _launch(
    folder: Path, output: Path, indices: tuple[int, ...], pause: float, *, written: bool
) -> Ended:
    """Runs two workers with a cache of their own, and kills some while they read."""
    home = output.with_suffix(".home")
    words = [sys.executable, "-m", "keras_resnet_train.cli", *_ENGINE.words.split(), "--"]
    words += [*_TRAIN.split(), "--dataset", str(folder / "images"), "--output", str(output)]
    known = missing = 0
    with output.with_suffix(".log").open("w+", encoding="utf-8") as log:
        environment = {**os.environ, "KERAS_HOME": str(home)}
        process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
        if indices:
            _wait(process, lambda: len(_signs(output)) == 2)
            if written:
                _wait(process, lambda: any(home.rglob("*.csv.gz")))
            time.sleep(pause)
            before = {token for token, _ in _signs(output)}
            log.seek(0)
            numbers = re.findall(_ENGINE.worker, log.read(), re.MULTILINE)
            for index in indices:
                os.kill(int(numbers[index]), 9)
            known = max((len(_names(path)) for path in home.rglob("*.csv.gz")), default=0)
            _wait(process, lambda: len([t for t, _ in _signs(output) if t not in before]) == 2)
            missing = max((count for _, count in _signs(output)), default=0)
        status = process.wait(timeout=_SECONDS)
        log.seek(0)
        return Ended(known, missing, status, log.read())


def _wait(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    """Waits until something holds, or the process has ended."""
    end = time.monotonic() + _SECONDS
    while process.poll() is None and not ready():
        if time.monotonic() > end:
            process.kill()
            raise TimeoutError(f"Nothing after {_SECONDS} s")
        time.sleep(0.02)


def _signs(output: Path) -> list[tuple[int, int]]:
    """Returns token and missing images of each worker that reads the first split."""
    found = []
    for path in output.glob(".data_index.csv.gz.s????_00"):
        try:
            token, missing, _ = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found.append((token, missing))
    return found


def _names(index: Path) -> set[str]:
    """Returns the images that an index knows; a name that is in it twice counts once."""
    lines = gzip.decompress(index.read_bytes()).decode().splitlines()[1:]
    return {line.split(",")[0] for line in lines}


def _write_images(root: Path, count: int) -> None:
    """Writes JPEGs of the same pixels, 900 x 900, and different content by a comment each."""
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 256, (90, 90, 3), "uint8")
    encoded = io.BytesIO()
    Image.fromarray(coarse).resize((900, 900)).save(encoded, "JPEG", quality=90)
    content = encoded.getvalue()
    for number in range(count):
        path = root / "ab"[number % 2] / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        comment = b"\xff\xfe" + (10).to_bytes(2, "big") + f"{number:08}".encode()
        path.write_bytes(content[:2] + comment + content[2:])
