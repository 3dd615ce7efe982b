"""`keras-resnet study bottleneck`: basic or bottleneck units, at equal depth and at equal cost?

Source: He et al. 2015 (arXiv:1512.03385), section 4.1, "Deeper Bottleneck Architectures", Figure
5 and Table 1: a bottleneck of three layers costs as much as a basic unit of two, so that a net of
50 layers costs as much as one of 34.
"""

from __future__ import annotations

from collections.abc import Sequence

from keras_resnet.analysis import count_spec

from ..presentation import Findings, Line, Plot
from .comparison import Comparison, comparison_command, standard_findings
from .options import add_depths, depths_of, presets
from .plan import Arm
from .spread import compared, spread_line

PRESETS = presets(150, 3000, paper_seeds=3, depths=(20,), paper_depths=(20, 56, 110))


def arms(depths: Sequence[int]) -> list[Arm]:
    """Returns for each depth a basic net, a bottleneck net of equal depth, and one of equal cost.

    All have shortcuts of option B, because the bottleneck's first unit widens by four.

    Raises:
        ValueError: If there is no basic and bottleneck net of a depth (18k + 2).
    """
    chosen: dict[str, Arm] = {}
    for depth in depths:
        if (depth - 2) % 18 or depth < 20:
            low = max(20, (depth - 2) // 18 * 18 + 2)
            raise ValueError(
                "`--depths` needs 18k+2 layers, which basic (6n+2) and bottleneck nets (9n+2) "
                f"share. Received: {depth}; nearest: {low}, {low + 18}"
            )
        group = str(depth)
        name, model = f"basic{depth}", f"cifar_resnet{depth}"
        basic = Arm(name, f"basic-{depth}", model, {"shortcut": "B"}, group=group)
        chosen[basic.name] = basic
        for layers in (depth, _depth_of_cost(basic)):
            name = f"bottleneck{layers}"
            model = f"cifar_resnet{layers}_bottleneck"
            chosen[name] = Arm(name, f"bottleneck-{layers}", model, group=group)
    return list(chosen.values())


def _depth_of_cost(basic: Arm) -> int:
    """Returns the depth of the bottleneck net whose cost is nearest to a basic net's.

    The cost is linear in the number of units per stage, so that two nets determine it.
    """
    one, two = (count_spec(f"cifar_resnet{9 * n + 2}_bottleneck").multiply_adds for n in (1, 2))
    cost = count_spec(basic.net).multiply_adds
    return 9 * max(1, round(1 + (cost - one) / (two - one))) + 2


def findings(comparison: Comparison) -> Findings:
    """Returns error against multiply-adds of both kinds of units."""
    plot = Plot(
        "error-by-cost",
        "Test error against multiply-adds, with the range over seeds",
        "million multiply-adds per image",
        "test error (%)",
        tuple(_by_cost(comparison, kind) for kind in ("basic", "bottleneck")),
    )
    return standard_findings(
        "Basic and bottleneck units", comparison, verdict(comparison), plots=(plot,)
    )


def _by_cost(comparison: Comparison, kind: str) -> Line:
    own = [arm for arm in comparison.arms if arm.name.startswith(kind)]
    own.sort(key=comparison.multiply_adds)
    return spread_line(
        kind,
        [comparison.multiply_adds(arm) / 1e6 for arm in own],
        [comparison.spread(arm, "test_error") for arm in own],
        factor=100,
    )


def verdict(comparison: Comparison) -> list[str]:
    """Returns the comparison of the bottleneck nets with the basic net of each depth."""
    words = []
    for basic in (arm for arm in comparison.arms if arm.name.startswith("basic")):
        reference = comparison.spread(basic, "test_error")
        for arm in comparison.arms:
            error = comparison.spread(arm, "test_error")
            if arm.group != basic.group or arm is basic or not (error.values and reference.values):
                continue
            ratio = comparison.multiply_adds(arm) / comparison.multiply_adds(basic)
            losses = [comparison.spread(each, "training_loss").text() for each in (arm, basic)]
            words.append(
                f"{arm.label} against {basic.label}, at {ratio:.2f} times the multiply-adds: "
                f"test error {error.text(2, percent=True)} against "
                f"{reference.text(2, percent=True)} ({compared(reference, error, percent=True)}), "
                f"training loss {losses[0]} against {losses[1]}."
            )
    return words


COMMAND = comparison_command(
    PRESETS,
    lambda parser: add_depths(parser, "layers of the basic nets: 18k+2, such as 20,56,110"),
    lambda args, preset: arms(depths_of(args.depths, preset.depths)),
    findings,
)
