"""`keras-resnet export`: SavedModel, LiteRT and ONNX files, each verified before it is done."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..command import Command, add_data_overrides, add_run, comma_separated, run_data, split_images
from ..rundir import RunDirectory


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_data_overrides(parser)
    parser.add_argument(
        "--formats",
        type=comma_separated,
        default=["saved_model", "tflite"],
        help="of saved_model, tflite and onnx, comma-separated (saved_model,tflite)",
    )
    parser.add_argument(
        "--precision",
        type=comma_separated,
        default=["float32"],
        help="of the LiteRT files: float32, float16, int8, comma-separated",
    )
    parser.add_argument(
        "--inputs",
        choices=("raw", "normalized"),
        default="raw",
        help="raw uint8 pixels with the normalisation inside, or floats normalised already",
    )
    parser.add_argument("--output", type=Path, help="where to put the files; the run's directory")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument(
        "--evaluation-images", type=int, default=10_000, help="at most so many of the split"
    )
    parser.add_argument(
        "--calibration-images", type=int, default=512, help="training images that int8 looks at"
    )
    parser.add_argument(
        "--max-accuracy-drop",
        type=float,
        default=0.02,
        help="what int8 may lose; more makes the export fail",
    )
    parser.add_argument(
        "--max-float16-difference",
        type=float,
        default=1e-2,
        help="what a logit may change in float16; in proportion where logits exceed 10",
    )


def export_run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Exports a run as the options say and records the verifications in its metrics.

    Returns:
        One row for the Keras model and one for each artefact.

    Raises:
        ValueError: If an option does not fit, or an artefact fails its checks.
    """
    from keras_resnet.export import ExportError, ExportRequest, Limits, export

    from ..run_report import write_run_report
    from ..rundir import open_run

    for option in ("evaluation_images", "calibration_images"):
        if getattr(args, option) < 1:
            raise ValueError(f"`--{option.replace('_', '-')}` must be at least 1")
    run = open_run(args.run, args.checkpoint)
    data = run_data(run, args)
    images, labels = split_images(run, data, args.split, args.evaluation_images)
    calibration = None
    if "int8" in args.precision:
        calibration, _ = split_images(run, data, "train", args.calibration_images)
    request = ExportRequest(
        preprocess=run.preprocess,
        images=images,
        labels=labels,
        formats=args.formats,
        precisions=args.precision,
        inputs=args.inputs,
        calibration=calibration,
        class_names=run.class_names,
        limits=Limits(
            float16_difference=args.max_float16_difference,
            int8_accuracy_drop=args.max_accuracy_drop,
        ),
        progress=lambda line: print(line, flush=True),
    )
    output = args.output or run.directory.path
    try:
        found = [verification.to_dict() for verification in export(run.model, output, request)]
    except ExportError:
        if args.output is None and "exports" in run.directory.metrics:
            # What was withdrawn must not stand in the report either.
            run.directory.update_metrics(exports=_recorded(run.directory))
            write_run_report(args.run)
        raise
    rows = [_row(values) for values in found]
    keras = {
        "format": "keras",
        "precision": "float32",
        "file": "model.keras",
        "bytes": run.directory.model.stat().st_size if run.directory.model.is_file() else None,
        "accuracy": found[0]["keras_accuracy"],
        "top1_agreement": None,
        "max_abs_difference": None,
        "latency_ms": None,
    }
    if args.output is None:
        fresh = {row["file"] for row in rows}
        kept = [
            row
            for row in _recorded(run.directory)
            if row["file"] not in fresh and row["format"] != "keras"
        ]
        run.directory.update_metrics(exports=[keras, *kept, *rows])
        return [keras, *kept, *rows]
    return [keras, *rows]


def _recorded(directory: RunDirectory) -> list[dict[str, Any]]:
    """Returns the exports in a run's metrics whose files still stand."""
    rows = directory.metrics.get("exports", [])
    return [row for row in rows if (directory.path / row["file"]).exists()]


def _row(values: dict[str, Any]) -> dict[str, Any]:
    """Names a verification's values as the report's table does."""
    return {
        **values,
        "top1_agreement": values["agreement"],
        "max_abs_difference": values["max_difference"],
    }


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from ..presentation import export_table
    from ..run_report import write_run_report

    rows = export_run(args)
    if args.output is None:
        write_run_report(args.run)
    Console().print(export_table(rows))
    return 0


COMMAND = Command(
    "export", "write verified SavedModel, LiteRT and ONNX files", _add_arguments, _run
)
