"""`keras-resnet runs`: list the runs below a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="folder of runs, or one run; also in an object store, such as s3://bucket/runs",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from ..presentation import Table
    from ..presentation.formats import percent
    from ..runs import age_text, find_runs, run_state

    states = [run_state(path) for path in find_runs(args.folder)]
    names = [_name(each.path, args) for each in states]
    if args.json:
        listed = [
            {**each._asdict(), "path": name} for each, name in zip(states, names, strict=True)
        ]
        print(json.dumps(listed, indent=2))
        return 0
    if not states:
        print(f"No runs in {_name(args.folder, args)}")
        return 0
    records = [
        {
            "run": name,
            "state": each.state,
            "step": each.step if each.steps is None else f"{each.step} of {each.steps}",
            "accuracy": "" if each.accuracy is None else percent(each.accuracy),
            "measured on": each.measured,
            "written": f"{age_text(each.age)} ago",
        }
        for each, name in zip(states, names, strict=True)
    ]
    Console().print(Table.of("runs", "", records).terminal())
    return 0


def _name(path: Path, args: argparse.Namespace) -> str:
    """Returns a run's path, or its address where the folder is the copy of a place."""
    place = args.shown.get(str(args.folder))
    if place is None:
        return str(path)
    return "/".join([place, *path.relative_to(args.folder).parts])


COMMAND = Command(_add_arguments, _run)
