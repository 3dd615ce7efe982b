"""Exports of a model: fold, convert, verify, and only then move each file into place."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export import artifacts
from keras_resnet.export.interface import OUTPUT_NAMES
from keras_resnet.export.limits import Failure
from keras_resnet.export.litert_file import export_tflite
from keras_resnet.export.memory import release
from keras_resnet.export.metadata import Description
from keras_resnet.export.net_outputs import input_kind, outputs_of
from keras_resnet.export.onnx_file import export_onnx
from keras_resnet.export.reference import Reference
from keras_resnet.export.request import ExportRequest, Target, check_request, notes
from keras_resnet.export.saved_model_directory import export_saved_model
from keras_resnet.export.verification import Verification
from keras_resnet.export.verify import verify
from keras_resnet.reparam import deploy
from keras_resnet.texts import label_text

_MIXED_MARGIN = 1.0  # dB
# Packages whose versions the manifest records.
_PACKAGES = ("keras", "tensorflow", "numpy")
_ONNX_PACKAGES = ("onnx", "tf2onnx")


def _version(module: str) -> str:
    """Returns the version of a module; its package may have another name: `tensorflow-cpu`."""
    return str(importlib.import_module(module).__version__)


@dataclasses.dataclass(frozen=True)
class Rejected:
    """An artifact that was not written.

    Attributes:
        file: Its name.
        verification: Its measurements; None if it could not be converted or run.
        failures: The failed checks; empty if it could not be converted or run.
        error: The error of the conversion, or None.

    Example:
        >>> error.rejected[0].file, error.rejected[0].failures[0].check
        ('model_int8.tflite', 'signal-to-noise ratio of the logits, dB')
    """

    file: str
    verification: Verification | None = None
    failures: tuple[Failure, ...] = ()
    error: Exception | None = None

    def describe(self, options: Mapping[str, str]) -> str:
        """Returns the reason in words; `options` names what sets a limit, by field of `Limits`."""
        v = self.verification
        if v is None:
            return f"{self.file} could not be converted: {self.error}"
        if self.error is not None:
            return f"{self.file} was refused: {self.error}"
        checks = []
        for failure in self.failures:
            check = f"{failure.check} {failure.value:.6g}, limit {failure.limit:.6g}"
            named = options.get(failure.field, failure.field and f"Limits.{failure.field}")
            checks.append(f"{check} ({named})" if named else check)
        return (
            f"{self.file} ({v.format}, {v.precision}) differs from the Keras model on {v.images} "
            f"images: {'; '.join(checks)}{_amplified(v) if v.amplified else ''}"
        )


def _amplified(v: Verification) -> str:
    return (
        ". The likely cause is the net, not the file: rounding its input otherwise, by 2^-22 of "
        f"each value, changes its own outputs by {v.sensitivity:.2g} of their spread, so no two "
        "computations of it agree. Check that its preprocessing is the one that it was trained with"
    )


class ExportError(ValueError):
    """Artifacts exceeded their limits or could not be converted; the others were written.

    Attributes:
        rejected: The artifacts that were not written.
        verifications: The measurements of those that were written.

    Example:
        ```python
        try:
            keras_resnet.export.export(model, "exports", request)
        except keras_resnet.export.ExportError as error:
            print([each.file for each in error.rejected], len(error.verifications))
        ```
    """

    def __init__(self, rejected: Sequence[Rejected], verifications: Sequence[Verification]) -> None:
        self.rejected = tuple(rejected)
        self.verifications = tuple(verifications)
        super().__init__(self.describe({}))

    def describe(self, options: Mapping[str, str]) -> str:
        """Returns the message.

        Args:
            options: What sets a limit, by field of `Limits`, such as
                `{"int8_accuracy_drop": "--max-accuracy-drop"}`.
        """
        written = ", ".join(v.file for v in self.verifications) or "nothing"
        reasons = [each.describe(options) for each in self.rejected]
        return ". ".join([*reasons, f"Written: {written}"])


def export(
    model: keras.Model, directory: str | os.PathLike[str], request: ExportRequest
) -> list[Verification]:
    """Exports a model and verifies each artifact under its own runtime.

    Writes `saved_model/`, `model.tflite`, `model_<precision>.tflite`, `model.onnx` and
    `model_int8.onnx` as requested, `labels.txt` if there are class names, and `manifest.json`.
    Each artifact stands for itself: it is written to a hidden directory beside its final place, and
    replaces an earlier one as soon as it has passed, whatever becomes of the others.

    If an artifact fails a check or cannot be converted, an earlier one of its name is renamed to
    `<name>.stale` and removed from the manifest, so that nothing mistakes it for this model. After
    any other error (a wrong argument, a full disk, an interrupt) it is unchanged. Artifacts of
    other names stay in the manifest; its `weights_sha256` shows which artifacts belong to the same
    model.

    Args:
        model: Float32 functional model that maps normalised images to logits. It is not changed.
        directory: Directory for the artifacts; created if missing.
        request: Formats, precisions, images and limits.

    Returns:
        One verification per artifact: SavedModel, LiteRT files, ONNX.

    Raises:
        ExportError: If an artifact exceeds `request.limits` or cannot be converted; after the
            others have been written.
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
    artifacts.check_replaceable(directory, [target.name for target in request.targets])
    for note in notes(model, request):
        _report(request, note)
    _report(request, f"Keras: running {model.name} on {len(request.images)} images")
    reference = Reference.of(
        model,
        request.images,
        request.labels,
        request.preprocess,
        several_labels=request.several_labels,
    )
    _report(request, "Folding batch norm")
    folded, weights = deploy(model), _weights_sha256(model)
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".export.tmp", dir=directory))
    verifications: list[Verification] = []
    rejected: list[Rejected] = []
    try:
        for target in request.targets:
            path = staging / target.name
            result = _export_verified(folded, path, target, reference, request, weights)
            if isinstance(result, Rejected):
                _report(request, f"Rejected {result.file}")
                rejected.append(result)
                artifacts.withdraw(directory, [result.file])
                continue
            if not verifications:
                _write_labels(staging, directory, request)
            artifacts.publish(staging, directory, [result.file])
            entry = {result.file: _manifest_entry(model, result, request, weights)}
            artifacts.write_manifest(directory, {**artifacts.read_manifest(directory), **entry})
            verifications.append(result)
            reference.keep_exact(directory / result.file, result)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if rejected:
        raise ExportError(rejected, verifications)
    return verifications


def _report(request: ExportRequest, line: str) -> None:
    if request.progress is not None:
        request.progress(line)


def _write_labels(staging: Path, directory: Path, request: ExportRequest) -> None:
    """Writes the class names, or withdraws those of an earlier model."""
    if request.class_names is None:
        artifacts.withdraw(directory, [artifacts.LABELS])
        return
    artifacts.write_text(staging / artifacts.LABELS, label_text(request.class_names))
    artifacts.publish(staging, directory, [artifacts.LABELS])


def _export_verified(
    model: keras.Model,
    path: Path,
    target: Target,
    reference: Reference,
    request: ExportRequest,
    weights: str,
) -> Verification | Rejected:
    """Writes one artifact and verifies it."""
    try:
        _report(request, f"Exporting {path.name}")
        release()
        _convert(model, path, target, request, weights)
        _report(request, f"Verifying {path.name}")
        release()
        verification = verify(path, reference, precision=target.precision)
    except (OSError, MemoryError):
        raise  # of the machine, not of the file
    except Exception as error:  # converters raise what they like
        return Rejected(path.name, error=error)
    verification, failures = request.limits.judged(verification, reference)
    if failures:
        return Rejected(path.name, verification, tuple(failures))
    return verification


def _convert(
    model: keras.Model, path: Path, target: Target, request: ExportRequest, weights: str
) -> None:
    interface = request.interface(target)
    common: dict[str, Any] = {
        "preprocess": request.preprocess,
        "inputs": interface.inputs,
        "batch": interface.batch,
        "input_type": interface.input_type,
    }
    if target.format != "saved_model":
        common["description"] = Description(
            name=model.name,
            description=f"{_purpose(model)}, {target.precision}, {interface.inputs} input",
            version=f"weights {weights[:12]}",
            author=request.author,
            license=request.license,
            labels=request.class_names,
            weights_sha256=weights,
        )
    if target.format == "saved_model":
        common["for_converters"] = request.for_converters
        export_saved_model(
            model,
            path,
            class_names=request.class_names,
            several_labels=request.several_labels,
            **common,
        )
    elif target.format == "onnx":
        export_onnx(
            model,
            path,
            precision=target.precision,
            calibration=request.calibration,
            activation=interface.activation,
            **common,
        )
    else:
        export_tflite(
            model,
            path,
            precision=target.precision,
            calibration=request.calibration,
            output_type=interface.output_type,
            activation=interface.activation,
            # The file is chosen on other images than it is verified on.
            signal_to_noise=request.limits.mixed_signal_to_noise + _MIXED_MARGIN,
            report=request.progress,
            **common,
        )


def _manifest_entry(
    model: keras.Model, v: Verification, request: ExportRequest, weights: str
) -> dict[str, Any]:
    """Returns an artifact's entry in the manifest."""
    names = request.class_names
    measured = v.to_dict()
    packages = _PACKAGES + (_ONNX_PACKAGES if v.format == "onnx" else ())
    return {
        **{key: measured.pop(key) for key in ("format", "precision", "bytes", "sha256", "input")},
        "model": model.name,
        "weights_sha256": weights,
        "preprocess": request.preprocess and request.preprocess.to_dict(),
        "class_names": None if names is None else list(names),
        "several_labels": request.several_labels,
        "outputs": [each.name for each in v.outputs]
        if v.outputs
        else ["logits", "probabilities"]
        if v.format == "saved_model"
        else [OUTPUT_NAMES[v.activation]],
        "verification": measured,
        "versions": {name: _version(name) for name in packages},
    }


def _purpose(model: keras.Model) -> str:
    """Returns what a net does, in two or three words."""
    kind = input_kind(model)
    if outputs_of(model).logits:
        return f"{kind[:-1].capitalize()} classifier"
    return f"Features of {kind}"


def _weights_sha256(model: keras.Model) -> str:
    """Returns a hash of the weights, by which artifacts of the same model are recognised."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
