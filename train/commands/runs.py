"""`keras-resnet runs`: list the runs below a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of runs, or one run")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from ..presentation import Table
    from ..presentation.formats import percent
    from ..runs import age_text, find_runs, run_state

    states = [run_state(path) for path in find_runs(args.folder)]
    if args.json:
        print(json.dumps([{**each._asdict(), "path": str(each.path)} for each in states], indent=2))
        return 0
    if not states:
        print(f"No runs in {args.folder}")
        return 0
    records = [
        {
            "run": str(each.path),
            "state": each.state,
            "step": each.step if each.steps is None else f"{each.step} of {each.steps}",
            "accuracy": "" if each.accuracy is None else percent(each.accuracy),
            "measured on": each.measured,
            "written": f"{age_text(each.age)} ago",
        }
        for each in states
    ]
    Console().print(Table.of("runs", "", records).terminal())
    return 0


COMMAND = Command(_add_arguments, _run)
