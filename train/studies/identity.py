"""`keras-resnet study identity`: how far is a unit from the identity?

Source: He et al. 2015 (arXiv:1512.03385), section 3.1: a unit becomes the identity when its weights
are zero; He et al. 2016 (arXiv:1603.05027), section 3.1 and Table 1: operations on the shortcut
prevent this.
"""

from __future__ import annotations

import argparse
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
from ..presentation import Findings, Line, Plot, Table, publish
from ..recipes import get_recipe
from .comparison import provenance
from .flow import new_net, training_batch
from .options import add_output, check_at_least_one
from .spread import Spread, spread_line

MODELS = (
    "cifar_resnet20",
    "cifar_resnet56",
    "cifar_resnet56v2_basic",
    "cifar_highway56",
    "cifar_plain56",
)
# He et al. 2016, Table 1, with further scales and gate biases.
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
    """Measures a unit of each branch, order, merge and hampered shortcut, with each seed."""
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
    measured: dict[str, list[list[UnitDistance]]] = {}
    for number, name in enumerate(models, start=1):
        measured[name] = []
        for seed in range(seeds):
            config = get_recipe("digits").configure(name, {"data.dataset": "digits", "seed": seed})
            batch = training_batch(config, images)
            measured[name].append(unit_distances(Chain(new_net(config, batch)), batch.images))
        print(f"[{number}/{len(models)}] {name}: {len(measured[name][0])} units", flush=True)
    return measured


def findings(
    units: Mapping[str, Sequence[IdentityReport]], nets: Distances, facts: Mapping[str, object]
) -> Findings:
    """Returns the distance of units and of new nets' units from the identity."""
    lines = [_line(name, runs) for name, runs in nets.items()]
    plot = Plot(
        "distance-by-unit",
        "Distance of each unit of a new net from the identity",
        "relative position of the unit (0 = first, 1 = last)",
        "relative distance",
        tuple(lines),
        log_y=all(value > 0 for line in lines for value in line.y),
    )
    table = Table.of(
        "units",
        "One unit of each kind on rectified noise: largest absolute error with a zero branch, and "
        "relative distance from the identity when new",
        (
            {
                "unit": name,
                "identity?": own[0].claims,
                "because": own[0].reason,
                "largest error": max(report.error for report in own),
                "distance when new": Spread.of(report.distance for report in own).mean,
            }
            for name, own in units.items()
        ),
    )
    return Findings(
        "Units against the identity", tuple(_words(units, nets)), (plot,), (table,), facts
    )


def _words(units: Mapping[str, Sequence[IdentityReport]], nets: Distances) -> list[str]:
    claim = {name: own for name, own in units.items() if own[0].claims}
    exact = [name for name, own in claim.items() if all(report.error == 0 for report in own)]
    words = [
        f"{len(claim)} of {len(units)} kinds of units should be the identity on rectified input "
        f"with a zero branch; {len(exact)} of these are, exactly."
    ]
    broken = sorted(set(claim) - set(exact))
    if broken:
        words.append(f"These are not: {', '.join(broken)}.")
    others = {name: max(r.error for r in own) for name, own in units.items() if name not in claim}
    accidental = [name for name, error in others.items() if error == 0]
    words.append(
        f"The smallest error of the {len(others)} others is {min(others.values()):.3g} "
        f"({min(others, key=lambda name: others[name])})"
        + (f"; {', '.join(accidental)} are exact too." if accidental else ".")
    )
    still = [name for name, own in units.items() if all(r.distance == 0 for r in own)]
    words.append(f"Kinds that start as the identity: {len(still)}, {', '.join(still) or 'none'}.")
    for name, runs in nets.items():
        first, last = (Spread.of(run[at].distance for run in runs).mean for at in (0, -1))
        words.append(
            f"{name}, new: the first unit that keeps the shape changes its input by {first:.3g} "
            f"times its norm, the last by {last:.3g}."
        )
    return words


def _line(name: str, runs: Sequence[Sequence[UnitDistance]]) -> Line:
    spreads = [Spread.of(unit.distance for unit in at) for at in zip(*runs, strict=True)]
    places = [index / max(1, len(spreads) - 1) for index in range(len(spreads))]
    return spread_line(name, places, spreads)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"nets whose units are measured; by default {', '.join(MODELS)}",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N-1")
    parser.add_argument("--images", type=int, default=16, help="digits to measure nets on")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    check_at_least_one(args, "seeds", "images")
    nets = distances(args.models or MODELS, args.seeds, args.images)
    facts = provenance(
        {
            "Seeds": ", ".join(map(str, range(args.seeds))),
            "Measured on": f"units: 8 images of 8 x 8 pixels, rectified normal noise; nets: "
            f"{args.images} digits, with batch statistics, in float32",
        }
    )
    return publish(args.output, findings(reports(args.seeds), nets, facts))


COMMAND = Command(_add_arguments, _run)
