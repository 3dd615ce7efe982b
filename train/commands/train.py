"""`keras-resnet train`: train a net with a recipe or with another run's configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..command import Command
from ..config import unused_settings
from ..recipes import describe_choice
from ..run_options import add_run_options, configuration, given_settings, resumed


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, help="directory of the run")
    parser.add_argument(
        "--dry-run",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="DIRECTORY",
        help="print what the run would be and train nothing; with a directory, write pictures of "
        "the schedule and of augmented images there",
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="cross-validation: K runs below the output, each with another part of the training "
        "images as its test split",
    )
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="resume a run of the same configuration (auto), or refuse to (never)",
    )
    add_run_options(parser)


def _run(args: argparse.Namespace) -> int:
    from ..strategies import is_chief

    if args.output is None and args.dry_run is None:
        raise ValueError("Give --output, the directory of the run, or --dry-run")
    config = resumed(configuration(args), args, args.output)
    for line in unused_settings(config, given_settings(args)):
        print(f"Note: {line}")
    choice = describe_choice(config)
    if choice and is_chief(config.runtime.strategy):
        print(choice)
    if args.dry_run is not None:
        from ..dry_run import dry_run

        dry_run(config, None if args.dry_run == Path() else args.dry_run, args.output)
        return 0
    if args.folds is not None:
        from ..cross_validation import cross_validate

        cross_validate(config, args.folds, args.output, resume=args.resume)
        return 0
    from ..session import train_and_report

    return 0 if train_and_report(config, args.output, resume=args.resume) else 1


COMMAND = Command(_add_arguments, _run)
