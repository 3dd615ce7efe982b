"""Runs as a list, and the curves of several runs in one page; needs no TensorFlow."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .files import read_json
from .remote.layout import DEPTH, SUBFOLDERS

_LARGEST = 1e15  # of steps and accuracies that are shown


class RunState(NamedTuple):
    """What the files of a run's directory say.

    Attributes:
        path: The directory.
        state: `finished`; `training`, if a process has locked it; `stopped`; or what is damaged.
        step: Step of its newest checkpoint or of its last epoch, the later one; 0 for none.
        steps: Steps of the whole run, or None where they follow from the data.
        accuracy: Top-1 accuracy: of the test split, else of the validation split, else the last
            one of the history; None before any.
        measured: What the accuracy was measured on.
        age: Seconds since the run wrote a file.
    """

    path: Path
    state: str
    step: int
    steps: int | None
    accuracy: float | None
    measured: str
    age: float


def find_runs(folder: Path) -> list[Path]:
    """Returns the runs at or below a folder, by path.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"No folder at {folder}")
    found, level = [], [folder]
    for _ in range(DEPTH):
        below: list[Path] = []
        for path in level:
            if (path / "config.json").is_file():
                found.append(path)
            below += [
                each
                for each in path.iterdir()
                if each.is_dir()
                and not each.is_symlink()
                and not each.name.startswith(".")
                and each.name not in SUBFOLDERS
            ]
        level = below
    return sorted(found)


def run_state(path: Path) -> RunState:
    """Reads how far a run is. A damaged file is the run's state, never an error."""
    from .checkpoint import Checkpoints

    damaged: list[str] = []

    def read(name: str) -> dict[str, Any]:
        try:
            content = read_json(path / name)
            return content if isinstance(content, dict) else {}
        except FileNotFoundError:
            return {}
        except (ValueError, OSError):
            damaged.append(name)
            return {}

    config, metrics = read("config.json"), read("metrics.json")
    rows = history(path)
    if rows is None:
        damaged.append("history.csv")
    last = (rows or [{}])[-1]
    saved = Checkpoints(path / "checkpoints").last_step()
    accuracy, measured = _accuracy(metrics, last)
    if damaged:
        state = f"damaged: {', '.join(damaged)}"
    elif (path / "model.keras").is_file():
        state = "finished"
    else:
        state = "training" if _is_training(path) else "stopped"
    steps = config.get("steps")
    names = ("config.json", "history.csv", "metrics.json", "metrics.jsonl", "model.keras")
    written = [file.stat().st_mtime for file in map(path.joinpath, names) if file.is_file()]
    return RunState(
        path,
        state,
        max(saved, int(_finite(last.get("step")) or 0)),
        steps if isinstance(steps, int) else None,
        accuracy,
        measured,
        max(0.0, time.time() - max(written, default=time.time())),
    )


def history(path: Path) -> list[dict[str, float]] | None:
    """Returns the rows of a run's `history.csv`, one per epoch; None if it is damaged."""
    file = path / "history.csv"
    if not file.is_file():
        return []
    try:
        with file.open(encoding="utf-8", newline="") as text:
            return [
                {name: float(value) if value else math.nan for name, value in row.items()}
                for row in csv.DictReader(text)
            ]
    except (ValueError, TypeError, AttributeError, OSError, csv.Error):
        return None


def _finite(value: Any) -> float | None:
    """Returns a number of a damaged file; None for anything else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and abs(value) < _LARGEST else None


def _accuracy(metrics: Mapping[str, Any], last: Mapping[str, float]) -> tuple[float | None, str]:
    for split in ("test", "validation"):
        part = metrics.get(split)
        value = part.get("accuracy") if isinstance(part, dict) else None
        if (number := _finite(value)) is not None:
            return number, split
    for name, split in (("test_accuracy", "test"), ("val_accuracy", "validation")):
        if math.isfinite(last.get(name, math.nan)):
            return last[name], f"{split}, last epoch"
    if math.isfinite(last.get("accuracy", math.nan)):
        return last["accuracy"], "training, last epoch"
    return None, ""


def _is_training(path: Path) -> bool:
    """Whether a process trains in a run's directory, or in the place that it is a copy of."""
    return _locked(path / ".lock") or (path / ".training").is_file()


def _locked(file: Path) -> bool:
    """Whether a process holds a lock."""
    from keras_resnet.weights.files.file_system import lock, unlock

    if not file.is_file():
        return False
    try:
        descriptor = lock(file, wait=False)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if descriptor is not None:
        unlock(descriptor, file, remove=False)
    return False


def age_text(seconds: float) -> str:
    """Returns an age in its largest unit, such as `3 h`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def names_of(paths: Sequence[Path]) -> list[str]:
    """Returns a short name of each run: the last parts of its path that tell it from the others."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(each[-count:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
