"""`keras-resnet evaluate`: measure a run, a file of weights or an ensemble on a split."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..command import Command, add_data_overrides, overridden
from ..config import DataConfig
from ..data import ImageData, load_data
from ..data.sources import FileSource
from ..evaluation import Measurement, Member, View, fully_convolutional, make_view, measure
from ..evaluation.classes import check_channels, check_classes
from ..evaluation.members import names_run, open_member
from ..evaluation.progress import ProgressLine
from ..evaluation.results import check_output, write_results
from ..evaluation.views import VIEWS, parse_scales

_CASES, _MOST_CASES = 24, 200


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        metavar="RUN",
        help="directory of a training run; or, with --dataset, a file of weights (.keras and "
        "others), hf://owner/repository, or a published name such as torchvision/v2 (with --net)",
    )
    parser.add_argument(
        "--checkpoint",
        choices=("auto", "best", "last"),
        default="auto",
        help="weights of a run to use: the finished model's (auto), or a checkpoint's",
    )
    parser.add_argument("--net", help="the net, for published names")
    add_data_overrides(parser)
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="test",
        help="split to measure on (%(default)s)",
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


def _run(args: argparse.Namespace) -> int:
    scales = _check(args)
    members = [
        open_member(text, checkpoint=args.checkpoint, net=args.net)
        for text in (args.run, *args.ensemble)
    ]
    output = _output(args, members[0])
    views = [make_view(args.views, each.preprocess, each.spec, scales) for each in members]
    data = _data(members, args)
    source = data.split(args.split)
    viewed = [
        (fully_convolutional(member) if args.views == "multi-scale" else member, view)
        for member, view in zip(members, views, strict=True)
    ]
    with ProgressLine(len(source)) as progress:
        findings = measure(
            viewed,
            source,
            batch_size=args.batch_size,
            error_cases=args.error_cases,
            progress=progress,
        )
    metrics = {
        **findings.evaluation.to_dict(),
        "calibration_error": findings.calibration.error,
        "views": args.views,
    }
    if output is not None:
        files = source.paths if isinstance(source, FileSource) else ()
        facts = _facts(viewed, data, args)
        write_results(output, findings, data.class_names, facts, files)
    run = members[0].run
    plain = args.views == "center" and not args.ensemble and args.dataset is None
    if run is not None and run.weights == "model.keras" and plain:
        run.directory.update_metrics(**{args.split: metrics})
    if args.json:
        print(json.dumps(metrics))
        return 0
    _print(viewed, data, args, findings)
    if output is not None:
        print(f"files     {output}")
    return 0


def _check(args: argparse.Namespace) -> tuple[int, ...] | None:
    """Checks the options before a net is opened, and returns the scales."""
    if args.batch_size < 1:
        raise ValueError(f"`--batch-size` must be at least 1. Received: {args.batch_size}")
    if args.error_cases and not 1 <= args.error_cases <= _MOST_CASES:
        raise ValueError(
            f"`--error-cases` must be in 1..{_MOST_CASES}. Received: {args.error_cases}"
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
        raise ValueError(f"`--net` applies to published names, not to runs. Received: {args.net}")
    if args.dataset is None and not names_run(args.run):
        raise ValueError(
            f"{args.run!r} is not a run, so give the data: --dataset, and --data-dir for TFDS"
        )
    if args.output is not None:
        check_output(args.output)
    elif args.error_cases and not names_run(args.run):
        raise ValueError(f"`--error-cases` needs --output, as {args.run!r} is not a run")
    return None if args.scales is None else parse_scales(args.scales)


def _output(args: argparse.Namespace, member: Member) -> Path | None:
    """Returns the directory of the results; None if there is none to write in."""
    if args.output is not None or member.run is None:
        return args.output
    folder = member.run.directory.path
    if not os.access(folder, os.W_OK):  # a read-only run can be measured, without files
        if args.error_cases:
            raise ValueError(f"`--error-cases` needs --output: {folder} is read-only")
        return None
    parts = (
        args.split,
        "" if args.views == "center" else args.views,
        "ensemble" if args.ensemble else "",
        "" if args.checkpoint == "auto" else args.checkpoint,
        args.dataset and re.sub(r"[^\w.-]+", "-", Path(args.dataset).name),
    )
    path = folder / "-".join(["evaluation", *filter(None, parts)])
    check_output(path)
    return path


def _data(members: Sequence[Member], args: argparse.Namespace) -> ImageData:
    """Opens the data of RUN, or the data of the options, and checks that it fits all members."""
    run = members[0].run
    config = overridden(DataConfig() if run is None else run.config.data, args)
    data = load_data(config, members[0].spec)
    for each in members:
        check_classes(
            data.class_names,
            each.class_names,
            outputs=each.classes,
            data=config.dataset,
            net=each.name,
        )
        check_channels(data.channels, each.channels, data=config.dataset, net=each.name)
    return data


def _facts(
    viewed: Sequence[tuple[Member, View]], data: ImageData, args: argparse.Namespace
) -> dict[str, Any]:
    """Returns the nets, data and views that were measured."""
    from ..session import environment

    return {
        "members": [
            {
                "name": member.name,
                "net": member.spec.name,
                "weights": member.weights,
                "preprocessing": member.preprocess.to_dict(),
                "views": str(view),
            }
            for member, view in viewed
        ],
        "data": data.name,
        "split": args.split,
        "views": args.views,
        "environment": environment(),
    }


def _print(
    viewed: Sequence[tuple[Member, View]],
    data: ImageData,
    args: argparse.Namespace,
    findings: Measurement,
) -> None:
    metrics = findings.evaluation.to_dict()
    print(f"{' + '.join(str(each) for each, _ in viewed)} on {data.name}, {args.split} split")
    print(f"images    {metrics['examples']}")
    for label, key in (("accuracy", "accuracy"), ("top-5", "top5")):
        low, high = metrics[f"{key}_interval"]
        share = metrics["accuracy" if key == "accuracy" else "top5_accuracy"]
        print(f"{label:<10}{share:.4f}  (95 % interval {low:.4f} to {high:.4f})")
    print(f"loss      {metrics['loss']:.4f}  (negative log likelihood)")
    print(f"ECE       {findings.calibration.error:.4f}  (expected calibration error)")
    if args.views != "center":
        for text in dict.fromkeys(str(view) for _, view in viewed):
            print(f"views     {text}")
    if args.error_cases and not findings.mistakes:
        print("mistakes  none")


COMMAND = Command(_add_arguments, _run)
