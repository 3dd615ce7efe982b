"""RepVGG's training form made plain: the same function, the papers' parameter counts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec, ResNet, ResNetSpec, build
from keras_resnet.reparam import deploy, fuse

SPEC = ResNetSpec(
    "rep", (2, 3), (6, 9), branch="repvgg", stem="unit", stem_width=6, classes=5, input_size=17
)


def _randomize(model: keras.Model, seed: int = 0) -> keras.Model:
    """Random weights and statistics, of a size that keeps the activations' variance."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.weights[0].shape[0]
            gamma, variance = rng.uniform(0.5, 1.5, size), rng.uniform(0.5, 2, size)
            gamma *= rng.choice([-1, 1], size)
            layer.set_weights([gamma, rng.normal(0, 0.3, size), rng.normal(0, 0.3, size), variance])
        elif layer.weights:
            layer.set_weights(
                [
                    rng.normal(0, np.prod(w.shape[:-1]) ** -0.5 if w.ndim > 1 else 0.3, w.shape)
                    for w in layer.get_weights()
                ]
            )
    return model


def _run(model: keras.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    outputs = model(keras.ops.convert_to_tensor(x), training=False)
    outputs = outputs if isinstance(outputs, dict) else {"only": outputs}
    return {key: keras.ops.convert_to_numpy(value) for key, value in outputs.items()}


def _assert_same(model: keras.Model, fused: keras.Model, *shape: int) -> None:
    x = np.random.default_rng(9).normal(size=(3, *shape)).astype("float32")
    wanted, given = _run(model, x), _run(fused, x)
    assert list(given) == list(wanted)
    for key, values in wanted.items():
        # Examples differ: the comparison is not one of constants.
        assert np.abs(values - values[:1]).max() > 0.01 * np.abs(values).max() > 1e-4
        assert np.abs(given[key] - values).max() < 1e-4 * np.abs(values).max()


@pytest.mark.parametrize("size", [16, 17, 23])
@pytest.mark.parametrize("stem", ["unit", "cifar", "imagenet", "deep"])
def test_the_plain_net_computes_the_same(stem, size):
    model = _randomize(build(SPEC.replace(stem=stem), input_shape=(size, size, 3)))
    fused = fuse(model)
    _assert_same(model, fused, size, size, 3)
    kinds = {type(layer).__name__ for layer in fused.layers if layer.weights}
    assert kinds == {"Conv2D", "Dense"}
    assert not any(isinstance(layer, keras.layers.Add) for layer in fused.layers)


@pytest.mark.parametrize(
    "changes",
    [
        {"conv_bias": True},
        {"first_stride": 2},
        {"max_stride": 2},
        {"depths": (1, 2), "norm_eps": 0.1},
    ],
    ids=str,
)
def test_other_specs(changes):
    model = _randomize(build(SPEC.replace(**changes), input_shape=(18, 19, 3)))
    _assert_same(model, fuse(model), 18, 19, 3)


@pytest.mark.parametrize(("dims", "shape"), [(1, (33, 2)), (3, (9, 8, 10, 2))])
def test_signals_and_volumes(dims, shape):
    model = _randomize(build(SPEC, dims=dims, input_shape=shape))
    _assert_same(model, fuse(model), *shape)


@pytest.mark.parametrize(
    "form",
    [
        {"include_top": False},
        {"include_top": False, "pooling": "max"},
        {"features": ("C2", "C3")},
        {"classes": 7, "classifier_activation": "softmax"},
        {"input_shape": (None, None, 3)},
    ],
    ids=str,
)
def test_the_form_is_kept(form):
    model = _randomize(build(SPEC, **form))
    model.preprocess = PreprocessSpec((17, 17), (3.0,), (2.0,))
    fused = fuse(model)
    _assert_same(model, fused, 17, 17, 3)
    assert fused.preprocess == model.preprocess
    assert (fused.name, fused.spec.name, fused.spec.branch) == ("rep", "rep_fused", "single")


def test_the_model_is_left_as_it_was_and_the_copy_stands_alone(tmp_path):
    model = _randomize(build(SPEC))
    before = model.get_weights()
    fused = fuse(model)
    fused.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    assert loaded.spec == fused.spec
    _assert_same(model, loaded, 17, 17, 3)
    fused.set_weights([value * 0 for value in fused.get_weights()])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_after_training():
    model = build(SPEC, seed=0)
    model.compile(keras.optimizers.SGD(0.05), "mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 3, (64, 17, 17, 3)).astype("float32"), rng.normal(size=(64, 5))
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert np.abs(model.get_layer("stem_norm1").get_weights()[2]).max() > 0.1
    _assert_same(model, fuse(model), 17, 17, 3)


# Ding et al. 2021 (arXiv:2101.03697), Table 3: millions of parameters, deployed.
@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("a0", 8.31),
        pytest.param("a1", 12.79, marks=pytest.mark.slow),
        pytest.param("a2", 25.50, marks=pytest.mark.slow),
        pytest.param("b0", 14.34, marks=pytest.mark.slow),
        pytest.param("b1", 51.83, marks=pytest.mark.slow),
    ],
)
def test_published_counts(name, millions):
    fused = fuse(build(f"repvgg_{name}", input_shape=(32, 32, 3)))
    assert round(fused.count_params() / 1e6, 2) == millions


def test_deploy_takes_the_way_that_fits():
    repvgg = _randomize(build(SPEC))
    assert deploy(repvgg).spec.branch == "single"
    other = _randomize(build(SPEC.replace(branch="basic", stem="cifar")))
    same = _randomize(build(SPEC.replace(padding="same")))
    for model in (repvgg, other, same):
        deployed = deploy(model)
        _assert_same(model, deployed, 17, 17, 3)
        assert isinstance(deployed, ResNet)
        assert deployed.count_params() < model.count_params()
    rewired = keras.Model(repvgg.input, repvgg.get_layer("stage1_unit2_out").output)
    _assert_same(rewired, deploy(rewired), 17, 17, 3)


def test_what_cannot_be_fused():
    with pytest.raises(ValueError, match="folded by `fold_batch_norm`.*resnet20 with branch='basi"):
        fuse(build("cifar_resnet20"))
    with pytest.raises(ValueError, match="only where padding='symmetric'.*padding='same'"):
        fuse(build(SPEC.replace(padding="same")))
    inputs = keras.Input((4, 4, 3))
    with pytest.raises(TypeError, match="must be a net made by `build`. Received: Functional"):
        fuse(keras.Model(inputs, inputs))
