"""`keras-resnet report`: write a run's report again."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="directory of a finished run")


def _run(args: argparse.Namespace) -> int:
    from ..run_report import write_run_report

    print(f"Report: {write_run_report(args.run)}")
    return 0


COMMAND = Command(_add_arguments, _run)
