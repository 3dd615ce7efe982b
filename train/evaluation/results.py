"""The files of an evaluation, in a directory that is written as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import new_directory, write_bytes, write_json, write_text
from ..presentation.tables import csv_text
from .classes import class_csv, class_table, confusion_csv
from .pictures import mistakes_png, reliability_svg
from .tally import Measurement

_FILES = (
    "evaluation.json",
    "classes.csv",
    "confusion.csv",
    "reliability.svg",
    "error_cases.png",
)


def check_output(path: Path) -> None:
    """Checks that a directory can be written without replacing other files.

    Raises:
        ValueError: If it holds anything but an earlier evaluation, or cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"`--output` must be a directory. Received: {path}")
    foreign = sorted(set(os.listdir(path)) - set(_FILES)) if path.is_dir() else []
    if foreign:
        raise ValueError(
            "`--output` must be new, empty, or hold an earlier evaluation, which is replaced. "
            f"{path} holds {', '.join(foreign[:3])}"
        )
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"`--output` must be in a directory that can be written. {above} is not")


def write_results(
    path: Path,
    measurement: Measurement,
    names: Sequence[str],
    facts: Mapping[str, Any],
    files: Sequence[str] = (),
) -> None:
    """Writes a measurement; an earlier evaluation in `path` is replaced.

    `evaluation.json` holds the metrics, `classes.csv` precision, recall, F1 and support of each
    class, `confusion.csv` the counts of pairs, `reliability.svg` the reliability diagram, and
    `error_cases.png` the kept mistakes, if any.

    Args:
        path: The directory.
        measurement: The metrics.
        names: Names of the classes.
        facts: Data, nets and environment; the first entries of `evaluation.json`.
        files: The file of each image of the split, if they are files.
    """
    values = measurement.evaluation.to_dict()
    confusion = measurement.evaluation.counts
    for part in ("confusion", "class_counts"):  # they have files of their own
        values.pop(part, None)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_directory(path) as folder:
        write_json(
            folder / "evaluation.json",
            {
                **facts,
                **values,
                **among_all_outputs(measurement),
                "calibration": measurement.calibration.to_dict(),
                "error_cases": [
                    {
                        "image": case.number,
                        **({"file": files[case.number]} if files else {}),
                        "true": names[case.true],
                        "predicted": names[case.predicted],
                        "probability": case.probability,
                    }
                    for case in measurement.mistakes
                ],
            },
        )
        write_text(folder / "classes.csv", class_csv(class_table(confusion, names)))
        write_text(folder / "confusion.csv", confusion_csv(confusion, names))
        write_text(folder / "reliability.svg", reliability_svg(measurement.calibration))
        if measurement.mistakes:
            write_bytes(folder / "error_cases.png", mistakes_png(measurement.mistakes, names))


def write_label_results(
    path: Path, metrics: Mapping[str, Any], names: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Writes a measurement of images that may have several labels, as `write_results` does.

    `evaluation.json` holds the metrics, `classes.csv` average precision, F1, threshold and support
    of each class.

    Args:
        path: The directory.
        metrics: The metrics, as `MultilabelEvaluation.to_dict` returns them.
        names: Names of the classes.
        facts: Data, nets and environment; the first entries of `evaluation.json`.
    """
    columns = ("average_precision", "f1", "thresholds", "support")
    rows = zip(range(len(names)), names, *(metrics[name] for name in columns), strict=True)
    head = ("class", "name", "average_precision", "f1", "threshold", "support")
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_directory(path) as folder:
        write_json(folder / "evaluation.json", {**facts, **metrics})
        write_text(folder / "classes.csv", csv_text(head, list(rows)))


def among_all_outputs(measurement: Measurement) -> dict[str, Any]:
    """Returns the metrics among all outputs, where the data has only some of the classes."""
    unmasked = measurement.unmasked
    if unmasked is None:
        return {}
    return {
        "classes": measurement.evaluation.counts.classes,
        "outputs": unmasked.outputs,
        "accuracy_among_all_outputs": unmasked.accuracy,
        "top5_accuracy_among_all_outputs": unmasked.top5,
    }


def describe_measurement(measurement: Measurement) -> list[str]:
    """Returns the metrics as lines for the terminal."""
    evaluation, unmasked = measurement.evaluation, measurement.unmasked
    values = evaluation.to_dict()
    lines = [f"images    {evaluation.examples}"]
    if unmasked is not None:
        lines.append(
            f"classes   {evaluation.counts.classes} of the net's {unmasked.outputs}; the figures "
            "are among these classes alone, as the other outputs are left out"
        )
    for label, share, key in (
        ("accuracy", evaluation.accuracy, "accuracy_interval"),
        ("top-5", evaluation.top5, "top5_interval"),
    ):
        low, high = values[key]
        lines.append(f"{label:<10}{share:.4f}  (95 % interval {low:.4f} to {high:.4f})")
    lines.append(f"loss      {evaluation.loss:.4f}  (negative log likelihood)")
    error = measurement.calibration.error
    lines.append(f"ECE       {error:.4f}  (expected calibration error)")
    if unmasked is not None:
        lines.append(
            f"among all {unmasked.outputs} outputs: accuracy {unmasked.accuracy:.4f}, "
            f"top-5 {unmasked.top5:.4f}"
        )
    return lines


def describe_labels(metrics: Mapping[str, Any]) -> list[str]:
    """Returns the metrics of images that may have several labels as lines for the terminal."""
    return [
        f"images    {metrics['examples']}",
        f"mAP       {metrics['mean_average_precision']:.4f}  (mean average precision)",
        f"F1        {metrics['micro_f1']:.4f}  (micro), {metrics['macro_f1']:.4f} (macro)",
        f"loss      {metrics['loss']:.4f}  (binary cross-entropy)",
    ]
