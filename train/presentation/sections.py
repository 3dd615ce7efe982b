"""The sections on the run: header, summary, training curves, exports and configuration."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from .blocks import data_table, folded, note, section
from .data import (
    ReportData,
    best_row,
    column,
    epochs,
)
from .figures import PANELS, Panel, curve
from .markup import DASH, Html, element, escape, is_number, join, number, percent
from .tables import EXPORT_COLUMNS, export_cells

_HISTORY_ROWS = 200
_HISTORY_COLUMNS: Mapping[str, tuple[str, str]] = {
    "step": ("Step", ",.0f"),
    "seconds": ("Seconds", ",.1f"),
    "learning_rate": ("Learning rate", ".4g"),
    "loss": ("Loss", ".4f"),
    "accuracy": ("Accuracy", "%"),
    "val_loss": ("Validation loss", ".4f"),
    "val_accuracy": ("Validation accuracy", "%"),
    "test_loss": ("Test loss", ".4f"),
    "test_accuracy": ("Test accuracy", "%"),
}


def _accuracy(data: ReportData) -> tuple[float, int]:
    """Accuracy (NaN if unknown) and the number of examples behind it (0 if unknown)."""
    total = int(data.confusion.sum())
    examples = data.evaluation.get("examples")
    count = int(examples) if examples is not None and is_number(examples) else total
    accuracy = data.evaluation.get("accuracy")
    if accuracy is not None and is_number(accuracy):
        return float(accuracy), count
    return (float(np.trace(data.confusion) / total), total) if total else (math.nan, 0)


def _key(value: str, label: object, *, main: bool = False) -> Html:
    kind = "key main" if main else "key"
    return element("div", element("b", value), element("span", label), class_=kind)


def _evaluation_text(name: str, value: object) -> str:
    if "accuracy" in name:
        return percent(value)
    return number(value, ",.0f") if name == "examples" else number(value)


def header(data: ReportData) -> Html:
    """Title and key figures: accuracy with its interval, error, and what else was measured."""
    from ..evaluation.intervals import wilson  # loads TensorFlow, which no other part needs

    accuracy, total = _accuracy(data)
    keys = [_key(percent(accuracy), f"accuracy on the {data.split} split", main=True)]
    if total and 0 <= accuracy <= 1:
        correct = round(accuracy * total)
        low, high = wilson(correct, total)
        span = f"{100 * low:.2f}{DASH}{percent(high)}"
        keys.append(_key(span, "95\N{NO-BREAK SPACE}% interval (Wilson)"))
        right = f"{correct:,} of {total:,} right"
        keys.append(_key(percent(1 - accuracy), f"error; {right}"))
    for name, value in data.evaluation.items():
        if name not in ("accuracy", "examples"):
            label = name.replace("_", " ").replace("top5", "top-5")
            keys.append(_key(_evaluation_text(name, value), label))
    return join([element("h1", data.title), element("div", *keys, class_="figures")])


def summary(data: ReportData) -> Html:
    """The label and value rows."""
    rows = (
        join(
            [
                element("dt", label),
                element("dd", element("code", value) if label.lower() == "command" else value),
            ]
        )
        for label, value in data.summary.items()
    )
    return section("summary", "Summary", element("dl", *rows))


def curves(data: ReportData) -> Html:
    """Accuracy, loss and learning rate against the epoch, and the numbers behind them."""
    figures, absent = [], []
    for panel in PANELS:
        text = _describe(data, panel)
        svg = curve(data.history, panel, text)
        if svg is None:
            absent.append(panel.name)
            continue
        wide = "wide" if len(panel.series) == 1 else None
        caption = element("figcaption", panel.name.capitalize())
        figures.append(element("figure", caption, svg, class_=wide))
    parts: list[object] = []
    if not data.history:
        parts.append(note("No epoch was recorded."))
    elif absent:
        parts.append(note(f"Not recorded: {', '.join(absent)}."))
    if figures:
        parts.append(element("div", *figures, class_="curves"))
        parts.append(_curve_notes(data))
    if data.history:
        parts.append(folded("Numbers behind the curves", _history_table(data.history)))
    return section("curves", "Training", *parts)


def _describe(data: ReportData, panel: Panel) -> str:
    """The alternative text of a panel: first, last and best values."""
    parts = []
    for series in panel.series:
        values = column(data.history, series.key)
        values = values[np.isfinite(values)]
        if len(values):
            show = percent if panel.name == "accuracy" else number
            best = "highest" if panel.name == "accuracy" else "lowest"
            peak = values.max() if panel.name == "accuracy" else values.min()
            parts.append(
                f"{series.label} from {show(values[0])} to {show(values[-1])} ({best} {show(peak)})"
            )
    return f"Line chart of {panel.name} against epoch: {'; '.join(parts)}"


def _curve_notes(data: ReportData) -> Html:
    notes = []
    best = best_row(data.history)
    if best is not None:
        share = percent(data.history[best]["val_accuracy"])
        epoch = number(float(epochs(data.history)[best]))
        notes.append(f"Best validation accuracy {share} at epoch {epoch} (circled).")
    given = [row.get(key) for row in data.history for key in ("loss", "val_loss", "test_loss")]
    broken = sum(value is not None and math.isinf(value) for value in given)
    if broken:
        notes.append(f"{broken} infinite loss value{'s are' if broken > 1 else ' is'} not drawn.")
    return note(" ".join(notes)) if notes else Html("")


def _history_table(history: Sequence[Mapping[str, float]]) -> Html:
    columns = {
        key: column(history, key)
        for key in _HISTORY_COLUMNS
        if not np.isnan(column(history, key)).all()
    }
    chosen = np.unique(np.linspace(0, len(history) - 1, _HISTORY_ROWS).round().astype(int))
    caption = f"{len(chosen)} of {len(history)} epochs" if len(chosen) < len(history) else ""
    numbers = epochs(history)
    rows = []
    for row in chosen:
        cells = [number(float(numbers[row]))]
        for key, values in columns.items():
            spec = _HISTORY_COLUMNS[key][1]
            cells.append(percent(values[row]) if spec == "%" else number(float(values[row]), spec))
        rows.append(cells)
    return data_table(
        caption, [("Epoch", True), *((_HISTORY_COLUMNS[key][0], True) for key in columns)], rows
    )


def exports(data: ReportData) -> Html:
    """One row per exported format, compared with the Keras model."""
    if not data.exports:
        how = note(
            "Nothing was exported yet. To export: ", element("code", "keras-resnet export RUN")
        )
        return section("exports", "Exported formats", how)
    rows = []
    for row in data.exports:
        cells: list[object] = list(export_cells(row))
        cells[-1] = cells[-1] if cells[-1] == DASH else _path(str(cells[-1]))
        rows.append(cells)
    legend = note(
        "Agreement: share of examples given the same class as by the Keras model. "
        "Max Δ logit: largest absolute difference of a logit from the Keras model's. "
        f"{DASH}: not measured."
    )
    headings = [(entry.heading, entry.numeric) for entry in EXPORT_COLUMNS]
    return section("exports", "Exported formats", data_table("", headings, rows), legend)


def _path(text: str) -> Html:
    """A path that may be broken after a separator."""
    pieces = re.split(r"(?<=[/\\_])", text)
    return element("code", join(pieces, element("wbr")))


def configuration(text: str) -> Html:
    """The run's configuration, as JSON text."""
    return section(
        "configuration",
        "Configuration",
        folded(
            "The run's whole configuration as JSON", element("pre", element("code", escape(text)))
        ),
    )
