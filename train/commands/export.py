"""`keras-resnet export`: write SavedModel, LiteRT and ONNX files, each verified."""

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
        help="formats among saved_model, tflite and onnx, comma-separated (saved_model,tflite)",
    )
    parser.add_argument(
        "--precision",
        type=comma_separated,
        default=["float32"],
        help="precisions of the LiteRT files among float32, float16 and int8, comma-separated "
        "(float32)",
    )
    parser.add_argument(
        "--inputs",
        choices=("raw", "normalized"),
        default="raw",
        help="input of the files: raw uint8 pixels, normalized inside, or normalized floats (raw)",
    )
    parser.add_argument("--output", type=Path, help="directory of the files (the run's)")
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="test",
        help="split to verify the files on (%(default)s)",
    )
    parser.add_argument(
        "--evaluation-images",
        type=int,
        default=10_000,
        help="largest number of its images (%(default)s)",
    )
    parser.add_argument(
        "--calibration-images",
        type=int,
        default=512,
        help="training images that calibrate int8 (%(default)s)",
    )
    parser.add_argument(
        "--max-accuracy-drop",
        type=float,
        default=0.02,
        help="largest loss of accuracy by int8; above it the export fails (%(default)s)",
    )
    parser.add_argument(
        "--max-float16-difference",
        type=float,
        default=1e-2,
        help="largest change of a logit by float16, relative where logits exceed 10 (%(default)s)",
    )


def export_run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Exports a run, and records the verified files in the run's metrics.

    Args:
        args: The options of this command.

    Returns:
        A row of the report's table for the Keras model, and one for each file.

    Raises:
        ValueError: If an option is wrong, or a file fails its checks.
    """
    from keras_resnet.export import ExportError, ExportRequest, Limits, export

    from ..run_report import write_run_report
    from ..rundir import open_run

    for option in ("evaluation_images", "calibration_images"):
        if getattr(args, option) < 1:
            raise ValueError(
                f"`--{option.replace('_', '-')}` must be at least 1. "
                f"Received: {getattr(args, option)}"
            )
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
        verified = [each.to_dict() for each in export(run.model, output, request)]
    except ExportError:
        if args.output is None and "exports" in run.directory.metrics:
            # The failed export removed an earlier file: the report must not list it.
            run.directory.update_metrics(exports=_recorded(run.directory))
            write_run_report(args.run)
        raise
    rows = [_row(values) for values in verified]
    keras = {
        "format": "keras",
        "precision": "float32",
        "file": "model.keras",
        "bytes": run.directory.model.stat().st_size if run.directory.model.is_file() else None,
        "accuracy": verified[0]["keras_accuracy"],
        "top1_agreement": None,
        "max_abs_difference": None,
        "latency_ms": None,
    }
    if args.output is not None:
        return [keras, *rows]
    replaced = {keras["file"], *(row["file"] for row in rows)}
    kept = [row for row in _recorded(run.directory) if row["file"] not in replaced]
    run.directory.update_metrics(exports=[keras, *kept, *rows])
    return [keras, *kept, *rows]


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

    rows = export_run(args)
    if args.output is None:
        write_run_report(args.run)
    Console().print(export_table(rows))
    return 0


COMMAND = Command(_add_arguments, _run)
