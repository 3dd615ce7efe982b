"""`ExportRequest`: the options of an export, and their checks before any work."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnet.export.artifacts import read_manifest
from keras_resnet.export.checks import (
    CALIBRATED,
    PRECISIONS,
    Format,
    Inputs,
    Precision,
    check_choice,
    check_class_names,
    check_classes,
    check_export,
    check_images,
    check_labels,
)
from keras_resnet.export.interface import (
    Activation,
    Batch,
    Interface,
    NumberType,
    make_interface,
)
from keras_resnet.export.limits import Limits
from keras_resnet.export.litert_file import check_calibration, check_litert
from keras_resnet.export.net_outputs import is_image_classifier
from keras_resnet.export.onnx_file import check_onnx
from keras_resnet.export.quantized_file import check_quantized_files
from keras_resnet.export.saved_model_directory import left_out
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.quantize import is_quantize_aware

SAVED_MODEL = "saved_model"


# Below, int8 ranges are uncertain: ResNet-20 has 12 dB with 1 image, 22 with 8 and 28 with 64.
FEW_CALIBRATION_IMAGES = 100


class Target(NamedTuple):
    """A file to write."""

    name: str
    format: Format
    precision: Precision


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ExportRequest:
    """Options of `export`, and the images that verify it.

    Attributes:
        preprocess: Size and normalisation of the model's input; None where `images` are normalised.
        images: Evaluation images, uint8 RGB pixels `(images, height, width, channels)`. Without
            `preprocess`: float32 values as the net takes them, also signals and volumes.
        labels: Class numbers of the images, `(images,)`; None to verify the logits and the
            agreement only.
        formats: Any of `"saved_model"`, `"tflite"` and `"onnx"`.
        precisions: Precisions of the files. LiteRT: any of `"float32"`, `"float16"`, `"dynamic"`,
            `"int8"`, `"int16x8"` and `"mixed"`; ONNX: `"float32"` and `"int8"`. A format that has
            none of them is written in float32.
        inputs: Whether the artifacts take `"raw"` pixels or `"normalized"` values.
        batch: Batch size of the files, or `"open"`. None: 1 for LiteRT files, open for the others.
        input_type: Type of the input. None: uint8 pixels; normalised values as float32, or as int8
            in int8 files.
        output_type: Type of the output of int8 files, int8 for None. All others return float32.
        activation: `"softmax"` for probabilities in place of logits, `"sigmoid"` for those of
            several labels per image. A SavedModel returns both.
        several_labels: Whether an image may have several labels. The probabilities, also those of
            a SavedModel, are then sigmoids.
        calibration: For int8, int16x8 and mixed: uint8 TRAINING images, shaped as `images`.
        class_names: One name per class, written to `labels.txt` and into LiteRT and ONNX files; or
            None.
        for_converters: Whether a SavedModel has one signature only, as converters take it.
        author: Author, written into LiteRT and ONNX files.
        license: Licence, written into them too.
        limits: Limits that every artifact must keep.
        progress: Called with a line of text before each stage of the work.

    Example:
        ```python
        request = keras_resnet.export.ExportRequest(
            preprocess=keras_resnet.PreprocessSpec((224, 224)),
            images=pixels,
            labels=labels,
            formats=("tflite",),
            precisions=("float32", "int8"),
            calibration=training_pixels[:500],
        )
        ```
    """

    preprocess: PreprocessSpec | None
    images: np.ndarray
    labels: np.ndarray | None
    formats: Sequence[Format] = ("saved_model", "tflite")
    precisions: Sequence[Precision] = ("float32",)
    inputs: Inputs = "raw"
    batch: Batch | None = None
    input_type: NumberType | None = None
    output_type: NumberType | None = None
    activation: Activation = "none"
    several_labels: bool = False
    calibration: np.ndarray | None = None
    class_names: Sequence[str] | None = None
    for_converters: bool = False
    author: str = ""
    license: str = ""
    limits: Limits = dataclasses.field(default_factory=Limits)
    progress: Callable[[str], None] | None = None

    def interface(self, target: Target) -> Interface:
        """Returns what a file takes and returns.

        Raises:
            ValueError: If its format cannot have it.
        """
        integer = target.format == "tflite" and target.precision == "int8"
        activation = self.activation
        if self.several_labels and activation == "softmax":
            activation = "sigmoid"
        return make_interface(
            target.format,
            target.precision,
            inputs=self.inputs,
            batch=self.batch,
            input_type=self.input_type,
            output_type=self.output_type if integer else None,
            activation="none" if target.format == "saved_model" else activation,
        )

    @property
    def targets(self) -> list[Target]:
        """The requested artifacts."""
        return [
            Target(file_name(format, precision), format, precision)
            for format, known in PRECISIONS.items()
            if format in self.formats
            for precision in [name for name in known if name in self.precisions] or known[:1]
        ]


def file_name(format: Format, precision: Precision) -> str:
    """Returns the name of an artifact, such as `"model_int8.tflite"`."""
    if format == SAVED_MODEL:
        return SAVED_MODEL
    return f"model.{format}" if precision == "float32" else f"model_{precision}.{format}"


def check_request(model: keras.Model, directory: Path, request: ExportRequest) -> None:
    """Checks everything about an export that can be checked before the work begins.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that does not fit.
    """
    shape = check_export(model, request.preprocess, request.inputs)
    pixels = request.preprocess is not None
    _check_names("formats", request.formats, Format)
    _check_names("precisions", request.precisions, Precision)
    _check_precisions(request)
    if is_quantize_aware(model):
        check_quantized_files(model, request.formats, request.precisions)
    for target in request.targets:
        request.interface(target)
    classes = model.outputs[0].shape[-1]
    check_images("images", request.images, shape, pixels=pixels)
    check_classes(
        model,
        labels=request.labels,
        class_names=request.class_names,
        activation=request.activation,
        several_labels=request.several_labels,
    )
    if request.labels is not None:
        check_labels(request.labels, len(request.images), classes)
    check_class_names(request.class_names, classes)
    trained = is_quantize_aware(model)
    for target in request.targets:
        if target.format == "tflite":
            check_litert(model, target.precision)
        if target.precision in CALIBRATED and not trained:
            check_calibration(request.calibration, shape, pixels=pixels)
    if "tflite" in request.formats and importlib.util.find_spec("ai_edge_litert") is None:
        raise ValueError("LiteRT files are verified by `ai-edge-litert`, which is missing")
    if "onnx" in request.formats:
        check_onnx()
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"`directory` must be a directory. Received: the file {str(directory)!r}")
    read_manifest(directory)


def _and(names: Sequence[str]) -> str:
    """Returns the names as a list in words: `a, b and c`."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])


def notes(model: keras.Model, request: ExportRequest) -> list[str]:
    """Returns what an export decides without being asked, one line each."""
    lines = []
    if request.preprocess is not None and None in model.inputs[0].shape[1:]:
        height, width = request.preprocess.size
        lines.append(f"The model leaves its input size open: the files take {height}x{width}")
    if SAVED_MODEL in request.formats and not request.for_converters:
        lines += left_out(model)
    if "tflite" in request.formats and not is_image_classifier(model):
        lines.append(
            "tflite: without metadata, whose fields describe classifiers of images; manifest.json "
            "has what is known"
        )
    for format, known in PRECISIONS.items():
        others = [name for name in request.precisions if name not in known]
        if format in request.formats and others:
            takes = [name for name, its in PRECISIONS.items() if set(others) <= set(its)]
            written = [each.precision for each in request.targets if each.format == format]
            lines.append(f"{format}: {_and(written)}; {_and(others)} apply to {_and(takes)}")
    calibrated = [name for name in request.precisions if name in CALIBRATED]
    if calibrated and request.calibration is not None:
        line = few_images(calibrated, request.calibration)
        lines += [f"Warning: {line}"] if line else []
    return lines


def few_images(precisions: Sequence[str], calibration: Sized) -> str:
    """Returns a warning of few calibration images; empty if there are enough."""
    count = len(calibration)
    if count >= FEW_CALIBRATION_IMAGES:
        return ""
    images = "1 image" if count == 1 else f"{count} images"
    are, its = ("is", "its") if len(precisions) == 1 else ("are", "their")
    return (
        f"{' and '.join(precisions)} {are} calibrated on {images}; below {FEW_CALIBRATION_IMAGES} "
        f"{its} ranges are uncertain"
    )


def _check_precisions(request: ExportRequest) -> None:
    """Checks that each precision has a format that can have it."""
    written = {(target.format, target.precision) for target in request.targets}
    for precision in request.precisions:
        formats = [name for name, known in PRECISIONS.items() if precision in known]
        if precision != "float32" and not set(formats) & set(request.formats):
            kind = "format" if len(formats) == 1 else "formats"
            raise ValueError(
                f"`precisions` {precision!r} applies to the {kind} "
                f"{' and '.join(map(repr, formats))}. Received: formats={list(request.formats)}"
            )
    if request.output_type not in (None, "float32") and ("tflite", "int8") not in written:
        raise ValueError(
            f"`output_type={request.output_type!r}` applies to int8 LiteRT files. "
            f"Received: formats={list(request.formats)}, precisions={list(request.precisions)}"
        )
    if request.activation != "none" and set(request.formats) == {"saved_model"}:
        raise ValueError(
            f"`activation={request.activation!r}` applies to LiteRT and ONNX files; a SavedModel "
            "returns logits and probabilities"
        )


def _check_names(argument: str, values: Sequence[str], choices: Any) -> None:
    if isinstance(values, str) or not values:
        raise ValueError(f"`{argument}` must be a non-empty list of names. Received: {values!r}")
    for value in values:
        check_choice(argument, value, choices)
