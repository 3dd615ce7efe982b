"""`keras-resnet compare`: the curves of several runs in one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="directories of runs, also in object stores",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("comparison.html"),
        metavar="FILE",
        help="the page (%(default)s)",
    )


def _run(args: argparse.Namespace) -> int:
    from ..run_report.overlay import write_comparison

    for note in write_comparison(args.runs, args.output):
        print(f"Note: {note}")
    print(f"Comparison: {args.output}")
    return 0


COMMAND = Command(_add_arguments, _run)
