"""Writing `report.html` of a training run."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import read_arrays
from ..files import read_object, write_text
from ..presentation.findings import json_values
from ..presentation.page import folded, html_page, listing, section
from ..rundir import Run, open_run
from . import pictures, predictions, sections
from .card import data_name
from .data import Augmented, Counts, ReportData, Sample

_LINKS = {
    "summary": "Summary",
    "curves": "Training",
    "augmented": "Training images",
    "confusion": "Confusion",
    "classes": "Classes",
    "samples": "Samples",
    "exports": "Exports",
    "configuration": "Configuration",
}
# Figures of a split that the header shows.
_FIGURES = (
    "accuracy",
    "mean_average_precision",
    "micro_f1",
    "macro_f1",
    "top5_accuracy",
    "loss",
    "examples",
)
# Smoothed labels give every class a share; one below this is not named.
_LEAST_SHARE = 0.02


def write_run_report(path: Path) -> Path:
    """Writes `report.html` of a finished run.

    Args:
        path: The run's directory.

    Returns:
        The report's path.

    Raises:
        FileNotFoundError: If there is no finished run.
        ValueError: If one of its files is damaged.
    """
    with naming_damage(path):
        return _write(path)


@contextlib.contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turns the errors of values of wrong types, in files of a run, into one that names the run.

    Raises:
        ValueError: In their place.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(
            f"A file of {path} is not what was written, metrics.json or dataset.json: {error!r}"
        ) from error
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"A file of {path} is not what was written: {error}") from error


def _write(path: Path) -> Path:
    run = open_run(path)
    metrics = run.directory.metrics
    split = next((name for name in ("test", "validation") if name in metrics), None)
    if split is None:
        raise FileNotFoundError(f"{path} was never evaluated: it has no test or validation metrics")
    measured = metrics[split]
    stored = read_samples(path / "samples.npz")
    counts = Counts.of_metrics(measured)
    data = ReportData(
        title=f"{run.spec.name} on {data_name(run.config.data.dataset)}",
        summary=_summary(run, metrics),
        history=read_history(path / "history.csv"),
        evaluation={key: measured[key] for key in _FIGURES if key in measured},
        split=split,
        class_names=run.class_names,
        counts=counts,
        samples=_samples(stored, ""),
        exports=metrics.get("exports", []),
        config=dataclasses.asdict(run.config),
        confused=_samples(stored, "confused_"),
        augmented=_augmented(stored),
        by_class=() if counts is not None else _by_class(measured, run.class_names),
    )
    target = path / "report.html"
    write_text(target, render_report(data))
    return target


def render_report(data: ReportData) -> str:
    """Returns the report as one HTML page that needs no other file.

    Equal data gives an equal page.
    """
    config = json.dumps(json_values(data.config), indent=2, ensure_ascii=False)
    if data.counts is None:
        classes = {"classes": predictions.several_labels(data)}
    else:
        classes = {
            "confusion": predictions.confusion(data),
            "classes": predictions.per_class(data),
            "samples": pictures.samples(data),
        }
    parts = {
        "summary": sections.summary(data),
        "curves": sections.training(data),
        **({"augmented": pictures.augmented(data)} if data.augmented else {}),
        **classes,
        "exports": sections.exported(data),
        "configuration": section(
            "configuration", "Configuration", folded("Show as JSON", listing(config))
        ),
    }
    links = {name: _LINKS[name] for name in parts}
    return html_page(data.title, sections.header(data), links, tuple(parts.values()))


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
        "Initial weights": _initial_weights(run),
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
    """Returns the rows of `history.csv`; none where there is no such file.

    Raises:
        ValueError: If it is damaged.
    """
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [{key: float(value) for key, value in row.items()} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path} is damaged: {error}") from error


def read_samples(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of `samples.npz`; none where there is no such file.

    Raises:
        ValueError: If it is damaged.
    """
    if not path.is_file():
        return {}
    return read_arrays(path)


def _samples(stored: Mapping[str, np.ndarray], prefix: str) -> list[Sample]:
    names = [f"{prefix}{name}" for name in ("images", "true", "predicted", "probability")]
    if not all(name in stored for name in names):
        return []
    return [
        Sample(image, int(true), int(predicted), float(probability))
        for image, true, predicted, probability in zip(*map(stored.get, names), strict=True)
        if image.shape[-1] in (1, 3)
    ]


def _augmented(stored: Mapping[str, np.ndarray]) -> list[Augmented]:
    """Returns the training images; several labels or shares of classes are rows of numbers."""
    if "augmented_images" not in stored:
        return []
    examples = []
    for image, label in zip(stored["augmented_images"], stored["augmented_labels"], strict=True):
        if image.shape[-1] not in (1, 3):
            return []
        examples.append(Augmented(image, _shares(label)))
    return examples


def _shares(label: np.ndarray) -> list[tuple[int, float]]:
    """Returns the classes of a label, a number or a row of shares, and their shares."""
    if not label.ndim:
        return [(int(label), 1.0)]
    order = np.argsort(-label, kind="stable")
    return [(int(index), float(label[index])) for index in order if label[index] > _LEAST_SHARE]


def _by_class(measured: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the figures of each class where an image may have several labels."""
    columns = ("average_precision", "f1", "thresholds", "support")
    rows = zip(names, *(measured[name] for name in columns), strict=True)
    keys = ("name", "average_precision", "f1", "threshold", "support")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _initial_weights(run: Run) -> str:
    """Returns what the weights came from."""
    source = run.config.model.weights
    if source is None:
        return f"random, seed {run.config.seed}"
    record = run.directory.path / "weights.json"
    parts = [source]
    if record.is_file():
        values = read_object(record)
        if values.get("files"):
            parts.append(f"SHA-256 {values['files'][0]['sha256'][:8]}")
        parts += values.get("changes", [])
    if run.config.model.freeze is not None:
        frozen = run.config.model.freeze
        parts.append("all but the classifier frozen" if frozen == "all" else f"freeze {frozen}")
    return "; ".join(parts)
