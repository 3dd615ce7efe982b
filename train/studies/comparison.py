"""The results of a comparison by arm, and the tables, curves and command that comparisons share."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..command import Command
from ..presentation import Findings, Line, Plot, Table, publish
from .options import Preset, add_budget, budget_of
from .plan import Arm, Budget, trials
from .spread import Spread, compared, spread_line
from .trials import TAIL, TrialResult, run_trials

_BINS = 60  # points that a training curve is averaged to


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The results of all trials of a study.

    Attributes:
        results: One per trial.
        budget: The budget of every arm.
    """

    results: Sequence[TrialResult]
    budget: Budget

    @property
    def arms(self) -> list[Arm]:
        """The arms, in order."""
        return list({result.trial.arm.name: result.trial.arm for result in self.results}.values())

    def of(self, arm: Arm) -> list[TrialResult]:
        """Returns the results of an arm's trials."""
        return [result for result in self.results if result.trial.arm.name == arm.name]

    def spread(self, arm: Arm, field: str) -> Spread:
        """Returns a field of `TrialResult` over an arm's seeds, without diverged runs."""
        return Spread.of(getattr(result, field) for result in self.of(arm) if result.finished)

    def multiply_adds(self, arm: Arm) -> int:
        """Returns the multiply-adds per image of an arm's net, as it was trained."""
        return self.of(arm)[0].trial.counts().multiply_adds


def comparison_command(
    presets: Mapping[str, Preset],
    add_arguments: Callable[[argparse.ArgumentParser], None],
    arms: Callable[[argparse.Namespace, Preset], list[Arm]],
    findings: Callable[[Comparison], Findings],
) -> Command:
    """Returns the command of a study that trains its arms under one budget and compares them.

    Args:
        presets: Budgets by name.
        add_arguments: Adds the study's own options; those of the budget are added here.
        arms: Returns the arms for the options and the preset.
        findings: Returns the findings.
    """

    def add(parser: argparse.ArgumentParser) -> None:
        add_arguments(parser)
        add_budget(parser, presets)

    def run(args: argparse.Namespace) -> int:
        compared_arms = arms(args, presets[args.preset])
        results = compare(compared_arms, budget_of(args, presets), args.output)
        return publish(args.output, findings(results))

    return Command(add, run)


def compare(arms: Sequence[Arm], budget: Budget, output: Path) -> Comparison:
    """Trains all arms under one budget, or resumes their training."""
    return Comparison(run_trials(trials(arms, budget), output), budget)


def standard_findings(
    title: str,
    comparison: Comparison,
    words: Sequence[str],
    *,
    plots: Sequence[Plot] = (),
    tables: Sequence[Table] = (),
    cited: str = "",
) -> Findings:
    """Returns a study's findings with the tables, curves and facts that all comparisons share.

    Args:
        title: Heading of the report.
        comparison: The results.
        words: Sentences on the results.
        plots: Figures of this study, shown first.
        tables: Tables of this study, shown after that of the arms.
        cited: Heading of the column with published results; no column where empty.
    """
    common = (
        loss_curves("training-loss", "Training loss", comparison, comparison.arms),
        final_plot(
            "final-loss",
            "Training loss over the last tenth of the steps",
            "training loss (nats)",
            comparison,
            "training_loss",
        ),
        final_plot("final-error", "Test error", "test error (%)", comparison, "test_error", 100),
    )
    return Findings(
        title=title,
        words=(*words, *divergences(comparison)),
        plots=(*plots, *common),
        tables=(arms_table(comparison, cited), *tables, runs_table(comparison)),
        facts=budget_facts(comparison.budget),
    )


def losses_and_errors(comparison: Comparison, arm: Arm, base: Arm | None = None) -> str:
    """Returns a clause with an arm's training loss, compared with a base's, and its test error."""
    loss = comparison.spread(arm, "training_loss")
    error = comparison.spread(arm, "test_error").text(2, percent=True)
    if base is None:
        return f"{arm.label}: training loss {loss.text()}, test error {error}"
    difference = compared(comparison.spread(base, "training_loss"), loss)
    return f"{arm.label}: training loss {loss.text()}, {difference}; test error {error}"


def divergences(comparison: Comparison) -> list[str]:
    """Returns a sentence for each run whose loss stopped being finite."""
    return [
        f"{result.trial.arm.label} (seed {result.trial.seed}) diverged: {result.diverged}"
        for result in comparison.results
        if not result.finished
    ]


def arms_table(comparison: Comparison, cited: str = "") -> Table:
    """Returns one row per arm: size, and the results of its runs.

    Args:
        comparison: The results.
        cited: Heading of a column for published results; none where empty.
    """
    records = []
    for arm in comparison.arms:
        own = comparison.of(arm)
        counts = own[0].trial.counts()
        rate = comparison.spread(arm, "images_per_second")
        record = {
            "Net": arm.label,
            "Parameters": counts.parameters,
            "Million multiply-adds": round(counts.multiply_adds / 1e6, 2),
            "Finished runs": f"{sum(result.finished for result in own)} of {len(own)}",
            "Training loss": comparison.spread(arm, "training_loss").text(),
            "Training error": comparison.spread(arm, "training_error").text(2, percent=True),
            "Test error": comparison.spread(arm, "test_error").text(2, percent=True),
            "Images per second": round(rate.mean) if rate.values else None,
        }
        records.append(record | ({cited: arm.cited or None} if cited else {}))
    return Table.of(
        "arms",
        f"Training loss and error over the last {TAIL:.0%} of the steps, test error at the end; "
        "mean ± standard deviation over seeds",
        records,
    )


def runs_table(comparison: Comparison) -> Table:
    """Returns one row per run."""
    records = (
        {
            "Net": result.trial.arm.label,
            "Seed": str(result.trial.seed),
            "Training loss": result.training_loss,
            "Training error": result.training_error,
            "Test loss": result.test_loss,
            "Test error": result.test_error,
            "Seconds": result.seconds,
            "Diverged": result.diverged or "no",
        }
        for result in comparison.results
    )
    return Table.of("runs", "All runs", records, shown=False)


def error_curves(name: str, title: str, comparison: Comparison, arms: Sequence[Arm]) -> Plot:
    """Returns training error (dashed) and test error (solid) of some arms against the step.

    Source: He et al. 2015, Figures 1, 4 and 6.
    """
    lines: list[Line] = []
    for colour, arm in enumerate(arms):
        own = [result for result in comparison.of(arm) if result.finished]
        trained = [_binned([(row[0], 100 * (1 - row[2])) for row in r.curve]) for r in own]
        tested = [[(float(row[0]), 100 * (1 - row[2])) for row in r.tests] for r in own]
        lines += _curve(f"{arm.label}, training", trained, colour, dashed=True)
        lines += _curve(f"{arm.label}, test", tested, colour)
    return Plot(name, title, "step", "error (%)", tuple(lines))


def loss_curves(name: str, title: str, comparison: Comparison, arms: Sequence[Arm]) -> Plot:
    """Returns the training loss of some arms against the step."""
    lines: list[Line] = []
    for colour, arm in enumerate(arms):
        own = [result for result in comparison.of(arm) if result.finished]
        runs = [_binned([(row[0], row[1]) for row in result.curve]) for result in own]
        lines += _curve(arm.label, runs, colour)
    return Plot(name, title, "step", "training loss (nats)", tuple(lines))


def final_plot(
    name: str, title: str, ylabel: str, comparison: Comparison, field: str, factor: float = 1.0
) -> Plot:
    """Returns a final value of each arm, with the range over its seeds.

    Args:
        name: Name of the figure's files.
        title: Title.
        ylabel: Label of the vertical axis, with the unit.
        comparison: The results.
        field: Field of `TrialResult`.
        factor: 100 for percent.
    """
    arms = comparison.arms
    spreads = [comparison.spread(arm, field) for arm in arms]
    line = dataclasses.replace(
        spread_line(ylabel, range(len(arms)), spreads, factor=factor), form="points"
    )
    return Plot(name, title, "", ylabel, (line,), categories=tuple(arm.label for arm in arms))


def _binned(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Averages a noisy curve over bins of equal length."""
    size = max(1, math.ceil(len(curve) / _BINS))
    bins = (curve[start : start + size] for start in range(0, len(curve), size))
    return [(float(part[-1][0]), float(np.mean([value for _, value in part]))) for part in bins]


def _curve(
    label: str, runs: Sequence[Sequence[tuple[float, float]]], colour: int, *, dashed: bool = False
) -> list[Line]:
    """Returns the mean curve of runs, which share their steps, or nothing without runs."""
    points = list(zip(*[run for run in runs if run], strict=False))
    if not points:
        return []
    steps = [point[0][0] for point in points]
    spreads = [Spread.of(value for _, value in point) for point in points]
    return [spread_line(label, steps, spreads, colour=colour, dashed=dashed)]


def budget_facts(budget: Budget) -> dict[str, object]:
    """Returns the facts needed to repeat a comparison."""
    length = f"{budget.steps} steps" if budget.steps else f"{budget.epochs:g} epochs"
    warmup = ", linear warm-up over the first tenth" if budget.warmup else ""
    settings = ", ".join(
        f"{field}={value}"
        for field, value in budget.settings.items()
        if field != "data.data_dir"  # the location of the data has no effect on the results
    )
    return provenance(
        {
            "Data": budget.dataset,
            "Recipe": f"{budget.recipe}, {length} of {budget.batch_size} images{warmup}",
            "Changed settings": settings or "none",
            "Seeds": ", ".join(map(str, budget.seeds)),
            "Different": "two means are called different if every seed of one is above every "
            "seed of the other and they are two pooled standard deviations apart",
        }
    )


def provenance(facts: Mapping[str, object]) -> dict[str, object]:
    """Returns the command, the facts, the hardware, the versions and the date."""
    from ..provenance import environment

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
