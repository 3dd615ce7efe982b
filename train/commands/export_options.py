"""The options of `keras-resnet export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from keras_resnet.export import CLIENTS, Limits
from keras_resnet.export.interface import Batch

from ..command import add_data_overrides, comma_separated
from .export_choice import add_choice_arguments, points

# Images of `--calibration-images` where it is not given.
CALIBRATION_IMAGES = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.add_argument(
        "run",
        metavar="SOURCE",
        help="directory of a training run; or, with --output, a file of weights (.keras and "
        "others; also nets of signals, volumes, features or several outputs), "
        "hf://owner/repository, or a published name such as torchvision/v2 (with --net)",
    )
    parser.add_argument(
        "--checkpoint",
        choices=("auto", "best", "last"),
        default="auto",
        help="weights of a run to use: the finished model's (auto), or a checkpoint's",
    )
    parser.add_argument("--net", help="the net, for published names")
    parser.add_argument(
        "--no-top",
        action="store_true",
        help="export the net without its classifier; see --pooling",
    )
    parser.add_argument(
        "--pooling",
        choices=("avg", "max"),
        help="with --no-top: a vector per image by global pooling, in place of the feature map",
    )
    parser.add_argument(
        "--features",
        type=comma_separated,
        metavar="C2,C3,...",
        help="export the outputs of these stages, each under its name, without the classifier",
    )
    add_data_overrides(parser)
    parser.add_argument(
        "--examples",
        type=Path,
        metavar="FILE",
        help="in place of a data set: .npy with inputs to prove the files on (uint8 pixels, or "
        "values as a net without preprocessing takes them), or .npz with the arrays inputs, labels "
        "(optional) and calibration (training data, for int8)",
    )
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
        help="input of the files: raw uint8 pixels, normalized inside, or normalized floats (raw; "
        "normalized for nets that do not say how images are prepared)",
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
        help=f"training images that calibrate int8 ({CALIBRATION_IMAGES})",
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
