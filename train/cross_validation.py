"""K runs of one configuration, each tested on another fold of the training images."""

from __future__ import annotations

import gc
import math
import statistics
from pathlib import Path
from typing import Any

import keras

from .config import RunConfig, with_changes
from .console import quiet_retracing
from .files import write_json
from .rundir import Resume, RunDirectory
from .session import run_training


def cross_validate(
    config: RunConfig, folds: int, output: Path, *, resume: Resume = "auto"
) -> dict[str, Any]:
    """Trains the runs that have not ended, and writes `folds.json` with their accuracies.

    The same call resumes a cross-validation that was killed, also within a run.

    Args:
        config: The configuration of all runs, which differ in `data.fold`.
        folds: Number of runs.
        output: Directory; the runs are `fold1` to `foldK` below it.
        resume: As for `run_training`.

    Returns:
        The content of `folds.json`: `accuracies`, their `mean`, and their sample standard
        deviation as `spread`.

    Raises:
        ValueError: If there are fewer than two folds, or a run cannot be started.

    Example:
        >>> result = cross_validate(config, 5, Path("saved_models/flowers"))
        >>> result["mean"], result["spread"]
    """
    if folds < 2:
        raise ValueError(f"`--folds` must be at least 2. Received: {folds}")
    if (output / "config.json").is_file():
        raise ValueError(f"{output} is a run of its own: choose another --output for the folds")
    paths = [output / f"fold{number}" for number in range(1, folds + 1)]
    configs = [
        with_changes(config, {"data.folds": folds, "data.fold": fold}) for fold in range(folds)
    ]
    accuracies = []
    for number, (path, each) in enumerate(zip(paths, configs, strict=True), start=1):
        print(f"Fold {number} of {folds}", flush=True)
        with quiet_retracing():
            directory = run_training(each, path, resume=resume)
        accuracies.append(_accuracy(directory))
        keras.backend.clear_session()
        gc.collect()
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
    result = {
        "folds": folds,
        "accuracies": accuracies,
        "mean": mean,
        "spread": spread,
        "runs": [path.name for path in paths],
    }
    write_json(output / "folds.json", result)
    print(
        f"{folds} folds: accuracy {mean:.4f} +- {spread:.4f} (standard deviation of a run; "
        f"{spread / math.sqrt(folds):.4f} of the mean)"
    )
    return result


def _accuracy(directory: RunDirectory) -> float:
    metrics = directory.metrics.get("test")
    if metrics is None:
        raise ValueError(f"{directory.path} has no test split: the data set has no folds")
    return float(metrics["accuracy"])
