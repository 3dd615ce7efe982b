"""Distillation: the divergence on literal numbers, the teacher's images, and runs."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import PreprocessSpec
from keras_resnet_train.config import LossConfig, RunConfig
from keras_resnet_train.files import read_json
from keras_resnet_train.losses import distilled
from keras_resnet_train.session import run_training
from keras_resnet_train.teacher import Teacher, open_teacher

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("without_pictures")]


def test_the_divergence_on_literal_numbers() -> None:
    logits = tf.constant([[math.log(3.0), 0.0]])  # 3/4, 1/4
    taught = tf.constant([[0.0, math.log(9.0)]])  # 1/10, 9/10
    losses = tf.constant([2.0])

    def value(multilabel: bool = False, **fields: float) -> float:
        settings = LossConfig(**{f"teacher_{key}": each for key, each in fields.items()})
        found = distilled(losses, logits, taught, settings, multilabel=multilabel)
        return float(found[0])

    # 0.1 log(0.1 / 0.75) + 0.9 log(0.9 / 0.25)
    assert value(alpha=1.0) == pytest.approx(0.9513516, rel=1e-5)
    assert value(alpha=0.25) == pytest.approx(0.75 * 2.0 + 0.25 * 0.9513516, rel=1e-5)
    assert value(alpha=0.0) == 2.0
    # At temperature 2: 0.6339746 and 0.3660254 against 1/4 and 3/4; times 4.
    assert value(alpha=1.0, temperature=2.0) == pytest.approx(1.2215634, rel=1e-5)
    # Sigmoids 3/4, 1/2 against 1/2, 9/10: the mean of two divergences.
    one = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    two = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert value(multilabel=True, alpha=1.0) == pytest.approx((one + two) / 2, rel=1e-5)


def test_the_teacher_takes_its_own_normalisation() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    student = PreprocessSpec((4, 4), (100.0, 120.0, 130.0), (50.0, 60.0, 70.0))
    net = SimpleNamespace(inputs=[keras.Input((4, 4, 3))])
    for own in (
        PreprocessSpec((4, 4), (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), "bgr"),
        PreprocessSpec((4, 4), (127.5,), (127.5,)),
        PreprocessSpec((4, 4)),
        student,
    ):
        found = Teacher(net, own, student, "x").convert(student.normalize(pixels))
        np.testing.assert_allclose(found, own.normalize(pixels), rtol=1e-5, atol=1e-4)
    bgr = PreprocessSpec((4, 4), (10.0, 20.0, 30.0), (2.0, 3.0, 4.0), "bgr")
    found = Teacher(net, student, bgr, "x").convert(bgr.normalize(pixels))
    np.testing.assert_allclose(found, student.normalize(pixels), rtol=1e-5, atol=1e-4)
    large = SimpleNamespace(inputs=[keras.Input((8, 8, 3))])
    assert Teacher(large, None, student, "x").convert(pixels).shape == (2, 8, 8, 3)


def _softmax_net(path: pathlib.Path) -> keras.Model:
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    model.save(path)
    return model


def test_any_keras_model_teaches(tmp_path: pathlib.Path) -> None:
    model = _softmax_net(tmp_path / "net.keras")
    data = SimpleNamespace(class_names=tuple("0123456789"), channels=1)
    student = PreprocessSpec((8, 8), (100.0,), (50.0,))
    source = str(tmp_path / "net.keras")
    with pytest.raises(ValueError, match="does not state its preprocessing. Give `loss.teacher_i"):
        open_teacher(LossConfig(teacher=source), data, student)
    teacher = open_teacher(LossConfig(teacher=source, teacher_input="pixels"), data, student)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    logits = teacher(student.normalize(pixels)).numpy()
    wanted = model.predict(pixels.astype("float32"), verbose=0)
    np.testing.assert_allclose(tf.nn.softmax(logits), wanted, rtol=1e-3, atol=1e-5)
    assert not teacher.model.trainable_variables
    for wrong, text in (
        (SimpleNamespace(class_names=("a", "b"), channels=1), "must have the data's 2 classes"),
        (SimpleNamespace(class_names=data.class_names, channels=3), "takes 1 channel"),
    ):
        with pytest.raises(ValueError, match=text):
            open_teacher(LossConfig(teacher=source, teacher_input="pixels"), wrong, student)
    assert open_teacher(LossConfig(), data, student) is None


def test_a_run_learns_from_a_run_and_resumes_with_it(
    finished_run: pathlib.Path,
    tiny: Callable[..., RunConfig],
    train_until: Callable[..., None],
    train_model: Callable[[RunConfig], Any],
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    net = {
        "model__spec__depths": [1],
        "model__spec__widths": [4],
        "model__spec__stochastic_depth": 0.2,
    }
    config = tiny(
        **net,
        steps=6,
        loss__teacher=str(finished_run),
        loss__teacher_alpha=0.9,
        loss__teacher_temperature=2.0,
        checkpoint__every_steps=3,
        runtime__steps_per_call=3,
        optimizer__accumulate=2,
    )
    run_training(config, tmp_path / "whole")
    assert "Teacher: cifar_resnet8 of" in capsys.readouterr().out
    record = read_json(tmp_path / "whole" / "teacher.json")
    assert record["source"] == str(finished_run)
    assert len(record["sha256"]) == 64
    train_until(3, config, tmp_path / "cut")
    run_training(config, tmp_path / "cut")
    whole, cut = (
        keras.saving.load_model(tmp_path / name / "model.keras") for name in ("whole", "cut")
    )
    for one, other in zip(whole.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    other, _ = train_model(tiny(**net, steps=6))
    assert np.abs(other.get_weights()[0] - whole.get_weights()[0]).max() > 1e-4


def test_a_run_keeps_its_teacher(tmp_path: pathlib.Path) -> None:
    data = SimpleNamespace(class_names=tuple("0123456789"), channels=1)
    settings = LossConfig(teacher=str(tmp_path / "net.keras"), teacher_input="pixels")

    def opened() -> Any:
        _softmax_net(tmp_path / "net.keras")
        return open_teacher(settings, data, PreprocessSpec((8, 8)))

    first = opened()
    first.record(tmp_path)
    first.record(tmp_path)  # the same
    with pytest.raises(ValueError, match="is not the one that the run began with: SHA-256 of its"):
        opened().record(tmp_path)
