"""Metrics where an image may have several labels: average precision, F1, thresholds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class MultilabelEvaluation:
    """Metrics of a split whose images may have several labels.

    Attributes:
        scores: Probability of each class, float32 `(examples, classes)`.
        labels: Whether an image has a label, bool `(examples, classes)`.
        loss: Mean binary cross-entropy of all images and classes, nats.
    """

    scores: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray = dataclasses.field(repr=False)
    loss: float

    @property
    def examples(self) -> int:
        """Number of images, each counted once."""
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Share of the labels of all images that are right at a threshold of 1/2, 0..1."""
        return float(((self.scores > 0.5) == self.labels).mean())

    @property
    def average_precision(self) -> np.ndarray:
        """Average precision of each class, float64; NaN for a class without images."""
        columns = zip(self.scores.T, self.labels.T, strict=True)
        return np.array([average_precision(scores, labels) for scores, labels in columns])

    @property
    def score(self) -> float:
        """Mean average precision of the classes that have images, 0..1: what chooses weights."""
        return _mean(self.average_precision)

    @property
    def figures(self) -> dict[str, float]:
        """The figures of an epoch."""
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "mean_average_precision": self.score,
        }

    def thresholds(self) -> np.ndarray:
        """Returns the threshold of each class with the best F1 on these images, float64.

        It is 1/2 for a class without images.
        """
        columns = zip(self.scores.T, self.labels.T, strict=True)
        return np.array([best_threshold(scores, labels) for scores, labels in columns])

    def to_dict(self, thresholds: np.ndarray | None = None) -> dict[str, Any]:
        """Returns JSON-ready values.

        Args:
            thresholds: Threshold of each class, chosen on other images; 1/2 where None.
        """
        own = np.full(self.labels.shape[1], 0.5) if thresholds is None else thresholds
        precisions = self.average_precision
        chosen = f1_scores(self.scores > own, self.labels)
        return {
            "examples": self.examples,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "mean_average_precision": _mean(precisions),
            "micro_f1": chosen[1],
            "macro_f1": _mean(chosen[0]),
            "thresholds": own.tolist(),
            "average_precision": _or_none(precisions),
            "f1": _or_none(chosen[0]),
            "support": self.labels.sum(axis=0).tolist(),
        }


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean of the precision over the images with the label, in order of score.

    Images of equal score come in together. There is no interpolation. NaN without any label.

    Source: scikit-learn, `sklearn.metrics.average_precision_score`: the sum of
    (R_n - R_n-1) P_n over the thresholds.

    Args:
        scores: `(examples,)`.
        labels: bool `(examples,)`.

    Example:
        >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
        0.8333333333333333
    """
    total = int(labels.sum())
    if not total:
        return float("nan")
    _, right, taken = _cuts(scores, labels)
    found = np.diff(right, prepend=0)
    return float((found * right / taken).sum() / total)


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Returns the threshold with the highest F1; scores above it are predictions.

    It lies half-way between two neighbouring scores. Among equal F1 it is the highest; 1/2 without
    any label.

    Source: Lipton et al. 2014, "Optimal Thresholding of Classifiers to Maximize F1 Measure"
    (arXiv:1402.1892).

    Args:
        scores: Probabilities, `(examples,)`.
        labels: bool `(examples,)`.
    """
    total = int(labels.sum())
    if not total:
        return 0.5
    values, right, taken = _cuts(scores, labels)
    best = int(np.argmax(2 * right / (taken + total)))
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float((values[best].astype("float64") + below) / 2)


def f1_scores(predicted: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the F1 of each class, NaN without label and prediction, and that of all together.

    Args:
        predicted: bool `(examples, classes)`.
        labels: bool `(examples, classes)`.
    """
    right = (predicted & labels).sum(axis=0)
    either = predicted.sum(axis=0) + labels.sum(axis=0)
    by_class = np.where(either > 0, 2 * right / np.maximum(either, 1), np.nan)
    return by_class, float(2 * right.sum() / max(int(either.sum()), 1))


def _cuts(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the different scores, highest first, with the right and all images down to each."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.flatnonzero(np.diff(ordered, append=ordered[-1:] - 1))
    return ordered[ends], np.cumsum(labels[order])[ends], ends + 1


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0


def _or_none(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
