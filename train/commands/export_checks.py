"""What the options of `keras-resnet export` mean together, checked before a net is opened."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_resnet.export import Limits
from keras_resnet.export.checks import CALIBRATED, PRECISIONS, QUANTIZED
from keras_resnet.export.clients import find_client
from keras_resnet.quantize import holds_quantized

from ..config import load_config
from ..evaluation.members import names_run
from .export_choice import LIMIT_OPTIONS, candidates, check_choice_arguments

_FORMATS, _PRECISIONS = ["saved_model", "tflite"], ["float32"]
# Fields of `ExportRequest` whose options have their names.
_SAME = ("formats", "inputs", "batch", "input_type", "output_type", "activation")
# Option by field of `Limits`.
LIMITS = {
    "float32_difference": "--max-difference",
    "float16_difference": "--max-float16-difference",
    **LIMIT_OPTIONS,
    "int8_agreement": "--min-agreement",
    "int8_accuracy_drop": "--max-accuracy-drop",
}


def fill(args: argparse.Namespace) -> set[str]:
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
    args.activation = args.activation or "none"
    return explicit


def choose_for_quantized(args: argparse.Namespace) -> None:
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


def check(args: argparse.Namespace) -> None:
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
        without = args.dataset is None and args.examples is None
        if without and calibrated and not _is_quantized(args.run):
            raise ValueError(
                f"{' and '.join(calibrated)} files are calibrated on images: give --dataset, and "
                "--data-dir for TFDS, or --examples FILE.npz with an array `calibration`"
            )
    elif args.output is None and (args.no_top or args.features):
        raise ValueError(
            "`--no-top` and `--features` make another net than the run's, so say where the files "
            "go: --output DIR"
        )
    elif args.net is not None:
        raise ValueError(f"`--net` applies to published names, not to runs. Received: {args.net}")
    if args.examples is not None and args.dataset is not None:
        raise ValueError("`--examples` is in place of `--dataset`: give one of the two")
    if args.features and (args.no_top or args.pooling):
        raise ValueError("`--features` leaves the classifier out: give no --no-top or --pooling")
    if args.pooling and not args.no_top:
        raise ValueError(f"`--pooling` needs --no-top. Received: --pooling {args.pooling}")
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


def limits(args: argparse.Namespace) -> Limits:
    """Returns the limits that the options set."""
    given = {field: getattr(args, option[2:].replace("-", "_")) for field, option in LIMITS.items()}
    if args.auto and args.max_accuracy_drop is not None:
        # The choice applies it, and says so for each candidate.
        given["int8_accuracy_drop"] = max(args.max_accuracy_drop, Limits.int8_accuracy_drop)
    return Limits(**{field: value for field, value in given.items() if value is not None})
