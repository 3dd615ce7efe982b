"""The operations of the training step, and its equality with Keras's layers and optimizer."""

from __future__ import annotations

import collections
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
