"""`keras-resnet predict`: classify image files and folders of them."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..command import Command, add_checkpoint, add_weights
from ..file_options import add_file_options, file_settings

if TYPE_CHECKING:
    import numpy as np

    from ..evaluation import Member
    from ..prediction import Prediction, PredictionTable

_USAGE = """%(prog)s [-h] [--debug] [options] RUN IMAGE [IMAGE ...]
       %(prog)s [options] --weights WEIGHTS [--model NET] IMAGE [IMAGE ...]"""
_EPILOG = (
    "The exit status is 0 if every file was classified, and 1 if any could not be read or after an "
    "error."
)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage, parser.epilog = _USAGE, _EPILOG
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="IMAGE",
        help="RUN, the directory of a training run or an exported file (.tflite, .onnx, a "
        "SavedModel), unless there is --weights; then image files, and folders of them at any "
        "depth",
    )
    add_checkpoint(parser)
    add_weights(parser)
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="names of the net's outputs, one a line"
    )
    parser.add_argument("--top", type=int, default=3, help="classes per image (%(default)s)")
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SHARE",
        help="for several labels per image: least probability of a label (the run's, which were "
        "chosen on its validation images; 0.5 without any)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the predictions as CSV, one row per file, in place of printing them",
    )
    parser.add_argument(
        "--heatmap",
        type=Path,
        metavar="DIR",
        help="write a picture of each image with the regions that its class depends on (Grad-CAM)",
    )
    parser.add_argument("--batch-size", type=int, default=64, help="images per batch (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per image")
    add_file_options(parser)


def _run(args: argparse.Namespace) -> int:
    names = args.paths if args.weights is not None else args.paths[1:]
    if not names:
        args.parser.error("give image files or folders after RUN, or the net as --weights")
    _check(args)
    from ..evaluation import open_member
    from ..prediction import Heatmaps, PredictionTable, find_images, output_names, predictions

    net = args.weights or args.paths[0]
    found = find_images(names)
    member = open_member(
        net,
        checkpoint=args.checkpoint,
        net=args.net,
        default_net=True,
        file=file_settings(args, [net]),
    )
    outputs, note = output_names(member, args.labels)
    for line in filter(None, (*member.notes, note, *found.notes)):
        print(f"Note: {line}", file=sys.stderr)
    draw = None if args.heatmap is None else Heatmaps(member, args.heatmap, found.inside)
    table = PredictionTable(
        outputs,
        args.top,
        pictures=draw is not None,
        thresholds=_thresholds(member, args.threshold),
    )
    rows = predictions(member, found.paths, batch_size=args.batch_size, draw=draw)
    failed = _write(rows, len(found.paths), table, args)
    if args.output is not None:
        text = _summary(args.output, member, len(found.paths), failed)
        print(text, file=sys.stderr if args.json else sys.stdout)
    return 1 if failed else 0


def _thresholds(member: Member, given: float | None) -> np.ndarray | None:
    """Returns the threshold of each label; None where an image has one class."""
    if not member.multilabel:
        if given is not None:
            raise ValueError(
                f"`--threshold` applies to runs of several labels per image, not to {member.name}"
            )
        return None
    if given is None and member.run is None:
        print("Note: labels are named above 0.5 (--threshold states another)", file=sys.stderr)
    return member.thresholds if given is None else member.thresholds * 0 + given


def _check(args: argparse.Namespace) -> None:
    """Checks the options before a net is opened."""
    for option, value in (("--top", args.top), ("--batch-size", args.batch_size)):
        if value < 1:
            raise ValueError(f"`{option}` must be at least 1. Received: {value}")
    if args.output is None:
        return
    if args.output.is_dir():
        raise ValueError(f"`--output` must be a file. Received: {args.output}, a directory")
    if not os.access(args.output.absolute().parent, os.W_OK):
        raise ValueError(
            f"`--output` must be in a directory that exists and can be written. Received: "
            f"{args.output}"
        )


def _write(
    rows: Iterator[Prediction], total: int, table: PredictionTable, args: argparse.Namespace
) -> int:
    """Writes and prints the predictions as they come; returns how many files were unreadable."""
    from ..evaluation.progress import ProgressLine
    from ..files import new_text_file

    failed = 0
    with contextlib.ExitStack() as stack:
        file = None
        if args.output is not None:
            file = stack.enter_context(new_text_file(args.output))
            file.write(table.header())
        # Where predictions are printed to the terminal, they are the progress.
        shown = args.output is not None and not args.json
        progress: Callable[[int], None] | None = None
        if shown or not sys.stdout.isatty():
            progress = stack.enter_context(ProgressLine(total))
        for done, prediction in enumerate(rows, start=1):
            failed += bool(prediction.problem)
            if file is not None:
                file.write(table.row(prediction))
            _print(prediction, table, args)
            if progress is not None:
                progress(done)
    return failed


def _print(prediction: Prediction, table: PredictionTable, args: argparse.Namespace) -> None:
    if prediction.problem:
        if args.output is None:  # otherwise it is a row of the table, and counted at the end
            print(table.text(prediction), file=sys.stderr)
    elif args.json:
        print(table.json(prediction))
    elif args.output is None:
        print(table.text(prediction))


def _summary(output: Path, member: Member, total: int, failed: int) -> str:
    unreadable = f", {failed:,} of them unreadable" if failed else ""
    return f"{output}: {total:,} files{unreadable}, by {member}"


COMMAND = Command(_add_arguments, _run)
