"""SavedModels in numbered directories, as TensorFlow Serving reads them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras

from keras_resnet.export import artifacts
from keras_resnet.export.pipeline import export
from keras_resnet.export.request import SAVED_MODEL, ExportRequest
from keras_resnet.export.verification import Verification


def export_version(
    model: keras.Model,
    directory: str | os.PathLike[str],
    request: ExportRequest,
    *,
    name: str = SAVED_MODEL,
    check: Callable[[Path], None] | None = None,
) -> Verification:
    """Exports and verifies a SavedModel as the next version of a model.

    Writes `<directory>/<name>/<N>`, N one above the highest number there, and never overwrites
    one: TensorFlow Serving loads the new version and then unloads the earlier one.

    Args:
        model: Float32 functional model that maps normalised images to logits.
        directory: Directory of the manifest; created if missing.
        request: Images and limits; its formats and precisions do not matter.
        name: Directory of the versions, inside `directory`.
        check: Called before the version gets its place, with a directory that holds it alone.

    Returns:
        The verification; its `file` is `<name>/<N>`.

    Raises:
        ExportError: If the SavedModel exceeds the limits. Nothing is written.
        ValueError: As `export`; or if `<name>` is a SavedModel without versions.

    Example:
        >>> keras_resnet.export.export_version(model, "exports", request).file
        'saved_model/1'
    """
    directory = Path(directory)
    if (directory / name / "saved_model.pb").exists():
        raise ValueError(
            f"{os.fspath(directory / name)!r} is a SavedModel without versions: move it away, or "
            "export to another directory"
        )
    directory.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".export.tmp", dir=directory))
    single = dataclasses.replace(
        request,
        formats=("saved_model",),
        precisions=("float32",),
        activation="none",
        output_type=None,
        calibration=None,
    )
    try:
        (verification,) = export(model, staging, single)
        entry = artifacts.read_manifest(staging)[SAVED_MODEL]
        alone = staging / "versions"
        artifacts.publish_version(staging / SAVED_MODEL, alone)
        if check is not None:
            check(alone)
        number = artifacts.publish_version(alone / "1", directory / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    file = f"{name}/{number}"
    entry["verification"]["file"] = file
    artifacts.write_manifest(directory, {**artifacts.read_manifest(directory), file: entry})
    if request.progress is not None:
        request.progress(f"Wrote version {number}: {file}")
    return dataclasses.replace(verification, file=file)
