"""The options of `keras-resnet evaluate`, and their checks before a net is opened."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..command import add_checkpoint, add_data_overrides, add_weights
from ..evaluation.members import names_run
from ..evaluation.results import check_output
from ..evaluation.views import VIEWS, parse_scales
from ..file_options import add_file_options

_CASES, _MOST_CASES = 24, 200


_USAGE = """%(prog)s [-h] [--debug] [options] RUN
       %(prog)s [options] --weights WEIGHTS [--model NET] --dataset DATASET"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.usage = _USAGE
    parser.add_argument(
        "run",
        nargs="?",
        metavar="RUN",
        help="directory of a training run; or, with --dataset, an exported file (.tflite, .onnx, a "
        "SavedModel) or what --weights takes",
    )
    add_checkpoint(parser)
    add_weights(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the outputs of a net that names none, one a line",
    )
    add_data_overrides(parser)
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="split to measure on (test; validation where there is no test split)",
    )
    parser.add_argument(
        "--recompute-batch-norm",
        type=int,
        metavar="IMAGES",
        help="first re-estimate the batch-norm statistics of a run's weights on so many of its "
        "training images",
    )
    parser.add_argument(
        "--batch-size", type=int, default=256, help="images per batch (%(default)s)"
    )
    parser.add_argument(
        "--views",
        choices=VIEWS,
        default="center",
        help="views of each image, whose probabilities are averaged: its centre; ten crops; or the "
        "whole image and its mirror image at several scales (fully convolutional)",
    )
    parser.add_argument(
        "--scales",
        metavar="S,S,...",
        help="shorter sides of the multi-scale views, pixels; 224,256,384,480,640 for nets of 224",
    )
    parser.add_argument(
        "--ensemble",
        nargs="+",
        default=[],
        metavar="RUN",
        help="further nets, whose probabilities are averaged with RUN's",
    )
    parser.add_argument(
        "--error-cases",
        type=int,
        nargs="?",
        const=_CASES,
        default=0,
        metavar="N",
        help=f"draw the N most confident mistakes ({_CASES})",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="directory of the results (RUN/evaluation-SPLIT...)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with the confusion matrix")
    add_file_options(parser)


def check_options(args: argparse.Namespace) -> tuple[int, ...] | None:
    """Checks the options before a net is opened, and returns the scales."""
    if (args.run is None) == (args.weights is None):
        args.parser.error("give RUN or --weights, one of the two")
    args.run = args.run or args.weights
    if args.batch_size < 1:
        raise ValueError(f"`--batch-size` must be at least 1. Received: {args.batch_size}")
    if args.error_cases and not 1 <= args.error_cases <= _MOST_CASES:
        raise ValueError(
            f"`--error-cases` must be in 1..{_MOST_CASES}. Received: {args.error_cases}"
        )
    if args.recompute_batch_norm is not None and args.recompute_batch_norm < 1:
        raise ValueError(
            "`--recompute-batch-norm` needs a number of images of at least 1. "
            f"Received: {args.recompute_batch_norm}"
        )
    if args.scales is not None and args.views != "multi-scale":
        raise ValueError(f"`--scales` needs --views multi-scale. Received: --views {args.views}")
    nets = (args.run, *args.ensemble)
    repeated = next((text for text in args.ensemble if nets.count(text) > 1), None)
    if repeated is not None:
        raise ValueError(
            f"`--ensemble` and RUN must name each net once. Received twice: {repeated}"
        )
    if args.net is not None and all(map(names_run, nets)):
        raise ValueError(f"`--model` applies to published names, not to runs. Received: {args.net}")
    if args.dataset is None and not names_run(args.run):
        raise ValueError(
            f"{args.run!r} is not a run, so give the data: --dataset, and --data-dir for TFDS"
        )
    if args.output is not None:
        check_output(args.output)
    elif args.error_cases and not names_run(args.run):
        raise ValueError(f"`--error-cases` needs --output, as {args.run!r} is not a run")
    return None if args.scales is None else parse_scales(args.scales)
