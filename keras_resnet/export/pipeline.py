"""Export a model: fold, convert, compare, and only then put the files in place."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export import artifacts
from keras_resnet.export.checks import (
    Format,
    Inputs,
    Precision,
    check_backend,
    check_choice,
    check_class_names,
    check_images,
    check_labels,
    check_model,
    image_shape,
)
from keras_resnet.export.limits import Failure, Limits
from keras_resnet.export.onnx import check_onnx, export_onnx
from keras_resnet.export.saved_model import export_saved_model
from keras_resnet.export.tflite import export_tflite
from keras_resnet.export.verify import Reference, Verification, verify
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.reparam import deploy

SAVED_MODEL = "saved_model"
ONNX_NAME = "model.onnx"
_KERAS = ("keras", "tensorflow", "numpy")
_MADE_BY: dict[Format, tuple[str, ...]] = {
    "saved_model": _KERAS,
    "tflite": _KERAS,
    "onnx": (*_KERAS, "onnx", "tf2onnx"),
}
TFLITE_NAMES: dict[Precision, str] = {
    "float32": "model.tflite",
    "float16": "model_float16.tflite",
    "int8": "model_int8.tflite",
}


class ExportError(ValueError):
    """An exported artefact did not keep to its limits; nothing was put in place.

    Attributes:
        verification: What was measured.
        failures: The checks that it did not pass.
    """

    def __init__(self, verification: Verification, failures: Sequence[Failure]) -> None:
        self.verification = verification
        self.failures = tuple(failures)
        checks = "; ".join(
            f"{failure.check} {failure.value:.6g}, limit {failure.limit:.6g}"
            for failure in failures
        )
        super().__init__(
            f"{verification.file} ({verification.format}, {verification.precision}) differs from "
            f"the Keras model on {verification.images} images: {checks}"
        )


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ExportRequest:
    """What to export, and the images that prove it.

    Attributes:
        preprocess: Size and normalisation of the model's input.
        images: Evaluation images, uint8 RGB pixels `(images, height, width, channels)`.
        labels: Their class numbers, `(images,)`.
        formats: Any of `"saved_model"`, `"tflite"` and `"onnx"`.
        precisions: Of the LiteRT files: any of `"float32"`, `"float16"` and `"int8"`. A
            SavedModel and an ONNX file are float32.
        inputs: Whether artefacts take `"raw"` pixels or `"normalized"` values.
        calibration: For int8: uint8 TRAINING images, shaped as `images`.
        class_names: One name a class, written to `labels.txt`, or None.
        limits: What every artefact must keep to.
        progress: Called with a line before each step.
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
        """File name, format and precision of each artefact asked for."""
        found: list[tuple[str, Format, Precision]] = []
        if "saved_model" in self.formats:
            found.append((SAVED_MODEL, "saved_model", "float32"))
        if "tflite" in self.formats:
            found += [
                (name, "tflite", precision)
                for precision, name in TFLITE_NAMES.items()
                if precision in self.precisions
            ]
        if "onnx" in self.formats:
            found.append((ONNX_NAME, "onnx", "float32"))
        return found


def export(
    model: keras.Model, directory: str | os.PathLike[str], request: ExportRequest
) -> list[Verification]:
    """Exports a model and proves each artefact equal to it, under the artefact's own runtime.

    Writes `saved_model/`, `model.tflite`, `model_float16.tflite`, `model_int8.tflite` and
    `model.onnx` as asked for, `labels.txt` where class names are given, and `manifest.json`. All
    or nothing: artefacts are made in a hidden directory beside their final places and moved there,
    replacing earlier ones, when every one of them has passed.

    Artefacts of an earlier export: if a check fails, those of the names asked for are renamed to
    `<name>.stale` and leave the manifest, so that nothing takes them for this model. On any other
    error (a wrong argument, a full disk, an interrupt) they stay as they were. Those of other
    names stay listed; `weights_sha256` in the manifest tells whether they are of the same model.

    Args:
        model: Float32 functional model that maps normalised images to logits; left as it is.
        directory: Made where missing.
        request: What to export.

    Returns:
        One verification an artefact: SavedModel, LiteRT files, ONNX.

    Raises:
        ExportError: If an artefact does not keep to `request.limits`.
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that does not fit; before anything is made.
    """
    directory = Path(directory)
    _check(model, directory, request)
    say = request.progress or (lambda line: None)
    say(f"Keras: running {model.name} on {len(request.images)} images")
    reference = Reference.of(model, request.images, request.labels, request.preprocess)
    say("Folding batch norm")
    folded = deploy(model)
    directory.mkdir(parents=True, exist_ok=True)
    names = [name for name, _, _ in request.targets]
    staging = Path(tempfile.mkdtemp(prefix=".export.tmp", dir=directory))
    try:
        verifications = [
            _make(folded, staging / name, precision, reference, request)
            for name, _, precision in request.targets
        ]
        entries = {v.file: _entry(model, v, request) for v in verifications}
        if request.class_names is not None:
            labels = "".join(f"{name}\n" for name in request.class_names)
            artifacts.write_text(staging / artifacts.LABELS, labels)
            names.append(artifacts.LABELS)
        artifacts.publish(staging, directory, names)
        if request.class_names is None:
            # An earlier model's names must not stand beside this one.
            artifacts.withdraw(directory, [artifacts.LABELS])
        artifacts.write_manifest(directory, {**artifacts.read_manifest(directory), **entries})
    except ExportError:
        artifacts.withdraw(directory, names)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return verifications


def _check(model: keras.Model, directory: Path, request: ExportRequest) -> None:
    """Checks everything that can be known before the work begins."""
    check_backend()
    for argument, choices in (("formats", Format), ("precisions", Precision)):
        values = getattr(request, argument)
        if isinstance(values, str) or not values:
            raise ValueError(f"`{argument}` must be names, one or more. Received: {values!r}")
        for value in values:
            check_choice(argument, value, choices)
    check_choice("inputs", request.inputs, Inputs)
    check_model(model)
    shape = image_shape(model, request.preprocess)
    classes = model.outputs[0].shape[-1]
    check_images("images", request.images, shape)
    check_labels(request.labels, len(request.images), classes)
    check_class_names(request.class_names, classes)
    if "tflite" in request.formats:
        if "int8" in request.precisions:
            if request.calibration is None:
                raise ValueError("int8 needs `calibration`, uint8 training images. Received: None")
            check_images("calibration", request.calibration, shape)
        if importlib.util.find_spec("ai_edge_litert") is None:
            raise ValueError("LiteRT files are compared by `ai-edge-litert`, which is missing")
    if "onnx" in request.formats:
        check_onnx()
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"`directory` must be a directory. Received: the file {str(directory)!r}")
    artifacts.read_manifest(directory)


def _make(
    model: keras.Model,
    path: Path,
    precision: Precision,
    reference: Reference,
    request: ExportRequest,
) -> Verification:
    """Makes one artefact and compares it; raises where it fails."""
    say = request.progress or (lambda line: None)
    say(f"Exporting {path.name}")
    how: Any = {"preprocess": request.preprocess, "inputs": request.inputs}
    if path.name == SAVED_MODEL:
        export_saved_model(model, path, class_names=request.class_names, **how)
    elif path.name == ONNX_NAME:
        export_onnx(model, path, **how)
    else:
        export_tflite(model, path, precision=precision, calibration=request.calibration, **how)
    say(f"Verifying {path.name}")
    verification = verify(path, reference, precision=precision)
    failures = request.limits.failures(verification)
    if failures:
        raise ExportError(verification, failures)
    return verification


def _entry(model: keras.Model, v: Verification, request: ExportRequest) -> dict[str, Any]:
    """Returns an artefact's entry in the manifest."""
    names = request.class_names
    measured = v.to_dict()
    return {
        **{key: measured.pop(key) for key in ("format", "precision", "bytes", "sha256", "input")},
        "model": model.name,
        "weights_sha256": _weights_sha256(model),
        "preprocess": request.preprocess.to_dict(),
        "class_names": None if names is None else list(names),
        "outputs": ["logits", "probabilities"] if v.format == "saved_model" else ["logits"],
        "verification": measured,
        "versions": {name: importlib.metadata.version(name) for name in _MADE_BY[v.format]},
    }


def _weights_sha256(model: keras.Model) -> str:
    """Returns a hash of the weights, by which artefacts of one model know one another."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
