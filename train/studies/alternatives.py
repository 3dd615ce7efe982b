"""`keras-resnet study alternatives`: does anything other than a shortcut give the same stability?

Nets of equal depth and width under one budget: the residual net, the plain net, and what has been
proposed in place of either. Sources: the merges and initializations of `keras_resnet.ResNetSpec`.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnet import get_spec
from keras_resnet.analysis import gradient_flow
from keras_resnet.nets.catalog import nearest

from ..command import Command, comma_separated
from ..files import read_json, write_json
from ..presentation import Findings, Line, Plot, Table, publish
from ..rundir import open_run
from .comparison import Comparison, compare, losses_and_errors, standard_findings
from .cost import CostQuery, measure_cost
from .flow import new_net, training_batch
from .options import add_budget, budget_of, presets
from .plan import Arm
from .rates import RateSearch, largest_rate
from .spread import beyond_spread
from .trials import TrialResult

PRESETS = presets(100, 1500, paper_seeds=3, depths=(20,), paper_depths=(56,))
_RATE_STEPS = {"smoke": 0, "short": 100, "paper": 2000}
# Family of nets, its label, and what it has in place of the plain addition.
KINDS = (
    ("resnet", "add", "shortcut, addition"),
    ("plain", "plain", "no shortcut"),
    ("delta_orthogonal", "delta-orthogonal", "no shortcut, no norm, orthogonal initialization"),
    ("highway", "highway", "gated shortcut"),
    ("rezero", "ReZero", "shortcut, branch times a learned scalar that starts at 0"),
    ("skipinit", "SkipInit", "as ReZero, without norms"),
    ("fixup", "Fixup", "shortcut without norms, scaled initialization"),
    ("repvgg", "RepVGG", "shortcut that is fused after training"),
)
_IMAGES = 64  # that gradients are measured on


@dataclasses.dataclass(frozen=True)
class ArmMeasurement:
    """Measurements of an arm besides its training.

    Attributes:
        growth: Gradient norm at the first unit's output over that at the last one's, before and
            after training; NaN where unknown.
        cost: As `cost.measure_cost` returns it.
        rates: The search for the largest learning rate, or None.
    """

    growth: tuple[float, float]
    cost: Mapping[str, float]
    rates: RateSearch | None


def arms(depth: int, kinds: Sequence[str] = ()) -> list[Arm]:
    """Returns the net of each kind, the addition first; of all kinds where none are given.

    Raises:
        ValueError: If a kind is unknown, or there is no such net of this depth; the message names
            the nearest ones.
    """
    names = [name for name, _, _ in KINDS]
    unknown = [kind for kind in kinds if kind not in names]
    if unknown:
        raise ValueError(f"Unknown alternative {unknown[0]!r}. {nearest(unknown[0], names)}")
    chosen = [
        Arm(name, label, f"cifar_{name}{depth}", group="alternatives")
        for name, label, _ in KINDS
        if not kinds or name in kinds or name == names[0]
    ]
    for arm in chosen:
        get_spec(arm.model)
    return chosen


def measure(
    comparison: Comparison, output: Path, *, rate_steps: int, limit: float
) -> dict[str, ArmMeasurement]:
    """Measures gradients, cost and the largest learning rate of each arm, with its first seed."""
    measured = {}
    arms_in_order = comparison.arms
    for number, arm in enumerate(arms_in_order, start=1):
        print(f"[{number}/{len(arms_in_order)}] {arm.label}: gradients, cost, largest rate")
        result = comparison.of(arm)[0]
        facts, config = _gradients(result, output), result.trial.config
        query = CostQuery(
            arm.model,
            config.model.spec,
            config.batch_size,
            facts["size"],
            facts["channels"],
            facts["classes"],
            inference=True,
        )
        folder = output / "costs"
        folder.mkdir(exist_ok=True)
        cost = measure_cost(query, limit, folder / f"{arm.name}.json")
        rates = None
        if rate_steps:
            rates = largest_rate(result.trial, facts["classes"], rate_steps, output / "rates")
        measured[arm.name] = ArmMeasurement((facts["start"], facts["end"]), cost, rates)
    return measured


def _gradients(result: TrialResult, output: Path) -> dict[str, Any]:
    """Returns the growth of the gradient before and after training, and the shape of the data."""
    trial = result.trial
    cache = output / "gradients" / f"{trial.name}.json"
    if cache.is_file():
        return dict(read_json(cache))
    batch = training_batch(trial.config, _IMAGES)
    start = gradient_flow(new_net(trial.config, batch), batch.images, batch.labels).growth
    end = math.nan
    if result.finished:
        trained = open_run(output / "runs" / trial.name).model
        end = gradient_flow(trained, batch.images, batch.labels).growth
    size, _, channels = batch.images.shape[1:]
    facts = {
        "start": start,
        "end": end,
        "size": size,
        "channels": channels,
        "classes": batch.classes,
    }
    cache.parent.mkdir(exist_ok=True)
    write_json(cache, facts)
    return facts


def findings(comparison: Comparison, measured: Mapping[str, ArmMeasurement]) -> Findings:
    """Returns accuracy, loss, gradients, learning rates and costs of all arms, and the verdict."""
    plots = [_growth_plot(comparison, measured)]
    searches = [(arm.label, measured[arm.name].rates) for arm in comparison.arms]
    lines = [
        Line(label, [rate for rate, _ in search.tried], [loss for _, loss in search.tried])
        for label, search in searches
        if search is not None
    ]
    if lines:
        title = "Final training loss of short runs against the learning rate"
        loss = "training loss (nats)"
        plots.append(Plot("rates", title, "learning rate", loss, tuple(lines), log_x=True))
    return standard_findings(
        "Alternatives to the shortcut",
        comparison,
        verdict(comparison, measured),
        plots=plots,
        tables=(_table(comparison, measured),),
    )


def _growth_plot(comparison: Comparison, measured: Mapping[str, ArmMeasurement]) -> Plot:
    growths = [measured[arm.name].growth for arm in comparison.arms]
    places = range(len(growths))
    return Plot(
        "gradient-growth",
        "Gradient norm at the first unit over that at the last",
        "",
        "ratio of gradient norms",
        (
            Line("before training", places, [before for before, _ in growths], form="points"),
            Line("after training", places, [after for _, after in growths], form="points"),
        ),
        log_y=True,
        categories=tuple(arm.label for arm in comparison.arms),
    )


def _table(comparison: Comparison, measured: Mapping[str, ArmMeasurement]) -> Table:
    descriptions = {name: text for name, _, text in KINDS}
    records = []
    for arm in comparison.arms:
        own = measured[arm.name]
        cost = collections.defaultdict(lambda: math.nan, own.cost)
        records.append(
            {
                "Net": arm.label,
                "Description": descriptions.get(arm.name, ""),
                "Gradient at start": own.growth[0],
                "Gradient at end": own.growth[1],
                "Largest rate": own.rates.largest if own.rates else None,
                "Step (ms)": 1e3 * cost["step_seconds"],
                "Memory (GB)": cost["training_bytes"] / 1e9,
                "Deployed million multiply-adds": cost["deployed_multiply_adds"] / 1e6,
                "Inference (ms)": 1e3 * cost["inference_seconds"],
            }
        )
    return Table.of(
        "alternatives",
        "Gradient: norm at the first unit's output over that at the last one's. Largest rate: of "
        "short runs that train. Cost: in a separate process; inference of one image with norms "
        "folded and branches fused",
        records,
    )


def verdict(comparison: Comparison, measured: Mapping[str, ArmMeasurement]) -> list[str]:
    """Returns how each alternative compares with the addition, and which are level with it."""
    first, *others = comparison.arms
    base = comparison.spread(first, "training_loss")
    if not base.values:
        return [f"{first.label} did not finish training, so there is no reference."]
    words = [f"{losses_and_errors(comparison, first)}{_stability(measured[first.name])}."]
    level: list[str] = []
    for arm in others:
        own = comparison.spread(arm, "training_loss")
        stability = _stability(measured[arm.name])
        if not own.values:
            words.append(f"{arm.label}: no run finished training{stability}.")
            continue
        words.append(f"{losses_and_errors(comparison, arm, first)}{stability}.")
        if own.mean <= base.mean or beyond_spread(base, own) is False:
            level.append(arm.label)
    words.append(
        f"Training loss not above the addition's at this depth and budget: {', '.join(level)}."
        if level
        else "No alternative reached the addition's training loss at this depth and budget."
    )
    if len(base.values) < 2:
        words.append("With one seed each, the spread is unknown and there is no verdict.")
    return words


def _stability(measured: ArmMeasurement) -> str:
    start, end = measured.growth
    # Fixup's classifier starts at zero, so that the first step changes the classifier only.
    text = "; no gradient reaches its units before the first step"
    if math.isfinite(start):
        text = f"; gradient ratio {start:.3g} before training"
    if math.isfinite(end):
        text += f", {end:.3g} after"
    if measured.rates is None:
        return text
    largest = measured.rates.largest
    if math.isnan(largest):
        return text + "; trains at none of the learning rates tried"
    return text + f"; trains up to a learning rate of {largest:g}"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--depth", type=int, help="layers of the nets")
    names = ",".join(name for name, _, _ in KINDS[1:])
    parser.add_argument("--compare", default="", help=f"kinds of nets, of {names}; all by default")
    parser.add_argument(
        "--rate-steps",
        type=int,
        metavar="N",
        help="length of the short runs that search the largest learning rate; 0 omits the search",
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, help="seconds that measuring a net's cost may take"
    )
    add_budget(parser, PRESETS)


def _run(args: argparse.Namespace) -> int:
    depth = PRESETS[args.preset].depths[0] if args.depth is None else args.depth
    budget = budget_of(args, PRESETS)
    rate_steps = _RATE_STEPS[args.preset] if args.rate_steps is None else args.rate_steps
    if rate_steps < 0 or args.limit <= 0:
        raise ValueError(
            "`--rate-steps` must be at least 0 and `--limit` above 0. "
            f"Received: {rate_steps}, {args.limit}"
        )
    comparison = compare(arms(depth, comma_separated(args.compare)), budget, args.output)
    measured = measure(comparison, args.output, rate_steps=rate_steps, limit=args.limit)
    return publish(args.output, findings(comparison, measured))


COMMAND = Command(_add_arguments, _run)
