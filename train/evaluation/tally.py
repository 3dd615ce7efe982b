"""Metrics counted batch by batch: accuracy, confusion, calibration, most confident mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from .calibration import Calibration
from .classify import Evaluation
from .confusion import Confusion
from .subset import Unmasked


@dataclasses.dataclass(frozen=True, eq=False)
class Mistake:
    """A misclassified image.

    Attributes:
        number: Index of the image in the split.
        true: Its class.
        predicted: The predicted class.
        probability: Probability of the predicted class.
        image: uint8 `(height, width, channels)`, before normalization.
    """

    number: int
    true: int
    predicted: int
    probability: float
    image: np.ndarray


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The metrics of a split.

    Attributes:
        evaluation: The metrics; where the data has only some of a net's classes, among these.
        calibration: The calibration of the same probabilities.
        mistakes: The most confident mistakes, the worst first.
        unmasked: The accuracy among all outputs, where the data has only some of the classes.
    """

    evaluation: Evaluation
    calibration: Calibration
    mistakes: tuple[Mistake, ...]
    unmasked: Unmasked | None = None


class Tally:
    """Counts predictions chunk by chunk, in memory that grows only with the pairs of classes seen.

    Args:
        classes: Number of classes.
        keep: Number of mistakes to keep with their images.
    """

    def __init__(self, classes: int, keep: int = 0) -> None:
        self._classes, self._keep = classes, keep
        self._loss = 0.0
        self._right5 = 0
        nothing = np.zeros(0, "int64")
        self._confusion = Confusion.of(nothing, nothing, classes)
        self._calibration = Calibration.of(np.zeros(0), np.zeros(0))
        self._mistakes: list[Mistake] = []

    def add(
        self,
        log_probabilities: np.ndarray,
        labels: np.ndarray,
        *,
        first: int = 0,
        image: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        """Counts the predictions for a chunk of images.

        Args:
            log_probabilities: float64 `(images, classes)`.
            labels: True classes, `(images,)`.
            first: Index of the first image in the split.
            image: Returns an image by its index in the chunk; needed to keep mistakes.

        Raises:
            ValueError: If a label is not a class, or a prediction is not finite.
        """
        self._check(log_probabilities, labels, first)
        rows = np.arange(len(labels))
        of_label = log_probabilities[rows, labels]
        predicted = log_probabilities.argmax(axis=1)
        sure = np.minimum(np.exp(log_probabilities[rows, predicted]), 1.0)
        self._loss -= float(of_label.sum())
        self._right5 += int(((log_probabilities > of_label[:, None]).sum(axis=1) < 5).sum())
        self._confusion += Confusion.of(labels, predicted, self._classes)
        self._calibration += Calibration.of(sure, predicted == labels)
        if not self._keep or image is None:
            return
        wrong = np.flatnonzero(predicted != labels)
        for row in wrong[np.argsort(-sure[wrong], kind="stable")][: self._keep]:
            facts = int(labels[row]), int(predicted[row]), float(sure[row])
            self._mistakes.append(Mistake(first + int(row), *facts, image(int(row))))
        self._mistakes.sort(key=lambda case: (-case.probability, case.number))
        del self._mistakes[self._keep :]

    def result(self) -> Measurement:
        """Returns the metrics.

        Raises:
            ValueError: If there were no images.
        """
        examples = self._confusion.total
        if not examples:
            raise ValueError("There are no images to measure on")
        right = int(self._confusion.right.sum())
        evaluation = Evaluation(
            examples,
            self._loss / examples,
            right / examples,
            self._right5 / examples,
            self._confusion,
        )
        return Measurement(evaluation, self._calibration, tuple(self._mistakes))

    def _check(self, log_probabilities: np.ndarray, labels: np.ndarray, first: int) -> None:
        wrong = np.flatnonzero((labels < 0) | (labels >= self._classes))
        if len(wrong):
            raise ValueError(
                f"Labels must lie in 0..{self._classes - 1}, the classes of the net. "
                f"Received: {labels[wrong[0]]} at image {first + wrong[0]}"
            )
        broken = np.flatnonzero(~np.isfinite(log_probabilities).all(axis=1))
        if len(broken):
            raise ValueError(
                "The net's outputs must be finite numbers: they are not at image "
                f"{first + broken[0]} ({len(broken)} of these {len(labels)} images)"
            )
