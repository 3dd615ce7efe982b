"""`keras-resnet latency`: time exported files and runs beside each other."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import sys
from datetime import date
from pathlib import Path

from ..command import Command
from ..file_options import image_size


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE|RUN",
        help="exported files (.tflite, .onnx, SavedModel directories), runs or files of weights",
    )
    parser.add_argument(
        "--model", "--net", dest="net", metavar="NET", help="the net, for published names"
    )
    parser.add_argument(
        "--threads",
        type=_counts,
        default=None,
        metavar="N,N",
        help="numbers of threads, each timed (1 and the number of CPU cores)",
    )
    parser.add_argument(
        "--batch", type=_counts, default=(1,), metavar="N,N", help="images per run, each timed (1)"
    )
    parser.add_argument(
        "--image-size",
        type=image_size,
        metavar="N|HxW",
        help="size of the images in pixels, of files that take any",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=3.0,
        help="time of each row's runs, in all rounds together (%(default)s)",
    )
    parser.add_argument(
        "--rounds", type=int, default=10, help="turns of each row (%(default)s); the order rotates"
    )
    parser.add_argument(
        "--warm-up",
        type=float,
        default=0.3,
        metavar="SECONDS",
        help="time of the runs that do not count (%(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write the table, the plot and a report there",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per row")


def _run(args: argparse.Namespace) -> int:
    _check(args)
    from ..latency.findings import findings, for_terminal, stored_bytes
    from ..latency.turns import Timed, time_in_turns
    from ..presentation.findings import print_findings, write_findings

    found = [_found(text) for text in args.files]
    threads = args.threads or tuple(dict.fromkeys((1, os.cpu_count() or 1)))
    entries = [
        Timed(path, kind, count, batch, args.image_size, args.net)
        for batch in args.batch
        for count in threads
        for path, kind in found
    ]
    with contextlib.closing(_Progress()) as progress:
        timings = time_in_turns(
            entries,
            seconds=args.seconds,
            rounds=args.rounds,
            warm_up=args.warm_up,
            progress=progress,
        )
    results = findings(timings, _facts(args))
    report = None if args.output is None else write_findings(args.output, results)
    if args.json:
        for each in timings:
            print(json.dumps({**each.to_dict(), "bytes": stored_bytes(each.timed.path)}))
        return 0
    print_findings(for_terminal(results, timings))
    if report is not None:
        print(f"Report: {report}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Checks the options before anything is loaded."""
    for option, value in (("--rounds", args.rounds), ("--seconds", args.seconds)):
        if not value > 0:
            raise ValueError(f"`{option}` must be above 0. Received: {value}")
    if not args.warm_up >= 0:
        raise ValueError(f"`--warm-up` must not be negative. Received: {args.warm_up}")
    repeated = next((text for text in args.files if args.files.count(text) > 1), None)
    if repeated is not None:
        raise ValueError(f"Each file must be named once. Received twice: {repeated}")
    if args.output is not None and args.output.exists() and not args.output.is_dir():
        raise ValueError(f"`--output` must be a directory. Received: {args.output}")


def _found(text: str) -> tuple[str, str]:
    """Returns the path of a file or run, and its format."""
    from keras_resnet.export.runtimes import format_of, is_exported, saved_model_directory
    from keras_resnet.export.trial import try_file

    from ..data.walk import is_special

    path = Path(text)
    if is_special(text):
        raise ValueError(f"Only regular files and folders are timed. Received: {text!r}")
    if not is_exported(path):
        if path.is_dir() and not (path / "config.json").is_file():
            raise ValueError(f"{text} is neither a run nor a SavedModel directory")
        return text, "keras"
    if not path.exists():
        raise FileNotFoundError(f"No exported file at {text!r}")
    if path.is_file():
        try_file(path, format_of(path))
    inner = saved_model_directory(path) if path.is_dir() else None
    return str(inner or path), format_of(path)


def _facts(args: argparse.Namespace) -> dict[str, object]:
    return {
        "Command": shlex.join(["keras-resnet", *sys.argv[1:]]),
        "Turns": f"{args.rounds} rounds, {args.seconds:g} s for each row, {args.warm_up:g} s of "
        "warm-up, each file in a process of its own",
        "Machine": f"{os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}",
        "Date": date.today().isoformat(),
    }


class _Progress:
    """The current step on a terminal, over the step before; elsewhere nothing."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def __call__(self, line: str) -> None:
        if self._live:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Removes the line."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        counts = (0,)
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers from 1 on with commas between, such as 1,2, not {text!r}"
        )
    return counts


COMMAND = Command(_add_arguments, _run)
