"""Several runs in one page: their curves over each other, their results, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..config import all_fields, load_config
from ..config.run import RunConfig
from ..files import write_text
from ..presentation import Line, Plot, Table
from ..presentation.drawing import inline_figure
from ..presentation.formats import percent
from ..presentation.markup import element
from ..presentation.page import html_page, note, section
from ..runs import age_text, history, names_of, run_state
from .data import column, epochs

History = Sequence[Mapping[str, float]]

# Columns of the history -> name of the figure and its axis; the first that a run has counts.
_FIGURES = {
    "Accuracy on held-out images": (("val_accuracy", "test_accuracy"), "accuracy (%)", 100),
    "Training accuracy": (("accuracy",), "accuracy (%)", 100),
    "Training loss": (("loss",), "loss (nats)", 1),
    "Learning rate": (("learning_rate",), "learning rate", 1),
}


def write_comparison(paths: Sequence[Path], output: Path) -> list[str]:
    """Writes a page with the curves of several runs, finished or not.

    Args:
        paths: The directories of the runs.
        output: The HTML file.

    Returns:
        What is not shown, one sentence for each run.

    Raises:
        FileNotFoundError: If a path is not a run.
        ValueError: If fewer than two different runs are given, or no run has an epoch yet.
    """
    different = list(dict.fromkeys(path.resolve() for path in paths))
    if len(different) < 2:
        raise ValueError(f"`compare` needs two runs or more. Received: {len(different)}")
    for path in different:
        if not (path / "config.json").is_file():
            why = "it has no config.json" if path.exists() else "there is nothing of this name"
            raise FileNotFoundError(f"{path} is not a run: {why}")
    names = names_of(different)
    histories: dict[str, History] = {}
    notes = []
    for name, path in zip(names, different, strict=True):
        rows = history(path)
        if not rows:
            why = "its history.csv is damaged" if rows is None else "no epoch has ended yet"
            notes.append(f"{name} has no curves: {why}")
        else:
            histories[name] = rows
    if not histories:
        raise ValueError(f"None of the runs has a curve to show: {'; '.join(notes)}")
    figures = [
        inline_figure(plot, f"{plot.title} of {len(plot.lines)} runs against the epoch")
        for plot in overlays(histories)
    ]
    settings = differing_settings(dict(zip(names, different, strict=True)))
    html = html_page(
        f"Comparison of {len(names)} runs",
        element("h1", f"Comparison of {len(names)} runs"),
        {"results": "Results", "curves": "Curves", "settings": "Settings"},
        [
            section("results", "Results", _results(names, different).html(), *map(note, notes)),
            section("curves", "Curves", *figures),
            section(
                "settings",
                "Settings that differ",
                settings.html() if settings.rows else note("The runs have the same settings."),
            ),
        ],
    )
    write_text(output, html)
    return notes


def overlays(histories: Mapping[str, History]) -> list[Plot]:
    """Returns one figure per quantity that a run has, with a line for each run."""
    plots = []
    for title, (keys, label, factor) in _FIGURES.items():
        lines = []
        for index, (name, rows) in enumerate(histories.items()):
            values = next(
                (found for key in keys if np.isfinite(found := column(rows, key)).any()), None
            )
            if values is not None:
                finite = np.isfinite(values)
                x, y = epochs(rows)[finite], factor * values[finite]
                lines.append(Line(name, x.tolist(), y.tolist(), colour=index))
        if lines:
            file = f"compare-{title.lower().replace(' ', '-')}"
            plots.append(Plot(file, title, "epoch", label, tuple(lines)))
    return plots


def _results(names: Sequence[str], paths: Sequence[Path]) -> Table:
    states = [run_state(path) for path in paths]
    records = [
        {
            "run": name,
            "state": each.state,
            "step": each.step,
            "accuracy": "" if each.accuracy is None else percent(each.accuracy),
            "measured on": each.measured,
            "written": f"{age_text(each.age)} ago",
        }
        for name, each in zip(names, states, strict=True)
    ]
    return Table.of("results", "", records)


def differing_settings(runs: Mapping[str, Path]) -> Table:
    """Returns the settings that are not the same in all runs, a column for each run."""
    configs = {name: load_config(path / "config.json") for name, path in runs.items()}

    def value(config: RunConfig, path: str) -> str:
        found: object = config
        for part in path.split("."):
            found = getattr(found, part, None)
        return str(found)

    records = []
    for field in all_fields(RunConfig):
        values = {name: value(config, field.path) for name, config in configs.items()}
        if len(set(values.values())) > 1:
            records.append({"setting": field.path, **values})
    return Table.of("settings", "", records)
