"""`keras-resnet study alternatives`: does anything but a shortcut give the same stability?

Nets of equal depth and width under one budget: the residual net, the plain net, and what has been
put forward in place of the one or the other. Sources: the merges and initialisations of
`keras_resnet.ResNetSpec`.
"""

from __future__ import annotations

import argparse
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
from ..presentation.findings import Findings, Table, publish
from ..presentation.plots import Line, Plot
from ..rundir import open_run
from .comparison import arms_of, spread_of, standard_findings, test_error, training_loss
from .cost import CostQuery, measure_cost
from .flow import new_net, training_batch
from .options import SHORT, Preset, add_budget, budget_of
from .plan import Arm, Budget, Trial, trials
from .rates import RateSearch, largest_rate
from .spread import Spread, beyond_spread, compared
from .trials import Outcome, run_trials

PRESETS = {
    "smoke": Preset(100, 1, "digits", 64, (20,)),
    "short": Preset(1500, 2, "cifar10", 64, (20,), settings=SHORT),
    "paper": Preset(64_000, 3, "cifar10", 128, (56,), warmup=False),
}
_RATE_STEPS = {"smoke": 0, "short": 100, "paper": 2000}
# Family of nets, what the figures call it, and what it has in place of the plain addition.
KINDS = (
    ("resnet", "add", "shortcut, addition"),
    ("plain", "plain", "no shortcut"),
    ("delta_orthogonal", "delta-orthogonal", "no shortcut, no norm, orthogonal start"),
    ("highway", "highway", "gated shortcut"),
    ("rezero", "ReZero", "shortcut, branch times a learned zero"),
    ("skipinit", "SkipInit", "the same without norms"),
    ("fixup", "Fixup", "shortcut without norms, rescaled start"),
    ("repvgg", "RepVGG", "shortcut that is fused away after training"),
)
_BATCH = 64  # images that gradients are measured on


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured of an arm beside its training.

    Attributes:
        growth: Gradient norm at the first unit's output over that at the last one's: before
            training and behind it.
        cost: As `cost.measure_cost` returns it.
        rates: The search for the largest rate, or None where it was left out.
    """

    growth: tuple[float, float]
    cost: Mapping[str, float]
    rates: RateSearch | None


def arms(depth: int, kinds: Sequence[str] = ()) -> list[Arm]:
    """Returns the net of each kind, the addition first; of all kinds where none are named.

    Raises:
        ValueError: If there is no such kind, or no such net of this depth; names the nearest ones.
    """
    known = [name for name, _, _ in KINDS]
    unknown = [kind for kind in kinds if kind not in known]
    if unknown:
        raise ValueError(f"Unknown alternative {unknown[0]!r}. {nearest(unknown[0], known)}")
    found = [
        Arm(name, label, f"cifar_{name}{depth}", group="alternatives")
        for name, label, _ in KINDS
        if not kinds or name in kinds or name == known[0]
    ]
    for arm in found:
        get_spec(arm.model)
    return found


def measure(
    outcomes: Sequence[Outcome], output: Path, *, rate_steps: int, limit: float
) -> dict[str, Measured]:
    """Measures gradients, cost and the largest rate of each arm, by its first seed."""
    found = {}
    firsts = {o.trial.arm.name: o for o in reversed(outcomes)}
    for number, arm in enumerate(arms_of(outcomes), start=1):
        print(f"[{number}/{len(firsts)}] {arm.label}: gradients, cost, largest rate", flush=True)
        outcome = firsts[arm.name]
        facts, config = _facts(outcome, output), outcome.trial.config
        folder = output / "costs"
        folder.mkdir(exist_ok=True)
        query = CostQuery(
            arm.model,
            config.model.spec,
            config.batch_size,
            facts["size"],
            facts["channels"],
            facts["classes"],
            inference=True,
        )
        cost = measure_cost(query, limit, folder / f"{arm.name}.json")
        rates = None
        if rate_steps:
            rates = largest_rate(outcome.trial, facts["classes"], rate_steps, output / "rates")
        found[arm.name] = Measured((facts["start"], facts["end"]), cost, rates)
    return found


def _facts(outcome: Outcome, output: Path) -> dict[str, Any]:
    """Returns shape, classes, and the growth of the gradient at the start and the end of a run."""
    trial = outcome.trial
    cache = output / "gradients" / f"{trial.name}.json"
    if cache.is_file():
        return dict(read_json(cache))
    batch = training_batch(trial.config, _BATCH)
    start = gradient_flow(new_net(trial.config, batch), batch.images, batch.labels).growth
    end = math.nan
    if outcome.finished:
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


def findings(
    outcomes: Sequence[Outcome], budget: Budget, measured: Mapping[str, Measured]
) -> Findings:
    """Returns accuracy, loss, gradients, rates and costs of all, and what follows in words."""
    known = arms_of(outcomes)
    rows = []
    for arm in known:
        found = measured[arm.name]
        cost = found.cost
        rows.append(
            (
                arm.label,
                {name: text for name, _, text in KINDS}.get(arm.name, ""),
                *found.growth,
                found.rates.largest if found.rates else None,
                1e3 * cost.get("step_seconds", math.nan),
                cost.get("training_bytes", math.nan) / 1e9,
                cost.get("deployed_multiply_adds", math.nan) / 1e6,
                1e3 * cost.get("inference_seconds", math.nan),
            )
        )
    table = Table(
        "alternatives",
        "Gradient at the first unit's output over that at the last one's; largest rate of the "
        "ladder at which a short run trains; cost in a process of its own, inference of one image "
        "with norms folded and branches fused",
        (
            "Net",
            "What it is",
            "Gradient at start",
            "Gradient at end",
            "Largest rate",
            "Step (ms)",
            "Memory (GB)",
            "Deployed million multiply-adds",
            "Inference (ms)",
        ),
        tuple(rows),
    )
    places = range(len(known))
    growth = Plot(
        "gradient-growth",
        "Gradient at the first unit over that at the last",
        "",
        "ratio (1: arrives as it left)",
        tuple(
            Line(label, places, [measured[arm.name].growth[index] for arm in known])
            for index, label in enumerate(("before training", "after training"))
        ),
        log_y=True,
        categories=tuple(arm.label for arm in known),
    )
    return standard_findings(
        "Alternatives to the shortcut",
        outcomes,
        budget,
        words=verdict(outcomes, measured),
        plots=(growth, *_rate_plots(known, measured)),
        tables=(table,),
    )


def _rate_plots(known: Sequence[Arm], measured: Mapping[str, Measured]) -> list[Plot]:
    searches = [(arm.label, measured[arm.name].rates) for arm in known]
    lines = [
        Line(label, [rate for rate, _ in search.tried], [loss for _, loss in search.tried])
        for label, search in searches
        if search is not None
    ]
    if not lines:
        return []
    return [
        Plot(
            "rates",
            "Final training loss of short runs against the learning rate",
            "learning rate",
            "training loss (nats)",
            tuple(lines),
            log_x=True,
        )
    ]


def verdict(outcomes: Sequence[Outcome], measured: Mapping[str, Measured]) -> list[str]:
    """Returns how each alternative compares with the addition, and which are level with it."""
    first, *others = arms_of(outcomes)
    base = spread_of(outcomes, first, training_loss)
    if not base.values:
        return [f"{first.label} did not train to the end, so there is nothing to compare with."]
    words = [
        f"{first.label}: training loss {base.text()}, test error "
        f"{spread_of(outcomes, first, test_error).text(2, percent=True)}"
        f"{_stability(measured[first.name])}."
    ]
    level: list[str] = []
    for arm in others:
        own = spread_of(outcomes, arm, training_loss)
        if not own.values:
            words.append(f"{arm.label}: no run trained to the end{_stability(measured[arm.name])}.")
            continue
        if _level(base, own):
            level.append(arm.label)
        words.append(
            f"{arm.label}: training loss {own.text()}, {compared(base, own)}; test error "
            f"{spread_of(outcomes, arm, test_error).text(2, percent=True)}"
            f"{_stability(measured[arm.name])}."
        )
    seeds = len(base.values)
    words.append(
        f"Not above the addition in training loss at this depth and budget: {', '.join(level)}."
        if level
        else "No alternative reached the addition's training loss at this depth and budget."
    )
    if seeds < 2:
        words.append("One seed each: nothing is known of the spread, so nothing is decided.")
    return words


def _level(base: Spread, own: Spread) -> bool:
    """Whether a training loss is not above the addition's by more than seeds explain."""
    return own.mean <= base.mean or beyond_spread(base, own) is False


def _stability(found: Measured) -> str:
    start, end = found.growth
    # Fixup's classifier starts at zero: the first step moves it alone.
    text = "; no gradient reaches its units before the first step"
    if math.isfinite(start):
        text = f"; gradient ratio {start:.3g} before training"
    if math.isfinite(end):
        text += f", {end:.3g} after"
    if found.rates is not None:
        largest = found.rates.largest
        text += (
            f"; trains up to a rate of {largest:g}"
            if math.isfinite(largest)
            else "; trains at no rate tried"
        )
    return text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--depth", type=int, help="layers of the nets")
    names = ",".join(name for name, _, _ in KINDS[1:])
    parser.add_argument("--compare", default="", help=f"kinds of nets, of {names}; all by default")
    parser.add_argument(
        "--rate-steps",
        type=int,
        metavar="N",
        help="length of the short runs that search the largest learning rate; 0 leaves it out",
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
    plan: list[Trial] = trials(arms(depth, comma_separated(args.compare)), budget)
    outcomes = run_trials(plan, args.output)
    measured = measure(outcomes, args.output, rate_steps=rate_steps, limit=args.limit)
    return publish(args.output, findings(outcomes, budget, measured))


COMMAND = Command(_add_arguments, _run)
