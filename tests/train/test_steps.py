"""What the training step is in the graph, and that it is Keras's step all the same."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import build
from keras_resnet_train.config import ModelConfig, RunConfig
from keras_resnet_train.optimizers import make_optimizer
from keras_resnet_train.steps import TrainingSteps

pytestmark = pytest.mark.tf


def _setup(batch_size: int = 8) -> tuple[Any, TrainingSteps, Any]:
    config = RunConfig(ModelConfig("cifar_resnet8"), batch_size=batch_size, steps=1)
    model = build("cifar_resnet8", input_shape=(8, 8, 3), seed=0)
    optimizer = make_optimizer(config.optimizer, 0.1, "float32")
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(batch_size, 8, 8, 3)).astype("float32"), np.arange(batch_size) % 10
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    return model, TrainingSteps(model, optimizer, config, tf.distribute.get_strategy()), batches


def test_a_step_has_one_operation_a_norm_and_a_variable() -> None:
    """What makes the first step short; Keras's layers and optimizer make three times the nodes."""
    model, steps, batches = _setup()
    steps(batches, 2)
    graph = steps._loop.get_concrete_function(batches, tf.constant(2)).graph
    library = graph.as_graph_def().library.function
    kinds = collections.Counter(node.op for function in library for node in function.node_def)
    assert kinds["FusedBatchNormV3"] == kinds["FusedBatchNormGradV3"] == 7
    assert kinds["ResourceApplyKerasMomentum"] == len(model.trainable_variables)
    assert kinds["Conv2D"] == 7  # traced once
    assert kinds["Rsqrt"] == 0


def test_steps_are_those_of_keras_layers_and_optimizer(monkeypatch) -> None:
    """The weights after four steps, with the loss falling; differences are of rounding alone."""
    found = []
    for plain in (False, True):
        if plain:
            norm = keras.layers.BatchNormalization
            monkeypatch.setattr("keras_resnet.nets.primitives.BatchNormalization", norm)
            monkeypatch.setattr("keras_resnet_train.optimizers.SGD", keras.optimizers.SGD)
        model, steps, batches = _setup()
        measured = steps(batches, 4)
        found.append([measured, *model.get_weights()])
    assert found[0][0][-1, 0] < found[0][0][0, 0]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


REPLICAS = """
import keras, numpy as np, tensorflow as tf
from keras_resnet.nets.batch_norm import BatchNormalization
from keras_resnet_train.optimizers import SGD
from keras_resnet_train.strategies import make_strategy

strategy = make_strategy("cpu:2")
images = np.random.default_rng(0).normal(1.0, 2.0, (2, 4, 6, 6, 8)).astype("float32")
found = []
for norm, sgd in (
    (keras.layers.BatchNormalization, keras.optimizers.SGD), (BatchNormalization, SGD)
):
    with strategy.scope():
        layer = norm()
        layer.build((4, 6, 6, 8))
        optimizer = sgd(0.1, momentum=0.9, nesterov=True)
        optimizer.build(layer.trainable_variables)

    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(x, training=True) - 1.0) ** 3)
        variables = layer.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    def batches(context):
        return tf.data.Dataset.from_tensor_slices(images)  # replicas see different ones

    run = tf.function(lambda x: strategy.run(step, args=(x,)))
    data = iter(strategy.distribute_datasets_from_function(batches))
    run(next(data))
    local = strategy.experimental_local_results
    values = [v.value for v in (*layer.weights, *optimizer.variables)]
    found.append([[part.numpy() for part in local(value)] for value in values])
for theirs, ours in zip(*found, strict=True):
    assert len(ours) == 2 and len(theirs) == 2
    for a, b in zip(theirs, ours):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
mean = found[1][2]
assert np.abs(mean[0] - mean[1]).max() > 1e-3  # each replica's own
assert np.abs(found[1][0][0] - 1.0).max() > 1e-4  # trained
"""


@pytest.mark.multi_process
def test_norm_and_optimizer_are_keras_on_two_replicas() -> None:
    variables = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS], env=os.environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
