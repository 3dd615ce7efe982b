"""Exports in one line: `tflite`, `onnx` and `saved_model` fold, convert and verify."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export.checks import (
    CALIBRATED,
    Inputs,
    Precision,
    check_classes,
    image_shape,
)
from keras_resnet.export.limits import Limits
from keras_resnet.export.litert_file import export_tflite
from keras_resnet.export.net_outputs import as_float32, input_kind
from keras_resnet.export.onnx_file import export_onnx
from keras_resnet.export.pipeline import ExportError, Rejected
from keras_resnet.export.reference import Reference
from keras_resnet.export.request import few_images
from keras_resnet.export.saved_model_directory import export_saved_model
from keras_resnet.export.verification import Verification
from keras_resnet.export.verify import verify
from keras_resnet.nets.model import ResNet
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.quantize import is_quantize_aware
from keras_resnet.reparam import deploy
from keras_resnet.weights.files.file_system import replace
from keras_resnet.weights.rebuild import head_of

# Random images that a file is verified on if none are given: they show that it computes the same
# function, not how accurate it is.
_RANDOM_IMAGES = 16


def tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    precision: Precision = "float32",
    preprocess: PreprocessSpec | None = None,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> Verification:
    """Writes a verified LiteRT file.

    Batch norm is folded; a net in mixed precision or with an activation is exported as its float32
    copy that returns logits. The file replaces an earlier one when it has passed.

    Args:
        model: The net.
        path: File to write.
        precision: Precision of the file; int8, int16x8 and mixed need `calibration`.
        preprocess: Size and normalisation; None for `model.preprocess`.
        images: uint8 images to verify the file on; None for 16 random ones.
        labels: Their class numbers, if the accuracy is to be measured.
        limits: Limits that the file must keep.
        **options: Further arguments of `export_tflite`, such as `calibration` or `activation`.

    Returns:
        The measurements.

    Raises:
        ExportError: If the file exceeds the limits. Nothing is written.
        ValueError: If an argument has a value that does not fit.

    Example:
        >>> model = keras_resnet.ResNet50(weights="torchvision/v2")
        >>> keras_resnet.export.tflite(model, "resnet50.tflite", activation="softmax").bytes
    """
    options.setdefault("inputs", _usual_inputs(model))
    _check_options(model, precision, options)

    def write(net: keras.Model, file: Path, spec: PreprocessSpec | None) -> None:
        export_tflite(net, file, precision=precision, preprocess=spec, **options)

    return _verified(
        model, Path(path), write, precision, preprocess, images, labels, limits, options["inputs"]
    )


def onnx(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    precision: Precision = "float32",
    preprocess: PreprocessSpec | None = None,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> Verification:
    """Writes a verified ONNX file.

    Args:
        model: The net.
        path: File to write; its name must end in `.onnx`.
        precision: `"float32"`, or `"int8"`, which needs `calibration`.
        preprocess: As for `tflite`.
        images: As for `tflite`.
        labels: As for `tflite`.
        limits: As for `tflite`.
        **options: Further arguments of `export_onnx`, such as `batch`.

    Returns:
        The measurements.

    Raises:
        ExportError: If the file exceeds the limits. Nothing is written.
        ValueError: If an argument has a value that does not fit.

    Example:
        >>> keras_resnet.export.onnx(model, "resnet50.onnx").max_difference
    """
    if Path(path).suffix != ".onnx":
        raise ValueError(f"`path` must end in .onnx. Received: path={os.fspath(path)!r}")
    _check_options(model, precision, options)

    options.setdefault("inputs", _usual_inputs(model))

    def write(net: keras.Model, file: Path, spec: PreprocessSpec | None) -> None:
        export_onnx(net, file, precision=precision, preprocess=spec, **options)

    return _verified(
        model, Path(path), write, precision, preprocess, images, labels, limits, options["inputs"]
    )


def saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    preprocess: PreprocessSpec | None = None,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    limits: Limits | None = None,
    **options: Any,
) -> Verification:
    """Writes a verified SavedModel.

    Args:
        model: The net.
        path: Directory to write; it must not exist.
        preprocess: As for `tflite`.
        images: As for `tflite`.
        labels: As for `tflite`.
        limits: As for `tflite`.
        **options: Further arguments of `export_saved_model`, such as `class_names`.

    Returns:
        The measurements.

    Raises:
        ExportError: If it exceeds the limits. Nothing is written.
        FileExistsError: If the directory exists.
        ValueError: If an argument has a value that does not fit.

    Example:
        >>> keras_resnet.export.saved_model(model, "models/resnet50/1").operators["Conv2D"]
    """
    if Path(path).exists():
        raise FileExistsError(f"{os.fspath(path)!r} exists: remove it or choose another name")

    options.setdefault("inputs", _usual_inputs(model))

    def write(net: keras.Model, file: Path, spec: PreprocessSpec | None) -> None:
        export_saved_model(net, file, preprocess=spec, **options)

    return _verified(
        model, Path(path), write, "float32", preprocess, images, labels, limits, options["inputs"]
    )


def _usual_inputs(model: keras.Model) -> Inputs:
    """Returns what files take where nothing is said: raw pixels of images, otherwise values."""
    return "raw" if input_kind(model) == "images" else "normalized"


def _check_options(model: keras.Model, precision: str, options: Mapping[str, Any]) -> None:
    """Refuses calibration images that nothing uses, and warns of few and of a missing activation.

    Raises:
        ValueError: If the precision is not calibrated.
    """
    calibration = options.get("calibration")
    if calibration is not None and precision not in CALIBRATED:
        raise ValueError(
            f"`calibration` applies to the precisions {', '.join(map(repr, CALIBRATED))}. "
            f"Received: precision={precision!r}"
        )
    lines = [] if calibration is None else [few_images([precision], calibration)]
    if isinstance(model, ResNet) and "activation" not in options and _ends_in_activation(model):
        lines.append(
            f"{model.name!r} returns probabilities, and the file returns logits: give "
            "activation='softmax', or 'sigmoid', for probabilities"
        )
    for line in filter(None, lines):
        warnings.warn(line, stacklevel=3)


def _ends_in_activation(model: ResNet) -> bool:
    head = head_of(model)
    return head.classes is not None and head.activation is not None


def _verified(
    model: keras.Model,
    path: Path,
    write: Callable[[keras.Model, Path, PreprocessSpec | None], None],
    precision: Precision,
    preprocess: PreprocessSpec | None,
    images: np.ndarray | None,
    labels: np.ndarray | None,
    limits: Limits | None,
    inputs: Inputs,
) -> Verification:
    """Writes an artifact beside its final place, verifies it and moves it there."""
    preprocess = preprocess or getattr(model, "preprocess", None) or None
    check_classes(model, labels=labels)
    if not is_quantize_aware(model):
        model = as_float32(model)
    if not preprocess and inputs != "normalized":
        raise ValueError(
            "`preprocess` must say how images are prepared, as the model has no `preprocess`. "
            "Received: preprocess=None"
        )
    shape = image_shape(model, preprocess or None)
    if path.is_dir():
        raise ValueError(f"`path` must be a file. Received: the directory {os.fspath(path)!r}")
    if images is None:
        if labels is not None:
            raise ValueError("`labels` need `images`. Received: images=None")
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (_RANDOM_IMAGES, *shape), dtype="uint8")
        if not preprocess:
            images = rng.normal(size=(_RANDOM_IMAGES, *shape)).astype("float32")
    if preprocess and None in model.inputs[0].shape[1:]:
        height, width = preprocess.size
        warnings.warn(
            f"The model leaves its input size open: the file takes {height}x{width}", stacklevel=3
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".export.tmp", dir=path.parent))
    try:
        reference = Reference.of(model, images, labels, preprocess)
        write(deploy(model), staging / path.name, preprocess)
        verification = verify(staging / path.name, reference, precision=precision)
        verification, failures = (limits or Limits()).judged(verification, reference)
        if failures:
            raise ExportError([Rejected(path.name, verification, tuple(failures))], [])
        replace(staging / path.name, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return verification
