"""Counts of pairs of true and predicted classes: those that occur, for any number of classes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import read_arrays

# Up to this many classes `metrics.json` holds the whole matrix.
DENSE_UP_TO = 100
# Confused pairs in `metrics.json` where there are more classes.
PAIRS = 50


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of pairs (true class, predicted class), sorted; absent pairs have not occurred.

    Attributes:
        classes: Number of classes.
        true: True class of each pair, int64.
        predicted: Predicted class of each pair, int64.
        counts: Images of each pair, int64.

    Example:
        >>> Confusion.of(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).dense().tolist()
        [[1, 1], [0, 1]]
    """

    classes: int
    true: np.ndarray
    predicted: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, classes: int) -> Confusion:
        """Counts the predictions of images.

        Args:
            labels: True classes, `(images,)`.
            predicted: Predicted classes, `(images,)`.
            classes: Number of classes.
        """
        codes = np.asarray(labels, "int64") * classes + np.asarray(predicted, "int64")
        found, counts = np.unique(codes, return_counts=True)
        return cls(classes, found // classes, found % classes, counts.astype("int64"))

    @classmethod
    def from_dense(cls, matrix: Any) -> Confusion:
        """Returns the counts of a matrix `(classes, classes)`, rows are true classes."""
        matrix = np.asarray(matrix, "int64")
        true, predicted = np.nonzero(matrix)
        return cls(len(matrix), true, predicted, matrix[true, predicted])

    def __add__(self, other: Confusion) -> Confusion:
        """Returns the counts of both."""
        true = np.concatenate([self.true, other.true])
        predicted = np.concatenate([self.predicted, other.predicted])
        found, places = np.unique(true * self.classes + predicted, return_inverse=True)
        counts = np.zeros(len(found), "int64")
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        return Confusion(self.classes, found // self.classes, found % self.classes, counts)

    @property
    def total(self) -> int:
        """Number of images."""
        return int(self.counts.sum())

    @property
    def support(self) -> np.ndarray:
        """Images of each true class, int64."""
        return self._by_class(self.true, np.ones(len(self.counts), bool))

    @property
    def taken(self) -> np.ndarray:
        """Images of each predicted class, int64."""
        return self._by_class(self.predicted, np.ones(len(self.counts), bool))

    @property
    def right(self) -> np.ndarray:
        """Images of each class that are predicted right, int64."""
        return self._by_class(self.true, self.true == self.predicted)

    def _by_class(self, classes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        counts = np.zeros(self.classes, "int64")
        np.add.at(counts, classes[chosen], self.counts[chosen])
        return counts

    def dense(self) -> np.ndarray:
        """Returns the int64 matrix `(classes, classes)`, rows are true classes.

        It takes 8 bytes a pair of classes: 200 MB for 5,000 classes.
        """
        matrix = np.zeros((self.classes, self.classes), "int64")
        matrix[self.true, self.predicted] = self.counts
        return matrix

    def pairs(self, limit: int = PAIRS) -> list[tuple[int, int, int]]:
        """Returns up to `limit` mistakes (true class, predicted class, count), most frequent first.

        Equally frequent ones are in the order of their classes.
        """
        wrong = np.flatnonzero(self.true != self.predicted)
        order = wrong[np.argsort(-self.counts[wrong], kind="stable")][:limit]
        columns = self.true[order], self.predicted[order], self.counts[order]
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [(true, predicted, count) for true, predicted, count in rows]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values, bounded in size.

        Up to `DENSE_UP_TO` classes they are `confusion`, the whole matrix. With more classes they
        are `class_counts`, the `support`, `predicted` and `correct` images of each class, and
        `confused_pairs`, the `PAIRS` most frequent mistakes; `save` writes the rest.
        """
        if self.classes <= DENSE_UP_TO:
            return {"confusion": self.dense().tolist()}
        counts = {"support": self.support, "predicted": self.taken, "correct": self.right}
        return {
            "class_counts": {name: values.tolist() for name, values in counts.items()},
            "confused_pairs": [list(pair) for pair in self.pairs()],
        }

    def save(self, path: Path) -> None:
        """Writes a compressed `.npz` of `shape`, `true`, `predicted` and `counts`."""
        np.savez_compressed(
            path,
            shape=np.array([self.classes, self.classes]),
            true=self.true.astype("int32"),
            predicted=self.predicted.astype("int32"),
            counts=self.counts,
        )

    @classmethod
    def load(cls, path: Path) -> Confusion:
        """Reads what `save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
        """
        stored = read_arrays(path)
        classes = int(stored["shape"][0])
        pairs = stored["true"].astype("int64"), stored["predicted"].astype("int64")
        return cls(classes, *pairs, stored["counts"])
