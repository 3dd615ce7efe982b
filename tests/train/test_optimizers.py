"""One training step after another against the papers' updates in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import build, finetune, get_spec
from keras_resnet_train.config import OptimizerConfig, RunConfig, with_changes
from keras_resnet_train.optimizers import (
    SGD,
    AdamW,
    Lamb,
    Lars,
    Lion,
    Muon,
    l2_factors,
    make_optimizer,
    rate_factors,
)
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


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_the_gradients_norm_is_a_third_column(precision: str, clip: float) -> None:
    """Of two classes from zero weights: errors -1/2 and 1/2, inputs 3, 4 and the bias's 1."""
    norms = []
    for logged, parts in ((False, 1), (True, 1), (True, 2)):
        config = with_changes(
            RunConfig(steps=1, batch_size=2),
            {
                "optimizer.clip_norm": clip,
                "optimizer.accumulate": parts,
                "optimizer.weight_decay": 0.3,
                "runtime.precision": precision,
                "runtime.log_gradient_norm": logged,
            },
        )
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "linear", True, "ones")])
        optimizer = make_optimizer(config.optimizer, RATE, precision)
        optimizer.build(model.trainable_variables)
        steps = TrainingSteps(model, optimizer, config, tf.distribute.get_strategy())
        batch = np.array([[3.0, 4.0]] * 2, "float32"), np.array([0, 0])
        measured = steps(iter(tf.data.Dataset.from_tensors(batch)), 1)
        assert measured.shape == (1, 3 if logged else 2)
        assert measured[0, :2] == pytest.approx([np.log(2), 1.0], rel=1e-5)
        norms += [float(value) for value in measured[0, 2:]]
    # sqrt((9 + 16 + 1) * (1/4 + 1/4)); decay and clipping come after.
    assert norms == pytest.approx([3.6055513] * 2, rel=1e-5)


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

    assert_weights(model, expected(update)[-1])


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


def test_l2_factors() -> None:
    """Kernels, biases, and the variables of norms, ReZero, SkipInit, Fixup and of stacked units."""
    names = ["kernel", "bias", "gamma", "beta", "conv1_kernel", "se_fc1_bias", "norm1_beta"]
    names += ["value", "scale_value"]
    variables = [keras.Variable(np.zeros(2), name=name) for name in names]

    def found(**changes: Any) -> list[str]:
        factors = l2_factors(OptimizerConfig(weight_decay=0.1, **changes), variables)
        assert set(factors) <= {0.0, 0.1}
        return [name for name, factor in zip(names, factors, strict=True) if factor]

    assert found() == names
    assert found(decay_all=False) == ["kernel", "conv1_kernel"]
    biases = ["kernel", "bias", "conv1_kernel", "se_fc1_bias"]
    assert found(decay_all=False, decay_biases=True) == biases
    assert found(name="adamw") == []


# One update of each optimizer on literal numbers.

W, G = [3.0, 4.0], [1.0, -2.0]


def stepped(
    name: str,
    gradients_: Sequence[Any] = (G,),
    weights: Any = W,
    *,
    path: str = "conv/kernel",
    rates: Sequence[float] = (0.01,),
    factors: Any = None,
    **options: Any,
) -> np.ndarray:
    """The weights of one variable after the given gradients, one rate for each."""
    layer, variable_name = path.split("/")
    with keras.name_scope(layer):
        variable = keras.Variable(np.array(weights, "float32"), name=variable_name)
    config = OptimizerConfig(name=name, **options)  # type: ignore[arg-type]
    optimizer = make_optimizer(config, rates[0], "float32", factors)
    optimizer.build([variable])
    update = tf.function(lambda gradient: optimizer.apply([gradient], [variable]))
    for gradient, rate in zip(gradients_, rates, strict=True):
        optimizer.learning_rate = rate
        update(tf.constant(gradient, tf.float32))
    return variable.numpy()


@pytest.mark.parametrize(("form", "share"), [("keras", 0.414), ("pytorch", 0.1)])
def test_momentum_after_the_rate_falls(form: str, share: float) -> None:
    """Goyal et al. 2017, Remark 2: ten steps after a division by 10, with a constant gradient."""
    rates = [0.1] * 100 + [0.01] * 10
    before, after = (
        stepped("sgd", [[1.0]] * n, [0.0], rates=rates[:n], momentum_form=form, weight_decay=0.0)
        for n in (109, 110)
    )
    steady = 0.1 / (1 - 0.9)
    assert (before - after)[0] / steady == pytest.approx(share, abs=1e-3)


def test_first_updates() -> None:
    """By hand, with weights (3, 4), whose norm is 5."""
    lamb = {"weight_decay": 0.1, "epsilon": 1e-12}
    cases = {
        # u = (1 + 0.3, -1 + 0.4), |u| = 1.4317821, ratio 5 / |u| = 3.4921515.
        "lamb": (stepped("lamb", **lamb), [2.95460203, 4.02095291]),
        # No decay: the ratio is 1.
        "lamb, bias": (
            stepped("lamb", **lamb, path="a/bias", decay_all=False),
            [2.99, 4.01],
        ),
        # t = 0.001 x 5 / (1 + 0.1 x 5); t (g + 0.1 w) = (0.003, 0.004); times the rate.
        "lars": (
            stepped("lars", [[0.6, 0.8]], weight_decay=0.1, rates=(2.0,)),
            [2.994, 3.992],
        ),
        "lars, bias": (
            stepped("lars", [[0.6, 0.8]], path="a/bias", decay_all=False, rates=(0.5,)),
            [2.7, 3.6],
        ),
        "lion": (stepped("lion", weight_decay=0.1), [2.987, 4.006]),
        "adamw": (stepped("adamw", weight_decay=0.1, epsilon=1e-12), [2.987, 4.006]),
        # g / (|g| + epsilon) = 1 / 2: the epsilon is added after the correction of the bias.
        "adamw, small": (
            stepped("adamw", [[1e-7, -1e-7]], weight_decay=0.0, epsilon=1e-7),
            [2.995, 4.005],
        ),
        "nesterov": (
            stepped("sgd", weight_decay=0.0, nesterov=True, momentum_form="pytorch"),
            [3.0 - 0.019, 4.0 + 0.038],
        ),
    }
    for name, (found, wanted) in cases.items():
        np.testing.assert_allclose(found, wanted, rtol=2e-6, err_msg=name)


def test_second_updates() -> None:
    """Momentum and means, with another rate in the second step."""
    both, rates = [[1.0, -2.0], [-1.0, -2.0]], (0.1, 0.01)
    none = {"weight_decay": 0.0}
    cases = {
        # v = 0.9 (0.1) + ..: the first update goes on at the old rate.
        "keras": (stepped("sgd", both, rates=rates, **none), [2.9 - 0.08, 4.2 + 0.2]),
        "pytorch": (
            stepped("sgd", both, rates=rates, momentum_form="pytorch", **none),
            [2.9 + 0.001, 4.2 + 0.038],
        ),
        "lars, pytorch": (
            stepped("lars", both, rates=rates, momentum_form="pytorch", **none),
            [2.9 + 0.001, 4.2 + 0.038],
        ),
        # sign(0.9 m + 0.1 g) with m = 0.01 g of the first step.
        "lion": (stepped("lion", both, rates=rates, **none), [2.9 + 0.01, 4.1 + 0.01]),
        # Mean -0.01 / 0.19, square 1 for the first weight; 1 for the second.
        "adamw": (
            stepped("adamw", both, rates=rates, epsilon=1e-12, **none),
            [2.9 + 0.01 * 0.01 / 0.19, 4.1 + 0.01],
        ),
    }
    for name, (found, wanted) in cases.items():
        np.testing.assert_allclose(found, wanted, rtol=2e-6, err_msg=name)


def schulz(value: float) -> float:
    """Five iterations on a singular value."""
    for _ in range(5):
        value = 3.4445 * value - 4.775 * value**3 + 2.0315 * value**5
    return value


def test_muon() -> None:
    """A convolution's kernel as a matrix; the first convolution and the classifier by AdamW."""
    gradient = np.zeros((1, 2, 1, 2), "float32")  # height x width x inputs, and outputs
    gradient[0, 0, 0, 0], gradient[0, 1, 0, 1] = 3.0, -1.0
    changes: dict[str, Any] = {"weight_decay": 0.5, "momentum": 0.95, "rates": (0.01,)}
    found = stepped("muon", [gradient], np.ones((1, 2, 1, 2)), **changes)
    scale = 0.2 * np.sqrt(2)
    large, small = schulz(3 / np.sqrt(10)), schulz(1 / np.sqrt(10))
    assert (large, small) == pytest.approx((0.753033, 1.133706), abs=1e-6)
    expected_ = 0.995 - 0.01 * scale * np.array([[large, 0.0], [0.0, -small]])
    np.testing.assert_allclose(found.reshape(2, 2), expected_, rtol=1e-5)
    # A second step with Nesterov's momentum: g + m (m g + g), in proportion to g.
    other = stepped(
        "muon", [gradient] * 2, np.ones((1, 2, 1, 2)), **{**changes, "rates": (0.0, 0.01)}
    )
    np.testing.assert_allclose(other.reshape(2, 2), expected_, rtol=1e-5)
    for path in ("stem_conv/kernel", "stem_conv1/kernel", "conv/bias"):
        by_adam = stepped("muon", [gradient], np.ones((1, 2, 1, 2)), path=path, **changes)
        signs = np.array([[1.0, 0.0], [0.0, -1.0]])
        np.testing.assert_allclose(by_adam.reshape(2, 2), 0.995 - 0.01 * signs, rtol=1e-5)
    dense = stepped("muon", [gradient[0, :, 0]], np.ones((2, 2)), path="logits/kernel", **changes)
    np.testing.assert_allclose(dense, 0.995 - 0.01 * signs, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "lars", "lion", "muon"])
def test_the_factor_of_a_rate_is_one_of_the_whole_update(name: str) -> None:
    """Also of decoupled decay and of trust ratios."""
    shape = (2, 1, 2, 3)
    rng = np.random.default_rng(3)
    weights, gradient = rng.normal(size=(2, *shape))
    changes: dict[str, Any] = {"weight_decay": 0.1, "momentum_form": "pytorch", "trust": 1.0}
    whole = stepped(name, [gradient], weights, **changes) - weights
    part = stepped(name, [gradient], weights, factors=[0.25], **changes) - weights
    np.testing.assert_allclose(part, 0.25 * whole, rtol=1e-4, atol=1e-7)
    assert np.abs(whole).max() > 1e-6


def test_rate_factors() -> None:
    model = build("resnet18", input_shape=(32, 32, 3), seed=0)
    names = [variable.path for variable in model.trainable_variables]

    def factors(**options: Any) -> dict[str, Any]:
        found = rate_factors(model, **options)
        assert len(found) == len(names)
        return dict(zip(names, found, strict=True))

    assert set(factors().values()) == {1.0}
    by_stage = factors(layer_decay=0.5, head_factor=10.0)
    expected_ = {
        "stem_conv/kernel": 0.03125,
        "stage1_unit2_conv1/kernel": 0.0625,
        "stage4_unit1_shortcut_norm/gamma": 0.5,
        "logits/kernel": 10.0,
        "logits/bias": 10.0,
    }
    assert {name: by_stage[name] for name in expected_} == expected_
    by_unit = factors(layer_decay=0.5, per="unit")
    expected_ = {
        "stem_norm/beta": 0.5**9,
        "stage1_unit1_conv1/kernel": 0.5**8,
        "stage4_unit2_conv2/kernel": 0.5,
        "logits/kernel": 1.0,
    }
    assert {name: by_unit[name] for name in expected_} == expected_
    # Frozen stages have no variables, and the others keep their factors.
    finetune.freeze(model, through=2)
    names = [variable.path for variable in model.trainable_variables]
    frozen = factors(layer_decay=0.5)
    assert "stem_conv/kernel" not in frozen
    assert frozen["stage3_unit1_conv1/kernel"] == 0.25


def test_rate_factors_of_stacked_units() -> None:
    spec = get_spec("cifar_resnet20v2").replace(depths=(3, 2), widths=(4, 8))
    model = build(spec, input_shape=(8, 8, 3), stacked=True)
    found = rate_factors(model, 0.5, per="unit")
    places = {v.path: f for v, f in zip(model.trainable_variables, found, strict=True)}
    stack = places["stage1_units2to3/conv1_kernel"]
    assert stack.shape == (2, 1, 1, 1, 1)
    assert stack.ravel().tolist() == [0.125 / 2, 0.125]
    assert places["final_norm/gamma"] == 0.5  # as the last unit


def test_factors_fit_the_variables() -> None:
    optimizer = make_optimizer(OptimizerConfig(), 0.1, "float32", [1.0, 0.5])
    message = r"`factors` needs one entry per variable \(1\). Received: 2 entries"
    with pytest.raises(ValueError, match=message):
        optimizer.build([keras.Variable(np.zeros(2))])


@pytest.mark.parametrize("kind", [SGD, AdamW, Lamb, Lars, Lion, Muon])
def test_optimizers_are_serialized(kind: Any) -> None:
    factors = [1.0, np.array([[0.5], [0.25]], "float32")]
    optimizer = kind(0.3, factors=factors, decay=0.1, decayed="kernels")
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is kind
    assert again.get_config() == optimizer.get_config()
    assert again.factors == [1.0, [[0.5], [0.25]]]
