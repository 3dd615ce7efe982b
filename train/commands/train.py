"""`keras-resnet train`: train a net with a recipe or with another run's configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..command import Command
from ..config import load_config, unused_settings
from ..recipes import describe_choice
from ..remote.address import remote_url
from ..remote.mirror import GIVE_UP, Mirror, run_output, worker_index
from ..run_options import add_run_options, configuration, given_settings, resumed


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output",
        type=Path,
        help="directory of the run; also in an object store, such as s3://bucket/runs/flowers, "
        "gs://... or hf://buckets/...",
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="where the local directory of a run in an object store is "
        "(~/.keras/keras_resnet/runs)",
    )
    parser.add_argument(
        "--upload-wait",
        type=float,
        default=GIVE_UP,
        metavar="SECONDS",
        help="how long a store that fails is tried again at the end of the run (%(default)s)",
    )
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
    if args.output is None and args.dry_run is None:
        raise ValueError("Give --output, the directory of the run, or --dry-run")
    if remote_url(args.output) is None:
        return _run_in(args, None)
    for option, value in (("--folds", args.folds), ("--dry-run", args.dry_run)):
        if value is not None:
            raise ValueError(
                f"`{option}` needs a local --output. Received: {remote_url(args.output)}"
            )
    with run_output(args.output, args.work_dir, worker=_worker(args), give_up=args.upload_wait) as (
        path,
        mirror,
    ):
        args.output = path
        return _run_in(args, mirror)


def _worker(args: argparse.Namespace) -> int:
    """Returns the index of this worker, before the configuration of the run is known."""
    strategy = given_settings(args).get("runtime.strategy")
    if strategy is None and args.config is not None:
        strategy = load_config(args.config).runtime.strategy
    return worker_index(strategy or "auto")


def _run_in(args: argparse.Namespace, mirror: Mirror | None) -> int:
    from ..strategies import is_chief

    config = resumed(configuration(args), args, args.output)
    given = given_settings(args)
    if "quantize.bits" in given and not config.quantize.enabled:
        raise ValueError(
            "`--bits` applies to quantise-aware training: give --quantize int8 and --weights. "
            f"Received: --bits {config.quantize.bits}"
        )
    for line in unused_settings(config, given):
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

    ended = train_and_report(config, args.output, resume=args.resume, mirror=mirror)
    return 0 if ended else 1


COMMAND = Command(_add_arguments, _run)
