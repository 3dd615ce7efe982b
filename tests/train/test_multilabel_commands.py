"""Several labels per image, from a CSV file to exported files, as a user gives the commands."""

from __future__ import annotations

import csv
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_resnet.export.artifacts import read_manifest, write_manifest

pytestmark = pytest.mark.tf


def write_pictures(root: pathlib.Path) -> pathlib.Path:
    """Pictures with a bright upper half, a bright left half, both or neither, and their labels."""
    rows = [["image", "labels", "split"]]
    for number in range(80):
        pixels = np.random.default_rng(number).integers(0, 60, (8, 8, 3), dtype=np.uint8)
        labels = []
        if number % 2:
            pixels[:4] += 150
            labels.append("upper half")
        if number // 2 % 2:
            pixels[:, :4, 0] += 45
            labels.append("left")
        Image.fromarray(pixels).save(root / f"{number}.png")
        rows.append([f"{number}.png", ";".join(labels), "train" if number < 48 else "test"])
    file = root / "labels.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)
    return file


def check_probabilities(run: pathlib.Path) -> None:
    """Those of labels do not sum to 1: a SavedModel returned a softmax."""
    from keras_resnet.export.runtimes import load

    pixels = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype="uint8")
    import tensorflow as tf

    serve = tf.saved_model.load(run / "saved_model").signatures["serving_default"]
    found = serve(images_uint8=tf.constant(pixels))
    expected = 1 / (1 + np.exp(-found["logits"].numpy()))
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-5)
    lite = load(run / "model.tflite")
    assert lite.activation == "sigmoid"
    np.testing.assert_allclose(lite.run(pixels), expected, rtol=1e-3)


def check_file_of_labels(
    run: pathlib.Path, folder: pathlib.Path, command: Callable[..., Any]
) -> None:
    """The sigmoids of a file were taken for logits; elsewhere its labels for one class."""
    from keras_resnet_train.evaluation.exported import open_exported
    from keras_resnet_train.evaluation.members import open_member

    away = folder / "away" / "client"
    away.mkdir(parents=True)
    shutil.copy(run / "model.tflite", away)
    entries = {"client/model.tflite": read_manifest(run)["model.tflite"]}
    write_manifest(folder / "away", entries)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype="uint8")
    expected = open_member(str(run)).compiled()(pixels)
    for file in (run / "model.tflite", away / "model.tflite"):
        member = open_exported(str(file))
        assert (member.returns, member.multilabel, member.notes) == ("sigmoids", True, ())
        np.testing.assert_allclose(member.compiled()(pixels), expected, atol=1e-4)
    ended = command("predict", away / "model.tflite", folder / "1.png")
    assert "labels are named above 0.5 (--threshold states another)" in ended.err


def test_from_csv_to_files(tmp_path: pathlib.Path, command: Callable[..., Any]) -> None:
    pytest.importorskip("ai_edge_litert", reason="exports a LiteRT file")
    file, run = write_pictures(tmp_path), tmp_path / "run"
    words = ("--task", "multilabel", "--dataset", file, "--steps", 12, "--batch-size", 16)
    settings = (
        "data.label_separator=;",
        "model.spec.widths=[4,8]",
        "model.spec.depths=[1,1]",
        "data.validation=0.2",
    )
    words += tuple(word for each in settings for word in ("--set", each))
    words += ("--model", "cifar_resnet8", "--image-size", 8)
    ended = command("train", *words, "--output", run)
    assert ended.status == 0, ended.err
    assert "2 classes (left, upper half); images: train" in ended.out
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["training"]["chosen_by"] == "validation mean average precision"
    assert len(metrics["test"]["average_precision"]) == 2
    measured = metrics["test"]["mean_average_precision"]
    assert 0 < measured <= 1
    ended = command("evaluate", run, "--json")
    assert json.loads(ended.out)["mean_average_precision"] == pytest.approx(measured, abs=1e-6)
    table = tmp_path / "predictions.csv"
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    ended = command("predict", run, tmp_path / "1.png", bad, "--output", table)
    assert ended.status == 1
    with table.open(newline="") as opened:
        good, broken = csv.DictReader(opened)
    assert set(filter(None, good["labels"].split("|"))) <= {"left", "upper half"}
    assert broken["error"]
    assert (run / "report.html").is_file()
    ended = command("export", run, "--formats", "saved_model,tflite", "--activation", "sigmoid")
    assert ended.status == 0, ended.err
    assert "no accuracy is measured" in ended.err
    keras, saved, exported = json.loads((run / "metrics.json").read_text())["exports"]
    assert keras["accuracy"] is saved["accuracy"] is exported["accuracy"] is None
    assert max(saved["max_abs_difference"], exported["max_abs_difference"]) < 1e-3
    check_probabilities(run)
    check_file_of_labels(run, tmp_path, command)
    ended = command("export", run, "--formats", "tflite", "--activation", "softmax")
    assert "applies to runs of one label per image" in ended.err
