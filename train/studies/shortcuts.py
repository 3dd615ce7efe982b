"""`keras-resnet study shortcuts`: which shortcut, and where does the activation go?

Sources: He et al. 2015 (arXiv:1512.03385), section 4.1 and Table 3 (options A, B and C); He et al.
2016 (arXiv:1603.05027), Tables 1 (kinds of shortcuts) and 2 (orders of the activation).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet import get_spec
from keras_resnet.nets.catalog import nearest

from ..command import comma_separated
from ..presentation import Findings
from .comparison import Comparison, comparison_command, losses_and_errors, standard_findings
from .options import presets
from .plan import Arm

PRESETS = presets(100, 1500, paper_seeds=5, depths=(20,), paper_depths=(110,))
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
_NAME = str.maketrans(" ", "-", "(),")


def arms(depth: int, groups: Sequence[str]) -> list[Arm]:
    """Returns the nets of some groups; a net of two groups is trained once.

    Raises:
        ValueError: If there is no net of the depth.
    """
    model = f"cifar_resnet{depth}"
    original = get_spec(model)
    # Option A, the identity and the original are one net, the reference of all others.
    reference = Arm(
        "original", "original: identity, option A", model, cited="6.61; 25.03 (ImageNet, 34 layers)"
    )
    chosen = {reference.name: reference}
    for group in groups:
        for label, (spec, cited) in GROUPS[group].items():
            if original.replace(**spec) != original:
                name = label.translate(_NAME)
                chosen.setdefault(name, Arm(name, label, model, spec, group=group, cited=cited))
    return list(chosen.values())


def findings(comparison: Comparison) -> Findings:
    """Returns the final losses and errors, compared with the original unit's."""
    return standard_findings(
        "Shortcuts and activations at one depth",
        comparison,
        verdict(comparison),
        cited="Reported (test error %; on CIFAR-10 with 110 layers unless stated)",
    )


def verdict(comparison: Comparison) -> list[str]:
    """Returns each net's training loss and test error, compared with the original's."""
    first, *others = comparison.arms
    if not comparison.spread(first, "training_loss").values:
        return [f"{first.label} did not finish training, so there is no reference."]
    finished = [arm for arm in others if comparison.spread(arm, "training_loss").values]
    return [
        f"{losses_and_errors(comparison, first)}.",
        *(f"{losses_and_errors(comparison, arm, first)}." for arm in finished),
    ]


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


COMMAND = comparison_command(
    PRESETS,
    _add_arguments,
    lambda args, preset: arms(
        preset.depths[0] if args.depth is None else args.depth, groups_of(args.compare)
    ),
    findings,
)
