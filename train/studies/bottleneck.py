"""`keras-resnet study bottleneck`: basic against bottleneck units, at equal depth and equal cost.

Source: He et al. 2015 (arXiv:1512.03385), section 4.1, "Deeper Bottleneck Architectures", Figure
5 and Table 1: a bottleneck of three layers costs what a basic unit of two does, so that a net of 50
layers has the cost of one of 34.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from keras_resnet import get_spec
from keras_resnet.analysis import count_spec

from ..command import Command
from ..presentation.findings import Findings
from ..presentation.plots import Line, Plot
from .comparison import (
    arms_of,
    multiply_adds,
    run_comparison,
    spread_of,
    standard_findings,
    test_error,
    training_loss,
)
from .options import SHORT, Preset, add_budget, budget_of, depths_of
from .plan import Arm, Budget
from .spread import compared
from .trials import Outcome

PRESETS = {
    "smoke": Preset(150, 1, "digits", 64, (20,)),
    "short": Preset(3000, 2, "cifar10", 64, (20,), settings=SHORT),
    "paper": Preset(64_000, 3, "cifar10", 128, (20, 56, 110), warmup=False),
}


def arms(depths: Sequence[int]) -> list[Arm]:
    """Returns for each depth a basic net, a bottleneck of its depth, and one of its cost.

    All have shortcuts of option B, because the bottleneck's first unit widens by four.

    Raises:
        ValueError: If a depth is not that of a basic and of a bottleneck net (18k + 2).
    """
    found = []
    for depth in depths:
        if (depth - 2) % 18 or depth < 20:
            low = max(20, (depth - 2) // 18 * 18 + 2)
            raise ValueError(
                "`--depths` needs 18k+2 layers, which basic (6n+2) and bottleneck nets (9n+2) "
                f"share. Received: {depth}; nearest: {low}, {low + 18}"
            )
        units = (depth - 2) // 6
        same = (depth - 2) // 9
        equal = _units_of_cost(units)
        group = str(depth)
        found += [
            Arm(
                f"basic{depth}",
                f"basic-{depth}",
                f"cifar_resnet{depth}",
                {"shortcut": "B"},
                group=group,
            ),
            Arm(
                f"bottleneck{depth}",
                f"bottleneck-{depth}",
                f"cifar_resnet{depth}_bottleneck",
                group=group,
            ),
        ]
        if equal != same:
            layers = 9 * equal + 2
            found.append(
                Arm(
                    f"bottleneck{layers}",
                    f"bottleneck-{layers}",
                    f"cifar_resnet{layers}_bottleneck",
                    group=group,
                )
            )
    return list({arm.name: arm for arm in found}.values())


def _units_of_cost(units: int) -> int:
    """Returns the bottlenecks a stage that cost nearest to `units` basic units a stage."""
    basic = get_spec(f"cifar_resnet{6 * units + 2}").replace(shortcut="B")
    wanted = count_spec(basic).multiply_adds
    candidates = range(1, 2 * units + 1)
    return min(
        candidates,
        key=lambda n: abs(count_spec(f"cifar_resnet{9 * n + 2}_bottleneck").multiply_adds - wanted),
    )


def findings(outcomes: Sequence[Outcome], budget: Budget) -> Findings:
    """Returns error against multiply-adds of both kinds of units."""
    lines = []
    for kind in ("basic", "bottleneck"):
        own = [arm for arm in arms_of(outcomes) if arm.name.startswith(kind)]
        cost = {arm.name: multiply_adds(outcomes, arm) for arm in own}
        own.sort(key=lambda arm: cost[arm.name])
        spreads = [spread_of(outcomes, arm, test_error) for arm in own]
        lines.append(
            Line(
                kind,
                [cost[arm.name] / 1e6 for arm in own],
                [100 * s.mean for s in spreads],
                [100 * s.low for s in spreads],
                [100 * s.high for s in spreads],
            )
        )
    plot = Plot(
        "error-by-cost",
        "Test error against multiply-adds, with the range over seeds",
        "million multiply-adds an image",
        "test error (%)",
        tuple(lines),
    )
    return standard_findings(
        "Basic and bottleneck units", outcomes, budget, words=verdict(outcomes), plots=(plot,)
    )


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns how the bottlenecks compare with the basic net of each depth."""
    words = []
    known = arms_of(outcomes)
    for basic in (arm for arm in known if arm.name.startswith("basic")):
        one = spread_of(outcomes, basic, test_error)
        cost = multiply_adds(outcomes, basic)
        for other in known:
            if other.group != basic.group or other is basic:
                continue
            ratio = multiply_adds(outcomes, other) / cost
            own = spread_of(outcomes, other, test_error)
            loss = spread_of(outcomes, other, training_loss)
            if own.values and one.values:
                words.append(
                    f"{other.label} against {basic.label}, at {ratio:.2f} times the multiply-adds: "
                    f"test error {own.text(2, percent=True)} against "
                    f"{one.text(2, percent=True)} ({compared(one, own, percent=True)}), training "
                    f"loss {loss.text()} against "
                    f"{spread_of(outcomes, basic, training_loss).text()}."
                )
    return words


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--depths", help="layers of the basic nets: 18k+2, such as 20,56,110")
    add_budget(parser, PRESETS)


def _run(args: argparse.Namespace) -> int:
    depths = depths_of(args.depths, PRESETS[args.preset].depths)
    budget = budget_of(args, PRESETS)
    return run_comparison(args.output, arms(depths), budget, findings)


COMMAND = Command(_add_arguments, _run)
