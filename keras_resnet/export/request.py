"""`ExportRequest`: the options of an export, and their checks before any work."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export.artifacts import read_manifest
from keras_resnet.export.checks import (
    Format,
    Inputs,
    Precision,
    check_choice,
    check_class_names,
    check_export,
    check_images,
    check_labels,
)
from keras_resnet.export.limits import Limits
from keras_resnet.export.onnx import check_onnx
from keras_resnet.export.tflite import check_calibration
from keras_resnet.preprocessing import PreprocessSpec

SAVED_MODEL = "saved_model"
ONNX_NAME = "model.onnx"
TFLITE_NAMES: dict[Precision, str] = {
    "float32": "model.tflite",
    "float16": "model_float16.tflite",
    "int8": "model_int8.tflite",
}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ExportRequest:
    """Options of `export`, and the images that verify it.

    Attributes:
        preprocess: Size and normalisation of the model's input.
        images: Evaluation images, uint8 RGB pixels `(images, height, width, channels)`.
        labels: Class numbers of the images, `(images,)`.
        formats: Any of `"saved_model"`, `"tflite"` and `"onnx"`.
        precisions: Precisions of the LiteRT files: any of `"float32"`, `"float16"` and `"int8"`. A
            SavedModel and an ONNX file are float32.
        inputs: Whether the artifacts take `"raw"` pixels or `"normalized"` values.
        calibration: For int8: uint8 TRAINING images, shaped as `images`.
        class_names: One name per class, written to `labels.txt`, or None.
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

    preprocess: PreprocessSpec
    images: np.ndarray
    labels: np.ndarray
    formats: Sequence[Format] = ("saved_model", "tflite")
    precisions: Sequence[Precision] = ("float32",)
    inputs: Inputs = "raw"
    calibration: np.ndarray | None = None
    class_names: Sequence[str] | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    progress: Callable[[str], None] | None = None

    @property
    def targets(self) -> list[tuple[str, Format, Precision]]:
        """File name, format and precision of each requested artifact."""
        targets: list[tuple[str, Format, Precision]] = []
        if "saved_model" in self.formats:
            targets.append((SAVED_MODEL, "saved_model", "float32"))
        if "tflite" in self.formats:
            targets += [
                (name, "tflite", precision)
                for precision, name in TFLITE_NAMES.items()
                if precision in self.precisions
            ]
        if "onnx" in self.formats:
            targets.append((ONNX_NAME, "onnx", "float32"))
        return targets


def check_request(model: keras.Model, directory: Path, request: ExportRequest) -> None:
    """Checks everything about an export that can be checked before the work begins.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that does not fit.
    """
    shape = check_export(model, request.preprocess, request.inputs)
    _check_names("formats", request.formats, Format)
    _check_names("precisions", request.precisions, Precision)
    classes = model.outputs[0].shape[-1]
    check_images("images", request.images, shape)
    check_labels(request.labels, len(request.images), classes)
    check_class_names(request.class_names, classes)
    if "tflite" in request.formats:
        if "int8" in request.precisions:
            check_calibration(request.calibration, shape)
        if importlib.util.find_spec("ai_edge_litert") is None:
            raise ValueError("LiteRT files are verified by `ai-edge-litert`, which is missing")
    if "onnx" in request.formats:
        check_onnx()
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"`directory` must be a directory. Received: the file {str(directory)!r}")
    read_manifest(directory)


def _check_names(argument: str, values: Sequence[str], choices: Any) -> None:
    if isinstance(values, str) or not values:
        raise ValueError(f"`{argument}` must be a non-empty list of names. Received: {values!r}")
    for value in values:
        check_choice(argument, value, choices)
