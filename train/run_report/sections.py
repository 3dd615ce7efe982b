"""The sections on the run itself: header, summary, training curves and exports."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..evaluation.intervals import wilson
from ..presentation import Table
from ..presentation.drawing import inline_figure
from ..presentation.formats import DASH, is_number, number, percent
from ..presentation.markup import Html, element, join
from ..presentation.page import facts_list, folded, note, section
from .curves import PANELS, curves, describe
from .data import ReportData, best_row, column, epochs
from .exports import exports

_HISTORY_ROWS = 200
_LOSS = partial(number, spec=".4f")
_HISTORY_COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "step": ("Step", partial(number, spec=",.0f")),
    "seconds": ("Seconds", partial(number, spec=",.1f")),
    "learning_rate": ("Learning rate", number),
    "loss": ("Loss", _LOSS),
    "accuracy": ("Accuracy", percent),
    "val_loss": ("Validation loss", _LOSS),
    "val_accuracy": ("Validation accuracy", percent),
    "test_loss": ("Test loss", _LOSS),
    "test_accuracy": ("Test accuracy", percent),
}

_SEVERAL_LABELS = {
    "micro_f1": "F1 of all labels together",
    "macro_f1": "mean F1 of the classes",
    "accuracy": "labels right at a threshold of 1/2",
    "loss": "loss",
}


def header(data: ReportData) -> Html:
    """Returns title and key figures: accuracy with its interval, error, and other metrics."""
    keys = _several_labels(data) if data.counts is None else _one_label(data)
    return join([element("h1", data.title), element("div", *keys, class_="figures")])


def _one_label(data: ReportData) -> list[Html]:
    accuracy, total = _accuracy(data)
    keys = [_key(percent(accuracy), f"accuracy on the {data.split} split", main=True)]
    if total and 0 <= accuracy <= 1:
        correct = round(accuracy * total)
        low, high = wilson(correct, total)
        interval = f"{100 * low:.2f}{DASH}{percent(high)}"
        keys.append(_key(interval, "95\N{NO-BREAK SPACE}% interval (Wilson)"))
        keys.append(_key(percent(1 - accuracy), f"error; {correct:,} of {total:,} correct"))
    for name, value in data.evaluation.items():
        if name not in ("accuracy", "examples"):
            label = name.replace("_", " ").replace("top5", "top-5")
            keys.append(_key(percent(value) if "accuracy" in name else number(value), label))
    return keys


def _several_labels(data: ReportData) -> list[Html]:
    """Returns the figures where an image may have several labels."""
    precision = percent(data.evaluation.get("mean_average_precision"))
    keys = [_key(precision, f"mean average precision on the {data.split} split", main=True)]
    for name, label in _SEVERAL_LABELS.items():
        if name in data.evaluation:
            value = data.evaluation[name]
            keys.append(_key(number(value) if name == "loss" else percent(value), label))
    examples = data.evaluation.get("examples")
    return [*keys, _key(number(examples, ",.0f"), "images")] if examples else keys


def _accuracy(data: ReportData) -> tuple[float, int]:
    """Returns accuracy (NaN if unknown) and the number of examples behind it (0 if unknown)."""
    assert data.counts is not None
    total = data.counts.total
    accuracy = data.evaluation.get("accuracy")
    if accuracy is not None and is_number(accuracy):
        return float(accuracy), int(data.evaluation.get("examples", total))
    return ((total - data.counts.mistakes) / total, total) if total else (math.nan, 0)


def _key(value: str, label: object, *, main: bool = False) -> Html:
    kind = "key main" if main else "key"
    return element("div", element("b", value), element("span", label), class_=kind)


def summary(data: ReportData) -> Html:
    """Returns the label and value rows."""
    return section("summary", "Summary", facts_list(data.summary))


def training(data: ReportData) -> Html:
    """Returns accuracy, loss and learning rate against the epoch, and the numbers behind them."""
    plots = [(panel, curves(data.history, panel)) for panel in PANELS]
    figures = [
        element(
            "figure",
            element("figcaption", plot.title),
            inline_figure(plot, describe(data.history, panel)),
            class_="wide" if len(panel.columns) == 1 else None,
        )
        for panel, plot in plots
        if plot is not None
    ]
    absent = [panel.name for panel, plot in plots if plot is None]
    parts: list[object] = []
    if not data.history:
        parts.append(note("No epoch was recorded."))
    elif absent:
        parts.append(note(f"Not recorded: {', '.join(absent)}."))
    if figures:
        parts += [element("div", *figures, class_="curves"), _curve_notes(data)]
    if data.history:
        parts.append(folded("Numbers behind the curves", _history_table(data.history)))
    return section("curves", "Training", *parts)


def _curve_notes(data: ReportData) -> Html:
    notes = []
    best = best_row(data.history)
    if best is not None:
        share = percent(data.history[best]["val_accuracy"])
        epoch = number(float(epochs(data.history)[best]))
        notes.append(f"Best validation accuracy {share} at epoch {epoch} (circled).")
    losses = (column(data.history, key) for key in ("loss", "val_loss", "test_loss"))
    infinite = int(sum(np.isinf(values).sum() for values in losses))
    if infinite:
        notes.append(f"Infinite loss values, not drawn: {infinite}.")
    return note(" ".join(notes)) if notes else Html("")


def _history_table(history: Sequence[Mapping[str, float]]) -> Html:
    columns = {"Epoch": epochs(history)}
    formats: dict[str, Callable[[Any], str]] = {"Epoch": number}
    for key, (heading, show) in _HISTORY_COLUMNS.items():
        values = column(history, key)
        if not np.isnan(values).all():
            columns[heading], formats[heading] = values, show
    chosen = np.unique(np.linspace(0, len(history) - 1, _HISTORY_ROWS).round().astype(int))
    caption = f"{len(chosen)} of {len(history)} epochs" if len(chosen) < len(history) else ""
    rows = tuple(tuple(float(values[row]) for values in columns.values()) for row in chosen)
    return Table("history", caption, tuple(columns), rows, formats=formats).html()


def exported(data: ReportData) -> Html:
    """Returns one row per exported file, compared with the Keras model."""
    if not data.exports:
        how = note(
            "Nothing was exported yet. To export: ", element("code", "keras-resnet export RUN")
        )
        return section("exports", "Exported formats", how)
    rows = [{**row, "file": _path(row.get("file"))} for row in data.exports]
    legend = note(
        "Agreement: share of examples for which the predicted class is the Keras model's. "
        "Max Δ logit: largest absolute difference of a logit from the Keras model's. "
        f"{DASH}: not measured."
    )
    return section("exports", "Exported formats", exports(rows).html(), legend)


def _path(path: object) -> Html | None:
    """Returns a path that may be broken after a separator."""
    if not path:
        return None
    pieces = re.split(r"(?<=[/\\_])", str(path))
    return element("code", join(pieces, element("wbr")))
