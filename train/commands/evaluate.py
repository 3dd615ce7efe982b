"""`keras-resnet evaluate`: measure a run, a file of weights or an ensemble on a split."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..command import Command, overridden
from ..config import DataConfig
from ..data.sources import FileSource
from ..evaluation import Member, View, fully_convolutional, make_view, measure
from ..evaluation.classes import check_channels, check_classes, read_labels
from ..evaluation.ensemble import measure_labels
from ..evaluation.exported import FileMember
from ..evaluation.images import MeasuredImages, open_images, other_data
from ..evaluation.members import open_member
from ..evaluation.progress import ProgressLine
from ..evaluation.results import (
    among_all_outputs,
    check_output,
    describe_labels,
    describe_measurement,
    write_label_results,
    write_results,
)
from ..evaluation.splits import save_confusions
from ..file_options import file_settings
from .evaluate_options import add_arguments, check_options


def _run(args: argparse.Namespace) -> int:
    scales = check_options(args)
    nets = (args.run, *args.ensemble)
    settings = file_settings(args, nets)
    members = [
        open_member(text, checkpoint=args.checkpoint, net=args.net, file=settings) for text in nets
    ]
    members[0] = _named(members[0], args.labels)
    config = DataConfig(task="multilabel" if members[0].multilabel else "classification")
    if members[0].run is not None:
        config = members[0].run.config.data
    config = other_data(overridden(config, args), config)
    images = open_images(config, members[0], args.split, other=args.dataset is not None)
    _check_ensemble(members, images)
    output = _output(args, members[0], images.split)
    for note in dict.fromkeys((*_notes(members), *images.notes)):
        print(f"Note: {note}", file=sys.stderr)
    if args.recompute_batch_norm:
        print(f"Note: {_recompute(members[0], args.recompute_batch_norm)}", file=sys.stderr)
    views = [make_view(args.views, each.preprocess, each.spec, scales) for each in members]
    viewed = [
        (fully_convolutional(member) if args.views == "multi-scale" else member, view)
        for member, view in zip(members, views, strict=True)
    ]
    several = members[0].multilabel
    result = (_measure_labels if several else _measure)(viewed, images, args, output)
    run = members[0].run
    plain = args.views == "center" and not args.ensemble and not args.recompute_batch_norm
    if run is not None and run.weights == "model.keras" and plain and args.dataset is None:
        run.directory.update_metrics(**{images.split: result.metrics})
        result.save_counts(run.directory.path)
    if args.json:
        print(json.dumps(result.metrics))
        return 0
    names = " + ".join(str(each) for each, _ in viewed)
    print(f"{names} on {images.data.name}, {images.split} split")
    print("\n".join(result.lines))
    if args.views != "center":
        for text in dict.fromkeys(str(view) for _, view in viewed):
            print(f"views     {text}")
    if output is not None:
        print(f"files     {output}")
    return 0


class _Result(NamedTuple):
    """What is printed and kept of a measurement."""

    metrics: dict[str, Any]
    lines: list[str]
    save_counts: Callable[[Path], None]


def _measure(
    viewed: Sequence[tuple[Member, View]],
    images: MeasuredImages,
    args: argparse.Namespace,
    output: Path | None,
) -> _Result:
    """Measures images of one label, and writes the files."""
    with ProgressLine(len(images.source)) as progress:
        findings = measure(
            viewed,
            images.source,
            batch_size=args.batch_size,
            error_cases=args.error_cases,
            subset=images.subset,
            progress=progress,
        )
    evaluation = findings.evaluation
    metrics = {
        **evaluation.to_dict(),
        **among_all_outputs(findings),
        "calibration_error": findings.calibration.error,
        "views": args.views,
    }
    if output is not None:
        files = images.source.paths if isinstance(images.source, FileSource) else ()
        write_results(output, findings, images.names, _facts(viewed, images, args), files)
    lines = describe_measurement(findings)
    if args.error_cases and not findings.mistakes:
        lines.append("mistakes  none")
    save = partial(save_confusions, {images.split: evaluation})
    return _Result(metrics, lines, save)


def _measure_labels(
    viewed: Sequence[tuple[Member, View]],
    images: MeasuredImages,
    args: argparse.Namespace,
    output: Path | None,
) -> _Result:
    """Measures images that may have several labels, and writes the files."""
    with ProgressLine(len(images.source)) as progress:
        evaluation = measure_labels(
            viewed, images.source, batch_size=args.batch_size, progress=progress
        )
    metrics = {**evaluation.to_dict(viewed[0][0].thresholds), "views": args.views}
    if output is not None:
        write_label_results(output, metrics, images.names, _facts(viewed, images, args))
    return _Result(metrics, describe_labels(metrics), lambda folder: None)


def _named(member: Member, labels: Path | None) -> Member:
    """Returns the net with the names of a file."""
    if labels is None:
        return member
    if member.class_names is not None:
        raise ValueError(f"`--labels` applies to nets that name no outputs, not to {member.name}")
    return dataclasses.replace(member, class_names=tuple(read_labels(labels, member.classes)))


def _notes(members: Sequence[Member]) -> list[str]:
    """Returns what was assumed of the first net and of exported files."""
    files = [note for each in members[1:] if isinstance(each, FileMember) for note in each.notes]
    return [*members[0].notes, *files]


def _check_ensemble(members: Sequence[Member], images: MeasuredImages) -> None:
    """Checks that all nets have the outputs and the channels of the first."""
    first = members[0]
    for each in members[1:]:
        if each.classes != first.classes:
            raise ValueError(
                f"The nets of an ensemble need the same outputs: {first.name} has {first.classes}, "
                f"{each.name} {each.classes}"
            )
        if each.class_names is not None and each.class_names != images.data.class_names:
            check_classes(
                images.data.class_names, each.class_names, data=images.data.name, net=each.name
            )
        check_channels(first.channels, each.channels, data=images.data.name, net=each.name)


def _recompute(member: Member, images: int) -> str:
    """Re-estimates the batch-norm statistics of a run's weights; returns what was done."""
    from ..batch_norm_statistics import recompute_batch_norm, statistics_batches
    from ..data import load_data

    run = member.run
    if run is None:
        raise ValueError(
            "`--recompute-batch-norm` needs a run, whose training images are known. "
            f"Received: {member.name}"
        )
    data = load_data(
        run.config.data,
        member.spec.replace(input_channels=member.channels),
        splits=("train",),
        class_names=run.class_names,
        stored=run.directory.listing,
    )
    batches = statistics_batches(run.config, data, run.preprocess, images)
    count = recompute_batch_norm(member.model, batches)
    return f"batch-norm statistics re-estimated on {count:,} training images"


def _output(args: argparse.Namespace, member: Member, split: str) -> Path | None:
    """Returns the directory of the results; None if there is none to write in."""
    if args.output is not None or member.run is None:
        return args.output
    folder = member.run.directory.path
    if not os.access(folder, os.W_OK):  # a read-only run can be measured, without files
        if args.error_cases:
            raise ValueError(f"`--error-cases` needs --output: {folder} is read-only")
        return None
    parts = (
        split,
        "" if args.views == "center" else args.views,
        "ensemble" if args.ensemble else "",
        "recomputed" if args.recompute_batch_norm else "",
        "" if args.checkpoint == "auto" else args.checkpoint,
        args.dataset and re.sub(r"[^\w.-]+", "-", Path(args.dataset).name),
    )
    path = folder / "-".join(["evaluation", *filter(None, parts)])
    check_output(path)
    return path


def _facts(
    viewed: Sequence[tuple[Member, View]], images: MeasuredImages, args: argparse.Namespace
) -> dict[str, Any]:
    """Returns the nets, data and views that were measured."""
    from ..provenance import environment

    return {
        "members": [
            {
                "name": member.name,
                "net": member.spec.name,
                "weights": str(member) if isinstance(member, FileMember) else member.weights,
                "preprocessing": member.preprocess.to_dict(),
                "views": str(view),
            }
            for member, view in viewed
        ],
        "data": images.data.name,
        "split": images.split,
        "notes": list(images.notes),
        "views": args.views,
        "environment": environment(),
    }


COMMAND = Command(add_arguments, _run)
