"""What `keras-resnet export` exports, and the inputs that its files are fitted to and proved on."""

from __future__ import annotations

import argparse
import dataclasses
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet import PreprocessSpec
from keras_resnet.export.checks import CALIBRATED, image_shape
from keras_resnet.export.net_outputs import as_float32, input_kind, outputs_of
from keras_resnet.nets.named_weights import read_weights
from keras_resnet.nets.network import Head
from keras_resnet.quantize import is_quantize_aware
from keras_resnet.weights.files.json_object import read_member
from keras_resnet.weights.rebuild import copy_weights, rebuild
from keras_resnet.weights.saved_nets import load_keras_file

from ..arrays import read_either
from ..command import overridden, run_data
from ..config import DataConfig
from ..data import ImageData, load_data, raw_images
from ..data.listing import examples
from ..evaluation import Member, open_member
from ..evaluation.classes import check_channels
from .export_options import CALIBRATION_IMAGES

_RANDOM = 16
# Arrays of an `.npz` file of examples.
_ARRAYS = ("inputs", "labels", "calibration")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A net to export.

    Attributes:
        name: Name that the user gave.
        model: The net, in float32; a classifier returns logits.
        preprocess: How its images are prepared; None if it takes values as they are.
        class_names: Names of its classes, in order; None if unknown.
        member: The classifier of images that it is; None for other nets.
    """

    name: str
    model: Any
    preprocess: PreprocessSpec | None
    class_names: tuple[str, ...] | None = None
    member: Member | None = None

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels."""
        return self.member is not None and self.member.multilabel

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its outputs that are not classes."""
        return outputs_of(self.model).features


class Examples(NamedTuple):
    """Inputs of a net: `inputs` and `labels` prove the files, `calibration` sets int8 ranges."""

    inputs: np.ndarray
    labels: np.ndarray | None = None
    calibration: np.ndarray | None = None


def open_source(args: argparse.Namespace) -> tuple[Source, list[str]]:
    """Opens the net, and returns it with what was assumed or follows from what it is, as lines.

    Raises:
        FileNotFoundError: If there is nothing of that name.
        ValueError: If it is damaged, or has no such outputs as are asked for.
    """
    lines: list[str] = []
    if _plain(args.run):
        model = load_keras_file(args.run)
        preprocess = getattr(model, "preprocess", None) or None
        source = Source(args.run, model, preprocess)
    else:
        member = open_member(args.run, checkpoint=args.checkpoint, net=args.net)
        names = member.class_names
        source = Source(args.run, member.model, member.preprocess, names, member)
        lines += member.notes
    if args.no_top or args.features:
        model = _without_classifier(source.model, args)
        source = Source(args.run, model, source.preprocess)
    elif source.member is None and not is_quantize_aware(source.model):
        source = dataclasses.replace(source, model=as_float32(source.model))
    if source.features:
        lines.append(
            f"{args.run} returns {', '.join(source.features)}, not classes: each output is "
            "compared with the net's by itself, and no accuracy is measured"
        )
    if source.preprocess is None:
        lines.append(
            f"{args.run} does not say how images are prepared: the files take {_inputs_of(source)} "
            "as float32 values, as the net does"
        )
    return source, lines


def _plain(text: str) -> bool:
    """Whether a source is a `.keras` file that is exported as it is, by what its config says.

    These are models of several outputs, and nets of this package without a classifier, of signals
    or volumes, or without preprocessing.
    """
    path = Path(text)
    if path.suffix != ".keras" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    config = read_member(text, "config.json").get("config")
    if not isinstance(config, dict):
        return False
    outputs = config.get("output_layers")
    several = isinstance(outputs, list) and len(outputs) > 1 and isinstance(outputs[0], list)
    if isinstance(outputs, dict) or several:
        return True
    if not config.get("spec"):
        return False  # weights in a model of another library, which are put into a net of ours
    layers = [each["config"] for each in config["layers"]]
    classifies = any(each.get("name") in ("logits", "predictions") for each in layers)
    shape = next((each["batch_shape"] for each in layers if "batch_shape" in each), ())
    return not (classifies and len(shape) == 4 and config.get("preprocess"))


def _without_classifier(model: Any, args: argparse.Namespace) -> Any:
    """Returns a net with the outputs of `--no-top` or `--features`, and the same weights."""
    levels = tuple(args.features or ())
    known = tuple(f"C{stage + 1}" for stage in range(1, len(model.spec.depths) + 1))
    if len({*levels}) < len(levels) or not {*levels} <= {*known}:
        raise ValueError(
            f"`--features` must name outputs of stages, each once: {', '.join(known)}. "
            f"Received: {','.join(levels)}"
        )
    if is_quantize_aware(model):
        raise ValueError(
            "`--no-top` and `--features` apply to nets in float. Received: a quantise-aware net"
        )
    twin = rebuild(model, head=Head(pooling=args.pooling, levels=levels), dtype="float32")
    kept = read_weights(twin).keys()
    copy_weights(model, twin, skip=[name for name in read_weights(model) if name not in kept])
    return twin


def open_examples(source: Source, args: argparse.Namespace) -> Examples:
    """Returns inputs for the proof and for int8, and says which proof they make possible."""
    if args.examples is not None:
        return _given(source, args)
    if args.dataset is None and (source.member is None or source.member.run is None):
        kind = _inputs_of(source)
        print(
            f"No --dataset: files are compared with the net on {_count(args)} random {kind}, which "
            "shows that they compute the same, not how accurate they are (--examples FILE takes "
            "others)"
        )
        return _random(source, args)
    if source.preprocess is None:
        raise ValueError(
            f"`--dataset` needs a net that says how its images are prepared; {source.name} does "
            "not: give --examples FILE.npy with the values that it takes"
        )
    data = _data(source, args)
    take = (source.preprocess, data.channels)
    images, labels = raw_images(data.split(args.split), *take, args.evaluation_images)
    measured = None if source.multilabel or source.features else labels
    if not {*CALIBRATED} & {*args.precision} or is_quantize_aware(source.model):
        return Examples(images, measured)
    count = args.calibration_images or CALIBRATION_IMAGES
    return Examples(images, measured, raw_images(data.split("train"), *take, count)[0])


def _data(source: Source, args: argparse.Namespace) -> ImageData:
    """Opens the run's data, or that of `--dataset`."""
    member = source.member
    if member is not None and member.run is not None:
        return run_data(member.run, args)
    config, channels = overridden(DataConfig(), args), int(source.model.inputs[0].shape[-1])
    spec = source.model.spec.replace(input_channels=channels)
    data = load_data(config, spec, class_names=source.class_names)
    if member is not None and len(data.class_names) != member.classes:
        raise ValueError(
            f"{config.dataset!r} has {len(data.class_names)} classes, and {member.name} "
            f"{member.classes} outputs without names"
        )
    check_channels(data.channels, channels, data=config.dataset, net=source.name)
    return data


def _inputs_of(source: Source) -> str:
    return input_kind(source.model)


def _count(args: argparse.Namespace) -> int:
    return min(_RANDOM, args.evaluation_images)


def _random(source: Source, args: argparse.Namespace) -> Examples:
    shape = (_count(args), *image_shape(source.model, source.preprocess))
    rng = np.random.default_rng(0)
    if source.preprocess is None:
        return Examples(rng.normal(size=shape).astype("float32"))
    return Examples(rng.integers(0, 256, shape, dtype="uint8"))


def _given(source: Source, args: argparse.Namespace) -> Examples:
    """Reads the examples of a file."""
    path = args.examples
    try:
        arrays = read_either(path, "inputs")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`--examples` must be a readable .npy or .npz file. Received: {error}"
        ) from error
    unknown = [name for name in arrays if name not in _ARRAYS]
    if "inputs" not in arrays or unknown:
        raise ValueError(
            f"`--examples` must hold the array `inputs`, and may hold `labels` and `calibration`. "
            f"Received: {path} with {examples([*arrays]) or 'no arrays'}"
        )
    shape = image_shape(source.model, source.preprocess)
    inputs = _fitting("inputs", arrays["inputs"], shape, source)
    inputs, labels = inputs[: args.evaluation_images], arrays.get("labels")
    if labels is not None:
        if labels.ndim != 1 or len(labels) != len(arrays["inputs"]):
            raise ValueError(
                f"`labels` of --examples must hold the number of a class for each of the "
                f"{len(arrays['inputs'])} inputs. Received: {labels.dtype}, shape {labels.shape}"
            )
        labels = labels[: len(inputs)]
    calibration = arrays.get("calibration")
    wanted = [name for name in args.precision if name in CALIBRATED]
    if wanted and calibration is None and not is_quantize_aware(source.model):
        raise ValueError(
            f"{' and '.join(wanted)} files are fitted to training data: `--examples` must be an "
            f".npz file with an array `calibration`. Received: {path}"
        )
    if calibration is not None:
        if not wanted:
            print(f"{path}: `calibration` is not used, as no file is fitted to it")
            calibration = None
        else:
            calibration = _fitting("calibration", calibration, shape, source)
            calibration = calibration[: args.calibration_images]
    without = " without labels: agreement with the net is measured, not accuracy"
    suffix = without if labels is None and not source.features else ""
    print(f"Proof on {len(inputs)} of {len(arrays['inputs'])} inputs of {path}{suffix}")
    return Examples(inputs, labels, calibration)


def _fitting(name: str, values: np.ndarray, shape: tuple[int, ...], source: Source) -> np.ndarray:
    """Returns an array of examples in the type that the net takes.

    Raises:
        ValueError: If it has another shape, or no pixels where the net takes pixels.
    """
    pixels = source.preprocess is not None
    kind = "uint8 pixels" if pixels else "floating-point values"
    right = values.dtype == np.uint8 if pixels else values.dtype.kind == "f"
    if values.shape[1:] != shape or not len(values) or not right:
        raise ValueError(
            f"`{name}` of --examples must hold {kind} of shape ({_inputs_of(source)}, "
            f"{', '.join(map(str, shape))}). Received: {values.dtype}, shape {values.shape}"
        )
    if pixels:
        return values
    with np.errstate(over="ignore"):
        values = values.astype("float32", copy=False)
    bad = [row for row, each in enumerate(values) if not np.isfinite(each).all()]
    if bad:
        raise ValueError(
            f"`{name}` of --examples must be finite in float32. Received: NaN or infinity in "
            f"{len(bad)} of {len(values)}, the first is number {bad[0]}"
        )
    return values
