"""The data that a run's report shows, and statistics of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One example and the network's prediction for it.

    Attributes:
        image: pixels, uint8 of shape (height, width, channels) with 1 or 3 channels.
        true: index of the true class.
        predicted: index of the most probable class.
        probability: probability of the predicted class, 0..1.
    """

    image: np.ndarray
    true: int
    predicted: int
    probability: float


@dataclasses.dataclass(frozen=True, eq=False)
class ReportData:
    """Everything that a report shows; strings are shown as text, never as markup.

    Attributes:
        title: heading, such as `cifar_resnet20 on digits`.
        summary: label -> value rows (model, parameters, data, recipe, seed, command, hardware).
        history: one row per epoch with any of `epoch`, `step`, `seconds`, `learning_rate`, `loss`,
            `accuracy`, `val_loss` and `val_accuracy` or, where no images are held out,
            `test_loss` and `test_accuracy`; values may be missing or not finite.
        evaluation: final figures; `accuracy`, `top5_accuracy` (0..1), `loss`, `examples`, others.
        split: name of the split that `evaluation`, `confusion` and `samples` come from.
        class_names: one name per class.
        confusion: counts of shape (classes, classes); row = true class, column = predicted class.
        samples: examples to picture, in this order.
        exports: one row per format, the Keras model included, with any of `format`, `precision`,
            `file`, `bytes`, `accuracy`, `top1_agreement` (0..1), `max_abs_difference` (of logits)
            and `latency_ms` (milliseconds per image).
        config: the run's whole configuration.
    """

    title: str
    summary: Mapping[str, str]
    history: Sequence[Mapping[str, float]]
    evaluation: Mapping[str, float]
    split: str
    class_names: Sequence[str]
    confusion: np.ndarray
    samples: Sequence[Sample]
    exports: Sequence[Mapping[str, object]]
    config: Mapping[str, object]


def confused_pairs(confusion: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """Returns up to `limit` mistakes (true class, predicted class, count), most frequent first."""
    errors = np.array(confusion, np.int64)
    np.fill_diagonal(errors, 0)
    # A stable sort keeps ties in class order, so equal data gives an equal report.
    order = np.argsort(-errors, axis=None, kind="stable")[:limit]
    places = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [(int(i), int(j), int(errors[i, j])) for i, j in places if errors[i, j]]


def column(rows: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """Returns one column of the history as float64, NaN where a row lacks it."""
    values = [row.get(key) for row in rows]
    return np.array([math.nan if value is None else float(value) for value in values], np.float64)


def best_row(rows: Sequence[Mapping[str, float]]) -> int | None:
    """Returns the index of the best row: highest `val_accuracy`, then lowest `val_loss`."""
    accuracy, loss = column(rows, "val_accuracy"), column(rows, "val_loss")
    measured = np.flatnonzero(np.isfinite(accuracy))
    if not len(measured):
        return None
    loss = np.where(np.isnan(loss), np.inf, loss)
    return int(min(measured, key=lambda row: (-accuracy[row], loss[row])))


def epochs(rows: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Returns the epoch of each row of the history, counted from 1 where it is missing."""
    given = column(rows, "epoch")
    return np.where(np.isfinite(given), given, np.arange(1, len(rows) + 1, dtype=np.float64))
