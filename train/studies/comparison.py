"""What the trials of a comparison have in common: the table of its arms and their curves."""

from __future__ import annotations

import datetime
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..presentation.findings import Findings, Table, publish
from ..presentation.plots import Line, Plot
from .plan import Arm, Budget, trials
from .spread import Spread
from .trials import TAIL, Outcome, run_trials

_BINS = 60  # points that a training curve is averaged to


def run_comparison(
    output: Path,
    arms: Sequence[Arm],
    budget: Budget,
    findings: Callable[[Sequence[Outcome], Budget], Findings],
) -> int:
    """Trains all arms under one budget, or goes on with it, and publishes what was found."""
    return publish(output, findings(run_trials(trials(arms, budget), output), budget))


def arms_of(outcomes: Sequence[Outcome]) -> list[Arm]:
    """Returns the arms in order, once each."""
    return list({outcome.trial.arm.name: outcome.trial.arm for outcome in outcomes}.values())


def spread_of(outcomes: Sequence[Outcome], arm: Arm, value: Callable[[Outcome], float]) -> Spread:
    """Returns what an arm's seeds gave; runs that diverged are left out."""
    return Spread.of(
        value(outcome)
        for outcome in outcomes
        if outcome.trial.arm.name == arm.name and outcome.finished
    )


def multiply_adds(outcomes: Sequence[Outcome], arm: Arm) -> int:
    """Returns the multiply-adds of an arm's net as it was trained, for one image."""
    first = next(o for o in outcomes if o.trial.arm.name == arm.name)
    return first.trial.counts().multiply_adds


def training_loss(outcome: Outcome) -> float:
    """The final training loss."""
    return outcome.training_loss


def training_error(outcome: Outcome) -> float:
    """The final training error."""
    return outcome.training_error


def test_error(outcome: Outcome) -> float:
    """The final test error."""
    return outcome.test_error


def arms_table(outcomes: Sequence[Outcome], *, cited: str = "") -> Table:
    """Returns a row for each arm: size, and what its runs ended with.

    Args:
        outcomes: Of all trials.
        cited: Heading of a column for what the paper reports; none where empty.
    """
    rows = []
    for arm in arms_of(outcomes):
        own = [outcome for outcome in outcomes if outcome.trial.arm.name == arm.name]
        counts = own[0].trial.counts()
        ended = sum(outcome.finished for outcome in own)
        rate = spread_of(outcomes, arm, lambda outcome: outcome.images_per_second)
        rows.append(
            (
                arm.label,
                counts.parameters,
                round(counts.multiply_adds / 1e6, 2),
                f"{ended} of {len(own)}",
                spread_of(outcomes, arm, training_loss).text(),
                spread_of(outcomes, arm, training_error).text(2, percent=True),
                spread_of(outcomes, arm, test_error).text(2, percent=True),
                round(rate.mean) if rate.values else None,
                *((arm.cited or None,) if cited else ()),
            )
        )
    return Table(
        "arms",
        f"Training loss and error over the last {TAIL:.0%} of the steps, test error at the end; "
        "mean ± standard deviation over seeds",
        (
            "Net",
            "Parameters",
            "Million multiply-adds",
            "Runs that ended",
            "Training loss",
            "Training error",
            "Test error",
            "Images a second",
            *((cited,) if cited else ()),
        ),
        tuple(rows),
    )


def seeds_table(outcomes: Sequence[Outcome]) -> Table:
    """Returns a row for each run."""
    return Table(
        "runs",
        "Each run",
        (
            "Net",
            "Seed",
            "Training loss",
            "Training error",
            "Test loss",
            "Test error",
            "Seconds",
            "Diverged",
        ),
        tuple(
            (
                outcome.trial.arm.label,
                str(outcome.trial.seed),
                outcome.training_loss,
                outcome.training_error,
                outcome.test_loss,
                outcome.test_error,
                outcome.seconds,
                outcome.diverged or "no",
            )
            for outcome in outcomes
        ),
        shown=False,
    )


def error_curves(name: str, title: str, outcomes: Sequence[Outcome], arms: Sequence[Arm]) -> Plot:
    """Returns training error (broken) and test error (whole) of some arms against the step.

    Source: the form of He et al. 2015, Figures 1, 4 and 6.
    """
    lines = []
    for colour, arm in enumerate(arms):
        own = [o for o in outcomes if o.trial.arm.name == arm.name and o.finished]
        trained = [_binned(o.curve, lambda row: 100 * (1 - row[2])) for o in own]
        tested = [[(float(step), 100 * (1 - right)) for step, _, right in o.tests] for o in own]
        lines += _with_spread(f"{arm.label}, training", trained, colour, dashed=True)
        lines += _with_spread(f"{arm.label}, test", tested, colour)
    return Plot(name, title, "step", "error (%)", tuple(lines))


def loss_curves(name: str, title: str, outcomes: Sequence[Outcome], arms: Sequence[Arm]) -> Plot:
    """Returns the training loss of some arms against the step."""
    lines = []
    for colour, arm in enumerate(arms):
        own = [o for o in outcomes if o.trial.arm.name == arm.name and o.finished]
        lines += _with_spread(
            arm.label, [_binned(o.curve, lambda row: row[1]) for o in own], colour
        )
    return Plot(name, title, "step", "training loss (nats)", tuple(lines))


def final_plot(
    name: str,
    title: str,
    ylabel: str,
    outcomes: Sequence[Outcome],
    value: Callable[[Outcome], float],
    *,
    factor: float = 1.0,
) -> Plot:
    """Returns a final value of each arm, with the range of its seeds.

    Args:
        name: Of the figure's files.
        title: What it shows.
        ylabel: With the unit.
        outcomes: Of all trials.
        value: What is drawn.
        factor: 100 for percent.
    """
    arms = arms_of(outcomes)
    spreads = [spread_of(outcomes, arm, value) for arm in arms]
    line = Line(
        ylabel,
        range(len(arms)),
        [factor * spread.mean for spread in spreads],
        [factor * spread.low for spread in spreads],
        [factor * spread.high for spread in spreads],
    )
    return Plot(name, title, "", ylabel, (line,), categories=tuple(arm.label for arm in arms))


def standard_findings(
    title: str,
    outcomes: Sequence[Outcome],
    budget: Budget,
    *,
    words: Sequence[str],
    plots: Sequence[Plot] = (),
    tables: Sequence[Table] = (),
    cited: str = "",
) -> Findings:
    """Returns what every comparison shows: tables of arms and runs, curves, final values.

    Args:
        title: Heading of the report.
        outcomes: Of all trials.
        budget: What every arm got.
        words: What was measured, in sentences.
        plots: Figures of this study, before the common ones.
        tables: Tables of this study, behind that of the arms.
        cited: Heading of the column for what papers report; none where empty.
    """
    arms = arms_of(outcomes)
    common = (
        loss_curves("training-loss", "Training loss", outcomes, arms),
        final_plot(
            "final-loss",
            "Training loss over the last tenth of the steps",
            "training loss (nats)",
            outcomes,
            training_loss,
        ),
        final_plot("final-error", "Test error", "test error (%)", outcomes, test_error, factor=100),
    )
    return Findings(
        title=title,
        words=(*words, *divergences(outcomes)),
        plots=(*plots, *common),
        tables=(arms_table(outcomes, cited=cited), *tables, seeds_table(outcomes)),
        facts=how_measured(budget),
    )


def divergences(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns a sentence for each run whose loss stopped being finite."""
    return [
        f"{outcome.trial.arm.label} (seed {outcome.trial.seed}) did not train to the end: "
        f"{outcome.diverged}"
        for outcome in outcomes
        if not outcome.finished
    ]


def how_measured(budget: Budget) -> dict[str, object]:
    """Returns what a reader must know to measure again."""
    length = f"{budget.steps} steps" if budget.steps else f"{budget.epochs:g} epochs"
    return provenance(
        {
            "Data": budget.dataset,
            "Recipe": f"{budget.recipe}, {length} of {budget.batch_size} images"
            + (", the rate rising over the first tenth" if budget.warmup else ""),
            "Changed settings": ", ".join(
                f"{field}={value}"
                for field, value in budget.settings.items()
                if field != "data.data_dir"  # where the data lies changes nothing
            )
            or "none",
            "Seeds": ", ".join(map(str, budget.seeds)),
            "Different": "one mean is called different from another where every seed of one lies "
            "above every seed of the other and the means are two pooled standard deviations apart",
        }
    )


def provenance(facts: Mapping[str, object]) -> dict[str, object]:
    """Returns the command, the facts, the hardware, the versions and the date."""
    from ..session import environment

    found = environment()
    return {
        "Command": shlex.join(["keras-resnet", *sys.argv[1:]]),
        **facts,
        "Machine": f"{', '.join(found['gpus']) or str(found['cpus']) + ' CPU cores'}, "
        f"{found['system']}",
        "Software": f"keras_resnet {found['keras_resnet']}, Keras {found['keras']}, "
        f"TensorFlow {found['tensorflow']}, Python {found['python']}",
        "Date": datetime.date.today().isoformat(),
    }


def _binned(
    curve: Sequence[tuple[int, float, float]],
    value: Callable[[tuple[int, float, float]], float],
) -> list[tuple[float, float]]:
    """Averages a noisy curve to a number of points that an eye can follow."""
    size = max(1, math.ceil(len(curve) / _BINS))
    return [
        (float(part[-1][0]), float(np.mean([value(row) for row in part])))
        for part in (curve[i : i + size] for i in range(0, len(curve), size))
    ]


def _with_spread(
    label: str, runs: Sequence[Sequence[tuple[float, float]]], colour: int, *, dashed: bool = False
) -> list[Line]:
    """Returns the mean over runs with their range; runs of one budget share their places."""
    runs = [run for run in runs if run]
    if not runs:
        return []
    shared = min(map(len, runs))
    x = [place for place, _ in runs[0][:shared]]
    values = np.asarray([[y for _, y in run[:shared]] for run in runs])
    several = len(runs) > 1
    return [
        Line(
            label,
            x,
            values.mean(axis=0).tolist(),
            values.min(axis=0).tolist() if several else None,
            values.max(axis=0).tolist() if several else None,
            dashed,
            colour,
        )
    ]
