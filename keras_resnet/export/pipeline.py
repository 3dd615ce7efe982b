"""Exports of a model: fold, convert, verify, and only then move the files into place."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export import artifacts
from keras_resnet.export.checks import Precision
from keras_resnet.export.limits import Failure
from keras_resnet.export.onnx import export_onnx
from keras_resnet.export.request import ONNX_NAME, SAVED_MODEL, ExportRequest, check_request
from keras_resnet.export.saved_model import export_saved_model
from keras_resnet.export.tflite import export_tflite
from keras_resnet.export.verify import Reference, Verification, verify
from keras_resnet.reparam import deploy

# Packages whose versions the manifest records.
_PACKAGES = ("keras", "tensorflow", "numpy")
_ONNX_PACKAGES = ("onnx", "tf2onnx")


class ExportError(ValueError):
    """An artifact exceeded its limits; no artifact was written to the directory.

    Attributes:
        verification: The measurements of the artifact.
        failures: The failed checks.

    Example:
        ```python
        try:
            keras_resnet.export.export(model, "exports", request)
        except keras_resnet.export.ExportError as error:
            print(error.verification.file, error.failures)
        ```
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


def export(
    model: keras.Model, directory: str | os.PathLike[str], request: ExportRequest
) -> list[Verification]:
    """Exports a model and verifies each artifact under its own runtime.

    Writes `saved_model/`, `model.tflite`, `model_float16.tflite`, `model_int8.tflite` and
    `model.onnx` as requested, `labels.txt` if there are class names, and `manifest.json`. The
    export is all or nothing: artifacts are written to a hidden directory beside their final places,
    and replace earlier ones after all of them have passed.

    If a check fails, earlier artifacts of the requested names are renamed to `<name>.stale` and
    removed from the manifest, so that nothing mistakes them for this model. After any other error
    (a wrong argument, a full disk, an interrupt) they are unchanged. Artifacts of other names stay
    in the manifest; its `weights_sha256` shows which artifacts belong to the same model.

    Args:
        model: Float32 functional model that maps normalised images to logits. It is not changed.
        directory: Directory for the artifacts; created if missing.
        request: Formats, precisions, images and limits.

    Returns:
        One verification per artifact: SavedModel, LiteRT files, ONNX.

    Raises:
        ExportError: If an artifact exceeds `request.limits`.
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that does not fit. Checked before anything is
            written.

    Example:
        ```python
        request = keras_resnet.export.ExportRequest(
            preprocess=model.preprocess, images=pixels, labels=labels, formats=("tflite",)
        )
        (verification,) = keras_resnet.export.export(model, "exports", request)
        print(verification.max_difference, verification.latency_ms)
        ```
    """
    directory = Path(directory)
    check_request(model, directory, request)
    _report(request, f"Keras: running {model.name} on {len(request.images)} images")
    reference = Reference.of(model, request.images, request.labels, request.preprocess)
    _report(request, "Folding batch norm")
    folded = deploy(model)
    directory.mkdir(parents=True, exist_ok=True)
    names = [name for name, _, _ in request.targets]
    staging = Path(tempfile.mkdtemp(prefix=".export.tmp", dir=directory))
    try:
        verifications = [
            _export_verified(folded, staging / name, precision, reference, request)
            for name, _, precision in request.targets
        ]
        entries = {v.file: _manifest_entry(model, v, request) for v in verifications}
        if request.class_names is not None:
            labels = "".join(f"{name}\n" for name in request.class_names)
            artifacts.write_text(staging / artifacts.LABELS, labels)
            names.append(artifacts.LABELS)
        artifacts.publish(staging, directory, names)
        if request.class_names is None:
            # The class names of an earlier model do not belong to this one.
            artifacts.withdraw(directory, [artifacts.LABELS])
        artifacts.write_manifest(directory, {**artifacts.read_manifest(directory), **entries})
    except ExportError:
        artifacts.withdraw(directory, names)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return verifications


def _report(request: ExportRequest, line: str) -> None:
    if request.progress is not None:
        request.progress(line)


def _export_verified(
    model: keras.Model,
    path: Path,
    precision: Precision,
    reference: Reference,
    request: ExportRequest,
) -> Verification:
    """Writes one artifact and verifies it; raises `ExportError` if it fails."""
    preprocess, inputs = request.preprocess, request.inputs
    _report(request, f"Exporting {path.name}")
    if path.name == SAVED_MODEL:
        names = request.class_names
        export_saved_model(model, path, preprocess=preprocess, inputs=inputs, class_names=names)
    elif path.name == ONNX_NAME:
        export_onnx(model, path, preprocess=preprocess, inputs=inputs)
    else:
        export_tflite(
            model,
            path,
            precision=precision,
            preprocess=preprocess,
            inputs=inputs,
            calibration=request.calibration,
        )
    _report(request, f"Verifying {path.name}")
    verification = verify(path, reference, precision=precision)
    failures = request.limits.failures(verification)
    if failures:
        raise ExportError(verification, failures)
    return verification


def _manifest_entry(model: keras.Model, v: Verification, request: ExportRequest) -> dict[str, Any]:
    """Returns an artifact's entry in the manifest."""
    names = request.class_names
    measured = v.to_dict()
    packages = _PACKAGES + (_ONNX_PACKAGES if v.format == "onnx" else ())
    return {
        **{key: measured.pop(key) for key in ("format", "precision", "bytes", "sha256", "input")},
        "model": model.name,
        "weights_sha256": _weights_sha256(model),
        "preprocess": request.preprocess.to_dict(),
        "class_names": None if names is None else list(names),
        "outputs": ["logits", "probabilities"] if v.format == "saved_model" else ["logits"],
        "verification": measured,
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def _weights_sha256(model: keras.Model) -> str:
    """Returns a hash of the weights, by which artifacts of the same model are recognised."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
