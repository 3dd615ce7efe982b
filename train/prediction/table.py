"""The table of predictions: one row per file, as CSV, JSON and text."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import numpy as np

from ..presentation.formats import file_text
from ..presentation.tables import csv_line
from .predict import Prediction

_SEPARATOR = "|"


class PredictionTable:
    """The columns of the table.

    Columns: `image`; for data sets `split` and `label`, as they are stored, several labels with `|`
    between; for a multilabel net `labels`, the classes above their thresholds, with
    `|` between; `class1`, `probability1` and so on, the most probable first; `heatmap` if there
    are pictures; `error`, the reason why a file could not be read.

    Args:
        names: Name of each output.
        top: Number of classes per image.
        pictures: Whether there are heat maps.
        thresholds: Least probability of each output to be named, for multilabel nets.
        stored: Whether there are images of data sets.
    """

    def __init__(
        self,
        names: Sequence[str],
        top: int,
        *,
        pictures: bool = False,
        thresholds: np.ndarray | None = None,
        stored: bool = False,
    ) -> None:
        self._names, self._top = names, min(top, len(names))
        self._pictures, self._thresholds, self._stored = pictures, thresholds, stored

    def header(self) -> str:
        """Returns the first line of the CSV file."""
        numbers = range(1, self._top + 1)
        columns = [
            "image",
            *(["split", "label"] if self._stored else []),
            *([] if self._thresholds is None else ["labels"]),
            *(f"{name}{number}" for number in numbers for name in ("class", "probability")),
            *(["heatmap"] if self._pictures else []),
            "error",
        ]
        return csv_line(columns)

    def row(self, prediction: Prediction) -> str:
        """Returns a prediction as a line of the CSV file."""
        ranked = self._ranked(prediction)
        cells: list[object] = [file_text(prediction.path)]
        if self._stored:
            cells += [prediction.split, prediction.label]
        if self._thresholds is not None:
            cells.append(_SEPARATOR.join(self._labels(prediction)))
        for name, share in ranked:
            cells += [name, f"{share:.6f}"]
        cells += [""] * (2 * (self._top - len(ranked)))
        if self._pictures:
            cells.append(file_text(prediction.picture))
        return csv_line([*cells, prediction.problem])

    def json(self, prediction: Prediction) -> str:
        """Returns a prediction as a JSON object on one line."""
        values: dict[str, object] = {"image": os.fspath(prediction.path)}
        if prediction.split:
            values |= {"split": prediction.split, "label": prediction.label}
        if prediction.problem:
            return json.dumps({**values, "error": prediction.problem})
        if self._thresholds is not None:
            values["labels"] = self._labels(prediction)
        values["classes"] = dict(self._ranked(prediction))
        if self._pictures:
            values["heatmap"] = prediction.picture
        return json.dumps(values)

    def text(self, prediction: Prediction) -> str:
        """Returns a prediction as a line for a reader."""
        name = file_text(prediction.path, line=True)
        if prediction.problem:
            return f"{name}: unreadable: {prediction.problem}"
        ranked = ", ".join(f"{each} {share:.1%}" for each, share in self._ranked(prediction))
        stored = f"; stored label: {prediction.label}" if prediction.label else ""
        if self._thresholds is None:
            return f"{name}: {ranked}{stored}"
        return f"{name}: {', '.join(self._labels(prediction)) or 'no label'} ({ranked}){stored}"

    def _ranked(self, prediction: Prediction) -> list[tuple[str, float]]:
        shares = prediction.probabilities
        if shares is None:
            return []
        order = np.argsort(-shares, kind="stable")[: self._top]
        return [(self._names[index], float(shares[index])) for index in order]

    def _labels(self, prediction: Prediction) -> list[str]:
        if prediction.probabilities is None or self._thresholds is None:
            return []
        above = np.flatnonzero(prediction.probabilities > self._thresholds)
        return [self._names[int(index)] for index in above]
