"""Calibration: accuracy against confidence, in bins."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """Predictions by confidence, the probability of the predicted class.

    Bin m of M, counted from 1, holds confidences in ((m - 1) / M, m / M].

    Attributes:
        counts: Number of images in each bin.
        confidence: Sum of their confidences.
        right: Number of correct predictions.

    Source: Guo et al. 2017 (arXiv:1706.04599), section 2.
    """

    counts: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Calibration:
        """Sorts predictions into bins.

        Args:
            confidence: `(images,)`, 0..1.
            right: Whether each prediction was correct.
            bins: Number of bins of equal width.
        """
        where = np.clip(np.ceil(confidence * bins).astype("int64") - 1, 0, bins - 1)
        counts = np.bincount(where, minlength=bins)
        sums = (np.bincount(where, weights, bins) for weights in (confidence, right))
        return cls(counts, *sums)

    def __add__(self, other: Calibration) -> Calibration:
        """Returns the calibration of both sets of predictions."""
        return Calibration(
            self.counts + other.counts,
            self.confidence + other.confidence,
            self.right + other.right,
        )

    @property
    def gaps(self) -> np.ndarray:
        """Accuracy minus mean confidence of each bin; 0 for an empty one."""
        return (self.right - self.confidence) / np.maximum(self.counts, 1)

    @property
    def error(self) -> float:
        """The expected calibration error: the mean absolute gap over images, 0..1."""
        return float(np.abs(self.right - self.confidence).sum() / max(self.counts.sum(), 1))

    @property
    def largest_gap(self) -> float:
        """The maximum calibration error: the largest gap of a bin, 0..1."""
        return float(np.abs(self.gaps).max())

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values; confidence and accuracy of an empty bin are None."""
        number = len(self.counts)
        return {
            "error": self.error,
            "largest_gap": self.largest_gap,
            "bins": [
                {
                    "above": index / number,
                    "up_to": (index + 1) / number,
                    "examples": int(count),
                    "confidence": float(sure / count) if count else None,
                    "accuracy": float(right / count) if count else None,
                }
                for index, (count, sure, right) in enumerate(
                    zip(self.counts, self.confidence, self.right, strict=True)
                )
            ],
        }
