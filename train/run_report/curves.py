"""Training curves: accuracy, loss and learning rate against the epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..presentation import Line, Plot
from ..presentation.formats import number, percent
from .data import best_row, column, epochs

History = Sequence[Mapping[str, float]]

_LOG_RATIO = 100.0  # a loss that falls by more than this factor gets a logarithmic axis
_TRAIN, _HELD_OUT = 1, 0  # colours


@dataclasses.dataclass(frozen=True)
class Panel:
    """One figure of a run: its name and the columns of the history that it shows.

    Attributes:
        name: Name, also of the axis.
        columns: Column of the history -> label of its line.
        size: Width and height, inches.
    """

    name: str
    columns: Mapping[str, str]
    size: tuple[float, float] = (5.2, 3.2)


PANELS = (
    Panel(
        "accuracy",
        {"accuracy": "training", "val_accuracy": "validation", "test_accuracy": "test"},
    ),
    Panel("loss", {"loss": "training", "val_loss": "validation", "test_loss": "test"}),
    Panel("learning rate", {"learning_rate": "learning rate"}, (10.6, 1.7)),
)


def curves(history: History, panel: Panel) -> Plot | None:
    """Returns the figure of a panel; None where the history has no finite value for it.

    Validation may run every few epochs: its points are connected across the epochs between.
    """
    factor = 100 if panel.name == "accuracy" else 1
    lines = []
    for index, (key, label) in enumerate(panel.columns.items()):
        values = column(history, key)
        finite = np.isfinite(values)
        if finite.any():
            x, y = epochs(history)[finite], factor * values[finite]
            training = index == 0 and len(panel.columns) > 1
            colour = _TRAIN if training else _HELD_OUT
            lines.append(Line(label, x.tolist(), y.tolist(), dashed=training, colour=colour))
    if not lines:
        return None
    best = best_row(history)
    if panel.name == "accuracy" and best is not None:
        place = [float(epochs(history)[best])], [100 * history[best]["val_accuracy"]]
        lines.append(Line("", *place, colour=_HELD_OUT, form="ring"))
    values = np.concatenate([line.y for line in lines])
    log = panel.name == "loss" and bool(0 < values.min() < values.max() / _LOG_RATIO)
    return Plot(
        f"curve-{panel.name.replace(' ', '-')}",
        panel.name.capitalize(),
        "epoch",
        {"accuracy": "accuracy (%)", "loss": "loss (nats)"}.get(panel.name, panel.name),
        tuple(lines),
        log_y=log,
        size=panel.size,
        from_zero=panel.name == "learning rate",
    )


def describe(history: History, panel: Panel) -> str:
    """Returns the alternative text of a panel: first, last and best values."""
    accuracy = panel.name == "accuracy"
    parts = []
    for key, label in panel.columns.items():
        values = column(history, key)
        values = values[np.isfinite(values)]
        if len(values):
            show = percent if accuracy else number
            best = f"highest {show(values.max())}" if accuracy else f"lowest {show(values.min())}"
            parts.append(f"{label} from {show(values[0])} to {show(values[-1])} ({best})")
    return f"Line chart of {panel.name} against epoch: {'; '.join(parts)}"
