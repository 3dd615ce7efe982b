"""`keras-resnet study degradation`: does training get worse with depth, with and without shortcuts?

Source: He et al. 2015 (arXiv:1512.03385), section 4.2, Figures 1 and 6, Table 6.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..presentation import Findings, Plot
from .comparison import (
    Comparison,
    arms_table,
    budget_facts,
    comparison_command,
    divergences,
    error_curves,
    loss_curves,
    runs_table,
)
from .options import add_depths, depths_of, presets
from .plan import Arm
from .spread import beyond_spread, compared, spread_line

PRESETS = presets(150, 3000, paper_seeds=3, depths=(20, 56), paper_depths=(20, 32, 44, 56, 110))
KINDS = {"plain": "plain nets", "residual": "residual nets"}
# Table 6: test error in percent on CIFAR-10 after 64k steps.
_TABLE_6 = {20: "8.75", 32: "7.51", 44: "7.17", 56: "6.97", 110: "6.43", 1202: "7.93"}


def arms(depths: Sequence[int]) -> list[Arm]:
    """Returns a plain and a residual net of each depth, which differ in the shortcuts only.

    Raises:
        ValueError: If there is no net of a depth; the message names the nearest ones.
    """
    pairs = []
    for depth in depths:
        name, residual = f"plain{depth}", f"resnet{depth}"
        pairs += [
            Arm(name, f"plain-{depth}", f"cifar_{name}", group="plain"),
            Arm(
                residual,
                f"ResNet-{depth}",
                f"cifar_{residual}",
                group="residual",
                cited=_TABLE_6.get(depth, ""),
            ),
        ]
    return pairs


def findings(comparison: Comparison) -> Findings:
    """Returns the curves of both kinds, final errors against depth, and the verdict."""
    plots = []
    for kind, name in KINDS.items():
        own = _of_kind(comparison, kind)
        title = f"Training error (dashed) and test error of {name}"
        plots.append(error_curves(f"error-{kind}", title, comparison, own))
        plots.append(loss_curves(f"loss-{kind}", f"Training loss of {name}", comparison, own))
    cited = "He et al. 2015, Table 6 (test error %, CIFAR-10)"
    return Findings(
        title="Degradation: depth without and with shortcuts",
        words=(*verdict(comparison), *divergences(comparison)),
        plots=(*plots, _by_depth(comparison)),
        tables=(
            arms_table(comparison, cited if comparison.budget.dataset == "cifar10" else ""),
            runs_table(comparison),
        ),
        facts=budget_facts(comparison.budget),
    )


def verdict(comparison: Comparison) -> list[str]:
    """Returns the effect of depth on training loss and test error of either kind."""
    words = []
    worse: dict[str, bool] = {}
    one_seed = False
    for kind, name in KINDS.items():
        own = _of_kind(comparison, kind)
        own = [arm for arm in own if comparison.spread(arm, "training_loss").values]
        if len(own) < 2:
            words.append(f"Fewer than two depths of {name} finished training: no verdict.")
            continue
        shallow, deep = own[0], own[-1]
        before, after = (comparison.spread(arm, "training_loss") for arm in (shallow, deep))
        beyond = beyond_spread(before, after)
        worse[kind] = after.mean > before.mean and beyond is not False
        one_seed = one_seed or beyond is None
        words.append(
            f"{name.capitalize()}: the training loss of {deep.label} is {after.text()}, that "
            f"of {shallow.label} {before.text()}: {compared(before, after)}."
        )
        errors = [
            comparison.spread(arm, field).text(2, percent=True)
            for field in ("training_error", "test_error")
            for arm in (deep, shallow)
        ]
        words.append(
            f"Their training errors are {errors[0]} and {errors[1]}, their test errors "
            f"{errors[2]} and {errors[3]}."
        )
    if len(worse) == len(KINDS):
        caution = " (The spread is unknown with one seed: use more seeds.)" if one_seed else ""
        words.append(_CONCLUSIONS[worse["plain"], worse["residual"]] + caution)
    return words


# Whether the deeper plain net, and the deeper residual net, has a higher training loss.
_CONCLUSIONS = {
    (True, False): "The deeper plain net trains worse than the shallower one, and the deeper "
    "residual net does not: this is the degradation problem, and shortcuts solve it. It is not "
    "overfitting, which would lower the training loss.",
    (True, True): "The deeper net trains worse both without and with shortcuts at this budget.",
    (False, True): "The deeper net trains worse only with shortcuts, unlike in the paper.",
    (False, False): "No degradation: the deeper plain net does not train worse at this budget.",
}


def _of_kind(comparison: Comparison, kind: str) -> list[Arm]:
    return [arm for arm in comparison.arms if arm.group == kind]


def _by_depth(comparison: Comparison) -> Plot:
    lines = [
        spread_line(
            f"{kind}, {field.split('_')[0]}",
            [arm.net.layers for arm in _of_kind(comparison, kind)],
            [comparison.spread(arm, field) for arm in _of_kind(comparison, kind)],
            factor=100,
            dashed=field == "training_error",
            colour=colour,
        )
        for colour, kind in enumerate(KINDS)
        for field in ("training_error", "test_error")
    ]
    title = "Final error against depth, with the range over seeds"
    return Plot("error-by-depth", title, "layers", "error (%)", tuple(lines))


COMMAND = comparison_command(
    PRESETS,
    lambda parser: add_depths(parser, "layers of the nets, such as 20,32,44,56,110"),
    lambda args, preset: arms(depths_of(args.depths, preset.depths)),
    findings,
)
