"""Gathers what a run's report shows."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from .data import raw_images
from .report import ReportData, Sample, write_report
from .rundir import Run, open_run
from .session import resolve_data

_SAMPLES = 24


def write_run_report(path: Path) -> Path:
    """Writes `report.html` of a finished run.

    Args:
        path: The run's directory.

    Returns:
        The report's path.

    Raises:
        FileNotFoundError: If there is no finished run.
    """
    run = open_run(path)
    metrics = run.directory.metrics
    split = next((name for name in ("test", "validation") if name in metrics), None)
    if split is None:
        raise FileNotFoundError(f"{path} was never evaluated: it has no test or validation metrics")
    found = metrics[split]
    confusion = np.asarray(found["confusion"])
    target = path / "report.html"
    write_report(
        target,
        ReportData(
            title=f"{run.spec.name} on {run.config.data.dataset}",
            summary=_summary(run, metrics),
            history=_history(path / "history.csv"),
            evaluation={
                key: found[key] for key in ("accuracy", "top5_accuracy", "loss", "examples")
            },
            split=split,
            class_names=run.class_names,
            confusion=confusion,
            samples=_samples(run, split),
            exports=metrics.get("exports", []),
            config=dataclasses.asdict(run.config),
        ),
    )
    return target


def _summary(run: Run, metrics: dict[str, Any]) -> dict[str, str]:
    training, environment = metrics.get("training", {}), metrics.get("environment", {})
    config = run.config
    length = f"{config.epochs:g} epochs" if config.epochs else f"{config.steps} steps"
    devices = ", ".join(environment.get("gpus", [])) or f"{environment.get('cpus', '?')} CPU cores"
    return {
        "Net": f"{run.spec.name}, {run.spec.layers} layers, "
        f"{run.model.count_params():,} parameters",
        "Data": f"{config.data.dataset}, {' x '.join(map(str, run.model.inputs[0].shape[1:]))}",
        "Recipe": f"{config.recipe}, {length}, batch {config.batch_size}, seed {config.seed}",
        "Weights chosen by": str(training.get("chosen_by", "")),
        "Training": f"{training.get('seconds', 0):.0f} s, "
        f"{training.get('images_per_second', 0):.0f} images/s on "
        f"{training.get('replicas', 1)} replica(s)",
        "Machine": f"{devices}, {environment.get('system', '')}",
        "Software": f"keras_resnet {environment.get('keras_resnet', '')}, "
        f"Keras {environment.get('keras', '')}, TensorFlow {environment.get('tensorflow', '')}",
        "Again": "keras-resnet train --config config.json --output DIRECTORY",
    }


def _history(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _samples(run: Run, split: str) -> list[Sample]:
    """Wrong predictions first, the most confident ahead, then right ones from across the split."""
    data, _ = resolve_data(run.config, run.spec)
    images, labels = raw_images(data.split(split), run.preprocess, data.channels, 1024)
    logits = np.asarray(run.model.predict(run.preprocess.normalize(images), verbose=0))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-sure[wrong])][: _SAMPLES // 2]
    right = np.flatnonzero(predicted == labels)
    picked = np.linspace(0, len(right) - 1, min(len(right), _SAMPLES - len(wrong)))
    chosen = [*wrong, *right[picked.astype("int64")]]
    if images.shape[-1] not in (1, 3):
        return []
    return [Sample(images[i], int(labels[i]), int(predicted[i]), float(sure[i])) for i in chosen]
