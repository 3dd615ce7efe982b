"""Exports for named clients: the files as each takes them, run by the client's own runtime."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export import artifacts
from keras_resnet.export.checks import image_shape
from keras_resnet.export.client_runtimes import Ran, run_client, version_of
from keras_resnet.export.clients import CLIENTS, Client, find_client, settle
from keras_resnet.export.comparison import (
    log_odds,
    log_probabilities,
    permitted_by,
    ratio,
    signal_to_noise,
    spread_of,
)
from keras_resnet.export.microcontroller import Arena, output_quantization, write_sources
from keras_resnet.export.net_outputs import check_image_classifier
from keras_resnet.export.pipeline import ExportError, Rejected, export
from keras_resnet.export.request import SAVED_MODEL, ExportRequest
from keras_resnet.export.runtimes import load
from keras_resnet.export.serving import check_serving
from keras_resnet.export.verification import Verification
from keras_resnet.export.versions import export_version
from keras_resnet.texts import label_text

# Number of images that a client's runtime is given.
CLIENT_IMAGES = 60
# Largest difference of two float32 runtimes, relative to the spread of the outputs.
_FLOAT = 1e-4
# Smallest signal-to-noise ratio of two int8 runtimes, dB. They round between layers in different
# ways, which adds up with depth: measured ResNet-8 and ResNet-20 under tflite-micro against LiteRT.
_INT8_DECIBEL = 24.0
_LARGEST_ARRAY = 16_000_000  # bytes
_EXACT = ("float32", "float16")


@dataclasses.dataclass(frozen=True)
class ClientProof:
    """What a client's own runtime made of a file.

    Attributes:
        client: Name of the client.
        file: The file, relative to the export's directory.
        status: `"equal"` if the runtime returned what the verified file returns here, `"converted"`
            if it can only be loaded or converted on this machine, `"not run"` otherwise.
        runtime: The runtime and its version, or "".
        images: Number of images that it ran on.
        difference: Largest difference from this package's run of the same file: in steps of an int8
            output, otherwise relative to the spread of the outputs. None if it did not run.
        unit: `"steps"` or `"of the spread"`.
        agreement: Share of the images with the same class; None if it did not run.
        detail: What else was seen, or how to get the runtime.

    Example:
        >>> proof.line()
        'mediapipe/model.tflite: verified by mediapipe 1.2.3 on 60 images: equal'
    """

    client: str
    file: str
    status: str
    runtime: str = ""
    images: int = 0
    difference: float | None = None
    unit: str = ""
    agreement: float | None = None
    detail: str = ""

    def line(self) -> str:
        """Returns the proof as one line."""
        detail = f" ({self.detail})" if self.detail else ""
        if self.status == "not run":
            return f"{self.file}: not run: {self.detail}"
        if self.difference is None:
            return f"{self.file}: {self.status} by {self.runtime}{detail}"
        unit = "step" if self.unit == "steps" and self.difference == 1 else self.unit
        same = "equal" if not self.difference else f"within {self.difference:.2g} {unit}"
        return f"{self.file}: verified by {self.runtime} on {self.images} images: {same}{detail}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as values that JSON can store."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class ClientExport:
    """The files of one client.

    Attributes:
        client: Name of the client.
        verifications: The comparison of each file with the Keras model.
        proofs: What the client's runtime made of each file.

    Example:
        >>> [proof.status for proof in exported.proofs]
        ['equal']
    """

    client: str
    verifications: tuple[Verification, ...]
    proofs: tuple[ClientProof, ...]


def export_for_clients(
    model: keras.Model,
    directory: str | os.PathLike[str],
    request: ExportRequest,
    client: str | Sequence[str],
    *,
    explicit: Collection[str] | None = None,
) -> list[ClientExport]:
    """Exports a model for one or several clients, each in a directory of its name.

    A client sets format, precision, batch, types and activation of its files. A value of the
    request that it does not take is refused; one that it takes but that is not its usual value
    wins, with a line. Each file is verified against the Keras model as `export` does, and then run
    by the client's own runtime where that is installed.

    Args:
        model: Float32 functional model that maps normalised images to logits.
        directory: Directory of the manifest and of the clients' directories; created if missing.
        request: Images, limits and options.
        client: Names of clients, keys of `CLIENTS`.
        explicit: Names of the fields of `request` that the caller set. None: those that differ from
            their defaults.

    Returns:
        The files of each client.

    Raises:
        ExportError: If a file exceeds its limits, or a client refuses it or computes something
            else; after the other clients' files have been written.
        ValueError: If a client is unknown or cannot take what was asked. Checked before anything is
            written.

    Example:
        ```python
        request = keras_resnet.export.ExportRequest(
            preprocess=model.preprocess, images=pixels, labels=labels, class_names=names
        )
        (exported,) = keras_resnet.export.export_for_clients(model, "out", request, "mediapipe")
        print(exported.proofs[0].line())
        ```
    """
    names = [client] if isinstance(client, str) else list(dict.fromkeys(client))
    if not names:
        raise ValueError(f"`client` must name one of {', '.join(CLIENTS)}. Received: {client!r}")
    check_image_classifier(model, "`client`", "its program classifies images")
    directory = Path(directory)
    settled = []
    for name in names:
        row = find_client(name)
        channels = image_shape(model, request.preprocess)[-1]
        if row.channels is not None and channels not in row.channels:
            raise ValueError(
                f"client {name!r} takes images of {' or '.join(map(str, row.channels))} channels. "
                f"Received: a model of {channels}"
            )
        settled.append((row, *settle(request, row, explicit)))
    directory.mkdir(parents=True, exist_ok=True)
    done: list[ClientExport] = []
    rejected: list[Rejected] = []
    for row, wanted, lines in settled:
        for line in lines:
            _report(request, line)
        if row.channels is not None and request.class_names is None:
            _report(request, f"{row.name}: no class names, so the file has no labels")
        try:
            done.append(_export_one(model, directory, wanted, row))
        except ExportError as error:
            rejected += [
                dataclasses.replace(each, file=f"{row.name}/{each.file}") for each in error.rejected
            ]
            artifacts.withdraw(directory, () if row.name == "tf-serving" else (row.name,))
    if rejected:
        raise ExportError(rejected, [v for each in done for v in each.verifications])
    return done


def _report(request: ExportRequest, line: str) -> None:
    if request.progress is not None:
        request.progress(line)


def _export_one(
    model: keras.Model, directory: Path, request: ExportRequest, client: Client
) -> ClientExport:
    """Exports for one client; its directory is replaced when everything has passed."""
    _report(request, f"Files for {client.title}: {client.files}")
    if client.name == "tf-serving":
        return _export_serving(model, directory, request, client)
    staging = Path(tempfile.mkdtemp(prefix=".export.tmp", dir=directory))
    try:
        folder = staging / client.name
        # A microcontroller's labels are in its C++ sources: in the file they would be there twice.
        labels = None if client.name == "tflite-micro" else request.class_names
        verifications = export(model, folder, dataclasses.replace(request, class_names=labels))
        entries = artifacts.read_manifest(folder)
        if labels is None and request.class_names is not None:
            artifacts.write_text(folder / artifacts.LABELS, label_text(request.class_names))
            for entry in entries.values():
                entry["class_names"] = list(request.class_names)
        proofs = []
        for v in verifications:
            proof, extra = _prove(folder, v, request, client)
            _report(request, proof.line())
            entries[v.file].update(client=proof.to_dict(), **extra)
            proofs.append(proof)
        (folder / artifacts.MANIFEST).unlink()
        artifacts.publish(staging, directory, [client.name])
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    named = {f"{client.name}/{file}": entry for file, entry in entries.items()}
    _record(directory, named)
    verifications = [dataclasses.replace(v, file=f"{client.name}/{v.file}") for v in verifications]
    return ClientExport(client.name, tuple(verifications), tuple(proofs))


def _export_serving(
    model: keras.Model, directory: Path, request: ExportRequest, client: Client
) -> ClientExport:
    found: list[tuple[str, str, str]] = []

    def check(base: Path) -> None:
        try:
            found.append(check_serving(base, request))
        except ValueError as error:
            raise ExportError([Rejected(SAVED_MODEL, error=error)], []) from error

    verification = export_version(model, directory, request, name=client.name, check=check)
    status, runtime, detail = found[0]
    proof = ClientProof(client.name, verification.file, status, runtime, detail=detail)
    _report(request, proof.line())
    entry = artifacts.read_manifest(directory)[verification.file]
    _record(directory, {verification.file: {**entry, "client": proof.to_dict()}})
    return ClientExport(client.name, (verification,), (proof,))


def _record(directory: Path, entries: Mapping[str, Any]) -> None:
    artifacts.write_manifest(directory, {**artifacts.read_manifest(directory), **entries})


def _prove(
    folder: Path, v: Verification, request: ExportRequest, client: Client
) -> tuple[ClientProof, dict[str, Any]]:
    """Runs a file by its client's runtime, and writes what else the client needs.

    Returns:
        The proof, and further fields of the manifest's entry.

    Raises:
        ExportError: If the client refuses the file or computes something else.
    """
    path, version = folder / v.file, version_of(client.package)
    ran: Ran | None = None
    if version is not None:
        runtime = load(path)
        images = runtime.prepare(request.images[:CLIENT_IMAGES], request.preprocess)
        try:
            ran = run_client(client.name, path, images)
            proof = _compared(client, path, v, ran, images, f"{client.package} {version}")
        except ValueError as error:
            raise ExportError([Rejected(v.file, v, error=error)], []) from error
    else:
        file = f"{client.name}/{v.file}"
        proof = ClientProof(
            client.name, file, "not run", detail=f"its runtime is missing: {client.install}"
        )
    extra: dict[str, Any] = {}
    if client.name == "tflite-micro":
        arena = None
        if ran is not None and ran.arena_bytes is not None:
            arena = Arena(ran.arena_bytes, proof.runtime)
        try:
            extra["sources"] = _sources(path, folder, request, arena)
        except ValueError as error:
            raise ExportError([Rejected(v.file, v, error=error)], []) from error
        extra["arena_bytes"] = None if arena is None else arena.bytes
    return proof, extra


def _sources(path: Path, folder: Path, request: ExportRequest, arena: Arena | None) -> list[str]:
    """Writes the C++ sources, unless the file is far larger than a microcontroller's flash."""
    size = path.stat().st_size
    if size > _LARGEST_ARRAY:
        _report(
            request,
            f"{path.name} has {size / 1e6:.0f} MB: no C++ array is written above "
            f"{_LARGEST_ARRAY / 1e6:.0f} MB",
        )
        return []
    return write_sources(path, folder, request.class_names, arena)


def _compared(
    client: Client, path: Path, v: Verification, ran: Ran, images: np.ndarray, by: str
) -> ClientProof:
    """Compares a client's outputs with this package's run of the same file.

    Raises:
        ValueError: If they differ.
    """
    file = f"{client.name}/{v.file}"
    if ran.outputs is None:
        return ClientProof(client.name, file, "converted", by, detail=ran.detail)
    count, runtime = len(ran.outputs), load(path)
    ours, theirs = runtime.run(images[:count]), ran.outputs
    if ours.shape != theirs.shape:
        raise ValueError(f"{by} returns {theirs.shape}, the file {ours.shape}")
    agreement = float(np.mean(ours.argmax(1) == theirs.argmax(1)))
    if runtime.activation == "softmax" and not runtime.integer:
        ours, theirs = log_probabilities(ours), log_probabilities(theirs)
    elif runtime.activation == "sigmoid" and not runtime.integer:
        ours, theirs = log_odds(ours), log_odds(theirs)
    decibel, unit = signal_to_noise(theirs, ours), "of the spread"
    difference = ratio(float(np.abs(ours - theirs).max()), spread_of(ours))
    limit, passed = max(_FLOAT, permitted_by(v.sensitivity)), None
    if v.precision not in _EXACT:
        passed = decibel >= _INT8_DECIBEL
    if runtime.output_type != "float32":
        step = output_quantization(path.read_bytes())[0]
        difference = float(np.round(np.abs(ours - theirs) / step).max())
        unit = "steps"
    if passed is None:
        passed = difference <= limit  # false for NaN
    if not passed:
        rule = f"{limit:.3g}" if v.precision in _EXACT else f"{_INT8_DECIBEL:g} dB"
        raise ValueError(
            f"{by} returns other values than the file does here on {count} images: largest "
            f"difference {difference:.3g} {unit}, {decibel:.1f} dB, limit {rule}; {agreement:.1%} "
            "of the classes agree"
        )
    seen = [f"{decibel:.1f} dB"] if difference and v.precision not in _EXACT else []
    seen += [f"{agreement:.1%} of the classes agree"] if agreement < 1 else []
    detail = ", ".join([*seen, *([ran.detail] if ran.detail else [])])
    return ClientProof(client.name, file, "equal", by, count, difference, unit, agreement, detail)
