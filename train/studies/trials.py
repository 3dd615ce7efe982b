"""Running the trials of a study one after another; each is an ordinary run that can be resumed."""

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

# The last part of a run that its final training loss and error are the mean over.
TAIL = 0.1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        trial: The trial.
        diverged: What the loss did where it was no longer finite, or "".
        training_loss: Mean cross-entropy over the last tenth of the steps, as trained: with
            augmentation, on batch statistics; nats.
        training_error: Share of wrong answers in the same steps, 0..1.
        test_loss: On the test images (the validation images where there are none), nats.
        test_error: Likewise, 0..1.
        curve: Rows (step, training loss, training accuracy), each the mean since the row before.
        tests: Rows (step, test loss, test accuracy), one an epoch.
        images_per_second: Training speed, without the first call.
        seconds: Spent on training, the first call included.
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
    say: Callable[[str], None] = print,
) -> list[Outcome]:
    """Trains what is not trained yet and reads what is.

    The same call goes on where an earlier one was killed, inside a run too.

    Args:
        trials: What to run.
        output: Directory of the study; runs lie below `runs`.
        callbacks: Makes further Keras callbacks for a trial's run in a directory.
        say: Told of what happens.

    Raises:
        ValueError: If a run cannot be started; before anything is trained, where that shows.
        TrainingStoppedError: After SIGTERM or SIGINT, once the state is saved.
    """
    from ..session import run_training

    folder = output / "runs"
    for trial in trials:  # a directory of another study shows before hours of work
        RunDirectory(folder / trial.name).check(trial.config, "auto")
    outcomes = []
    for number, trial in enumerate(trials, start=1):
        path = folder / trial.name
        if not _ended(path):
            say(f"[{number}/{len(trials)}] {trial.arm.label}, seed {trial.seed}")
            curve = StepCurve(path / "steps.csv")
            try:
                with quiet_retracing():
                    run_training(trial.config, path, callbacks=[curve, *callbacks(trial, path)])
            except TrainingDivergedError as error:
                # That a net does not train is a result; another attempt would find the same.
                write_json(path / "diverged.json", {"message": str(error)})
                say(f"Diverged: {error}")
            finally:
                curve.close()
            keras.backend.clear_session()
            gc.collect()
        outcomes.append(read_outcome(trial, path))
    return outcomes


def _ended(path: Path) -> bool:
    return RunDirectory(path).model.is_file() or (path / "diverged.json").is_file()


def read_outcome(trial: Trial, path: Path) -> Outcome:
    """Reads how a trial ended from its run's directory.

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
    return Outcome(
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
    """Returns the mean loss and accuracy over the last part of the steps."""
    if not curve:
        return float("nan"), float("nan")
    rows = np.asarray(curve, "float64")
    steps = np.diff(rows[:, 0], prepend=0.0)  # each row stands for the steps since the row before
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
