"""What a report is made of, and the statistics it shows; needs NumPy alone."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One example and what the network said about it.

    Attributes:
        image: pixels, uint8 of shape (height, width, channels) with 1 or 3 channels.
        true: index of the true class.
        predicted: index of the most probable class.
        probability: probability of the predicted class, 0..1.

    Raises:
        ValueError: if `image` has another type or shape.
    """

    image: np.ndarray
    true: int
    predicted: int
    probability: float

    def __post_init__(self) -> None:
        image = self.image
        good = image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] in (1, 3)
        if not good or 0 in image.shape:
            raise ValueError(
                "`image` needs uint8 pixels of shape (height, width, 1 or 3). "
                f"Received: dtype={image.dtype}, shape={image.shape}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class ReportData:
    """Everything a report shows; all strings are shown as text, never as markup.

    Attributes:
        title: heading, such as `cifar_resnet20 on digits`.
        summary: label -> value rows (model, parameters, data, recipe, seed, command, hardware).
        history: one row an epoch with any of `epoch`, `step`, `seconds`, `learning_rate`, `loss`,
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

    Raises:
        ValueError: if `confusion` or `samples` do not fit `class_names`.
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

    def __post_init__(self) -> None:
        classes = len(self.class_names)
        if self.confusion.shape != (classes, classes):
            raise ValueError(
                f"`confusion` needs one row and one column per class name ({classes}). "
                f"Received: shape={self.confusion.shape}"
            )
        if classes and (np.any(self.confusion < 0) or not np.all(np.isfinite(self.confusion))):
            raise ValueError("`confusion` needs counts >= 0. Received: a negative or NaN entry")
        for sample in self.samples:
            if not (0 <= sample.true < classes and 0 <= sample.predicted < classes):
                raise ValueError(
                    f"`samples` need classes in 0..{classes - 1}. "
                    f"Received: true={sample.true}, predicted={sample.predicted}"
                )


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """How one class fared; recall and precision are NaN where nothing was counted."""

    index: int
    examples: int
    correct: int
    recall: float
    precision: float


@dataclasses.dataclass(frozen=True)
class ConfusedPair:
    """`count` examples of class `true` were taken for `predicted`: `share` (0..1) of that class."""

    true: int
    predicted: int
    count: int
    share: float


def class_scores(confusion: np.ndarray) -> list[ClassScore]:
    """Scores of all classes, the lowest recall first and classes without examples last."""
    rows, columns = confusion.sum(axis=1), confusion.sum(axis=0)
    scores = []
    for index, correct in enumerate(np.diagonal(confusion)):
        recall = float(correct / rows[index]) if rows[index] else math.nan
        precision = float(correct / columns[index]) if columns[index] else math.nan
        scores.append(ClassScore(index, int(rows[index]), int(correct), recall, precision))
    return sorted(scores, key=lambda score: (math.isnan(score.recall), score.recall, score.index))


def confused_pairs(confusion: np.ndarray, limit: int) -> list[ConfusedPair]:
    """The up to `limit` most frequent (true, predicted) mistakes, most frequent first."""
    errors = np.array(confusion)
    np.fill_diagonal(errors, 0)
    rows = confusion.sum(axis=1)
    # A stable sort keeps ties in class order, so equal data gives an equal report.
    order = np.argsort(-errors.astype(np.int64), axis=None, kind="stable")[:limit]
    pairs = []
    for true, predicted in zip(*np.unravel_index(order, errors.shape), strict=True):
        count = int(errors[true, predicted])
        if count:
            pairs.append(ConfusedPair(int(true), int(predicted), count, float(count / rows[true])))
    return pairs


def column(rows: Sequence[Mapping[str, float]], key: str) -> np.ndarray:
    """One column of the history as float64, NaN where a row lacks it."""
    values = [row.get(key) for row in rows]
    return np.array([math.nan if value is None else float(value) for value in values], np.float64)


def best_row(rows: Sequence[Mapping[str, float]]) -> int | None:
    """The row whose weights the run chose: highest `val_accuracy`, then lowest `val_loss`."""
    accuracy, loss = column(rows, "val_accuracy"), column(rows, "val_loss")
    measured = np.flatnonzero(np.isfinite(accuracy))
    if not len(measured):
        return None
    loss = np.where(np.isnan(loss), np.inf, loss)
    return int(min(measured, key=lambda row: (-accuracy[row], loss[row])))


def epochs(rows: Sequence[Mapping[str, float]]) -> np.ndarray:
    """The epoch of each row of the history; counted from 1 where the rows do not say."""
    given = column(rows, "epoch")
    return np.where(np.isfinite(given), given, np.arange(1, len(rows) + 1, dtype=np.float64))
