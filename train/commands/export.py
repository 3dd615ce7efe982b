"""`keras-resnet export`: write SavedModel, LiteRT and ONNX files, each verified."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from keras_resnet.export import (
    CLIENTS,
    ExportError,
    ExportRequest,
    Verification,
    choose,
    export,
    export_for_clients,
    export_version,
)
from keras_resnet.export.net_outputs import is_image_classifier
from keras_resnet.export.request import check_request

from ..command import Command
from ..rundir import Run, RunDirectory
from .export_checks import LIMITS, check, choose_for_quantized, fill, limits
from .export_choice import wanted
from .export_options import add_arguments
from .export_source import Source, open_examples, open_source

_SEVERAL_LABELS = (
    "an image may have several labels, so no accuracy is measured, and the probability of a label "
    "is the sigmoid of its logit, also in a SavedModel's output `probabilities`"
)
_ONE_LABEL = (
    "the net has one label per image, and by --activation sigmoid each class is judged by itself: "
    "the probabilities of an image do not sum to 1"
)
_WITHOUT_CLIENT = (
    "No --client: files as most programs take them (uint8 pixels 0..255 in, logits out; LiteRT "
    f"with batch 1). Files for one of {', '.join(CLIENTS)}: --client NAME"
)
_LITERT_BATCH = "LiteRT files have batch 1, as most programs take them; --batch sets another"


def export_run(
    args: argparse.Namespace,
) -> tuple[list[dict[str, Any]], ExportError | None]:
    """Exports a net, and records the verified files of a run in its metrics.

    Args:
        args: The options of this command.

    Returns:
        A row of the report's table for the Keras model, and one for each file; and the error if
        a file was rejected.

    Raises:
        ValueError: If an option is wrong.
    """
    choose_for_quantized(args)
    explicit = fill(args)
    check(args)
    source, lines = open_source(args)
    run = None if source.member is None else source.member.run
    for line in [*lines, *_label_lines(source, args)]:
        print(f"Note: {line}", file=sys.stderr)
    examples = open_examples(source, args)
    request = ExportRequest(
        preprocess=source.preprocess,
        images=examples.inputs,
        labels=examples.labels,
        formats=args.formats,
        precisions=args.precision,
        inputs=args.inputs or ("normalized" if source.preprocess is None else "raw"),
        batch=args.batch,
        input_type=args.input_type,
        output_type=args.output_type,
        activation=args.activation,
        several_labels=source.multilabel,
        calibration=examples.calibration,
        class_names=source.class_names,
        author=args.author,
        license=args.license,
        limits=limits(args),
        progress=lambda line: print(line, flush=True),
    )
    output = args.output if run is None else args.output or run.directory.path
    failure = None
    try:
        if args.auto:
            choice = choose(source.model, output, request, wanted(args), keep_all=args.keep_all)
            taken = [each for each in choice.candidates if each is choice.chosen or args.keep_all]
            verifications = [each.verification for each in taken if each.verification]
            for each in choice.candidates:
                verdict = "chosen" if each is choice.chosen else "; ".join(each.reasons)
                print(f"{each.file}: {verdict or 'keeps the limits, slower or larger'}")
        else:
            verifications = _export(source.model, output, request, args, explicit)
    except ExportError as error:
        failure, verifications = error, list(error.verifications)
    rows = [_row(each.to_dict()) for each in verifications]
    return _recorded_rows(args, run, rows), failure


def _recorded_rows(
    args: argparse.Namespace, run: Run | None, rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the rows with that of the Keras model, and records them in a run's metrics."""
    from ..run_report import write_run_report

    file = Path(args.run) if run is None else run.directory.model
    keras = {
        "format": "keras",
        "precision": "float32",
        "file": file.name,
        "bytes": file.stat().st_size if file.is_file() else None,
        "accuracy": rows[0]["keras_accuracy"] if rows else None,
        "top1_agreement": None,
        "max_abs_difference": None,
        "latency_ms": None,
    }
    kept = []
    if args.output is None and run is not None:
        replaced = {keras["file"], *(row["file"] for row in rows)}
        kept = [row for row in _recorded(run.directory) if row["file"] not in replaced]
        if rows:
            run.directory.update_metrics(exports=[keras, *kept, *rows])
        elif "exports" in run.directory.metrics:
            # The failed export withdrew an earlier file: the report must not list it.
            run.directory.update_metrics(exports=_recorded(run.directory))
            write_run_report(Path(args.run))
    return [keras, *kept, *rows]


def _label_lines(source: Source, args: argparse.Namespace) -> list[str]:
    """Returns what follows for the probabilities of one label per image, or of several.

    Raises:
        ValueError: If a softmax is asked for of several labels.
    """
    if source.multilabel:
        if args.activation == "softmax":
            raise ValueError(
                "`--activation softmax` applies to runs of one label per image; with several "
                f"labels it is sigmoid. Received: {args.run}, a run with the task multilabel"
            )
        return [_SEVERAL_LABELS]
    return [_ONE_LABEL] if args.activation == "sigmoid" else []


def _export(
    model: Any, output: Path, request: ExportRequest, args: argparse.Namespace, explicit: set[str]
) -> list[Verification]:
    """Exports as the options say: for clients, with a version directory, or neither."""
    if args.client:
        exported = export_for_clients(model, output, request, args.client, explicit=explicit)
        return [verification for each in exported for verification in each.verifications]
    check_request(model, output, request)
    print(_WITHOUT_CLIENT if is_image_classifier(model) and request.preprocess else _LITERT_BATCH)
    if not args.version_dir:
        return export(model, output, request)
    others = [name for name in args.formats if name != "saved_model"]
    verifications = [export_version(model, output, request)]
    if others:
        verifications += export(model, output, dataclasses.replace(request, formats=others))
    return verifications


def _recorded(directory: RunDirectory) -> list[dict[str, Any]]:
    """Returns the exports in a run's metrics whose files still exist."""
    rows = directory.metrics.get("exports", [])
    return [row for row in rows if (directory.path / row["file"]).exists()]


def _row(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a verification's values, by the names of the report's table."""
    return {
        **values,
        "top1_agreement": values["agreement"],
        "max_abs_difference": values["max_difference"],
    }


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from ..run_report import export_table, write_run_report

    rows, failure = export_run(args)
    if len(rows) > 1:
        if args.output is None:
            write_run_report(Path(args.run))
        Console().print(export_table(rows))
    if failure is not None:
        raise ValueError(failure.describe(LIMITS))
    return 0


COMMAND = Command(add_arguments, _run)
