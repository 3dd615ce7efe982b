"""`keras-resnet export` of signals and features, and files beside what they were trained on."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.export.runtimes import load
from keras_resnet_train.config import DataConfig
from keras_resnet_train.data import load_data
from keras_resnet_train.evaluation.exported import FileSettings
from keras_resnet_train.evaluation.images import open_images
from keras_resnet_train.evaluation.members import open_member
from keras_resnet_train.latency.findings import findings, for_terminal
from keras_resnet_train.latency.turns import Timed, Timing

pytestmark = pytest.mark.tf
pytest.importorskip("ai_edge_litert")

Command = Callable[..., Any]
SPEC = ResNetSpec("small", (1, 1), (4, 8), stem="cifar", shortcut="A", classes=5, input_size=8)
RGB = PreprocessSpec((8, 8), mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0))


def measured(folder: pathlib.Path) -> dict[str, Any]:
    artifacts = json.loads((folder / "manifest.json").read_text())["artifacts"]
    return {name: entry["verification"] | entry for name, entry in artifacts.items()}


def test_signals(tmp_path: pathlib.Path, command: Command) -> None:
    net, out = tmp_path / "signals.keras", tmp_path / "out"
    model = keras_resnet.build(SPEC, dims=1, input_shape=(32, 2), seed=0)
    model.save(net)
    x = np.random.default_rng(0).normal(size=(100, 32, 2)).astype("float32")
    labels = np.argmax(model(x, training=False), axis=1)
    np.savez(tmp_path / "x.npz", inputs=x[:20], labels=labels[:20], calibration=x)
    np.save(tmp_path / "x.npy", x[:, :16])
    words = ("export", net, "--output", out, "--formats", "tflite")

    ended = command(*words, "--precision", "float32,int8", "--examples", tmp_path / "x.npz")
    assert ended.status == 0, ended.err
    assert "the files take signals as float32 values" in ended.err
    assert "Proof on 20 of 20 inputs" in ended.out
    files = measured(out)
    assert files["model.tflite"]["accuracy"] == 1.0
    assert files["model.tflite"]["input"]["name"] == "signals_normalized"
    assert files["model_int8.tflite"]["signal_to_noise"] > 18

    ended = command(*words)
    assert ended.status == 0, ended.err
    assert "16 random signals, which shows that they compute the same, not how acc" in ended.out
    for extra, message in (
        (("--examples", tmp_path / "x.npy"), "shape (signals, 32, 2). Received: float32, shape (1"),
        (("--precision", "int8"), "or --examples FILE.npz with an array `calibration`"),
        (("--examples", net), "must be a readable .npy or .npz file"),
        (("--dataset", "digits"), "give --examples FILE.npy with the values that it takes"),
        (("--client", "mediapipe"), "`client` applies to classifiers of images"),
        (("--pooling", "avg"), "`--pooling` needs --no-top"),
    ):
        ended = command(*words, *extra)
        assert (ended.status, message in ended.err) == (1, True), ended.err


def test_features_of_a_classifier(tmp_path: pathlib.Path, command: Command) -> None:
    net = tmp_path / "net.keras"
    model = keras_resnet.build(SPEC, seed=0)
    model.preprocess = RGB
    model.save(net)
    words = ("export", net, "--formats", "tflite", "--output")
    ended = command(*words, tmp_path / "levels", "--features", "C2,C3")
    assert ended.status == 0, ended.err
    assert "returns C2, C3, not classes: each output is compared with the net's by i" in ended.err
    assert measured(tmp_path / "levels")["model.tflite"]["outputs"] == ["C2", "C3"]
    ended = command(*words, tmp_path / "pool", "--no-top", "--pooling", "avg")
    assert ended.status == 0, ended.err
    pixels = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), dtype="uint8")
    ours = load(tmp_path / "pool" / "model.tflite", features=("pool",)).run(pixels)
    theirs = keras_resnet.features(model, RGB.normalize(pixels))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.std())
    # A file without classifier, as Python saves it.
    keras_resnet.build(
        SPEC, include_top=False, features=["C3"], seed=0, input_shape=(8, 8, 3)
    ).save(tmp_path / "headless.keras")
    ended = command(
        *("export", tmp_path / "headless.keras", "--formats", "tflite"), "--output", tmp_path / "h"
    )
    assert ended.status == 0, ended.err
    assert measured(tmp_path / "h")["model.tflite"]["input"]["name"] == "images_normalized"
    ended = command(*words[:1], net, *words[2:], tmp_path / "none", "--features", "C9")
    assert "must name outputs of stages, each once: C2, C3. Received: C9" in ended.err


def test_bits_without_quantize(tmp_path: pathlib.Path, command: Command) -> None:
    ended = command("train", "--bits", 4, "--output", tmp_path / "run", "--dataset", "digits")
    assert ended.status == 1
    assert "`--bits` applies to quantise-aware training: give --quantize int8" in ended.err
    assert not (tmp_path / "run").exists()


def test_a_file_beside_its_run_is_measured_on_the_runs_test_images(tmp_path: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        for number in range(10):
            path = tmp_path / "data" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype="uint8")).save(path)
    config = DataConfig(dataset=str(tmp_path / "data"), test_size=0.3)
    data = load_data(config, SPEC.replace(classes=2))
    run = tmp_path / "run"
    run.mkdir()
    assert data.listing is not None
    assert data.test is not None
    (run / "data_files.csv.gz").write_bytes(data.listing.to_bytes())
    for name in ("config.json", "manifest.json"):
        (run / name).write_text("{}")
    model = keras_resnet.build(SPEC, classes=2, seed=0)
    keras_resnet.export.tflite(model, run / "model.tflite", preprocess=RGB)
    shutil.copy(run / "model.tflite", tmp_path / "model.tflite")
    sizes = {}
    for folder in (run, tmp_path):
        member = open_member(str(folder / "model.tflite"), file=FileSettings())
        found = open_images(DataConfig(dataset=config.dataset), member, None, other=True)
        told = any("does not say which images it was trained on" in note for note in found.notes)
        sizes[folder.name] = len(found.source), told
    assert sizes == {"run": (len(data.test), False), tmp_path.name: (20, True)}


def test_latency_table_fits_a_terminal() -> None:
    name = "a_very_long_name_of_a_file_that_was_exported_{}_float16.tflite"
    timings = [
        Timing(Timed(name.format(n), "tflite", 1, 1), "LiteRT 2", 1, (1e-3,), (1e-3,), 0, 9, 1)
        for n in (1, 2)
    ]
    (table,) = for_terminal(findings(timings, {}), timings).tables
    assert [row["File"] for row in table.records()] == [
        "a_very_lo…d_1_float16.tflite",
        "a_very_lo…d_2_float16.tflite",
    ]
    assert table.caption.endswith("threads 1, batch 1")
    assert len(table.columns) == 7
