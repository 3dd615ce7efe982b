"""Writing `report.html` of a training run."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_text
from ..presentation.findings import json_values
from ..presentation.page import folded, html_page, listing, section
from ..rundir import Run, open_run
from . import predictions, sections
from .data import ReportData, Sample

_LINKS = {
    "summary": "Summary",
    "curves": "Training",
    "confusion": "Confusion",
    "classes": "Recall by class",
    "samples": "Samples",
    "exports": "Exports",
    "configuration": "Configuration",
}


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
    measured = metrics[split]
    data = ReportData(
        title=f"{run.spec.name} on {run.config.data.dataset}",
        summary=_summary(run, metrics),
        history=read_history(path / "history.csv"),
        evaluation={
            key: measured[key] for key in ("accuracy", "top5_accuracy", "loss", "examples")
        },
        split=split,
        class_names=run.class_names,
        confusion=np.asarray(measured["confusion"]),
        samples=_samples(path / "samples.npz"),
        exports=metrics.get("exports", []),
        config=dataclasses.asdict(run.config),
    )
    target = path / "report.html"
    write_text(target, render_report(data))
    return target


def render_report(data: ReportData) -> str:
    """Returns the report as one HTML page that needs no other file.

    Equal data gives an equal page.
    """
    config = json.dumps(json_values(data.config), indent=2, ensure_ascii=False)
    return html_page(
        data.title,
        sections.header(data),
        _LINKS,
        (
            sections.summary(data),
            sections.training(data),
            predictions.confusion(data),
            predictions.per_class(data),
            predictions.samples(data),
            sections.exported(data),
            section("configuration", "Configuration", folded("Show as JSON", listing(config))),
        ),
    )


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
        "Reproduce with": "keras-resnet train --config config.json --output DIRECTORY",
    }


def read_history(path: Path) -> list[dict[str, float]]:
    """Returns the rows of `history.csv`; none where there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _samples(path: Path) -> list[Sample]:
    if not path.is_file():
        return []
    with np.load(path) as stored:
        rows = zip(
            stored["images"],
            stored["true"],
            stored["predicted"],
            stored["probability"],
            strict=True,
        )
        return [
            Sample(image, int(true), int(predicted), float(probability))
            for image, true, predicted, probability in rows
            if image.shape[-1] in (1, 3)
        ]
