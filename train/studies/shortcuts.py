"""`keras-resnet study shortcuts`: kinds of shortcuts, and places of the activation, at one depth.

Source: He et al. 2015 (arXiv:1512.03385), section 4.1, Table 3 (options A, B, C); He et al. 2016
(arXiv:1603.05027), Table 1 (scaling, gating, dropout) and Table 2 (places of the activation).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet import get_spec
from keras_resnet.nets.catalog import nearest

from ..command import Command, comma_separated
from ..presentation.findings import Findings
from .comparison import (
    arms_of,
    run_comparison,
    spread_of,
    standard_findings,
    test_error,
    training_loss,
)
from .options import SHORT, Preset, add_budget, budget_of
from .plan import Arm, Budget
from .spread import compared
from .trials import Outcome

PRESETS = {
    "smoke": Preset(100, 1, "digits", 64, (20,)),
    "short": Preset(1500, 2, "cifar10", 64, (20,), settings=SHORT),
    "paper": Preset(64_000, 5, "cifar10", 128, (110,), warmup=False),
}
# Group -> label -> fields of the spec, and the test error in percent that the paper reports: Table
# 3 on ImageNet with 34 layers, Tables 1 and 2 on CIFAR-10 with 110.
GROUPS: Mapping[str, Mapping[str, tuple[Mapping[str, Any], str]]] = {
    "options": {
        "option A (padding)": ({"shortcut": "A"}, "25.03 (ImageNet, 34 layers)"),
        "option B (projection where shapes differ)": ({"shortcut": "B"}, "24.52 (ImageNet)"),
        "option C (projections)": ({"shortcut": "C"}, "24.19 (ImageNet); 12.22 (CIFAR-10)"),
        "no shortcut": ({"merge": "none"}, "28.54 (ImageNet)"),
    },
    "kinds": {
        "identity": ({}, "6.61"),
        "half the shortcut": ({"shortcut_scale": 0.5}, "fails"),
        "half of both": ({"shortcut_scale": 0.5, "branch_scale": 0.5}, "12.35"),
        "exclusive gating": ({"merge": "highway", "gate_bias": -6.0}, "8.70"),
        "shortcut-only gating": ({"merge": "shortcut_gate", "gate_bias": -6.0}, "6.91"),
        "shortcut-only gating, bias 0": ({"merge": "shortcut_gate", "gate_bias": 0.0}, "12.86"),
        "dropout on the shortcut": ({"shortcut_dropout": 0.5}, "fails"),
    },
    "activation": {
        "original (ReLU after addition)": ({}, "6.61"),
        "batch norm after addition": ({"order": "norm_after_add"}, "8.17"),
        "ReLU before addition": ({"order": "relu_before_add"}, "7.84"),
        "ReLU-only pre-activation": ({"order": "relu_only_pre"}, "6.71"),
        "full pre-activation": ({"order": "pre"}, "6.37"),
    },
}


def arms(depth: int, groups: Sequence[str]) -> list[Arm]:
    """Returns the nets of some groups; one that stands in two groups is trained once.

    Raises:
        ValueError: If there is no net of the depth.
    """
    found: dict[str, Arm] = {}
    model = f"cifar_resnet{depth}"
    for group in groups:
        for label, (spec, cited) in GROUPS[group].items():
            # Option A, the identity and the original are one net, the one to compare with.
            same = get_spec(model).replace(**spec) == get_spec(model)
            name = "original" if same else label.replace(" ", "-").translate(_PLAIN)
            label = "original: identity, option A" if same else label
            found.setdefault(name, Arm(name, label, model, spec, group=group, cited=cited))
    # What all others are compared with comes first, whatever is asked for.
    first = Arm("original", "original: identity, option A", model, {}, cited="6.61")
    return [found.pop("original", first), *found.values()]


_PLAIN = str.maketrans("", "", "(),")


def findings(outcomes: Sequence[Outcome], budget: Budget) -> Findings:
    """Returns the final losses and errors, each compared with the original unit's."""
    return standard_findings(
        "Shortcuts and activations at one depth",
        outcomes,
        budget,
        words=verdict(outcomes),
        cited="Reported (test error %; of CIFAR-10 and 110 layers unless said otherwise)",
    )


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns how each net's training loss and test error differ from the original's."""
    first, *others = arms_of(outcomes)
    losses = spread_of(outcomes, first, training_loss)
    errors = spread_of(outcomes, first, test_error)
    if not losses.values:
        return [f"{first.label} did not train to the end, so there is nothing to compare with."]
    words = [
        f"{first.label}: training loss {losses.text()}, test error {errors.text(2, percent=True)}."
    ]
    for arm in others:
        own = spread_of(outcomes, arm, training_loss)
        if own.values:
            tests = spread_of(outcomes, arm, test_error)
            words.append(
                f"{arm.label}: training loss {own.text()}, {compared(losses, own)}; "
                f"test error {tests.text(2, percent=True)}."
            )
    return words


def groups_of(text: str | None) -> tuple[str, ...]:
    """Reads `options,kinds`.

    Raises:
        ValueError: If a group is unknown.
    """
    if text is None:
        return tuple(GROUPS)
    groups = tuple(comma_separated(text))
    unknown = [group for group in groups if group not in GROUPS]
    if unknown or not groups:
        name = unknown[0] if unknown else text
        raise ValueError(f"Unknown group {name!r}. {nearest(name, list(GROUPS))}")
    return groups


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--depth", type=int, help="layers of the nets")
    parser.add_argument("--compare", help=f"groups of nets, of {','.join(GROUPS)}; all by default")
    add_budget(parser, PRESETS)


def _run(args: argparse.Namespace) -> int:
    depth = PRESETS[args.preset].depths[0] if args.depth is None else args.depth
    budget = budget_of(args, PRESETS)
    return run_comparison(args.output, arms(depth, groups_of(args.compare)), budget, findings)


COMMAND = Command(_add_arguments, _run)
