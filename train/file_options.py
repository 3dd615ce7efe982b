"""The options that state what an exported file of another program does not say.

Importing this brings no TensorFlow.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .evaluation.exported import FileSettings

_OPTIONS = {
    "inputs": "--inputs",
    "mean": "--mean",
    "std": "--std",
    "image_size": "--image-size",
    "crop_fraction": "--crop-fraction",
    "interpolation": "--interpolation",
    "outputs": "--outputs",
}


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a parser."""
    group = parser.add_argument_group(
        "exported files",
        "what a .tflite or .onnx file or a SavedModel of another program does not state",
    )
    group.add_argument(
        "--inputs",
        choices=("raw", "unit", "tf", "torch", "caffe"),
        help="values that it takes: pixels of 0..255 (raw; int8: pixel - 128); 0..1 (unit); -1..1 "
        "(tf); normalised by ImageNet's mean and deviation (torch); BGR minus its means (caffe)",
    )
    group.add_argument(
        "--mean", type=_numbers, metavar="M[,M,M]", help="mean in pixel values, with --std"
    )
    group.add_argument(
        "--std", type=_numbers, metavar="S[,S,S]", help="standard deviation in pixel values"
    )
    group.add_argument(
        "--image-size",
        type=image_size,
        metavar="N|HxW",
        help="size of its images in pixels, where it takes any",
    )
    group.add_argument(
        "--crop-fraction",
        type=float,
        metavar="SHARE",
        help="share of an image's shorter side that is kept (1)",
    )
    group.add_argument(
        "--interpolation",
        choices=("bilinear", "bicubic", "nearest", "area", "lanczos3"),
        help="method of resizing (bilinear)",
    )
    group.add_argument("--outputs", choices=("logits", "probabilities"), help="what it returns")


def file_settings(args: argparse.Namespace, nets: Sequence[str]) -> FileSettings:
    """Returns what the options state.

    Args:
        args: The arguments.
        nets: The nets that are opened.

    Raises:
        ValueError: If an option is given and no net is an exported file, or a value is not one.
    """
    from keras_resnet.export.runtimes import is_exported

    from .evaluation.exported import FileSettings

    settings = FileSettings(**{name: getattr(args, name) for name in _OPTIONS})
    if settings.given and not any(map(is_exported, nets)):
        used = next(o for name, o in _OPTIONS.items() if getattr(args, name) is not None)
        raise ValueError(
            f"`{used}` applies to exported files: .tflite, .onnx, or a SavedModel directory. "
            f"Received: {', '.join(nets)}"
        )
    return settings


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        message = f"must be one number, or one per channel with commas between, not {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def image_size(text: str) -> tuple[int, int]:
    """Reads an option's height and width: `224` or `192x256`."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if match is None or not int(match[1]) or match[2] == "0":
        raise argparse.ArgumentTypeError(f"must be 224 or 192x256 (height x width), not {text!r}")
    return int(match[1]), int(match[2] or match[1])
