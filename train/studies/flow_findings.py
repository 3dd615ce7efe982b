"""What a study of gradient flow found: gradients by unit, their growth, spectra, the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_resnet.analysis import Gradients, UnitGradient

from ..presentation.findings import Findings, Table
from ..presentation.plots import Line, Plot
from .flow import Start
from .plan import Arm, Trial
from .spread import Spread

# A gradient that grows or shrinks by more than this on its way through all units is called so.
FAR = 100.0

History = Mapping[int, Gradients]


def findings(
    starts: Sequence[Start], histories: Mapping[str, History], facts: Mapping[str, object]
) -> Findings:
    """Returns the gradient by unit, its growth, spectra where there are any, and the verdict.

    Args:
        starts: The nets as they start.
        histories: Of the trained ones by the trial's name: gradients by step.
        facts: How it was measured.
    """
    plots = [
        _by_unit(
            starts,
            "gradient-by-unit",
            "Gradient at the output of each unit, new nets",
            "norm of the gradient",
            lambda part: part.output_norm,
        ),
        _by_unit(
            starts,
            "gradient-over-weights",
            "Gradient at the weights of each unit, new nets",
            "norm of the gradient over that of the weights",
            lambda part: part.weight_norm / part.weights,
        ),
    ]
    tables = [_growth_table(starts)]
    if any(start.spectrum for start in starts):
        tables.append(_spectrum_table(starts))
    if histories:
        plots.append(_along_training(starts, histories))
    words = [*(_verdict(arm, growth_of(starts, arm)) for arm in _arms(starts))]
    words += _contrasts(starts)
    words += [
        _later(start.trial, histories[start.trial.name])
        for start in starts
        if start.trial.name in histories
    ]
    return Findings(
        "Gradient flow: what reaches the first units",
        tuple(words),
        tuple(plots),
        tuple(tables),
        facts,
    )


def growth_of(starts: Sequence[Start], arm: Arm) -> Spread:
    """Returns how much larger the gradient is at the first unit than at the last, a value a seed.

    Gradients beyond float32 are left out.
    """
    return Spread.of(s.gradients.growth for s in starts if s.trial.arm.name == arm.name)


def _arms(starts: Sequence[Start]) -> list[Arm]:
    return list({start.trial.arm.name: start.trial.arm for start in starts}.values())


def _layers(arm: Arm) -> int:
    """Convolutions between the first unit's output and the last one's."""
    units = sum(arm.net.depths)
    return (arm.net.layers - 2) // units * (units - 1)


def _a_layer(arm: Arm, growth: float) -> float:
    layers = _layers(arm)
    return growth ** (1 / layers) if layers and growth > 0 else math.nan


def _verdict(arm: Arm, growth: Spread) -> str:
    if not growth.values:
        return f"{arm.label}: the gradient leaves the range of float32 on its way back."
    middle = _middle(growth)
    how = "explodes" if middle > FAR else "vanishes" if middle < 1 / FAR else "stays in range"
    seeds = f" ({growth.low:.3g} to {growth.high:.3g} over seeds)" if len(growth.values) > 1 else ""
    return (
        f"{arm.label}: the gradient at the first unit is {middle:.3g} times that at the last"
        f"{seeds}, a factor of {_a_layer(arm, middle):.3f} a layer: on its way back it {how}."
    )


def _contrasts(starts: Sequence[Start]) -> list[str]:
    """Returns what the shortcut does to the factor, at each depth that has nets of both kinds."""
    arms = _arms(starts)
    words = []
    for plain in (arm for arm in arms if arm.net.merge == "none"):
        for twin in (a for a in arms if a.net.merge != "none" and a.net.layers == plain.net.layers):
            without, with_it = growth_of(starts, plain), growth_of(starts, twin)
            if without.values and with_it.values and _middle(with_it) > 0:
                words.append(
                    f"The factor of {plain.label} is {_middle(without) / _middle(with_it):.3g} "
                    f"times that of {twin.label}."
                )
    return words


def _later(trial: Trial, history: History) -> str:
    first, last = min(history), max(history)
    return (
        f"{trial.arm.label}, seed {trial.seed}: that factor is {history[first].growth:.3g} at step "
        f"{first} and {history[last].growth:.3g} at step {last}, the loss of the batch "
        f"{history[first].loss:.3g} and {history[last].loss:.3g}."
    )


def _middle(spread: Spread) -> float:
    """Returns the geometric mean: factors are compared as factors."""
    return float(np.exp(np.mean(np.log(spread.values)))) if min(spread.values) > 0 else spread.mean


def _by_unit(
    starts: Sequence[Start],
    name: str,
    title: str,
    ylabel: str,
    value: Callable[[UnitGradient], float],
) -> Plot:
    lines = []
    for arm in _arms(starts):
        own = [start.gradients.units for start in starts if start.trial.arm.name == arm.name]
        rows = np.array([[value(part) for part in units] for units in own])
        rows[~np.isfinite(rows) | (rows <= 0)] = np.nan  # neither has a place on the axis
        middle = np.exp(np.log(rows).mean(axis=0))
        several = len(rows) > 1
        lines.append(
            Line(
                arm.label,
                np.linspace(0, 1, rows.shape[1]).tolist(),
                middle.tolist(),
                rows.min(axis=0).tolist() if several else None,
                rows.max(axis=0).tolist() if several else None,
                dashed=arm.net.merge == "none",
            )
        )
    return Plot(
        name, title, "place of the unit (0 first, 1 last)", ylabel, tuple(lines), log_y=True
    )


def _along_training(starts: Sequence[Start], histories: Mapping[str, History]) -> Plot:
    lines = []
    for colour, arm in enumerate(_arms(starts)):
        names = [s.trial.name for s in starts if s.trial.arm.name == arm.name]
        own = [histories[name] for name in names if name in histories]
        steps = sorted(set.intersection(*(set(history) for history in own))) if own else []
        spreads = [Spread.of(history[step].growth for history in own) for step in steps]
        lines.append(
            Line(
                arm.label,
                steps,
                [_middle(s) if s.values else math.nan for s in spreads],
                [s.low for s in spreads] if len(own) > 1 else None,
                [s.high for s in spreads] if len(own) > 1 else None,
                arm.net.merge == "none",
                colour,
            )
        )
    return Plot(
        "growth-along-training",
        "Gradient at the first unit over that at the last",
        "step",
        "factor",
        tuple(lines),
        log_y=True,
    )


def _growth_table(starts: Sequence[Start]) -> Table:
    rows = []
    for arm in _arms(starts):
        own = [start.gradients for start in starts if start.trial.arm.name == arm.name]
        growth = growth_of(starts, arm)
        middle = _middle(growth) if growth.values else math.nan
        first, last = (Spread.of(g.units[at].output_norm for g in own).mean for at in (0, -1))
        rows.append(
            (
                arm.label,
                arm.net.layers,
                len(own),
                first,
                last,
                middle,
                growth.low,
                growth.high,
                _a_layer(arm, middle),
                Spread.of(g.loss for g in own).mean,
            )
        )
    return Table(
        "growth",
        "The gradient of the loss at unit outputs, new nets; first over last: geometric "
        "mean over seeds, lowest, highest, and the factor a layer",
        (
            "net",
            "layers",
            "seeds",
            "first unit",
            "last unit",
            "first / last",
            "lowest",
            "highest",
            "a layer",
            "loss (nats)",
        ),
        tuple(rows),
    )


def _spectrum_table(starts: Sequence[Start]) -> Table:
    rows = tuple(
        (
            f"{start.trial.arm.label}, seed {start.trial.seed}",
            s.largest,
            s.median,
            s.rank,
            len(s.values),
            s.condition,
            s.log_spread,
        )
        for start in starts
        if (s := start.spectrum)
    )
    return Table(
        "jacobian",
        "Singular values of the last unit's output by the stem's, of one image; the "
        "logarithms' spread is 0 where all directions fare alike (dynamical isometry)",
        (
            "net",
            "largest",
            "median",
            "not zero",
            "all",
            "largest / smallest",
            "spread of logarithms",
        ),
        rows,
    )
