"""Accuracy on data that has only some of a net's classes: among these, and among all outputs.

ImageNet-R and ImageNet-A have 200 of the 1,000 classes. Their authors' programs cut the logits to
those 200 before the softmax (hendrycks/imagenet-r and hendrycks/natural-adv-examples, `eval.py`:
`net(data)[:, imagenet_r_mask]`, `net(data)[:, indices_in_1k]`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Unmasked(NamedTuple):
    """Accuracy among all outputs of a net.

    Attributes:
        outputs: Number of outputs.
        accuracy: Top-1 accuracy, 0..1.
        top5: Top-5 accuracy, 0..1.
    """

    outputs: int
    accuracy: float
    top5: float


class UnmaskedTally:
    """Counts correct predictions among all outputs, chunk by chunk."""

    def __init__(self) -> None:
        self._outputs = self._images = self._right = self._right5 = 0

    def add(self, log_probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Counts the predictions for a chunk of images.

        Args:
            log_probabilities: `(images, outputs)`.
            labels: Outputs of the true classes, `(images,)`.
        """
        of_label = log_probabilities[np.arange(len(labels)), labels]
        better = (log_probabilities > of_label[:, None]).sum(axis=1)
        self._outputs = log_probabilities.shape[1]
        self._images += len(labels)
        self._right += int((log_probabilities.argmax(axis=1) == labels).sum())
        self._right5 += int((better < 5).sum())

    def result(self) -> Unmasked:
        """Returns the accuracies; at least one image must have been counted."""
        return Unmasked(self._outputs, self._right / self._images, self._right5 / self._images)


def among(
    log_probabilities: np.ndarray, labels: np.ndarray, subset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the probabilities among some outputs, which sum to 1, and labels by their positions.

    Args:
        log_probabilities: `(images, outputs)`.
        labels: Outputs of the true classes, each one of `subset`.
        subset: Indices of outputs, ascending.
    """
    chosen = log_probabilities[:, subset]
    with np.errstate(invalid="ignore"):  # the tally reports NaN
        total = np.logaddexp.reduce(chosen, axis=1, keepdims=True)
        return chosen - total, np.searchsorted(subset, labels)
