"""Findings of the gradient-flow study: gradients by unit, their growth, spectra, the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from keras_resnet.analysis import Gradients, UnitGradient

from ..presentation import Findings, Plot, Table
from .flow import InitialFlow
from .plan import Arm, Trial
from .spread import Spread, spread_line

# A gradient explodes or vanishes if it changes by more than this factor over all units.
FAR = 100.0

History = Mapping[int, Gradients]


def findings(
    flows: Sequence[InitialFlow], histories: Mapping[str, History], facts: Mapping[str, object]
) -> Findings:
    """Returns the gradient by unit, its growth, spectra if there are any, and the verdict.

    Args:
        flows: Measurements of the new nets.
        histories: Name of a trial -> gradients by step, of the nets that were trained.
        facts: Facts about the measurement.
    """
    plots = [
        _by_unit(
            flows,
            "gradient-by-unit",
            "Gradient with respect to the output of each unit, new nets",
            "gradient norm",
            lambda part: part.output_norm,
        ),
        _by_unit(
            flows,
            "gradient-over-weights",
            "Gradient with respect to the weights of each unit, new nets",
            "gradient norm / weight norm",
            lambda part: part.weight_norm / part.weights,
        ),
    ]
    if histories:
        plots.append(_along_training(flows, histories))
    tables = [_growth_table(flows)]
    if any(flow.spectrum for flow in flows):
        tables.append(_spectrum_table(flows))
    words = [_verdict(arm, growth_of(flows, arm)) for arm in _arms(flows)]
    words += _contrasts(flows)
    words += [
        _after_training(flow.trial, histories[flow.trial.name])
        for flow in flows
        if flow.trial.name in histories
    ]
    title = "Gradient flow: gradients at the first units"
    return Findings(title, tuple(words), tuple(plots), tuple(tables), facts)


def growth_of(flows: Sequence[InitialFlow], arm: Arm) -> Spread:
    """Returns the ratio of the gradient at the first unit to that at the last, by seed.

    Gradients beyond float32 are left out.
    """
    return Spread.of(flow.gradients.growth for flow in _of(flows, arm))


def _arms(flows: Sequence[InitialFlow]) -> list[Arm]:
    return list({flow.trial.arm.name: flow.trial.arm for flow in flows}.values())


def _of(flows: Sequence[InitialFlow], arm: Arm) -> list[InitialFlow]:
    return [flow for flow in flows if flow.trial.arm.name == arm.name]


def _per_layer(arm: Arm, growth: float) -> float:
    """Returns the growth per convolution between the first and the last unit's output."""
    units = sum(arm.net.depths)
    layers = (arm.net.layers - 2) // units * (units - 1)
    return growth ** (1 / layers) if layers and growth > 0 else math.nan


def _verdict(arm: Arm, growth: Spread) -> str:
    if not growth.values:
        return f"{arm.label}: the gradient exceeds the range of float32."
    mean = growth.geometric_mean
    kind = "explodes" if mean > FAR else "vanishes" if mean < 1 / FAR else "stays in range"
    seeds = f" ({growth.low:.3g} to {growth.high:.3g} over seeds)" if len(growth.values) > 1 else ""
    return (
        f"{arm.label}: the gradient at the first unit is {mean:.3g} times that at the last{seeds}, "
        f"a factor of {_per_layer(arm, mean):.3f} per layer: it {kind}."
    )


def _contrasts(flows: Sequence[InitialFlow]) -> list[str]:
    """Compares the growth of plain and residual nets of the same depth."""
    arms = _arms(flows)
    words = []
    for plain in (arm for arm in arms if arm.net.merge == "none"):
        for twin in (a for a in arms if a.net.merge != "none" and a.net.layers == plain.net.layers):
            without, with_shortcut = growth_of(flows, plain), growth_of(flows, twin)
            if without.values and with_shortcut.values and with_shortcut.geometric_mean > 0:
                ratio = without.geometric_mean / with_shortcut.geometric_mean
                words.append(
                    f"The growth of {plain.label} is {ratio:.3g} times that of {twin.label}."
                )
    return words


def _after_training(trial: Trial, history: History) -> str:
    first, last = min(history), max(history)
    return (
        f"{trial.arm.label}, seed {trial.seed}: the growth is {history[first].growth:.3g} at step "
        f"{first} and {history[last].growth:.3g} at step {last}, the loss of the batch "
        f"{history[first].loss:.3g} and {history[last].loss:.3g}."
    )


def _by_unit(
    flows: Sequence[InitialFlow],
    name: str,
    title: str,
    ylabel: str,
    value: Callable[[UnitGradient], float],
) -> Plot:
    lines = []
    for arm in _arms(flows):
        units = list(zip(*(flow.gradients.units for flow in _of(flows, arm)), strict=True))
        # Zero has no place on a logarithmic axis.
        spreads = [Spread.of(norm for part in unit if (norm := value(part)) > 0) for unit in units]
        places = [index / max(1, len(units) - 1) for index in range(len(units))]
        plain = arm.net.merge == "none"
        lines.append(spread_line(arm.label, places, spreads, mean="geometric_mean", dashed=plain))
    xlabel = "relative position of the unit (0 = first, 1 = last)"
    return Plot(name, title, xlabel, ylabel, tuple(lines), log_y=True)


def _along_training(flows: Sequence[InitialFlow], histories: Mapping[str, History]) -> Plot:
    lines = []
    for colour, arm in enumerate(_arms(flows)):
        names = [flow.trial.name for flow in _of(flows, arm)]
        own = [histories[name] for name in names if name in histories]
        steps = sorted(set.intersection(*(set(history) for history in own))) if own else []
        spreads = [Spread.of(history[step].growth for history in own) for step in steps]
        plain = arm.net.merge == "none"
        lines.append(
            spread_line(
                arm.label, steps, spreads, mean="geometric_mean", dashed=plain, colour=colour
            )
        )
    title = "Gradient norm at the first unit over that at the last"
    return Plot("growth-along-training", title, "step", "ratio", tuple(lines), log_y=True)


def _growth_table(flows: Sequence[InitialFlow]) -> Table:
    records = []
    for arm in _arms(flows):
        own = [flow.gradients for flow in _of(flows, arm)]
        growth = growth_of(flows, arm)
        records.append(
            {
                "net": arm.label,
                "layers": arm.net.layers,
                "seeds": len(own),
                "first unit": Spread.of(each.units[0].output_norm for each in own).mean,
                "last unit": Spread.of(each.units[-1].output_norm for each in own).mean,
                "first / last": growth.geometric_mean,
                "lowest": growth.low,
                "highest": growth.high,
                "per layer": _per_layer(arm, growth.geometric_mean),
                "loss (nats)": Spread.of(each.loss for each in own).mean,
            }
        )
    return Table.of(
        "growth",
        "Gradient norm at unit outputs, new nets; first / last: geometric mean over seeds, "
        "lowest, highest, and the factor per layer",
        records,
    )


def _spectrum_table(flows: Sequence[InitialFlow]) -> Table:
    return Table.of(
        "jacobian",
        "Singular values of the Jacobian of the last unit's output with respect to the stem's, of "
        "one image; the standard deviation of their logarithms is 0 under dynamical isometry",
        (
            {
                "net": f"{flow.trial.arm.label}, seed {flow.trial.seed}",
                "largest": spectrum.largest,
                "median": spectrum.median,
                "not zero": spectrum.rank,
                "all": len(spectrum.values),
                "largest / smallest": spectrum.condition,
                "spread of logarithms": spectrum.log_spread,
            }
            for flow in flows
            if (spectrum := flow.spectrum)
        ),
    )
