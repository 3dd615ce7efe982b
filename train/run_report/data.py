"""The data that a run's report shows, and statistics of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..evaluation.confusion import DENSE_UP_TO, Confusion


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
class Augmented:
    """One training image as training saw it.

    Attributes:
        image: pixels, uint8 of shape (height, width, channels) with 1 or 3 channels.
        labels: shares of classes, most of one class first: index of the class and share, 0..1.
    """

    image: np.ndarray
    labels: Sequence[tuple[int, float]]


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """Counts of predictions, in memory that grows with the classes and not with their square.

    Attributes:
        support: images of each true class, int64.
        predicted: images of each predicted class, int64.
        correct: images of each class that were predicted right, int64.
        pairs: mistakes (true class, predicted class, count), most frequent first.
        matrix: counts of shape (classes, classes), row = true class; None with many classes.
    """

    support: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    pairs: tuple[tuple[int, int, int], ...]
    matrix: np.ndarray | None = None

    @classmethod
    def of(cls, confusion: Confusion) -> Counts:
        """Returns the counts of all pairs of classes."""
        return cls(
            confusion.support,
            confusion.taken,
            confusion.right,
            tuple(confusion.pairs()),
            confusion.dense() if confusion.classes <= DENSE_UP_TO else None,
        )

    @classmethod
    def of_metrics(cls, measured: Mapping[str, Any]) -> Counts | None:
        """Returns the counts in a split's metrics, as any version wrote them; None without."""
        if "confusion" in measured:
            return cls.of(Confusion.from_dense(measured["confusion"]))
        if "class_counts" not in measured:
            return None
        stored = measured["class_counts"]
        return cls(
            np.asarray(stored["support"], "int64"),
            np.asarray(stored["predicted"], "int64"),
            np.asarray(stored["correct"], "int64"),
            tuple((true, taken, count) for true, taken, count in measured["confused_pairs"]),
        )

    @property
    def total(self) -> int:
        """Number of images."""
        return int(self.support.sum())

    @property
    def mistakes(self) -> int:
        """Number of images that were predicted wrong."""
        return self.total - int(self.correct.sum())


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
        split: name of the split that `evaluation`, `counts` and `samples` come from.
        class_names: one name per class.
        counts: counts of its predictions; None where an image may have several labels.
        samples: examples to picture, in this order.
        confused: further examples that were predicted wrong, for the most confused pairs.
        augmented: training images as training saw them.
        by_class: rows of figures by class where an image may have several labels: `name`,
            `average_precision`, `f1`, `threshold` and `support`.
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
    counts: Counts | None
    samples: Sequence[Sample]
    exports: Sequence[Mapping[str, object]]
    config: Mapping[str, object]
    confused: Sequence[Sample] = ()
    augmented: Sequence[Augmented] = ()
    by_class: Sequence[Mapping[str, Any]] = ()


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
