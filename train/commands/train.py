"""`keras-resnet train`: train a net with a recipe or with another run's configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..command import Command
from ..run_options import add_run_options, configuration


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="directory of the run")
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="resume a run of the same configuration (auto), or refuse to (never)",
    )
    add_run_options(parser)


def _run(args: argparse.Namespace) -> int:
    from ..run_report import write_run_report
    from ..session import run_training
    from ..strategies import is_chief

    config = configuration(args)
    directory = run_training(config, args.output, resume=args.resume)
    chief = is_chief(config.runtime.strategy)
    # A report needs images that the run was measured on.
    measured = directory.metrics.keys() & {"validation", "test"}
    if chief and measured and not (args.output / "report.html").is_file():
        write_run_report(args.output)
        print(f"Report: {args.output / 'report.html'}")
    return 0 if directory.model.is_file() or not chief else 1


COMMAND = Command(_add_arguments, _run)
