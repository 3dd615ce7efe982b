"""`keras-resnet study identity`: how far a unit is from the identity.

Source: He et al. 2015 (arXiv:1512.03385), section 3.1: a unit can become the identity by driving
its weights to zero; He et al. 2016 (arXiv:1603.05027), section 3.1 and Table 1: what stands on the
shortcut hampers it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence

from keras_resnet.analysis import (
    Chain,
    IdentityReport,
    UnitDistance,
    accepted_specs,
    identity_report,
    unit_distances,
)

from ..command import Command
from ..presentation.findings import Findings, Table, publish
from ..presentation.plots import Line, Plot
from ..recipes import get_recipe
from .comparison import provenance
from .flow import new_net, training_batch
from .options import add_output
from .spread import Spread

MODELS = (
    "cifar_resnet20",
    "cifar_resnet56",
    "cifar_resnet56v2_basic",
    "cifar_highway56",
    "cifar_plain56",
)
# He et al. 2016, Table 1, and the other end of each scale.
_HAMPERED: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("shortcut times 0.5", {"shortcut_scale": 0.5}),
    ("branch times 0.5", {"branch_scale": 0.5}),
    ("both times 0.5", {"shortcut_scale": 0.5, "branch_scale": 0.5}),
    ("dropout of 0.5 on the shortcut", {"shortcut_dropout": 0.5}),
    ("projection (C)", {"shortcut": "C"}),
    *(
        (f"{merge}, gate bias {bias:g}", {"merge": merge, "gate_bias": bias})
        for merge in ("highway", "shortcut_gate")
        for bias in (0.0, -3.0, -6.0)
    ),
)

Distances = Mapping[str, Sequence[Sequence[UnitDistance]]]


def reports(seeds: int) -> dict[str, list[IdentityReport]]:
    """Measures one unit of each kind with each seed: every branch, order and merge, and more."""
    specs = {spec.name: spec for spec in accepted_specs()}
    base = specs["basic/post/add"]
    specs |= {f"basic/post: {name}": base.replace(**changes) for name, changes in _HAMPERED}
    return {
        name: [identity_report(spec, seed=seed) for seed in range(seeds)]
        for name, spec in specs.items()
    }


def distances(
    models: Sequence[str], seeds: int, images: int
) -> dict[str, list[list[UnitDistance]]]:
    """Measures each unit of new nets on a batch of digits."""
    found: dict[str, list[list[UnitDistance]]] = {}
    for number, name in enumerate(models, start=1):
        found[name] = []
        for seed in range(seeds):
            config = get_recipe("digits").configure(name, {"data.dataset": "digits", "seed": seed})
            batch = training_batch(config, images)
            found[name].append(unit_distances(Chain(new_net(config, batch)), batch.images))
        print(f"[{number}/{len(models)}] {name}: {len(found[name][0])} units", flush=True)
    return found


def findings(
    units: Mapping[str, Sequence[IdentityReport]], nets: Distances, facts: Mapping[str, object]
) -> Findings:
    """Returns what each kind of unit is with its branch at zero, and what new nets' units do."""
    plot = Plot(
        "distance-by-unit",
        "How much each unit of a new net changes what it is given",
        "place of the unit (0 first, 1 last)",
        "relative distance from the identity",
        tuple(_line(name, runs) for name, runs in nets.items()),
        log_y=_positive(nets),
    )
    rows = tuple(
        (
            name,
            own[0].claims,
            own[0].reason,
            max(report.error for report in own),
            Spread.of(report.distance for report in own).mean,
        )
        for name, own in units.items()
    )
    table = Table(
        "units",
        "One unit of each kind on rectified noise: its largest error as an identity once "
        "its branch is zero, and its relative distance from the identity when new",
        ("unit", "identity?", "because", "largest error", "distance when new"),
        rows,
    )
    return Findings(
        "Units against the identity", tuple(_words(units, nets)), (plot,), (table,), facts
    )


def _words(units: Mapping[str, Sequence[IdentityReport]], nets: Distances) -> list[str]:
    claim = {name: own for name, own in units.items() if own[0].claims}
    exact = [name for name, own in claim.items() if all(report.error == 0 for report in own)]
    words = [
        f"Of {len(units)} kinds of units {len(claim)} claim to be the identity on rectified input "
        f"once their branch is zero; {len(exact)} of these are, to the last bit."
    ]
    broken = sorted(set(claim) - set(exact))
    if broken:
        words.append(f"These are not, against the rule: {', '.join(broken)}.")
    others = {name: max(r.error for r in own) for name, own in units.items() if name not in claim}
    accidental = [name for name, error in others.items() if error == 0]
    words.append(
        f"Of the {len(others)} others the nearest is off by {min(others.values()):.3g} "
        f"({min(others, key=lambda name: others[name])})"
        + (f"; {', '.join(accidental)} are exact too." if accidental else ".")
    )
    still = [name for name, own in units.items() if all(r.distance == 0 for r in own)]
    words.append(f"{len(still)} kinds start as the identity: {', '.join(still) or 'none'}.")
    for name, runs in nets.items():
        first, last = (Spread.of(run[at].distance for run in runs).mean for at in (0, -1))
        words.append(
            f"{name}, new: the first unit that keeps the shape changes its input by {first:.3g} "
            f"of its norm, the last by {last:.3g}."
        )
    return words


def _line(name: str, runs: Sequence[Sequence[UnitDistance]]) -> Line:
    spreads = [Spread.of(unit.distance for unit in at) for at in zip(*runs, strict=True)]
    several = len(runs) > 1
    return Line(
        name,
        [i / max(1, len(spreads) - 1) for i in range(len(spreads))],
        [s.mean for s in spreads],
        [s.low for s in spreads] if several else None,
        [s.high for s in spreads] if several else None,
    )


def _positive(nets: Distances) -> bool:
    values = [unit.distance for runs in nets.values() for run in runs for unit in run]
    return bool(values) and all(math.isfinite(value) and value > 0 for value in values)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"nets whose units are measured; by default {', '.join(MODELS)}",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1")
    parser.add_argument("--images", type=int, default=16, help="digits that nets are measured on")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    for option in ("seeds", "images"):
        if getattr(args, option) < 1:
            raise ValueError(f"`--{option}` must be at least 1. Received: {getattr(args, option)}")
    nets = distances(args.models or MODELS, args.seeds, args.images)
    facts = provenance(
        {
            "Seeds": ", ".join(map(str, range(args.seeds))),
            "Measured on": f"units: 8 images of 8 x 8 pixels, rectified normal noise; nets: "
            f"{args.images} digits, as in training: batch statistics, float32",
        }
    )
    return publish(args.output, findings(reports(args.seeds), nets, facts))


COMMAND = Command(_add_arguments, _run)
