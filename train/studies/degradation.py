"""`keras-resnet study degradation`: plain nets get worse with depth, residual ones do not.

Source: He et al. 2015 (arXiv:1512.03385), section 4.2, Figures 1 and 6, Table 6.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..command import Command
from ..presentation.findings import Findings
from ..presentation.plots import Line, Plot
from .comparison import (
    arms_of,
    arms_table,
    divergences,
    error_curves,
    how_measured,
    loss_curves,
    run_comparison,
    seeds_table,
    spread_of,
    test_error,
    training_error,
    training_loss,
)
from .options import SHORT, Preset, add_budget, budget_of, depths_of
from .plan import Arm, Budget
from .spread import beyond_spread, compared
from .trials import Outcome

# "paper" is the paper's own: 64k steps, its warm-up for 110 layers alone.
PRESETS = {
    "smoke": Preset(150, 1, "digits", 64, (20, 56)),
    "short": Preset(3000, 2, "cifar10", 64, (20, 56), settings=SHORT),
    "paper": Preset(64_000, 3, "cifar10", 128, (20, 32, 44, 56, 110), warmup=False),
}
KINDS = {"plain": "plain nets", "residual": "residual nets"}
# Table 6, test error in percent on CIFAR-10 after 64k steps.
_TABLE_6 = {20: "8.75", 32: "7.51", 44: "7.17", 56: "6.97", 110: "6.43", 1202: "7.93"}


def arms(depths: Sequence[int]) -> list[Arm]:
    """Returns a plain and a residual net of each depth, equal but for the shortcuts.

    Raises:
        ValueError: If there is no net of a depth; names the nearest ones.
    """
    return [
        arm
        for depth in depths
        for arm in (
            Arm(f"plain{depth}", f"plain-{depth}", f"cifar_plain{depth}", group="plain"),
            Arm(
                f"resnet{depth}",
                f"ResNet-{depth}",
                f"cifar_resnet{depth}",
                group="residual",
                cited=_TABLE_6.get(depth, ""),
            ),
        )
    ]


def findings(outcomes: Sequence[Outcome], budget: Budget) -> Findings:
    """Returns the curves of both kinds, final error and loss against depth, and the verdict."""
    plots = []
    for kind, name in KINDS.items():
        own = [arm for arm in arms_of(outcomes) if arm.group == kind]
        plots.append(
            error_curves(
                f"error-{kind}", f"Training error (broken) and test error of {name}", outcomes, own
            )
        )
        plots.append(loss_curves(f"loss-{kind}", f"Training loss of {name}", outcomes, own))
    plots.append(_by_depth(outcomes))
    cited = "He et al. 2015, Table 6 (test error %, CIFAR-10)"
    return Findings(
        title="Degradation: depth without and with shortcuts",
        words=(*verdict(outcomes), *divergences(outcomes)),
        plots=tuple(plots),
        tables=(
            arms_table(outcomes, cited=cited if budget.dataset == "cifar10" else ""),
            seeds_table(outcomes),
        ),
        facts=how_measured(budget),
    )


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns what depth did to the training loss of either kind, and to the test error."""
    words, worse = [], {}
    known = True
    for kind, name in KINDS.items():
        own = [arm for arm in arms_of(outcomes) if arm.group == kind]
        own = [arm for arm in own if spread_of(outcomes, arm, training_loss).values]
        if len(own) < 2:
            words.append(f"Fewer than two depths of {name} trained to the end: no verdict.")
            continue
        first, last = own[0], own[-1]
        losses = [spread_of(outcomes, arm, training_loss) for arm in (first, last)]
        beyond = beyond_spread(*losses)
        higher = losses[1].mean > losses[0].mean
        worse[kind] = higher and beyond is not False
        known = known and beyond is not None
        words.append(
            f"{name.capitalize()}: the training loss of {last.label} is {losses[1].text()}, that "
            f"of {first.label} {losses[0].text()}: {compared(*losses)}."
        )
        errors = [spread_of(outcomes, arm, training_error) for arm in (first, last)]
        tests = [spread_of(outcomes, arm, test_error) for arm in (first, last)]
        words.append(
            f"Their training errors are {errors[1].text(2, percent=True)} and "
            f"{errors[0].text(2, percent=True)}, their test errors "
            f"{tests[1].text(2, percent=True)} and {tests[0].text(2, percent=True)}."
        )
    if len(worse) == len(KINDS):
        caution = "" if known else " (One seed, so the spread is not known: take more.)"
        words.append(_conclusion(worse["plain"], worse["residual"]) + caution)
    return words


def _conclusion(plain: bool, residual: bool) -> str:
    if plain and not residual:
        return (
            "Deeper is worse in training without shortcuts, and not with them: the degradation "
            "problem, and what the shortcut does to it. It is no overfitting, which would lower "
            "the training loss."
        )
    if plain:
        return "Deeper is worse in training without shortcuts, and with them too at this budget."
    if residual:
        return "Deeper is worse in training with shortcuts alone, against what the paper found."
    return "No degradation showed: deeper plain nets are not worse in training at this budget."


def _by_depth(outcomes: Sequence[Outcome]) -> Plot:
    lines = []
    for colour, kind in enumerate(KINDS):
        own = [arm for arm in arms_of(outcomes) if arm.group == kind]
        depths = [arm.net.layers for arm in own]
        for value, label, dashed in (
            (training_error, "training", True),
            (test_error, "test", False),
        ):
            spreads = [spread_of(outcomes, arm, value) for arm in own]
            lines.append(
                Line(
                    f"{kind}, {label}",
                    depths,
                    [100 * s.mean for s in spreads],
                    [100 * s.low for s in spreads],
                    [100 * s.high for s in spreads],
                    dashed,
                    colour,
                )
            )
    return Plot(
        "error-by-depth",
        "Final error against depth, with the range over seeds",
        "layers",
        "error (%)",
        tuple(lines),
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--depths", help="layers of the nets, such as 20,32,44,56,110")
    add_budget(parser, PRESETS)


def _run(args: argparse.Namespace) -> int:
    depths = depths_of(args.depths, PRESETS[args.preset].depths)
    budget = budget_of(args, PRESETS)
    return run_comparison(args.output, arms(depths), budget, findings)


COMMAND = Command(_add_arguments, _run)
