"""The files of an evaluation, in a directory that is written as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import new_directory, write_bytes, write_json, write_text
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
