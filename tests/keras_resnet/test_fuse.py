"""RepVGG fused into plain nets: the same function, with the paper's parameter counts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec, ResNet, ResNetSpec, build, get_spec
from keras_resnet.analysis import count_spec
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


@pytest.mark.parametrize(
    ("stem", "size"), [("unit", 16), ("unit", 17), ("cifar", 16), ("imagenet", 23), ("deep", 17)]
)
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
        {"conv_bias": True, "first_stride": 2},
        {"max_stride": 2, "depths": (1, 2), "norm_eps": 0.1},
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
        {"include_top": False, "pooling": "max"},
        {"features": ("C2", "C3")},
        {"classes": 7, "classifier_activation": "softmax", "input_shape": (None, None, 3)},
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


def test_a_trained_net_is_not_changed_and_the_copy_is_independent(tmp_path):
    model = build(SPEC, seed=0)
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    rng = np.random.default_rng(0)
    x, y = rng.normal(2, 3, (64, 17, 17, 3)).astype("float32"), rng.normal(size=(64, 5))
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert np.abs(model.get_layer("stem_norm1").get_weights()[2]).max() > 0.1
    before = model.get_weights()
    fused = fuse(model)
    fused.save(tmp_path / "plain.keras")
    loaded = keras.saving.load_model(tmp_path / "plain.keras")
    assert loaded.spec == fused.spec
    _assert_same(model, loaded, 17, 17, 3)
    fused.set_weights([value * 0 for value in fused.get_weights()])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.usefixtures("undrawn")
def test_published_counts():
    """Ding et al. 2021 (arXiv:2101.03697), Table 3: millions of parameters, deployed."""
    plain = fuse(build(SPEC)).spec
    for name, millions in {"a0": 8.31, "a1": 12.79, "a2": 25.50, "b0": 14.34, "b1": 51.83}.items():
        spec = get_spec(f"repvgg_{name}")
        form = {"branch": plain.branch, "merge": plain.merge, "norm": plain.norm}
        counts = count_spec(spec.replace(conv_bias=plain.conv_bias, **form))
        assert (counts.state, round(counts.parameters / 1e6, 2)) == (0, millions)


def test_deploy_fuses_or_folds():
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
    with pytest.raises(
        ValueError, match="use `fold_batch_norm` for other networks.*resnet8 with branch='basi"
    ):
        fuse(build("mlperf_tiny_resnet8"))
    with pytest.raises(ValueError, match="only with padding='symmetric'.*padding='same'"):
        fuse(build(SPEC.replace(padding="same")))
    inputs = keras.Input((4, 4, 3))
    with pytest.raises(TypeError, match="must be a net made by `build`. Received: Functional"):
        fuse(keras.Model(inputs, keras.layers.ReLU()(inputs)))
