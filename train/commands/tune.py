"""`keras-resnet tune`: search nets and recipes with KerasTuner, within limits and a budget."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..command import Command
from ..errors import TrainingStoppedError
from ..run_options import add_run_options, configuration
from ..tuning.limits import Limits
from ..tuning.plan import SearchPlan, number_of, seconds_of
from ..tuning.space import SPACES

if TYPE_CHECKING:
    from ..tuning.results import SearchResults
    from ..tuning.search import Search

# These describe a trial, where they describe a run for `train`.
_TRIAL_HELP = {
    "epochs": "Length of a trial in passes over the training images; with Hyperband of the longest "
    "trial. By default a tenth of the recipe's length.",
    "steps": "Length of a trial in steps.",
    "data.validation": "Fraction of the training images to hold out and compare trials on. By "
    "default 0.1 if the data set has no validation images.",
    "seed": "Seed of the tuner, and of each trial's weights, order of images and augmentation.",
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    spaces = "; ".join(f"{space.name}: {space.help}" for space in SPACES.values())
    parser.add_argument("--space", default="residual", metavar="NAME", help=spaces)
    parser.add_argument(
        "--tuner", default="hyperband", metavar="NAME", help="hyperband, bayesian or random"
    )
    parser.add_argument(
        "--budget",
        metavar="TIME",
        help="wall-clock time of all sessions together, such as 90s, 30m or 2h; a trial that has "
        "begun is finished",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="trials of all sessions together")
    parser.add_argument(
        "--max-parameters", metavar="N", help="largest number of parameters: 250000, 250k or 1.5M"
    )
    parser.add_argument(
        "--max-multiply-adds", metavar="N", help="largest number of multiply-adds per image: 40M"
    )
    parser.add_argument(
        "--max-latency",
        type=float,
        metavar="MS",
        help="largest latency of one image, in milliseconds, with LiteRT on one thread of this "
        "machine",
    )
    parser.add_argument(
        "--latency-precision",
        choices=("float32", "int8"),
        default="float32",
        help="precision of the LiteRT file whose latency is measured",
    )
    parser.add_argument("--output", type=Path, required=True, help="directory of the search")
    add_run_options(parser, _TRIAL_HELP)


def _run(args: argparse.Namespace) -> int:
    # First, so that a missing KerasTuner is reported before the data is read.
    from ..tuning.search import run_search

    plan = _plan(args)
    if args.budget is None and args.trials is None:
        raise ValueError("Give the length of the search: --budget 30m, --trials 20, or both")
    if args.trials is not None and args.trials < 1:
        raise ValueError(f"`--trials` must be at least 1. Received: {args.trials}")
    budget = None if args.budget is None else seconds_of(args.budget)
    search = run_search(plan, args.output, budget=budget, trials=args.trials)
    if search is None:
        print("No further trial for this worker; the chief writes the results")
        return 0
    return _publish(search)


def _plan(args: argparse.Namespace) -> SearchPlan:
    limits = Limits(
        None if args.max_parameters is None else number_of(args.max_parameters),
        None if args.max_multiply_adds is None else number_of(args.max_multiply_adds),
        args.max_latency,
        args.latency_precision,
    )
    # `--epochs` and `--steps` are the trials' length, so a full run's is given by `--set`.
    epochs, steps, args.epochs, args.steps = args.epochs, args.steps, None, None
    if getattr(args, "model.weights") is not None:
        raise ValueError("`tune` trains nets from random weights: drop --weights")
    base = configuration(args, length="--set epochs=90 (of a full run)")
    return SearchPlan(args.space, args.tuner, base, epochs, steps, limits=limits)


def _publish(search: Search) -> int:
    """Writes and prints the results of a search."""
    from ..tuning.report import publish
    from ..tuning.results import collect

    results = collect(search)
    publish(search, results)
    if search.note:
        print(f"The search ended early: {search.note}")
    if search.stopped:
        raise TrainingStoppedError(search.stopped)
    if not results.finished:
        raise RuntimeError(_reason(search, results))
    return 0


def _reason(search: Search, results: SearchResults) -> str:
    """Returns why no trial has finished."""
    ended = [trial.record for trial in results.trials if trial.record.status != "unfinished"]
    if ended:
        first = ended[0]
        return (
            f"All {len(ended)} trials failed, see {search.directory.path / 'trials.csv'}. "
            f"Trial {first.id} {first.status}: {first.reason}"
        )
    if search.note:
        return f"No trial began: {search.note}"
    return (
        f"No trial ended within the budget ({search.seconds:.0f} s so far). Give a larger "
        "--budget, or shorter trials (--epochs)"
    )


COMMAND = Command(_add_arguments, _run)
