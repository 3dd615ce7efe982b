"""The trials of a study, run one after another as ordinary runs that can be resumed."""

from __future__ import annotations

import csv
import dataclasses
import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..console import quiet_retracing
from ..errors import TrainingDivergedError
from ..files import read_json, write_json
from ..rundir import RunDirectory
from .curve import StepCurve, read_curve
from .plan import Trial

# Final training loss and error are means over this last fraction of the steps.
TAIL = 0.1


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    Attributes:
        trial: The trial.
        diverged: Message about the loss that stopped being finite, or "".
        training_loss: Mean cross-entropy over the last tenth of the steps, with augmentation and
            batch statistics, nats.
        training_error: Top-1 error in the same steps, 0..1.
        test_loss: Mean cross-entropy of the test images (or else the validation images), nats.
        test_error: Top-1 error of the same images, 0..1.
        curve: Rows (step, training loss, training accuracy), means since the previous row.
        tests: Rows (step, test loss, test accuracy), one per epoch.
        images_per_second: Training throughput, without the first call.
        seconds: Training time, including the first call.
    """

    trial: Trial
    diverged: str
    training_loss: float
    training_error: float
    test_loss: float
    test_error: float
    curve: tuple[tuple[int, float, float], ...]
    tests: tuple[tuple[int, float, float], ...]
    images_per_second: float
    seconds: float

    @property
    def finished(self) -> bool:
        """Whether it trained to the end."""
        return not self.diverged


def run_trials(
    trials: Sequence[Trial],
    output: Path,
    *,
    callbacks: Callable[[Trial, Path], Sequence[keras.callbacks.Callback]] = lambda trial, path: (),
) -> list[TrialResult]:
    """Trains the trials that have not ended, and reads the results of all.

    The same call resumes a study that was killed, also within a run.

    Args:
        trials: The trials.
        output: Directory of the study; the runs are below `runs`.
        callbacks: Returns further Keras callbacks for a trial and the directory of its run.

    Raises:
        ValueError: If a run cannot be started; as far as possible before anything is trained.
        TrainingStoppedError: After SIGTERM or SIGINT, once the state is saved.
    """
    from ..session import run_training

    folder = output / "runs"
    for trial in trials:  # a directory of another study is found before hours of training
        RunDirectory(folder / trial.name).check(trial.config, "auto")
    results = []
    for number, trial in enumerate(trials, start=1):
        path = folder / trial.name
        if not _ended(path):
            print(f"[{number}/{len(trials)}] {trial.arm.label}, seed {trial.seed}")
            curve = StepCurve(path / "steps.csv")
            try:
                with quiet_retracing():
                    run_training(trial.config, path, callbacks=[curve, *callbacks(trial, path)])
            except TrainingDivergedError as error:
                # Divergence is recorded as the result; another attempt would diverge too.
                write_json(path / "diverged.json", {"message": str(error)})
                print(f"Diverged: {error}")
            finally:
                curve.close()
            keras.backend.clear_session()
            gc.collect()
        results.append(read_result(trial, path))
    return results


def _ended(path: Path) -> bool:
    return RunDirectory(path).model.is_file() or (path / "diverged.json").is_file()


def read_result(trial: Trial, path: Path) -> TrialResult:
    """Reads the result of a trial from its run's directory.

    Raises:
        FileNotFoundError: If it has not ended.
        ValueError: If a file is damaged.
    """
    if not _ended(path):
        raise FileNotFoundError(f"{path} has not ended")
    diverged = path / "diverged.json"
    curve = read_curve(path / "steps.csv") if (path / "steps.csv").is_file() else []
    metrics = RunDirectory(path).metrics
    measured = metrics.get("test") or metrics.get("validation") or {}
    training = metrics.get("training", {})
    missing = float("nan")
    loss, accuracy = _tail(curve)
    return TrialResult(
        trial=trial,
        diverged=str(read_json(diverged)["message"]) if diverged.is_file() else "",
        training_loss=loss,
        training_error=1 - accuracy,
        test_loss=float(measured.get("loss", missing)),
        test_error=1 - float(measured.get("accuracy", missing)),
        curve=tuple(curve),
        tests=tuple(_tests(path / "history.csv")),
        images_per_second=float(training.get("images_per_second", missing)),
        seconds=float(training.get("seconds", missing)),
    )


def _tail(curve: Sequence[tuple[int, float, float]]) -> tuple[float, float]:
    """Returns the mean loss and accuracy over the last fraction of the steps."""
    if not curve:
        return float("nan"), float("nan")
    rows = np.asarray(curve, "float64")
    # Each row is a mean over the steps since the previous one.
    steps = np.diff(rows[:, 0], prepend=0.0)
    kept = rows[:, 0] > rows[-1, 0] * (1 - TAIL)
    loss, accuracy = np.average(rows[kept, 1:], axis=0, weights=steps[kept])
    return float(loss), float(accuracy)


def _tests(path: Path) -> list[tuple[int, float, float]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    split = next((name for name in ("test", "val") if rows and f"{name}_loss" in rows[0]), None)
    if split is None:
        return []
    return [
        (int(row["step"]), float(row[f"{split}_loss"]), float(row[f"{split}_accuracy"]))
        for row in rows
    ]
