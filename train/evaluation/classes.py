"""The check that a net's classes are the data's, and the metrics of each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.texts import read_label_file

from ..presentation.tables import csv_text
from .confusion import Confusion

# The outputs of all published CIFAR-10 nets have the order of the data set's files.
CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_OF_CIFAR10 = ("akamaster", "mlperf_tiny")
_MATRIX_UP_TO = 1000  # classes in the CSV of a confusion matrix


def known_classes(layout: str) -> tuple[str, ...] | None:
    """Returns the classes of a library's nets if all are the same, otherwise None."""
    return CIFAR10 if layout in _OF_CIFAR10 else None


def check_classes(names: Sequence[str], wanted: Sequence[str], *, data: str, net: str) -> None:
    """Checks that the data's classes are the net's, in the same order.

    Args:
        names: The data's classes.
        wanted: The net's classes.
        data: Name of the data set, for messages.
        net: Name of the net or run, for messages.

    Raises:
        ValueError: If their number or order differs.
    """
    if tuple(names) == tuple(wanted):
        return
    same = len(names) == len(wanted)
    raise ValueError(
        f"The classes of {data!r} are not those that {net} was "
        f"trained on: {', '.join(names[:4])} ... against {', '.join(wanted[:4])} ..."
        + ("" if same else f" ({len(names)} against {len(wanted)})")
    )


def read_labels(path: Path, outputs: int) -> list[str]:
    """Reads the names of a net's outputs, one a line.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not text, or does not have one line for each output.
    """
    lines = read_label_file(path)
    if len(lines) != outputs:
        raise ValueError(
            f"`--labels` needs one line for each of the net's {outputs:,} outputs. "
            f"Received: {path}, {len(lines):,} lines"
        )
    return lines


def check_channels(have: int, wanted: int, *, data: str, net: str) -> None:
    """Checks that images have as many channels as a net expects.

    Raises:
        ValueError: If they do not.
    """
    if have != wanted:
        raise ValueError(
            f"{data!r} has images of {have} channel(s), and the net of {net} takes {wanted}"
        )


def class_table(confusion: np.ndarray | Confusion, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns one row per class, in their order.

    Args:
        confusion: Counts; as a matrix `(classes, classes)`, rows are true classes.
        names: Names of the classes.

    Returns:
        `class` (its index), `name`, `precision`, `recall`, `f1` and `support` (number of images);
        a ratio of zero counts is None.
    """
    counts = confusion if isinstance(confusion, Confusion) else Confusion.from_dense(confusion)
    columns = (counts.right.tolist(), counts.taken.tolist(), counts.support.tolist())
    rows = []
    for number, (name, right, taken, own) in enumerate(zip(names, *columns, strict=True)):
        rows.append(
            {
                "class": number,
                "name": name,
                "precision": right / taken if taken else None,
                "recall": right / own if own else None,
                "f1": 2 * right / (taken + own) if taken + own else None,
                "support": own,
            }
        )
    return rows


def class_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Returns `class_table` as CSV; None becomes an empty cell."""
    cells = [
        [f"{cell:.6f}" if isinstance(cell, float) else cell for cell in row.values()]
        for row in rows
    ]
    return csv_text(list(rows[0]), cells)


def confusion_csv(confusion: np.ndarray | Confusion, names: Sequence[str]) -> str:
    """Returns the counts as CSV: one row per true class, one column per predicted class.

    With more than 1,000 classes there is one row per pair that occurs: `true`, `predicted`,
    `count`.
    """
    counts = confusion if isinstance(confusion, Confusion) else Confusion.from_dense(confusion)
    if counts.classes > _MATRIX_UP_TO:
        pairs = zip(counts.true, counts.predicted, counts.counts.tolist(), strict=True)
        return csv_text(
            ["true", "predicted", "count"],
            [[names[true], names[predicted], count] for true, predicted, count in pairs],
        )
    rows = [[name, *row] for name, row in zip(names, counts.dense().tolist(), strict=True)]
    return csv_text(["true \\ predicted", *names], rows)
