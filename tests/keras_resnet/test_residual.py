"""`residual`: the unit's arithmetic, whatever the tensor, the branch and the backend."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from keras_resnet.functional import residual

SHAPES = {1: (6,), 2: (5, 6), 3: (4, 5, 6), 4: (3, 4, 5, 6)}


def _values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _run(model: keras.Model, x: np.ndarray, training: bool = False) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x), training=training))


def _unit(shape: tuple[int, ...], branch: object = None, **arguments: object) -> keras.Model:
    inputs = keras.Input(shape)
    branch = branch or layers.Dense(shape[-1], activation="tanh", name="branch")
    return keras.Model(inputs, residual(inputs, branch, **{"name": "u", **arguments}))


def _dense(model: keras.Model, name: str, x: np.ndarray) -> np.ndarray:
    """What a dense layer of the model returns, in float64."""
    kernel, *bias = (np.asarray(w, "float64") for w in model.get_layer(name).get_weights())
    return x.astype("float64") @ kernel + (bias[0] if bias else 0)


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("merge", ["rezero", "skipinit"])
def test_a_unit_with_a_multiplier_starts_as_its_shortcut(merge, rank):
    shape = SHAPES[rank]
    x = _values(2, *shape)
    model = _unit(shape, merge=merge)
    np.testing.assert_array_equal(_run(model, x), x)
    model.get_layer("u_scale").set_weights([np.array([0.5])])
    wanted = x + 0.5 * np.tanh(_dense(model, "branch", x))
    np.testing.assert_allclose(_run(model, x), wanted, atol=1e-5)


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("merge", ["add", "none", "highway"])
def test_merges_without_a_multiplier(merge, rank):
    x = _values(2, *SHAPES[rank])
    model = _unit(SHAPES[rank], merge=merge)
    added = np.tanh(_dense(model, "branch", x))
    wanted = {"add": x + added, "none": added}.get(merge)
    if merge == "highway":
        gate = 1 / (1 + np.exp(-_dense(model, "u_gate_conv", x)))
        assert model.get_layer("u_gate_conv").get_weights()[1].tolist() == [-3.0] * 6
        assert 1e-4 < gate.min() < gate.max() < 0.7
        wanted = gate * added + (1 - gate) * x
    np.testing.assert_allclose(_run(model, x), wanted, atol=1e-5)


@pytest.mark.parametrize("rank", SHAPES)
def test_a_projection_stands_where_channels_differ_and_only_there(rank):
    shape = SHAPES[rank]
    x = _values(2, *shape)
    wider = _unit(shape, layers.Dense(9, name="branch"), shortcut="projection")
    assert [w.shape for w in wider.get_layer("u_shortcut").get_weights()] == [(6, 9)]
    wanted = _dense(wider, "branch", x) + _dense(wider, "u_shortcut", x)
    np.testing.assert_allclose(_run(wider, x), wanted, atol=1e-5)
    same = _unit(shape, shortcut="projection")
    assert "u_shortcut" not in {layer.name for layer in same.layers}


def test_paths_may_be_functions_layers_and_models():
    inputs = keras.Input((8, 8, 3))

    def branch(x):
        x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv1")(x)
        return layers.Conv2D(4, 3, padding="same", name="conv2")(x)

    pooled = layers.AveragePooling2D(2, name="pool")
    wider = layers.Conv2D(4, 1, use_bias=False, name="wider")
    outputs = residual(inputs, branch, lambda x: wider(pooled(x)), name="u")
    twin = keras.Model(inputs, branch(inputs))
    nested = keras.Model(inputs, residual(inputs, twin, lambda x: wider(pooled(x))))
    model = keras.Model(inputs, outputs)
    x = _values(2, 8, 8, 3)
    mean = x.reshape(2, 4, 2, 4, 2, 3).mean((2, 4))
    for net, plain in (
        (model, keras.Model(inputs, model.get_layer("conv2").output)),
        (nested, twin),
    ):
        wanted = _run(plain, x) + mean @ wider.get_weights()[0][0, 0]
        np.testing.assert_allclose(_run(net, x), wanted, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="its CPU kernels are NHWC")
def test_channels_first():
    keras.config.set_image_data_format("channels_first")
    inputs = keras.Input((3, 4, 5))
    branch = layers.Conv2D(6, 1, name="branch")
    x = _values(2, 3, 4, 5)
    for merge in ("add", "highway"):
        model = keras.Model(inputs, residual(inputs, branch, "projection", merge, name="u"))
        kernel = model.get_layer("u_shortcut").get_weights()[0]
        assert kernel.shape == (1, 1, 3, 6)
        carried = np.einsum("bchw,cf->bfhw", x, kernel[0, 0])
        added = _run(keras.Model(inputs, branch(inputs)), x)
        gate = 0.5
        if merge == "highway":
            gate_kernel, bias = model.get_layer("u_gate_conv").get_weights()
            logits = np.einsum("bchw,cf->bfhw", carried, gate_kernel[0, 0]) + bias[0]
            gate = 1 / (1 + np.exp(-logits))
        wanted = gate * added + (1 - gate) * carried if merge == "highway" else carried + added
        np.testing.assert_allclose(_run(model, x), wanted, atol=1e-5)
    # Sequences have their channels last nonetheless.
    steps = keras.Input((5, 3))
    model = keras.Model(steps, residual(steps, layers.Dense(7), "projection", name="u"))
    assert model.get_layer("u_shortcut").get_weights()[0].shape == (3, 7)


def test_the_branch_is_dropped_in_training_alone():
    model = _unit((4,), stochastic_depth=0.5, seed=1)
    x = _values(400, 4)
    added = _run(model, x) - x
    assert np.abs(added).max(-1).min() > 1e-3
    change = _run(model, x, training=True) - x
    dropped = np.abs(change).max(-1) == 0
    assert 150 < dropped.sum() < 250
    np.testing.assert_allclose(change[~dropped], 2 * added[~dropped], atol=1e-5)


def test_seeds_and_names():
    keras.utils.clear_session(free_memory=False)  # counts names from the start
    inputs = keras.Input((4,))
    first = residual(inputs, layers.Dense(8), "projection", "rezero", stochastic_depth=0.1)
    model = keras.Model(inputs, residual(first, layers.Dense(8), merge="highway"))
    names = [layer.name for layer in model.layers if layer.name.startswith("residual")]
    assert sorted(names) == [
        "residual_1_gate_conv",
        "residual_1_merge",
        "residual_drop",
        "residual_merge",
        "residual_scale",
        "residual_shortcut",
    ]

    def kernel(seed, name):
        unit = _unit((4,), layers.Dense(8), shortcut="projection", seed=seed, name=name)
        return unit.get_layer(f"{name}_shortcut").get_weights()[0]

    np.testing.assert_array_equal(kernel(3, "u"), kernel(3, "u"))
    assert np.abs(kernel(3, "u") - kernel(4, "u")).max() > 0.01
    assert np.abs(kernel(3, "u") - kernel(3, "v")).max() > 0.01
    assert np.abs(kernel(None, "u") - kernel(None, "u")).max() > 0.01


@pytest.mark.parametrize("merge", ["add", "none", "rezero", "highway"])
def test_keras_file(merge, tmp_path):
    drop = 0.0 if merge == "none" else 0.2
    model = _unit(
        (5, 6), layers.Dense(9), shortcut="projection", merge=merge, stochastic_depth=drop, seed=2
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    model.save(tmp_path / "unit.keras")
    loaded = keras.saving.load_model(tmp_path / "unit.keras")
    x = _values(2, 5, 6)
    np.testing.assert_allclose(_run(loaded, x), _run(model, x), rtol=1e-6, atol=1e-6)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


def test_the_branch_learns_from_the_second_step_on():
    """At a multiplier of 0 only the multiplier has a gradient; after one step the branch has."""
    model = _unit((4,), merge="rezero")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = _values(32, 4), _values(32, 4, seed=1)
    kernels = [model.get_layer("branch").get_weights()[0]]
    for _ in range(2):
        model.train_on_batch(x, y)
        kernels.append(model.get_layer("branch").get_weights()[0])
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[1] - kernels[2]).max() > 1e-6
    assert abs(float(model.get_layer("u_scale").get_weights()[0][0])) > 1e-4


@pytest.mark.parametrize("merge", ["add", "rezero", "highway"])
def test_masks_go_on(merge):
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(10, 4, mask_zero=True)(inputs)
    x = residual(x, layers.Dense(4), merge=merge, stochastic_depth=0.1)
    outputs = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, outputs)
    short, long = np.array([[1, 2, 0, 0, 0]]), np.array([[1, 2, 1, 2, 0]])
    # A mean over what is not masked alone.
    np.testing.assert_allclose(_run(model, short), _run(model, long), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"merge": "fixup"}, ValueError, r"ResNetSpec\(norm='fixup'.*merge='skipinit'"),
        ({"merge": "sum"}, ValueError, r"`merge` must be one of 'add', .*merge='sum'"),
        ({"shortcut": "A"}, ValueError, r"`shortcut` must be 'identity', .*shortcut='A'"),
        ({"shortcut": 3}, ValueError, r"`shortcut` must be .*shortcut=3"),
        ({"branch": "dense"}, TypeError, r"`branch` must be a layer or a function.*'dense'"),
        ({"x": np.zeros((2, 4))}, TypeError, r"`x` must be a Keras tensor.*ndarray"),
        ({"branch": lambda x: [x, x]}, TypeError, r"`branch` must return one Keras tensor.*list"),
        ({"shortcut": lambda x: None}, TypeError, r"`shortcut` must return one.*NoneType"),
        ({"stochastic_depth": 1.0}, ValueError, r"must lie in \[0, 1\).*stochastic_depth=1.0"),
        ({"stochastic_depth": 0.1, "merge": "none"}, ValueError, r"needs a shortcut"),
        (
            {"branch": layers.Dense(5)},
            ValueError,
            r"shortcut has shape \(None, 6, 4\), the branch \(None, 6, 5\).*'projection'",
        ),
        (
            {"branch": layers.Conv1D(5, 1, strides=2)},
            ValueError,
            r"\(None, 6, 4\), the branch \(None, 3, 5\).*maps channels alone: pass a layer",
        ),
        (
            {"branch": layers.Conv1D(5, 1, strides=2), "shortcut": "projection"},
            ValueError,
            r"\(None, 6, 5\), the branch \(None, 3, 5\).*maps channels alone: pass a layer",
        ),
        (
            {"branch": layers.GlobalAveragePooling1D(), "shortcut": "projection"},
            ValueError,
            r"\(None, 6, 4\), the branch \(None, 4\).*pass a layer or a function",
        ),
        (
            # Keras's `Add` would broadcast it.
            {"branch": layers.GlobalAveragePooling1D(keepdims=True)},
            ValueError,
            r"\(None, 6, 4\), the branch \(None, 1, 4\)",
        ),
        (
            {"shortcut": layers.Dense(7), "merge": "highway"},
            ValueError,
            r"\(None, 6, 7\), the branch \(None, 6, 4\).*The output of `shortcut` must have",
        ),
    ],
)
def test_errors(arguments, error, message):
    given = {"x": keras.Input((6, 4)), "branch": layers.Dense(4), **arguments}
    with pytest.raises(error, match=message):
        residual(given.pop("x"), given.pop("branch"), **given)


def test_an_unknown_length_is_no_error():
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, residual(inputs, layers.Dense(6), "projection"))
    assert _run(model, _values(2, 3, 4)).shape == (2, 3, 6)
    assert _run(model, _values(2, 7, 4)).shape == (2, 7, 6)
