"""Averages of weights, with the batch-norm statistics that belong to them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import build, get_spec
from keras_resnet_train.averaging import AveragingPlan, WeightAverages, averaging_plan
from keras_resnet_train.batch_norm_statistics import recompute_batch_norm
from keras_resnet_train.checkpoint import Checkpoints
from keras_resnet_train.config import RunConfig, with_changes
from keras_resnet_train.data import resolve_data
from keras_resnet_train.evaluation import evaluate
from keras_resnet_train.files import read_json
from keras_resnet_train.length import Length
from keras_resnet_train.rundir import open_run, spec_of
from keras_resnet_train.session import run_training

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("without_pictures")]

Tiny = Callable[..., RunConfig]
SMALL = {"model__spec__depths": [1], "model__spec__widths": [4]}


def small_net() -> keras.Model:
    return build("cifar_resnet8", input_shape=(8, 8, 1), classes=10, seed=0)


class KeepWeights(keras.callbacks.Callback):
    """Keeps the raw weights at the ends of epochs, as lists of arrays."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[list[np.ndarray]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.weights.append(self.model.get_weights())


# The arithmetic.


def test_a_moving_average_begins_at_once() -> None:
    """The decay of step t is min(0.6, (1 + t) / (10 + t)), and 0 in the first step."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    averages = WeightAverages(model, AveragingPlan(decay=0.6))
    assert not averages.holds(0)
    update = tf.function(averages.update)
    gamma, _, mean, _ = model.weights
    expected = 0.0
    for step in range(20):
        for variable in (gamma, mean):  # a trained weight and a statistic
            variable.assign([step + 1.0, 0.0])
        update(tf.constant(step, tf.int64))
        decay = min(0.6, (1 + step) / (10 + step)) if step else 0.0
        expected = decay * expected + (1 - decay) * (step + 1.0)
        for index in (0, 2):
            value = averages.variables[index].numpy()
            np.testing.assert_allclose(value, [expected, 0.0], rtol=1e-6, atol=1e-7)
    assert averages.holds(1)
    with averages.assigned(model):
        assert gamma.numpy()[0] == pytest.approx(expected)
        assert mean.numpy()[0] == pytest.approx(expected)
    assert (gamma.numpy()[0], mean.numpy()[0]) == (20.0, 20.0)


@pytest.mark.parametrize(
    ("changes", "at_steps"),
    [
        ({"optimizer.average_last": 2}, (39, 40)),
        ({"optimizer.average_last": 9}, (20, 39, 40)),
        ({"schedule.swa_start": 0.5}, (39, 40)),
        ({"schedule.swa_start": 0.5, "schedule.swa_cycle": 2}, (40,)),
    ],
)
def test_which_weights_count_equally(changes: dict[str, Any], at_steps: tuple[int, ...]) -> None:
    """In a run of 40 steps, whose epochs end at steps 20, 39 and 40."""
    config, length = with_changes(RunConfig(steps=40), changes), Length(40, 1257 / 64)
    plan = averaging_plan(config, length)
    assert plan == AveragingPlan(at_steps=at_steps)
    assert [plan.count(step) for step in (0, at_steps[0] - 1, at_steps[0])] == [0, 0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optimizer.ema": 0.9, "schedule.swa_start": 0.5},
            "Choose one average .*Received: optimizer.ema=0.9, schedule.swa_start=0.5",
        ),
        ({"schedule.swa_start": 0.5, "schedule.swa_cycle": 3}, "no whole cycle of 3 epoch"),
    ],
)
def test_averages_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        averaging_plan(with_changes(RunConfig(steps=40), changes), Length(40, 1257 / 64))
    assert averaging_plan(RunConfig(steps=40), Length(40, 20.0)) is None


# Whole runs.


@pytest.mark.parametrize("decay", [0.99])
def test_a_moving_average_is_as_good_as_the_weights(decay: float, tmp_path: pathlib.Path) -> None:
    """With the raw weights' statistics it is at chance: 10.0 % where raw is 97.2 %."""
    from .conftest import tiny_config

    keep = KeepWeights()
    config = tiny_config(
        epochs=4,
        steps=None,
        optimizer__ema=decay,
        model__spec__depths=[1, 1],
        model__spec__widths=[8, 16],
        data__validation=0.2,
        checkpoint__every_steps=0,
    )
    run_training(config, tmp_path, callbacks=[keep])
    run = open_run(tmp_path)
    averaged = read_json(tmp_path / "metrics.json")["validation"]["accuracy"]
    data, preprocess = resolve_data(config, spec_of(config))
    run.model.set_weights(keep.weights[-1])
    raw = evaluate(run.model, data.validation, preprocess).accuracy
    assert raw > 0.8
    assert averaged > raw - 0.02


def test_the_average_of_the_last_epochs(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    keep = KeepWeights()
    config = tiny(**SMALL, steps=20, batch_size=256, optimizer__average_last=2)
    run_training(config, tmp_path, callbacks=[keep])
    assert len(keep.weights) == 4
    last = open_run(tmp_path, "last").model  # the average, with its statistics
    for found, third, fourth in zip(last.get_weights(), *keep.weights[2:], strict=True):
        np.testing.assert_allclose(found, (third + fourth) / 2, rtol=1e-5, atol=1e-6)
    assert max(np.abs(a - b).max() for a, b in zip(*keep.weights[2:], strict=True)) > 1e-3


def test_weight_averaging_in_cycles_resumes(
    tmp_path: pathlib.Path, tiny: Tiny, train_until: Callable[..., None]
) -> None:
    """To the last bit, cut between two of the averaged weights; statistics are re-estimated."""
    config = tiny(
        **SMALL,
        steps=29,
        batch_size=256,  # 4.9 steps an epoch
        schedule__swa_start=0.3,
        schedule__swa_rate=0.05,
        schedule__swa_cycle=1,
        schedule__swa_low_rate=0.01,
        optimizer__recompute_batch_norm=500,
        checkpoint__every_steps=6,
    )
    keep = KeepWeights()
    run_training(config, tmp_path / "whole", callbacks=[keep])
    train_until(19, config, tmp_path / "cut")
    assert Checkpoints(tmp_path / "cut" / "checkpoints").last_step() == 18
    run_training(config, tmp_path / "cut")
    whole, cut = (open_run(tmp_path / name).model for name in ("whole", "cut"))
    for one, other in zip(whole.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # After epoch 2, the ends of epochs 3 to 6.
    last = open_run(tmp_path / "whole", "last").model
    for variable, *parts in zip(last.weights, *keep.weights[2:], strict=True):
        np.testing.assert_allclose(variable, sum(parts) / 4, rtol=1e-4, atol=1e-6)


# Statistics re-estimated.


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    from .conftest import tiny_config

    path = tmp_path_factory.mktemp("runs") / "digits"
    run_training(tiny_config(epochs=4, steps=None, augment__crop="none"), path)
    return path


def test_statistics_are_those_of_the_images() -> None:
    """Of the first norm: mean and variance of the stem's outputs over all images."""
    model = small_net()
    images = np.random.default_rng(0).normal(1.0, 2.0, (10, 8, 8, 1)).astype("float32")
    assert recompute_batch_norm(model, [images[:4], images[4:8], images[8:]]) == 10
    stem = keras.Model(model.inputs[0], model.get_layer("stem_conv").output)
    values = np.asarray(stem(images), "float64")
    norm = model.get_layer("stem_norm")
    np.testing.assert_allclose(norm.moving_mean, values.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, values.var(axis=(0, 1, 2)), rtol=1e-4)
    with pytest.raises(ValueError, match="needs images .* Received: none"):
        recompute_batch_norm(model, [])
    with pytest.raises(ValueError, match="has no batch norm"):
        bare = get_spec("cifar_resnet8").replace(norm="none")
        recompute_batch_norm(build(bare, input_shape=(8, 8, 1)), [images])


@pytest.mark.parametrize("stacked", [False, True])
def test_lost_statistics_come_back(digits_run: pathlib.Path, stacked: bool, tiny: Tiny) -> None:
    run = open_run(digits_run)
    config = tiny()
    data, preprocess = resolve_data(config, spec_of(config))
    raw = evaluate(run.model, data.test, preprocess).accuracy
    model = run.model
    if stacked:
        from keras_resnet.weights.rebuild import clone_as_float32

        model = clone_as_float32(run.model, stacked=True)
    for variable in model.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(variable * 0 + 5.0)
    assert evaluate(model, data.test, preprocess).accuracy < raw - 0.3
    images = preprocess.normalize(data.train.images)
    recompute_batch_norm(model, [images[start : start + 64] for start in range(0, 1024, 64)])
    assert evaluate(model, data.test, preprocess).accuracy > raw - 0.03


def test_the_first_step_replaces_the_averages() -> None:
    """To the last bit, or a run killed before its first step would end with other weights."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(50)])
    found = []
    for start in (0.1234567, 31.7):
        averages = WeightAverages(model, AveragingPlan(decay=0.99))
        for variable in averages.variables:
            variable.assign(keras.ops.full(variable.shape, start))
        averages.update(0)
        found.append(averages.variables[0].numpy())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], model.weights[0].numpy())
