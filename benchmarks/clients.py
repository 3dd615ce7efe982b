"""Files of this package under the clients' own runtimes: loaded, right answers, latency, bytes."""

from __future__ import annotations

import csv
import dataclasses
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

import keras_resnet
from keras_resnet import PreprocessSpec
from keras_resnet.export import CLIENTS, ExportError, ExportRequest, Limits, export_for_clients
from keras_resnet.export.artifacts import size_and_sha256
from keras_resnet.export.client_runtimes import run_client, version_of
from keras_resnet.export.runtimes import load
from keras_resnet.weights.rebuild import clone_as_float32, without_activation

NETS = ("cifar_resnet20", "resnet8", "quickstart", "resnet50")
_CALIBRATION, _PROOF, _TIMED = 300, 60, 30
# Of random weights and random images, int8 keeps little.
_RANDOM_LIMITS = Limits(int8_signal_to_noise=0.0, int8_agreement=0.0)
_VELA = "ethos-u55-128"


class Case(NamedTuple):
    """A net, and images that it is run on; labels are None where they mean nothing."""

    model: keras.Model
    preprocess: PreprocessSpec
    images: np.ndarray
    labels: np.ndarray | None
    calibration: np.ndarray


@dataclasses.dataclass(frozen=True)
class Row:
    """What a client made of a net's file; None where it was not measured."""

    net: str
    client: str
    runtime: str
    loaded: str
    right: int | None = None
    images: int | None = None
    ms_1_thread: float | None = None
    ms_2_threads: float | None = None
    bytes: int | None = None
    detail: str = ""


def run(
    nets: Sequence[str], clients: Sequence[str], shared: Path, quickstart: Path | None, output: Path
) -> None:
    """Measures every client with every net, and writes a CSV file.

    Args:
        nets: Some of `NETS`.
        clients: Some of `CLIENTS`.
        shared: Directory with `weights/` and `tfds/`.
        quickstart: The run of `keras-resnet quickstart`.
        output: CSV file.
    """
    rows: list[Row] = []
    for net in nets:
        case = _case(net, shared, quickstart)
        for client in clients:
            for row in _rows(net, case, client):
                print(" ".join(f"{v}" for v in dataclasses.astuple(row) if v not in (None, "")))
                rows.append(row)
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Row)])
            writer.writeheader()
            writer.writerows(dataclasses.asdict(row) for row in rows)


def _case(net: str, shared: Path, quickstart: Path | None) -> Case:
    if net == "resnet50":
        model = keras_resnet.build("resnet50", seed=0)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (_CALIBRATION // 10, 224, 224, 3), dtype="uint8")
        return Case(model, PreprocessSpec((224, 224), (127.5,), (64.0,)), images, None, images)
    if net == "quickstart":
        from keras_resnet_train.rundir import open_run

        if quickstart is None:
            raise ValueError("`--quickstart` must name a run of `keras-resnet quickstart`")
        opened = open_run(quickstart, "auto")
        from keras_resnet_train.data import at_size, load_data, raw_images

        data = load_data(opened.config.data, opened.spec, class_names=opened.class_names)
        data = at_size(data, opened.preprocess, opened.config.augment, opened.config.data.cache)
        images, labels = raw_images(data.split("test"), opened.preprocess, data.channels, 1017)
        training, _ = raw_images(
            data.split("train"), opened.preprocess, data.channels, _CALIBRATION
        )
        return Case(opened.model, opened.preprocess, images, labels, training)
    import tensorflow_datasets as tfds

    name = {"cifar_resnet20": "resnet20-12fca82f.th", "resnet8": "mlperf_tiny_resnet8.h5"}[net]
    model = keras_resnet.from_pretrained(shared / "weights" / name)
    if not isinstance(model.preprocess, PreprocessSpec):
        raise ValueError(f"{name} does not say how its images are prepared")
    splits = [
        tfds.load("cifar10_sample", split=split, data_dir=shared / "tfds", batch_size=-1)
        for split in ("test", "train")
    ]
    images, labels = np.asarray(splits[0]["image"]), np.asarray(splits[0]["label"])
    return Case(
        model, model.preprocess, images, labels, np.asarray(splits[1]["image"])[:_CALIBRATION]
    )


def _rows(net: str, case: Case, client: str) -> Iterator[Row]:
    """Yields the row of a client; that of Arm's compiler after tflite-micro's."""
    package = CLIENTS[client].package
    version = version_of(package)
    runtime = f"{package} {version}" if version else package
    classes = case.model.outputs[0].shape[-1]
    request = ExportRequest(
        preprocess=case.preprocess,
        images=case.images[:_PROOF],
        labels=None if case.labels is None else case.labels[:_PROOF],
        calibration=case.calibration,
        class_names=[f"class {number}" for number in range(classes)],
        limits=_RANDOM_LIMITS if net == "resnet50" else Limits(),
    )
    model = clone_as_float32(without_activation(case.model))
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        try:
            (exported,) = export_for_clients(model, directory, request, client)
        except (ExportError, ValueError) as error:
            yield Row(net, client, runtime, "refused", detail=str(error).split(". ")[0])
            return
        (proof,) = exported.proofs
        path = directory / proof.file
        row = Row(net, client, runtime, proof.status, bytes=size_and_sha256(path)[0])
        if version is None or proof.status == "converted":
            yield dataclasses.replace(row, detail=proof.detail)
            return
        yield _measured(row, case, client, path, proof.line())
        if client == "tflite-micro" and shutil.which("vela"):
            yield _vela(net, path)


def _measured(row: Row, case: Case, client: str, path: Path, detail: str) -> Row:
    prepared = load(path).prepare(case.images, case.preprocess)
    one = run_client(client, path, prepared, threads=1, seconds=240)
    two = run_client(client, path, prepared[:_TIMED], threads=2)
    count = 0 if one.outputs is None else len(one.outputs)
    right = None
    if case.labels is not None and one.outputs is not None:
        right = int(np.sum(one.outputs.argmax(1) == case.labels[:count]))
    ms = [None if ran.milliseconds is None else round(ran.milliseconds, 3) for ran in (one, two)]
    if client in ("mediapipe", "android", "tflite-micro", "litert-js", "tfjs"):
        ms[1] = None  # their threads cannot be set
    return dataclasses.replace(
        row,
        right=right,
        images=count,
        ms_1_thread=ms[0],
        ms_2_threads=ms[1],
        detail=detail.split(": ", 2)[-1],
    )


def _vela(net: str, path: Path) -> Row:
    """Compiles an int8 file for Arm's Ethos-U55."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["vela", "--accelerator-config", _VELA, "--output-dir", folder, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        name = f"ethos-u-vela {version_of('ethos-u-vela')}"
        if done.returncode:
            return Row(net, "vela", name, "refused", detail=said.strip().splitlines()[-1])
        found: dict[str, Any] = {}
        for key, pattern in {
            "SRAM KiB": r"Total SRAM used\s+([\d.]+) KiB",
            "NPU operators": r"NPU operators = (\d+)",
            "CPU operators": r"CPU operators = (\d+)",
        }.items():
            match = re.search(pattern, said)
            found[key] = match[1] if match else "?"
        # Not those of the machine that was not described.
        warnings = sum("Warning" in line for line in said.splitlines() if "specified" not in line)
        detail = ", ".join(f"{key} {value}" for key, value in found.items())
        return Row(net, "vela", name, "converted", detail=f"{_VELA}: {detail}, {warnings} warnings")
