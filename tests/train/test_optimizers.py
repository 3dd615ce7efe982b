"""One training step after another against the papers' updates in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet_train.config import OptimizerConfig, RunConfig, with_changes
from keras_resnet_train.optimizers import SGD, l2_factors, make_optimizer
from keras_resnet_train.steps import TrainingSteps

pytestmark = pytest.mark.tf

RATE = 0.1
Weights = list[np.ndarray]


def data(steps: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(steps, 8, 5)).astype("float32"), rng.integers(0, 4, (steps, 8))


def start() -> Weights:
    rng = np.random.default_rng(2)
    return [rng.normal(size=(5, 4)).astype("float32"), rng.normal(size=4).astype("float32")]


def gradients(weights: Weights, x: np.ndarray, labels: np.ndarray, smoothing: float) -> Weights:
    """Of the mean cross-entropy of a linear model."""
    logits = x.astype("float64") @ weights[0] + weights[1]
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = np.eye(4)[labels] * (1 - smoothing) + smoothing / 4
    error = (softmax - targets) / len(x)
    return [x.T.astype("float64") @ error, error.sum(axis=0)]


def train(**changes: Any) -> tuple[keras.Model, keras.optimizers.Optimizer, np.ndarray]:
    """Three steps of a linear model through `TrainingSteps`."""
    dotted = {f"optimizer.{k}": v for k, v in changes.items() if k != "precision"}
    if "precision" in changes:
        dotted["runtime.precision"] = changes["precision"]
    config = with_changes(RunConfig(steps=3, batch_size=8), dotted)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    model.set_weights(start())
    optimizer = make_optimizer(config.optimizer, RATE, config.runtime.precision)
    optimizer.build(model.trainable_variables)
    steps = TrainingSteps(model, optimizer, config, tf.distribute.get_strategy())
    dataset = tf.data.Dataset.from_tensor_slices(data())
    return model, optimizer, steps(iter(dataset), 3)


def expected(
    update: Callable[[Weights, Weights], Weights], smoothing: float = 0.0
) -> Sequence[Weights]:
    """The weights after each step: `update` returns the new ones."""
    weights: Weights = [w.astype("float64") for w in start()]
    seen = []
    for x, labels in zip(*data(), strict=True):
        weights = update(weights, gradients(weights, x, labels, smoothing))
        seen.append(weights)
    return seen


def torch_sgd(
    decay: Sequence[float], momentum: float = 0.9, *, nesterov: bool = False, clip: float = 0.0
) -> Callable[[Weights, Weights], Weights]:
    """PyTorch's SGD: the decay is part of the gradient and gathers in the momentum."""
    gathered = [0.0, 0.0]

    def update(weights: Weights, gradient: Weights) -> Weights:
        norm = np.sqrt(sum((g**2).sum() for g in gradient))
        shrink = min(1.0, clip / norm) if clip else 1.0
        made = []
        for index, (weight, grad, factor) in enumerate(zip(weights, gradient, decay, strict=True)):
            grad = grad * shrink + factor * weight
            gathered[index] = momentum * gathered[index] + grad
            step = grad + momentum * gathered[index] if nesterov else gathered[index]
            made.append(weight - RATE * step)
        return made

    return update


def assert_weights(model: keras.Model, weights: Weights) -> None:
    for value, wanted in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "update"),
    [
        ({"weight_decay": 0.3}, torch_sgd((0.3, 0.3))),
        ({"weight_decay": 0.3, "decay_all": False}, torch_sgd((0.3, 0.0))),
        ({"weight_decay": 0.0, "momentum": 0.5}, torch_sgd((0.0, 0.0), 0.5)),
        ({"weight_decay": 0.3, "nesterov": True}, torch_sgd((0.3, 0.3), nesterov=True)),
        ({"weight_decay": 0.3, "clip_norm": 0.2}, torch_sgd((0.3, 0.3), clip=0.2)),
        ({"weight_decay": 0.0, "clip_norm": 100.0}, torch_sgd((0.0, 0.0))),
    ],
    ids=["decay", "kernels alone", "momentum", "nesterov", "clipped", "clip far above"],
)
def test_sgd(changes: dict[str, Any], update: Callable[[Weights, Weights], Weights]) -> None:
    model, _, _ = train(**changes)
    assert_weights(model, expected(update)[-1])


@pytest.mark.parametrize("clip", [0.0, 0.2])
def test_loss_scaling_changes_no_update(clip: float) -> None:
    """The step under mixed_float16's scaled loss, in float32 arithmetic here."""
    model, optimizer, _ = train(precision="mixed_float16", weight_decay=0.3, clip_norm=clip)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert_weights(model, expected(torch_sgd((0.3, 0.3), clip=clip))[-1])


def _stepped(kind: type, dtype: str, **options: Any) -> list[np.ndarray]:
    """Values of the variables and of the optimizer after three steps of a tf.function."""
    variables = [keras.Variable(weight, dtype=dtype) for weight in start()]
    optimizer = kind(keras.optimizers.schedules.ExponentialDecay(RATE, 1, 0.5), **options)
    optimizer.build(variables)
    step = tf.function(lambda gradients: optimizer.apply(gradients, variables))
    for x, labels in zip(*data(), strict=True):
        step([tf.constant(value, dtype) for value in gradients(start(), x, labels, 0.0)])
    return [np.asarray(v.numpy(), "float64") for v in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {},
        {"momentum": 0.9, "use_ema": True},
    ],
    ids=["momentum", "nesterov", "no momentum", "average"],
)
def test_our_sgd_is_keras(options: dict[str, Any], dtype: str) -> None:
    ours, theirs = (_stepped(kind, dtype, **options) for kind in (SGD, keras.optimizers.SGD))
    tolerance = 2**-6 if dtype == "bfloat16" else 1e-6
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    assert np.abs(ours[0] - start()[0]).max() > 0.01


def test_our_sgd_takes_sparse_gradients() -> None:
    found = []
    for kind in (SGD, keras.optimizers.SGD):
        variable = keras.Variable(start()[0])
        optimizer = kind(RATE, momentum=0.9)
        rows = tf.IndexedSlices(tf.ones((2, 4)), tf.constant([0, 3]), tf.constant([5, 4]))
        for _ in range(2):
            optimizer.apply([rows], [variable])
        found.append(variable.numpy())
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_our_sgd_has_the_names_of_keras() -> None:
    """Checkpoints name the optimizer's variables by their paths."""
    named = []
    for kind in (SGD, keras.optimizers.SGD):
        keras.utils.clear_session()
        optimizer = kind(RATE, momentum=0.9)
        optimizer.build([keras.Variable(np.zeros(2), name="kernel")])
        named.append([variable.path for variable in optimizer.variables])
    assert named[0] == named[1]
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer := SGD(0.3)))
    assert type(again) is SGD
    assert again.get_config() == optimizer.get_config()


def test_decay_is_not_keras_own() -> None:
    """Keras's shrinks beside the momentum; after three steps the two differ clearly."""
    model, _, _ = train(weight_decay=0.3)
    beside = keras.optimizers.SGD(RATE, momentum=0.9, weight_decay=0.3)
    weights = [keras.Variable(w) for w in start()]
    for x, labels in zip(*data(), strict=True):
        values = [w.numpy() for w in weights]
        grads = [tf.constant(g, tf.float32) for g in gradients(values, x, labels, 0.0)]
        beside.apply(grads, weights)
    assert np.abs(model.get_weights()[0] - weights[0].numpy()).max() > 0.01


@pytest.mark.parametrize("decay_all", [True, False])
def test_adamw(decay_all: bool) -> None:
    model, _, _ = train(name="adamw", weight_decay=0.3, decay_all=decay_all)
    first, second, count = [0.0, 0.0], [0.0, 0.0], 0

    def update(weights: Weights, gradient: Weights) -> Weights:
        nonlocal count
        count += 1
        made = []
        for i, (weight, grad) in enumerate(zip(weights, gradient, strict=True)):
            decayed = decay_all or i == 0
            weight = weight * (1 - RATE * 0.3 * decayed)
            first[i] = 0.9 * first[i] + 0.1 * grad
            second[i] = 0.999 * second[i] + 0.001 * grad**2
            mean, square = first[i] / (1 - 0.9**count), second[i] / (1 - 0.999**count)
            made.append(weight - RATE * mean / (np.sqrt(square) + 1e-7))
        return made

    for value, wanted in zip(model.get_weights(), expected(update)[-1], strict=True):
        np.testing.assert_allclose(value, wanted, atol=2e-4)  # Keras's epsilon is placed elsewhere


def test_label_smoothing() -> None:
    model, _, measured = train(label_smoothing=0.2, weight_decay=0.0)
    assert_weights(model, expected(torch_sgd((0.0, 0.0)), smoothing=0.2)[-1])
    x, labels = data()
    logits = x[0].astype("float64") @ start()[0] + start()[1]
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(4)[labels[0]] * 0.8 + 0.05
    assert measured.shape == (3, 2)
    assert measured[0, 0] == pytest.approx(-(targets * logs).sum(axis=1).mean(), rel=1e-5)
    assert measured[0, 1] == pytest.approx((logits.argmax(axis=1) == labels[0]).mean())


def test_average_of_the_weights() -> None:
    """The first step's weights begin it: average = ema * average + (1 - ema) * weights."""
    model, optimizer, _ = train(ema=0.6, weight_decay=0.3)
    steps = expected(torch_sgd((0.3, 0.3)))
    assert_weights(model, steps[-1])
    average = steps[0]
    for weights in steps[1:]:
        average = [0.6 * a + 0.4 * w for a, w in zip(average, weights, strict=True)]
    optimizer.finalize_variable_values(model.trainable_variables)
    assert_weights(model, average)


def test_l2_factors() -> None:
    shapes = {"kernel": (3, 3, 1, 2), "gamma": (2,), "conv1_kernel": (6, 5, 4), "scale": ()}
    variables = [keras.Variable(np.zeros(shape), name=name) for name, shape in shapes.items()]
    both = OptimizerConfig(weight_decay=0.1)
    assert l2_factors(both, variables) == [0.1, 0.1, 0.1, 0.1]
    kernels = OptimizerConfig(weight_decay=0.1, decay_all=False)
    assert l2_factors(kernels, variables) == [0.1, 0.0, 0.1, 0.0]
    assert l2_factors(OptimizerConfig(name="adamw"), variables) == [0.0] * 4
