"""The operations of the training step, and its equality with Keras's layers and optimizer."""

from __future__ import annotations

import collections
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import build, get_spec
from keras_resnet_train.averaging import AveragingPlan, WeightAverages
from keras_resnet_train.config import ModelConfig, RunConfig, RuntimeConfig, with_changes
from keras_resnet_train.optimizers import make_optimizer
from keras_resnet_train.steps import TrainingSteps

pytestmark = pytest.mark.tf


def _setup(
    batch_size: int = 8, precision: str = "float32", **given: Any
) -> tuple[Any, TrainingSteps, Any]:
    runtime = RuntimeConfig(precision=precision)
    net = ModelConfig("cifar_resnet8")
    config = RunConfig(net, runtime=runtime, batch_size=batch_size, steps=1)
    model = build("cifar_resnet8", input_shape=(8, 8, 3), seed=0)
    optimizer = make_optimizer(config.optimizer, 0.1, precision)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(batch_size, 8, 8, 3)).astype("float32"), np.arange(batch_size) % 10
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    strategy = tf.distribute.get_strategy()
    return model, TrainingSteps(model, optimizer, config, strategy, **given), batches


def test_a_step_has_one_operation_a_norm_and_a_variable() -> None:
    """Keras's layers and optimizer would make three times the nodes, and a slower first step."""
    model, steps, batches = _setup()
    steps(batches, 2)
    graph = steps._loop.get_concrete_function(batches, tf.constant(2)).graph
    library = graph.as_graph_def().library.function
    kinds = collections.Counter(node.op for function in library for node in function.node_def)
    assert kinds["FusedBatchNormV3"] == kinds["FusedBatchNormGradV3"] == 7
    assert kinds["ResourceApplyKerasMomentum"] == len(model.trainable_variables)
    assert kinds["Conv2D"] == 7  # traced once
    assert kinds["Rsqrt"] == 0


def _keras_sgd(momentum_form: str, factors: None, **options: Any) -> keras.optimizers.SGD:
    return keras.optimizers.SGD(**options)


def test_steps_are_those_of_keras_layers_and_optimizer(monkeypatch) -> None:
    """The weights after four steps, with the loss falling; differences are of rounding alone."""
    found = []
    for plain in (False, True):
        if plain:
            norm = keras.layers.BatchNormalization
            monkeypatch.setattr("keras_resnet.nets.primitives.BatchNormalization", norm)
            monkeypatch.setattr("keras_resnet_train.optimizers.SGD", _keras_sgd)
        model, steps, batches = _setup()
        measured = steps(batches, 4)
        found.append([measured, *model.get_weights()])
    assert found[0][0][-1, 0] < found[0][0][0, 0]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_labels_may_be_soft() -> None:
    """One-hot labels train as class numbers do, to the last bit but for another kernel."""
    found = []
    for soft in (False, True):
        model, steps, batches = _setup()
        dataset = tf.data.Dataset.from_tensors(next(batches)).repeat()
        if soft:
            dataset = dataset.map(lambda images, labels: (images, tf.one_hot(labels, 10)))
        found.append([steps(iter(dataset), 3), *model.get_weights()])
    for hard, one_hot in zip(*found, strict=True):
        np.testing.assert_allclose(one_hot, hard, rtol=1e-4, atol=1e-5)


def test_the_step_of_the_run_sets_the_rate() -> None:
    """A run that resumes at step 3 has the rates of a run that was not interrupted."""

    def schedule(step: Any) -> Any:
        return tf.where(step < 4, 0.1, 0.001)

    found = []
    for calls in ([5], [3, 2]):
        model, steps, batches = _setup(schedule=schedule)
        for index, count in enumerate(calls):
            steps(batches, count, sum(calls[:index]))
        assert float(steps._optimizer.learning_rate) == pytest.approx(0.001)
        found.append(model.get_weights())
    for once, twice in zip(*found, strict=True):
        np.testing.assert_array_equal(once, twice)


def test_skipped_steps_do_not_shift_the_schedule() -> None:
    """Under float16 a step whose gradients are infinite updates nothing, but it is a step."""

    def schedule(step: Any) -> Any:
        return tf.where(step < 3, 0.1, 0.001)

    model, steps, batches = _setup(schedule=schedule, precision="mixed_float16")
    images, labels = next(batches)
    images = tf.stack([np.inf * images, np.inf * images, images, images])
    data = tf.data.Dataset.from_tensor_slices((images, tf.stack([labels] * 4)))
    before = [variable.numpy() for variable in model.trainable_variables]
    iterator = iter(data)
    steps(iterator, 2)
    for kept, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(kept, variable.numpy())
    steps(iterator, 2, 2)
    assert int(steps._optimizer.inner_optimizer.iterations) == 2
    assert float(steps._optimizer.learning_rate) == pytest.approx(0.001)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_accumulated_gradients_are_those_of_the_batch(precision: str) -> None:
    """With L2, clipping, an average of the weights, stochastic depth and dropout."""
    found = []
    for parts in (1, 4):
        config = with_changes(
            RunConfig(steps=3, batch_size=8),
            {
                "optimizer.accumulate": parts,
                "optimizer.weight_decay": 0.1,
                "optimizer.clip_norm": 0.5,
                "optimizer.label_smoothing": 0.1,
                "runtime.precision": precision,
            },
        )
        spec = get_spec("cifar_resnet8").replace(
            depths=(1,), widths=(32,), norm="group", stochastic_depth=0.5, head_dropout=0.25
        )
        model = build(spec, input_shape=(8, 8, 3), seed=0)
        optimizer = make_optimizer(config.optimizer, 0.1, precision)
        optimizer.build(model.trainable_variables)
        averages = WeightAverages(model, AveragingPlan(decay=0.5))
        strategy = tf.distribute.get_strategy()
        steps = TrainingSteps(
            model,
            optimizer,
            config,
            strategy,
            schedule=lambda step: 0.1 / (1.0 + float_of(step)),
            averages=averages,
        )
        rng = np.random.default_rng(0)
        batch = rng.normal(size=(8, 8, 8, 3)).astype("float32"), np.arange(8)
        measured = steps(iter(tf.data.Dataset.from_tensors(batch).repeat()), 3)
        values = [variable.value for variable in (*model.weights, *averages.variables)]
        found.append([measured, *(np.asarray(value.numpy(), "float64") for value in values)])
    start = build(spec, input_shape=(8, 8, 3), seed=0).get_weights()
    assert max(np.abs(a - b).max() for a, b in zip(start, found[0][1:], strict=False)) > 0.01
    for whole, parts in zip(*found, strict=True):
        np.testing.assert_allclose(parts, whole, atol=1e-6)


def float_of(step: Any) -> Any:
    return tf.cast(step, tf.float32)


def test_a_batch_divides_into_its_parts() -> None:
    config = with_changes(RunConfig(steps=1, batch_size=9), {"optimizer.accumulate": 2})
    with pytest.raises(ValueError, match="must divide by `--accumulate` parts on each of 1 repl"):
        TrainingSteps(build("cifar_resnet8"), None, config, tf.distribute.get_strategy())
