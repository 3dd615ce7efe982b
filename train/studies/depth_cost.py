"""`study depth-cost` and `bench depth`: what a deeper net costs, stacked and unrolled."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from keras_resnet import get_spec

from ..command import Command
from ..presentation.findings import Findings, Table, publish
from ..presentation.plots import Line, Plot
from .comparison import provenance
from .cost import CostQuery, measure_cost
from .options import add_output, depths_of

Form = Literal["stacked", "unrolled"]
Costs = Mapping[Form, Mapping[int, Mapping[str, float]]]

_FORMS: tuple[Form, ...] = ("stacked", "unrolled")
_PRESETS: Mapping[str, tuple[tuple[int, ...], float]] = {
    # Depths, and the seconds that each may take.
    "smoke": ((20, 56, 110), 90.0),
    "short": ((20, 56, 110, 218, 434), 900.0),
    "paper": ((20, 56, 110, 218, 434, 866, 1202), 3600.0),
}
_PARTS = {
    "build_seconds": "Build (s)",
    "first_step_seconds": "First step (s)",
    "trace_seconds": "Trace (s)",
    "step_seconds": "Step (s)",
    "training_bytes": "Memory (GB)",
    "layer_seconds": "Step a layer (ms)",
}


@dataclasses.dataclass(frozen=True)
class DepthPlan:
    """What is measured.

    Attributes:
        depths: Layers of the nets, rising.
        limit: Seconds that one net in one form may take.
        family: Name of the nets, `{}` standing for the depth.
        batch_size: Images a step.
        steps: Steps whose median time counts.
    """

    depths: tuple[int, ...]
    limit: float
    family: str = "cifar_resnet{}"
    batch_size: int = 32
    steps: int = 5

    def __post_init__(self) -> None:
        """Checks the values, and that there are such nets."""
        if "{}" not in self.family:
            raise ValueError(
                "`--family` needs {} where the depth stands, as cifar_resnet{} has it. "
                f"Received: {self.family!r}"
            )
        for option, value in (
            ("--batch-size", self.batch_size),
            ("--steps", self.steps),
            ("--limit", self.limit),
        ):
            if not value > 0:
                raise ValueError(f"`{option}` must be above 0. Received: {value}")
        for depth in self.depths:
            get_spec(self.family.format(depth))


def run_depths(plan: DepthPlan, output: Path) -> int:
    """Measures each depth in both forms and publishes how the parts grow.

    A form that was stopped at one depth is not tried at a greater one.
    """
    folder = output / "costs"
    folder.mkdir(parents=True, exist_ok=True)
    costs: dict[Form, dict[int, Mapping[str, float]]] = {form: {} for form in _FORMS}
    for number, depth in enumerate(plan.depths, start=1):
        for form in _FORMS:
            if any("stopped_after" in cost for cost in costs[form].values()):
                continue
            name = plan.family.format(depth)
            print(f"[{number}/{len(plan.depths)}] {name}, {form}", flush=True)
            query = CostQuery(
                name, batch_size=plan.batch_size, steps=plan.steps, stacked=form == "stacked"
            )
            costs[form][depth] = measure_cost(query, plan.limit, folder / f"{name}-{form}.json")
    return publish(output, findings(costs, plan))


def findings(costs: Costs, plan: DepthPlan) -> Findings:
    """Returns how each part grows with depth, in each form."""
    rows = tuple(
        (
            str(depth),
            form,
            *(_value(costs[form], depth, part) for part in _PARTS),
            _note(costs[form], depth),
        )
        for depth in plan.depths
        for form in costs
    )
    return Findings(
        title="What depth costs",
        words=tuple(_words(costs, plan.depths)),
        plots=tuple(_plot(costs, plan, part) for part in _PARTS),
        tables=(
            Table(
                "depth-cost",
                "Each net in a process of its own; memory above what TensorFlow takes by itself",
                ("Layers", "Form", *_PARTS.values(), "Note"),
                rows,
            ),
        ),
        facts=provenance(
            {
                "Nets": f"{plan.family.format('N')}, batch {plan.batch_size}; stacked: the equal "
                "units of a stage are one loop; unrolled: every unit is built and traced by itself",
                "Limit": f"{plan.limit:g} s a net and form",
            }
        ),
    )


def _plot(costs: Costs, plan: DepthPlan, part: str) -> Plot:
    label = _PARTS[part]
    lines = tuple(
        Line(form, plan.depths, [_value(costs[form], depth, part) for depth in plan.depths])
        for form in costs
    )
    return Plot(
        part.replace("_", "-"),
        f"{label.split(' (')[0]} against depth",
        "layers",
        label.lower(),
        lines,
        log_x=True,
        log_y=True,
        ticks=plan.depths,
    )


def _value(costs: Mapping[int, Mapping[str, float]], depth: int, part: str) -> float:
    cost = costs.get(depth, {})
    if part == "layer_seconds":
        return 1e3 * cost.get("step_seconds", math.nan) / depth
    if part == "trace_seconds":  # what the first step takes beyond a step
        return cost.get("first_step_seconds", math.nan) - cost.get("step_seconds", math.nan)
    value = cost.get(part, math.nan)
    return value / 1e9 if part.endswith("bytes") else value


def _note(costs: Mapping[int, Mapping[str, float]], depth: int) -> str:
    if depth not in costs:
        return "not tried: a shallower one was stopped"
    stopped = costs[depth].get("stopped_after")
    return "" if stopped is None else f"stopped after {stopped:g} s"


def _words(costs: Costs, depths: Sequence[int]) -> Iterator[str]:
    for form in costs:
        for part, label in _PARTS.items():
            known = [d for d in depths if not math.isnan(_value(costs[form], d, part))]
            if len(known) < 2:
                continue
            first, last = known[0], known[-1]
            growth = _value(costs[form], last, part) / max(_value(costs[form], first, part), 1e-12)
            doubled = growth ** (1 / math.log2(last / first))
            yield (
                f"{form.capitalize()}, {label.split(' (')[0].lower()}: {growth:.3g} times as much "
                f"at {last} layers as at {first}, which are {last / first:.3g} times as many: "
                f"{doubled:.2f} times whenever depth doubles."
            )
        stopped = [depth for depth in depths if _note(costs[form], depth)]
        if stopped:
            yield (
                f"{form.capitalize()}, not finished within the limit or not tried: "
                f"{', '.join(map(str, stopped))} layers. Parts that ended before it are in the "
                "table."
            )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    told = "; ".join(f"{name}: {', '.join(map(str, d))}" for name, (d, _) in _PRESETS.items())
    parser.add_argument("--preset", choices=tuple(_PRESETS), default="smoke", help=told)
    parser.add_argument("--depths", help="layers of the nets, such as 20,110,1202")
    parser.add_argument(
        "--family", default="cifar_resnet{}", help="name of the nets, {} standing for the depth"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="images a step")
    parser.add_argument("--steps", type=int, default=5, help="steps whose median time counts")
    parser.add_argument("--limit", type=float, help="seconds that each net may take")
    add_output(parser)


def _run(args: argparse.Namespace) -> int:
    depths, limit = _PRESETS[args.preset]
    plan = DepthPlan(
        depths_of(args.depths, depths),
        limit if args.limit is None else args.limit,
        args.family,
        args.batch_size,
        args.steps,
    )
    return run_depths(plan, args.output)


COMMAND = Command(_add_arguments, _run)
