"""`keras-resnet export`: write SavedModel, LiteRT and ONNX files, each verified."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.export import (
    CLIENTS,
    ExportError,
    ExportRequest,
    Limits,
    Verification,
    choose,
    export,
    export_for_clients,
    export_version,
)
from keras_resnet.export.checks import CALIBRATED, PRECISIONS, QUANTIZED
from keras_resnet.export.clients import find_client
from keras_resnet.export.interface import Batch
from keras_resnet.export.request import check_request
from keras_resnet.quantize import holds_quantized, is_quantize_aware

from ..command import Command, add_data_overrides, comma_separated, overridden, run_data
from ..config import DataConfig, load_config
from ..data import load_data, raw_images
from ..evaluation import Member, open_member
from ..evaluation.classes import check_channels
from ..evaluation.members import names_run
from ..rundir import RunDirectory
from .export_choice import (
    LIMIT_OPTIONS,
    add_choice_arguments,
    candidates,
    check_choice_arguments,
    points,
    wanted,
)

_FORMATS, _PRECISIONS = ["saved_model", "tflite"], ["float32"]
_CALIBRATION_IMAGES = 512
_RANDOM_IMAGES = 16
_SEVERAL_LABELS = (
    "an image may have several labels, so no accuracy is measured, and the probability of a label "
    "is the sigmoid of its logit, also in a SavedModel's output `probabilities`"
)
_ONE_LABEL = (
    "the net has one label per image, and by --activation sigmoid each class is judged by itself: "
    "the probabilities of an image do not sum to 1"
)
# Fields of `ExportRequest` whose options have their names.
_SAME = ("formats", "inputs", "batch", "input_type", "output_type", "activation")
_WITHOUT_CLIENT = (
    "No --client: files as most programs take them (uint8 pixels 0..255 in, logits out; LiteRT "
    f"with batch 1). Files for one of {', '.join(CLIENTS)}: --client NAME"
)
# Option by field of `Limits`.
_LIMITS = {
    "float32_difference": "--max-difference",
    "float16_difference": "--max-float16-difference",
    **LIMIT_OPTIONS,
    "int8_agreement": "--min-agreement",
    "int8_accuracy_drop": "--max-accuracy-drop",
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        metavar="SOURCE",
        help="directory of a training run; or, with --output, a file of weights (.keras and "
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
        "--formats",
        type=comma_separated,
        help="formats among saved_model, tflite and onnx, comma-separated (saved_model,tflite)",
    )
    parser.add_argument(
        "--precision",
        type=comma_separated,
        help="precisions among float32, float16, dynamic, int8, int16x8 and mixed (int8 with the "
        "noisiest operators in float) for LiteRT, float32 and int8 for ONNX, comma-separated "
        "(float32)",
    )
    parser.add_argument(
        "--inputs",
        choices=("raw", "normalized"),
        help="input of the files: raw uint8 pixels, normalized inside, or normalized floats (raw)",
    )
    parser.add_argument(
        "--batch",
        type=_batch,
        metavar="1|N|open",
        help="batch size of the files (1 for LiteRT, whose clients in browsers and on NPUs take no "
        "other; open for SavedModel and ONNX)",
    )
    types = ("float32", "uint8", "int8")
    parser.add_argument(
        "--input-type",
        choices=types,
        help="type of the input: of raw pixels uint8, int8 (pixel - 128) or float32 (uint8)",
    )
    parser.add_argument(
        "--output-type", choices=types, help="type of the output of int8 files (int8)"
    )
    parser.add_argument(
        "--activation",
        choices=("none", "softmax", "sigmoid"),
        help="softmax, or sigmoid for runs of several labels per image: LiteRT and ONNX files "
        "return probabilities; a SavedModel returns both",
    )
    parser.add_argument(
        "--client",
        type=comma_separated,
        help=f"what the files are for, comma-separated: {', '.join(CLIENTS)}. Sets format, "
        "precision, batch, types and activation as it takes them, writes to a directory of its "
        "name and runs the files by its own runtime where that is installed",
    )
    parser.add_argument(
        "--version-dir",
        action="store_true",
        help="write the SavedModel to saved_model/N, the next number, as TensorFlow Serving reads "
        "it; earlier versions stay",
    )
    parser.add_argument("--author", default="", help="author, written into the files")
    parser.add_argument("--license", default="", help="licence, written into the files")
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
        help=f"training images that calibrate int8 ({_CALIBRATION_IMAGES})",
    )
    parser.add_argument(
        "--max-accuracy-drop",
        type=points,
        metavar="POINTS",
        help="largest loss of accuracy by quantised files, in percentage points, such as 0.5 or "
        f"0.5%% ({100 * Limits.int8_accuracy_drop:g}; with --auto 0.5)",
    )
    parser.add_argument(
        "--min-agreement",
        type=float,
        help="smallest share of images whose class a quantised file keeps, where the margin "
        "exceeds the noise "
        f"({Limits.int8_agreement})",
    )
    parser.add_argument(
        "--min-signal-to-noise",
        type=float,
        metavar="DB",
        help="smallest signal-to-noise ratio of int8 logits, in dB "
        f"({Limits.int8_signal_to_noise:g})",
    )
    parser.add_argument(
        "--max-float16-difference",
        type=float,
        help="largest change of a logit by float16, in units of the spread of the logits "
        f"({Limits.float16_difference})",
    )
    parser.add_argument(
        "--max-difference",
        type=float,
        help="largest difference of a float32 logit, in units of the spread of the logits "
        f"({Limits.float32_difference})",
    )
    add_choice_arguments(parser)


def _batch(text: str) -> Batch:
    if text == "open":
        return "open"
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or open, not {text!r}") from None


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
    from ..run_report import write_run_report

    _choose_for_quantized(args)
    explicit = _fill(args)
    _check(args)
    member = open_member(args.run, checkpoint=args.checkpoint, net=args.net)
    run = member.run
    if member.multilabel:
        if args.activation == "softmax":
            raise ValueError(
                "`--activation softmax` applies to runs of one label per image; with several "
                f"labels it is sigmoid. Received: {args.run}, a run with the task multilabel"
            )
        print(f"Note: {_SEVERAL_LABELS}", file=sys.stderr)
    elif args.activation == "sigmoid":
        print(f"Note: {_ONE_LABEL}", file=sys.stderr)
    images, labels, calibration = _images(member, args)
    request = ExportRequest(
        preprocess=member.preprocess,
        images=images,
        labels=labels,
        formats=args.formats,
        precisions=args.precision,
        inputs=args.inputs,
        batch=args.batch,
        input_type=args.input_type,
        output_type=args.output_type,
        activation=args.activation,
        several_labels=member.multilabel,
        calibration=calibration,
        class_names=member.class_names,
        author=args.author,
        license=args.license,
        limits=_limits(args),
        progress=lambda line: print(line, flush=True),
    )
    output = args.output if run is None else args.output or run.directory.path
    failure = None
    try:
        if args.auto:
            choice = choose(member.model, output, request, wanted(args), keep_all=args.keep_all)
            taken = [each for each in choice.candidates if each is choice.chosen or args.keep_all]
            verifications = [each.verification for each in taken if each.verification]
            for each in choice.candidates:
                verdict = "chosen" if each is choice.chosen else "; ".join(each.reasons)
                print(f"{each.file}: {verdict or 'keeps the limits, slower or larger'}")
        else:
            verifications = _export(member.model, output, request, args, explicit)
    except ExportError as error:
        failure, verifications = error, list(error.verifications)
    rows = [_row(each.to_dict()) for each in verifications]
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
    return [keras, *kept, *rows], failure


def _export(
    model: Any, output: Path, request: ExportRequest, args: argparse.Namespace, explicit: set[str]
) -> list[Verification]:
    """Exports as the options say: for clients, with a version directory, or neither."""
    if args.client:
        exported = export_for_clients(model, output, request, args.client, explicit=explicit)
        return [verification for each in exported for verification in each.verifications]
    check_request(model, output, request)
    print(_WITHOUT_CLIENT)
    if not args.version_dir:
        return export(model, output, request)
    others = [name for name in args.formats if name != "saved_model"]
    verifications = [export_version(model, output, request)]
    if others:
        verifications += export(model, output, dataclasses.replace(request, formats=others))
    return verifications


def _images(
    member: Member, args: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Returns images and labels to verify the files on, and images that calibrate int8.

    Without data they are random: then the files are compared with the net, not measured.
    """
    if member.run is None and args.dataset is None:
        count = min(_RANDOM_IMAGES, args.evaluation_images)
        shape = (count, *member.preprocess.size, member.channels)
        print(f"No --dataset: files are compared with the net on {count} random images")
        return np.random.default_rng(0).integers(0, 256, shape, dtype="uint8"), None, None
    if member.run is not None:
        data = run_data(member.run, args)
    else:
        config = overridden(DataConfig(), args)
        data = load_data(config, member.spec, class_names=member.class_names)
        if len(data.class_names) != member.classes:
            raise ValueError(
                f"{config.dataset!r} has {len(data.class_names)} classes, and {member.name} "
                f"{member.classes} outputs without names"
            )
        check_channels(data.channels, member.channels, data=config.dataset, net=member.name)
    preprocess, channels = member.preprocess, data.channels
    images, labels = raw_images(
        data.split(args.split), preprocess, channels, args.evaluation_images
    )
    measured = None if member.multilabel else labels
    if not {*CALIBRATED} & {*args.precision} or is_quantize_aware(member.model):
        return images, measured, None
    count = args.calibration_images or _CALIBRATION_IMAGES
    calibration, _ = raw_images(data.split("train"), preprocess, channels, count)
    return images, measured, calibration


def _fill(args: argparse.Namespace) -> set[str]:
    """Gives options their defaults and returns the fields of the request that were set.

    Raises:
        ValueError: If a client is unknown.
    """
    explicit = {field for field in _SAME if getattr(args, field) is not None}
    if args.precision is not None:
        explicit.add("precisions")
    clients = [find_client(name) for name in args.client or ()]
    formats = dict.fromkeys(client.format for client in clients)
    precisions = dict.fromkeys(client.precision.value for client in clients)
    args.formats = args.formats or list(formats) or _FORMATS
    default = candidates(args.formats) if args.auto else _PRECISIONS
    args.precision = args.precision or list(precisions) or default
    args.inputs = args.inputs or "raw"
    args.activation = args.activation or "none"
    return explicit


def _choose_for_quantized(args: argparse.Namespace) -> None:
    """Chooses the int8 file for a quantise-aware run or file, where nothing else is asked for.

    Raises:
        ValueError: If an option applies to quantisation after training.
    """
    if not _is_quantized(args.run):
        return
    if args.calibration_images is not None:
        raise ValueError(
            "`--calibration-images` applies to quantisation after training; a quantise-aware net "
            f"has its own ranges. Received: {args.calibration_images}, for {args.run}"
        )
    args.formats = args.formats or (None if args.client else ["tflite"])
    if args.formats in (None, ["tflite"]) and args.precision is None:
        args.precision = ["int8"]
        print(f"{args.run} is quantise-aware: a LiteRT int8 file with the ranges of its training")


def _is_quantized(source: str) -> bool:
    """Whether a source is a quantise-aware run or `.keras` file, by its configuration."""
    path = Path(source)
    if names_run(source):
        file = path / "config.json"
        return file.is_file() and load_config(file).quantize.enabled
    return path.suffix == ".keras" and path.is_file() and holds_quantized(path)


def _check(args: argparse.Namespace) -> None:
    """Checks the options before the net is opened.

    Raises:
        ValueError: If a value is wrong, or an option applies to nothing that is exported.
    """
    for option in ("evaluation_images", "calibration_images"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise ValueError(
                f"`--{option.replace('_', '-')}` must be at least 1. Received: {value}"
            )
    if not names_run(args.run):
        if args.output is None:
            raise ValueError(f"{args.run!r} is not a run, so say where the files go: --output DIR")
        calibrated = [name for name in args.precision if name in CALIBRATED]
        if args.dataset is None and calibrated and not _is_quantized(args.run):
            raise ValueError(
                f"{' and '.join(calibrated)} files are calibrated on images: give --dataset, and "
                "--data-dir for TFDS"
            )
    elif args.net is not None:
        raise ValueError(f"`--net` applies to published names, not to runs. Received: {args.net}")
    if args.auto and (args.client or args.version_dir):
        raise ValueError(
            "`--auto` chooses among files for no client in particular: give it without --client "
            "and --version-dir"
        )
    if args.version_dir and ("saved_model" not in args.formats or args.client):
        raise ValueError(
            "`--version-dir` applies to the format saved_model, without --client (tf-serving has "
            f"versions always). Received: --formats {','.join(args.formats)}"
        )
    for name in args.precision:
        known = [format for format, names in PRECISIONS.items() if name in names]
        if known and name != "float32" and not {*known} & {*args.formats}:
            raise ValueError(
                f"`--precision {name}` applies to {' and '.join(known)}. "
                f"Received: --formats {','.join(args.formats)}"
            )
    check_choice_arguments(args)
    needs = {
        "output_type": ("int8",),
        "calibration_images": CALIBRATED,
        "max_accuracy_drop": QUANTIZED,
        "min_agreement": QUANTIZED,
        "max_float16_difference": ("float16",),
    }
    for option, precisions in needs.items():
        if getattr(args, option) is not None and not {*precisions} & {*args.precision}:
            raise ValueError(
                f"`--{option.replace('_', '-')}` applies to {', '.join(precisions)} files. "
                f"Received: --precision {','.join(args.precision)}"
            )


def _limits(args: argparse.Namespace) -> Limits:
    given = {
        field: getattr(args, option[2:].replace("-", "_")) for field, option in _LIMITS.items()
    }
    if args.auto and args.max_accuracy_drop is not None:
        # The choice applies it, and says so for each candidate.
        given["int8_accuracy_drop"] = max(args.max_accuracy_drop, Limits.int8_accuracy_drop)
    return Limits(**{field: value for field, value in given.items() if value is not None})


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
        raise ValueError(failure.describe(_LIMITS))
    return 0


COMMAND = Command(_add_arguments, _run)
