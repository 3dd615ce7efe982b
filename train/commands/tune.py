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
    from ..tuning.results import Results
    from ..tuning.search import Searched

_TRIAL_HELP = {
    "--epochs": "length of a trial in passes over the data, of Hyperband's longest; by default a "
    "tenth of the recipe's length",
    "--steps": "length of a trial in steps",
    "--validation": "share of training images to hold out and compare trials by; 0.1 where the "
    "data set has no validation images",
    "--seed": "of the tuner, and of every trial's weights, order and augmentation",
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
        help="wall-clock time over all sessions, such as 90s, 30m or 2h; the trial in progress is "
        "finished",
    )
    parser.add_argument("--trials", type=int, metavar="N", help="trials over all sessions")
    parser.add_argument("--max-parameters", metavar="N", help="such as 250000, 250k or 1.5M")
    parser.add_argument("--max-multiply-adds", metavar="N", help="of one image, such as 40M")
    parser.add_argument(
        "--max-latency",
        type=float,
        metavar="MS",
        help="milliseconds of one image, LiteRT with one thread on this machine",
    )
    parser.add_argument(
        "--latency-precision",
        choices=("float32", "int8"),
        default="float32",
        help="of the file whose latency is limited",
    )
    parser.add_argument("--output", type=Path, required=True, help="directory of the search")
    add_run_options(parser, _TRIAL_HELP)
    # `--epochs` is the trials' here, so that the whole run's needs another way in.
    parser.set_defaults(length_example="--set epochs=90 (of a full run)")


def _run(args: argparse.Namespace) -> int:
    # First of all, so that what is missing is named before the data is read.
    from ..tuning.search import run_search

    plan = _plan(args)
    if args.budget is None and args.trials is None:
        raise ValueError("Say how long to search: --budget 30m, --trials 20, or both")
    if args.trials is not None and args.trials < 1:
        raise ValueError(f"`--trials` must be at least 1. Received: {args.trials}")
    budget = None if args.budget is None else seconds_of(args.budget)
    searched = run_search(plan, args.output, budget=budget, trials=args.trials)
    if searched is None:
        print("No further trial for this worker; the chief writes the results")
        return 0
    return _tell(searched)


def _plan(args: argparse.Namespace) -> SearchPlan:
    limits = Limits(
        None if args.max_parameters is None else number_of(args.max_parameters),
        None if args.max_multiply_adds is None else number_of(args.max_multiply_adds),
        args.max_latency,
        args.latency_precision,
    )
    epochs, steps, args.epochs, args.steps = args.epochs, args.steps, None, None
    return SearchPlan(args.space, args.tuner, configuration(args), epochs, steps, limits=limits)


def _tell(searched: Searched) -> int:
    """Writes what was found, and prints it."""
    from rich.console import Console

    from ..tuning.report import findings, write_pages
    from ..tuning.results import SHOWN, collect, table, write_best, write_tables

    results, path = collect(searched), searched.directory.path
    write_tables(searched, results)
    if results.finished:
        write_best(searched, results)
        write_pages(searched, results)
        print()
        Console().print(table(results))
        for row in results.trials[:SHOWN]:
            print(f"{row.record.id}  {row.what}")
        print()
        print("\n".join(findings(searched, results)))
        print(f"Report: {path / 'report.html'}")
        print(
            f"At full length: keras-resnet train --config {path / 'best.json'} --output DIRECTORY"
        )
    if searched.note:
        print(f"The search ended early: {searched.note}")
    if searched.stopped:
        raise TrainingStoppedError(searched.stopped)
    if not results.finished:
        raise RuntimeError(_nothing(searched, results))
    return 0


def _nothing(searched: Searched, results: Results) -> str:
    ended = [row.record for row in results.trials if row.record.status != "unfinished"]
    if ended:
        first = ended[0]
        return (
            f"All {len(ended)} trials failed, see {searched.directory.path / 'trials.csv'}. "
            f"Trial {first.id} {first.status}: {first.reason}"
        )
    if searched.note:
        return f"No trial was begun: {searched.note}"
    return (
        f"No trial ended within the budget ({searched.seconds:.0f} s so far). Give more of it, or "
        "shorter trials (--epochs)"
    )


COMMAND = Command(
    "tune", "search nets and recipes within limits and a budget", _add_arguments, _run
)
