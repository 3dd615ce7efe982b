"""`keras-resnet study depth-cost`: what a deeper net costs to build, to start and to train."""

from __future__ import annotations

import argparse
import datetime
import math
from collections.abc import Mapping, Sequence

from keras_resnet import get_spec

from ..commands.command import Command
from .comparison import command_line, machine
from .cost import CostQuery, measure_cost
from .findings import Findings, Table, publish
from .options import add_output, depths_of
from .plots import Line, Plot

_PRESETS: Mapping[str, tuple[tuple[int, ...], float]] = {
    # Depths, and the seconds that each may take.
    "smoke": ((20, 56, 110), 90.0),
    "short": ((20, 56, 110, 218, 434), 900.0),
    "paper": ((20, 56, 110, 218, 434, 866, 1202), 3600.0),
}
_PARTS = {
    "build_seconds": "Build (s)",
    "first_step_seconds": "First step (s)",
    "step_seconds": "Step (s)",
    "training_bytes": "Memory (GB)",
}


def findings(
    costs: Mapping[int, Mapping[str, float]], family: str, batch_size: int, limit: float
) -> Findings:
    """Returns how each part grows with depth."""
    depths = sorted(costs)
    rows = []
    for depth in depths:
        cost = costs[depth]
        rows.append(
            (
                str(depth),
                *(_value(cost, part) for part in _PARTS),
                1e3 * cost["step_seconds"] / depth if "step_seconds" in cost else None,
                f"stopped after {cost['stopped_after']:g} s" if "stopped_after" in cost else "",
            )
        )
    plots = tuple(
        Plot(
            part.replace("_", "-"),
            f"{label.split(' (')[0]} against depth", "layers", label.lower(),
            (Line(family.format("N"), depths, [_value(costs[d], part) for d in depths]),),
            log_x=True, log_y=True,
        )
        for part, label in _PARTS.items()
    )  # fmt: skip
    return Findings(
        title="What depth costs",
        words=tuple(_words(costs)),
        plots=plots,
        tables=(
            Table(
                "depth-cost",
                "Each depth in a process of its own; memory above what TensorFlow takes by itself",
                ("Layers", *_PARTS.values(), "Step a layer (ms)", "Note"),
                tuple(rows),
            ),
        ),
        facts={
            "Command": command_line(),
            "Nets": f"{family.format('N')}, batch {batch_size}, unrolled: every unit is built and "
            "traced by itself",
            "Limit": f"{limit:g} s a depth",
            **machine(),
            "Date": datetime.date.today().isoformat(),
        },
    )


def _value(cost: Mapping[str, float], part: str) -> float:
    value = cost.get(part, math.nan)
    return value / 1e9 if part.endswith("bytes") else value


def _words(costs: Mapping[int, Mapping[str, float]]) -> list[str]:
    words = []
    for part, label in _PARTS.items():
        known = [depth for depth in sorted(costs) if part in costs[depth]]
        if len(known) < 2:
            continue
        first, last = known[0], known[-1]
        growth = costs[last][part] / max(costs[first][part], 1e-12)
        words.append(
            f"{label.split(' (')[0]}: {growth:.3g} times as much at {last} layers as at {first}, "
            f"which are {last / first:.3g} times as many."
        )
    stopped = [depth for depth in sorted(costs) if "stopped_after" in costs[depth]]
    if stopped:
        words.append(
            f"Not finished within the limit: {', '.join(map(str, stopped))} layers. Parts that "
            "ended before it are in the table."
        )
    return words


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    told = "; ".join(f"{name}: {', '.join(map(str, d))}" for name, (d, _) in _PRESETS.items())
    parser.add_argument("--preset", choices=tuple(_PRESETS), default="smoke", help=told)
    parser.add_argument("--depths", help="layers of the nets, such as 20,110,1202")
    parser.add_argument(
        "--family", default="cifar_resnet{}", help="name of the nets, {} standing for the depth"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="images a step")
    parser.add_argument("--steps", type=int, default=5, help="steps whose median time counts")
    parser.add_argument("--limit", type=float, help="seconds that each depth may take")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    depths, limit = _PRESETS[args.preset]
    depths = depths_of(args.depths, depths)
    limit = limit if args.limit is None else args.limit
    _check(args, depths, limit)
    folder = args.output / "costs"
    folder.mkdir(parents=True, exist_ok=True)
    costs = {}
    for number, depth in enumerate(depths, start=1):
        name = args.family.format(depth)
        print(f"[{number}/{len(depths)}] {name}", flush=True)
        query = CostQuery(name, batch_size=args.batch_size, steps=args.steps)
        costs[depth] = measure_cost(query, limit, folder / f"{name}.json")
    return publish(args.output, findings(costs, args.family, args.batch_size, limit))


def _check(args: argparse.Namespace, depths: Sequence[int], limit: float) -> None:
    if "{}" not in args.family:
        raise ValueError(
            "`--family` needs {} where the depth stands, as cifar_resnet{} has it. "
            f"Received: {args.family!r}"
        )
    for option, value in (("--batch-size", args.batch_size), ("--steps", args.steps),
                          ("--limit", limit)):  # fmt: skip
        if not value > 0:
            raise ValueError(f"`{option}` must be above 0. Received: {value}")
    for depth in depths:
        get_spec(args.family.format(depth))


STUDY = Command(
    "depth-cost", "build, first step, step and memory against depth", _add_arguments, _run
)
