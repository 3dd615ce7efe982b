"""`study depth-cost`: cost of training against depth, of stacked and unrolled nets."""

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
    # Depths, and the limit per net in seconds.
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
    "layer_seconds": "Step per layer (ms)",
}


@dataclasses.dataclass(frozen=True)
class DepthPlan:
    """Nets and limits of the study.

    Attributes:
        depths: Layers of the nets, in ascending order.
        limit: Seconds that one net in one form may take.
        family: Name of the nets with `{}` in place of the depth.
        batch_size: Images per step.
        steps: Number of steps of which the median time is taken.
    """

    depths: tuple[int, ...]
    limit: float
    family: str = "cifar_resnet{}"
    batch_size: int = 32
    steps: int = 5

    def __post_init__(self) -> None:
        """Checks the values, and that the nets exist."""
        if "{}" not in self.family:
            raise ValueError(
                "`--family` needs {} in place of the depth, such as cifar_resnet{}. "
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
    """Measures each depth in both forms and publishes the costs.

    A form that reached the limit at one depth is not measured at a greater one.
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
    """Returns the growth of each part with depth, in each form."""
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
        title="Cost of depth",
        words=tuple(_words(costs, plan.depths)),
        plots=tuple(_plot(costs, plan, part) for part in _PARTS),
        tables=(
            Table(
                "depth-cost",
                "Each net in a process of its own; memory above the memory of TensorFlow alone",
                ("Layers", "Form", *_PARTS.values(), "Note"),
                rows,
            ),
        ),
        facts=provenance(
            {
                "Nets": f"{plan.family.format('N')}, batch {plan.batch_size}; stacked: the equal "
                "units of a stage are one loop; unrolled: each unit is built and traced separately",
                "Limit": f"{plan.limit:g} s per net and form",
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
    if part == "trace_seconds":  # time of the first step beyond that of a step
        return cost.get("first_step_seconds", math.nan) - cost.get("step_seconds", math.nan)
    value = cost.get(part, math.nan)
    return value / 1e9 if part.endswith("bytes") else value


def _note(costs: Mapping[int, Mapping[str, float]], depth: int) -> str:
    if depth not in costs:
        return "not measured: a shallower net reached the limit"
    stopped = costs[depth].get("stopped_after")
    return "" if stopped is None else f"stopped after {stopped:g} s"


def _words(costs: Costs, depths: Sequence[int]) -> Iterator[str]:
    for form in costs:
        for part, label in _PARTS.items():
            measured = [d for d in depths if not math.isnan(_value(costs[form], d, part))]
            if len(measured) < 2:
                continue
            first, last = measured[0], measured[-1]
            growth = _value(costs[form], last, part) / max(_value(costs[form], first, part), 1e-12)
            doubled = growth ** (1 / math.log2(last / first))
            yield (
                f"{form.capitalize()}, {label.split(' (')[0].lower()}: {growth:.3g} times as much "
                f"at {last} layers as at {first} (depth times {last / first:.3g}): times "
                f"{doubled:.2f} per doubling of depth."
            )
        stopped = [depth for depth in depths if _note(costs[form], depth)]
        if stopped:
            yield (
                f"{form.capitalize()}, limit reached or not measured: "
                f"{', '.join(map(str, stopped))} layers. The table has the parts measured until "
                "then."
            )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    presets = "; ".join(f"{name}: {', '.join(map(str, d))}" for name, (d, _) in _PRESETS.items())
    parser.add_argument("--preset", choices=tuple(_PRESETS), default="smoke", help=presets)
    parser.add_argument("--depths", help="layers of the nets, such as 20,110,1202")
    parser.add_argument(
        "--family", default="cifar_resnet{}", help="name of the nets, {} for the depth"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="images per step")
    parser.add_argument("--steps", type=int, default=5, help="steps of which the median is taken")
    parser.add_argument("--limit", type=float, help="seconds that each net and form may take")
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
