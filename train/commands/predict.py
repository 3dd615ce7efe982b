"""`keras-resnet predict`: classify image files, folders of them, and data sets."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..command import Command, add_checkpoint, add_weights
from ..file_options import add_file_options, file_settings

if TYPE_CHECKING:
    import numpy as np

    from ..evaluation import Member
    from ..prediction import FoundImages, Prediction, PredictionTable

_USAGE = """%(prog)s [-h] [--debug] [options] RUN IMAGE [IMAGE ...]
       %(prog)s [options] --weights WEIGHTS [--model NET] IMAGE [IMAGE ...]"""
_EPILOG = (
    "The exit status is 0 if every image was classified, and 1 if any could not be read or after "
    "an error."
)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage, parser.epilog = _USAGE, _EPILOG
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="IMAGE",
        help="RUN, the directory of a training run or an exported file (.tflite, .onnx, a "
        "SavedModel), unless there is --weights; then image files, folders of them at any depth, "
        "and data sets: a folder of `keras-resnet shards`, tar shards, a CSV or Parquet file of "
        "images and labels, a folder of Hugging Face's `save_to_disk`, and the name or folder of "
        "one that TFDS has prepared",
    )
    parser.add_argument(
        "--split", metavar="SPLIT", help="of data sets: the split to classify (all that are stored)"
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="directory of TFDS data sets, for one that is named"
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
        args.parser.error("give images or data sets after RUN, or the net as --weights")
    _check(args)
    from ..data.readable import conversions
    from ..evaluation import open_member
    from ..prediction import Heatmaps, PredictionTable, open_data_set, output_names, predictions

    net = args.weights or args.paths[0]
    if args.weights is None:
        _check_order(args.paths)
    found, named = _found(names, args)
    member = open_member(
        net,
        checkpoint=args.checkpoint,
        net=args.net,
        default_net=True,
        file=file_settings(args, [net]),
    )
    sets = [open_data_set(each, member, split=args.split, data_dir=args.data_dir) for each in named]
    outputs, note = output_names(member, args.labels)
    of_sets = (line for each in sets for line in each.notes)
    for line in filter(None, (*member.notes, note, *found.notes, *of_sets)):
        print(f"Note: {line}", file=sys.stderr)
    draw = None
    if args.heatmap is not None:
        stored = (f"{split}/{name}" for each in sets for split, name in each.names())
        draw = Heatmaps(member, args.heatmap, [*found.inside, *stored])
    table = PredictionTable(
        outputs,
        args.top,
        pictures=draw is not None,
        thresholds=_thresholds(member, args.threshold),
        stored=bool(sets),
    )
    pictures = itertools.chain(found.pictures(), *(each.pictures() for each in sets))
    total = len(found.paths) + sum(sum(each.sizes.values()) for each in sets)
    rows = predictions(member, pictures, batch_size=args.batch_size, draw=draw)
    if args.shown:  # copies of places in object stores
        rows = (_at_its_place(each, args.shown) for each in rows)
    notable: list[tuple[str, ...]] = []
    failed = _write(_noting(rows, notable), total, table, args)
    for line in conversions(notable, "images", member.channels, member.decoding):
        print(f"Note: {line}", file=sys.stderr)
    if args.output is not None:
        text = _summary(args.output, member, f"{total:,} {'images' if sets else 'files'}", failed)
        print(text, file=sys.stderr if args.json else sys.stdout)
    return 1 if failed else 0


def _noting(rows: Iterator[Prediction], notable: list[tuple[str, ...]]) -> Iterator[Prediction]:
    """Yields predictions, and adds what was converted of the images that could be read."""
    for row in rows:
        if not row.problem:
            notable.append(row.notable)
        yield row


def _at_its_place(row: Prediction, shown: Mapping[str, str]) -> Prediction:
    """Returns a prediction with the addresses of its files in place of their copies."""
    for copy, address in shown.items():
        path, picture = (each.replace(copy, address, 1) for each in (row.path, row.picture))
        row = dataclasses.replace(row, path=path, picture=picture)
    return row


def _found(names: Sequence[str], args: argparse.Namespace) -> tuple[FoundImages, list[str]]:
    """Returns the image files, and the names of data sets."""
    from ..prediction import FoundImages, find_images, names_data_set

    named = [name for name in names if names_data_set(name)]
    for option, value in (("--split", args.split), ("--data-dir", args.data_dir)):
        if value is not None and not named:
            raise ValueError(f"`{option}` applies to data sets. Received: {', '.join(names)}")
    files = [name for name in names if name not in named]
    return find_images(files) if files else FoundImages((), (), ()), named


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


def _check_order(paths: Sequence[str]) -> None:
    """Checks that the first path is the net's, before the images are looked for.

    Raises:
        FileNotFoundError: If it names no run although it could name nothing else.
    """
    from ..data.headers import ENDINGS
    from ..evaluation.members import names_run

    first, *images = paths
    picture = Path(first).suffix.lower() in ENDINGS
    if not picture and (not names_run(first) or (Path(first) / "config.json").is_file()):
        return
    runs = [each for each in images if (Path(each) / "dataset.json").is_file()]
    if runs:
        raise FileNotFoundError(
            f"RUN comes before the images: {first} is not a run, and {runs[0]} is one"
        )
    why = "it has no config.json" if Path(first).exists() else "there is nothing of this name"
    raise FileNotFoundError(f"{first} is not a run: {why}")


def _write(
    rows: Iterator[Prediction], total: int, table: PredictionTable, args: argparse.Namespace
) -> int:
    """Writes and prints the predictions as they come; returns how many were unreadable."""
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


def _summary(output: Path, member: Member, total: str, failed: int) -> str:
    unreadable = f", {failed:,} of them unreadable" if failed else ""
    return f"{output}: {total}{unreadable}, by {member}"


COMMAND = Command(_add_arguments, _run)
