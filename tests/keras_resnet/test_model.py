"""`ResNet` as a Keras model: saved, loaded, cloned, extended, and very deep."""

from __future__ import annotations

import inspect
import re
import sys

import keras
import numpy as np
import pytest

from keras_resnet import PadChannels, ResNet, ResNetSpec, build
from keras_resnet.analysis import count
from keras_resnet.nets.model import deep_graph

TINY = ResNetSpec("tiny", (1, 1), (4, 8), shortcut="A", stem="cifar", classes=3, input_size=8)


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=shape).astype("float32")


def _equal_outputs(one: keras.Model, other: keras.Model) -> None:
    x = _images(2, *one.input_shape[1:])
    wanted = one.predict(x, verbose=0)
    assert wanted.std() > 1e-3
    np.testing.assert_array_equal(other.predict(x, verbose=0), wanted)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_keras_file_round_trip(tmp_path, randomize, policy):
    keras.config.set_dtype_policy(policy)
    model = build(TINY, name="mine", classifier_activation="softmax")
    randomize(model, 1)
    model.save(tmp_path / "net.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert type(loaded) is ResNet
    assert loaded.spec == TINY
    assert loaded.name == "mine"
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert loaded.get_layer("stem_conv").compute_dtype == policy.removeprefix("mixed_")
    _equal_outputs(model, loaded)


def test_compiled_state_round_trip(tmp_path):
    model = build(TINY, seed=1)
    model.compile("sgd", "mse", jit_compile=False)
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert loaded.compiled
    assert loaded.loss == "mse"


def test_config_is_json_and_makes_the_net_again():
    model = build(TINY, include_top=False, pooling="avg")
    copy = keras.models.model_from_json(model.to_json())
    assert copy.spec == TINY
    assert copy.output_shape == (None, 8)
    assert isinstance(copy.get_layer("stage2_unit1_shortcut_pad"), PadChannels)


def test_a_rewired_net_survives_saving(tmp_path, randomize):
    """What stands in the file is the layer graph, not a call of `build`."""
    base = build(TINY, include_top=False)
    maps = [base.get_layer(f"stage{stage}_unit1_out").output for stage in (1, 2)]
    model = keras.Model(base.input, [keras.layers.Conv2D(2, 1)(x) for x in maps])
    randomize(model, 1)
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    x = _images(2, 8, 8, 3)
    pairs = zip(model.predict(x, verbose=0), loaded.predict(x, verbose=0), strict=True)
    for wanted, got in pairs:
        np.testing.assert_array_equal(got, wanted)
    assert [shape[1:] for shape in loaded.output_shape] == [(8, 8, 2), (4, 4, 2)]


def test_a_net_as_a_layer_survives_saving(tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(build(TINY, include_top=False)(inputs)))
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert loaded.get_layer("tiny").spec == TINY
    _equal_outputs(model, loaded)


def test_clone():
    model = build(TINY, seed=1)
    clone = keras.models.clone_model(model)
    assert [layer.name for layer in clone.layers] == [layer.name for layer in model.layers]
    assert not np.allclose(
        clone.get_layer("stem_conv").get_weights()[0] + 1, model.get_layer("stem_conv").kernel
    )
    assert type(clone) is ResNet  # so that a deep net can be cloned too
    clone.set_weights(model.get_weights())
    _equal_outputs(model, clone)


def test_a_model_not_made_by_build_has_no_spec():
    inputs = keras.Input((4,), name="x")
    model = ResNet(inputs, keras.layers.Dense(2)(inputs), name="other")
    with pytest.raises(ValueError, match=re.escape("Model 'other' has no ResNetSpec")):
        _ = model.spec
    assert model.get_config()["spec"] is None
    assert type(ResNet.from_config(model.get_config())) is ResNet


def test_deep_graph_gives_the_limit_back():
    limit = sys.getrecursionlimit()
    with deep_graph():
        assert sys.getrecursionlimit() >= 100_000
        with deep_graph():
            assert sys.getrecursionlimit() >= 100_000
        assert sys.getrecursionlimit() >= 100_000
    assert sys.getrecursionlimit() == limit
    with pytest.raises(RuntimeError, match="inside"), deep_graph():
        raise RuntimeError("inside")
    assert sys.getrecursionlimit() == limit
    sys.setrecursionlimit(200_000)
    try:
        with deep_graph():
            assert sys.getrecursionlimit() == 200_000
    finally:
        sys.setrecursionlimit(limit)


def test_deep_nets_survive_saving(tmp_path, randomize):
    """Keras alone cannot walk a plain net of more layers than Python's recursion limit."""
    spec = TINY.replace(
        depths=(90,), widths=(4,), shortcut="B", merge="none", norm="none", conv_bias=True
    )
    before = sys.getrecursionlimit()
    limit = len(inspect.stack(0)) + 300  # fewer layers than the usual 1,000 build sooner
    sys.setrecursionlimit(limit)
    try:
        model = build(spec, stacked=False)
        randomize(model, 1)
        with pytest.raises(RecursionError, match="maximum recursion depth exceeded"):
            keras.Model(model.input, model.output)
        model.save(tmp_path / "net.keras")
        loaded = keras.saving.load_model(tmp_path / "net.keras")
        assert sys.getrecursionlimit() == limit
    finally:
        sys.setrecursionlimit(before)
    assert loaded.spec == spec
    x = _images(2, 8, 8, 3)
    wanted, output = (keras.ops.convert_to_numpy(net(x)) for net in (model, loaded))
    assert wanted.std() > 1e-3
    np.testing.assert_array_equal(output, wanted)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"), [("cifar_resnet1202", 19_421_274), ("cifar_resnet1001v2", 10_327_706)]
)
def test_the_deepest_nets_build(name, parameters):
    limit = sys.getrecursionlimit()
    model = build(name)
    counts = count(model)
    assert counts.parameters == parameters
    assert counts.layers == model.spec.layers
    assert sys.getrecursionlimit() == limit
