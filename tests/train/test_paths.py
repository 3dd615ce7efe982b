"""Paths with spaces and names beyond ASCII, from the images to the exported file."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet_train.data.embedded import load_digits

pytestmark = pytest.mark.tf

NAMES = ("größe klein", "猫")


def test_spaces_and_names_beyond_ascii(tmp_path: pathlib.Path, command: Callable[..., Any]) -> None:
    home = tmp_path / "Meine Bilder 日本 é"
    digits = load_digits().train
    for place, name in enumerate(NAMES):
        for split, count in (("train", 12), ("test", 4)):
            folder = home / "data" / split / name
            folder.mkdir(parents=True)
            chosen = np.flatnonzero(digits.labels == place)[:count]
            for number, index in enumerate(chosen):
                image = Image.fromarray(digits.images[index, ..., 0])
                image.save(folder / f"bild {number} ü{split}.png")
    run = home / "mein lauf"
    words = ("--model", "cifar_resnet8", "--dataset", home / "data", "--steps", 2)
    size = ("--batch-size", 8, "--image-size", 8)
    net = ("--set", "model.spec.depths=[1]", "--set", "model.spec.widths=[4]")
    ended = command("train", *words, *size, *net, "--output", run)
    assert ended.status == 0, ended.err
    assert (run / "labels.txt").read_text(encoding="utf-8").split("\n")[:2] == [*NAMES]
    image = home / "data" / "test" / NAMES[1] / "bild 0 ütest.png"
    ended = command("predict", run, image)
    assert ended.status == 0, ended.err
    assert image.name in ended.out
    assert any(name in ended.out for name in NAMES)
    exported = home / "für das telefon"
    ended = command(
        "export",
        run,
        "--formats",
        "saved_model,tflite",
        "--precision",
        "float32",
        "--output",
        exported,
    )
    assert ended.status == 0, ended.err
    assert [*exported.rglob("*.tflite")]
    # Weights: saved, opened and loaded.
    net = keras.saving.load_model(run / "model.keras")
    other = keras_resnet.build(
        keras_resnet.ResNetSpec("tiny", (1, 1), (4, 6), input_size=32, classes=2), seed=1
    )
    net.save(home / "netz ö.keras")
    net.save_weights(home / "netz ö.weights.h5")
    keras_resnet.weights.save(other, home / "netz ö.safetensors")
    for source, ending in ((net, "keras"), (net, "weights.h5"), (other, "safetensors")):
        target = keras_resnet.build(
            source.spec, classes=2, input_shape=source.input_shape[1:], seed=5
        )
        keras_resnet.weights.load(target, home / f"netz ö.{ending}")
        for ours, theirs in zip(target.get_weights(), source.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
