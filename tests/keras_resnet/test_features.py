"""Stage outputs: `features=`, `pyramid_outputs`, and nets as encoders of other models."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from keras_resnet import ResNet, ResNetSpec, build

SPEC = ResNetSpec("tiny", (1, 2, 1), (4, 8, 12), stem="cifar", classes=3, input_size=8)
# The layer that ends each stage.
POST = {"C2": "stage1_unit1_out", "C3": "stage2_unit2_out", "C4": "stage3_unit1_out"}
PRE = {"C2": "stage1_unit1_merge", "C3": "stage2_unit2_merge", "C4": "final_act"}


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def _run(model: keras.Model, x: np.ndarray):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


@pytest.mark.parametrize(("order", "ends"), [("post", POST), ("pre", PRE)])
def test_features_are_the_stages_ends_of_the_whole_net(order, ends):
    spec, x = SPEC.replace(order=order), _images(2, 9, 8, 3)
    model = build(spec, features=True, seed=1, input_shape=(9, 8, 3))
    shapes = {level: tensor.shape for level, tensor in model.output.items()}
    assert shapes == {"C2": (None, 9, 8, 4), "C3": (None, 5, 4, 8), "C4": (None, 3, 2, 12)}
    assert list(shapes) == ["C2", "C3", "C4"]
    whole = build(spec, seed=1, input_shape=(9, 8, 3))
    outputs = {level: whole.get_layer(layer).output for level, layer in ends.items()}
    wanted, maps = _run(keras.Model(whole.input, outputs), x), _run(model, x)
    assert set(maps) == set(wanted)
    for level in wanted:
        assert wanted[level].std() > 0.1
        np.testing.assert_array_equal(maps[level], wanted[level])
    assert (maps["C3"].min() < 0) == (order == "pre")  # a sum there, not rectified
    assert maps["C4"].min() == 0


@pytest.mark.parametrize("levels", [("C4", "C2"), "C3"])
def test_any_of_the_stages(levels):
    model = build(SPEC, features=levels, seed=1)
    names = [levels] if isinstance(levels, str) else list(levels)
    assert list(model.output) == names
    x = _images(2, 8, 8, 3)
    maps, every = _run(model, x), _run(build(SPEC, features=True, seed=1), x)
    for level in names:
        np.testing.assert_array_equal(maps[level], every[level])
    layers = {layer.name for layer in model.layers}
    assert ("stage3_unit1_out" in layers) == ("C4" in names)  # nothing beyond is made
    assert "logits" not in layers


@pytest.mark.parametrize(
    ("features", "received"),
    [
        (["C5"], "features=['C5']"),
        (["C1"], "features=['C1']"),
        ("P2", "features='P2'"),
        (["C2", "C2"], "features=['C2', 'C2']"),
        ([], "features=[]"),
    ],
)
def test_refuses_other_names(features, received):
    message = (
        "`features` must be True or names of stage outputs, each once: C2, C3, C4. "
        f"Received: {received}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        build(SPEC, features=features)


def test_features_are_not_pooled():
    message = "`features` returns maps, which `pooling` would not apply to. Received: features=True"
    with pytest.raises(ValueError, match=re.escape(message)):
        build(SPEC, features=True, pooling="avg")


@pytest.mark.parametrize(("order", "top"), [("post", True), ("pre", False)])
def test_pyramid_outputs_and_files(order, top, tmp_path):
    ends = POST if order == "post" else PRE
    model = build(SPEC.replace(order=order), include_top=top, seed=1)
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    x, values = _images(2, 8, 8, 3), []
    for net in (model, loaded):
        assert list(net.pyramid_outputs) == ["P2", "P3", "P4"]
        for level, layer in ends.items():
            assert net.pyramid_outputs[f"P{level[1:]}"] is net.get_layer(layer).output
        values.append(_run(keras.Model(net.input, net.pyramid_outputs), x))
    for level in values[0]:
        np.testing.assert_array_equal(values[1][level], values[0][level])


def test_features_survive_saving(tmp_path):
    model = build(SPEC, features=["C2", "C3"], seed=1)
    assert list(model.pyramid_outputs) == ["P2", "P3"]
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert type(loaded) is ResNet
    assert loaded.spec == SPEC
    assert list(loaded.pyramid_outputs) == ["P2", "P3"]
    x = _images(2, 8, 8, 3)
    wanted, maps = _run(model, x), _run(loaded, x)
    assert set(maps) == {"C2", "C3"}
    for level in wanted:
        np.testing.assert_array_equal(maps[level], wanted[level])


def test_a_model_not_made_by_build_has_no_pyramid():
    inputs = keras.Input((4,))
    assert ResNet(inputs, keras.layers.Dense(2)(inputs)).pyramid_outputs == {}


# Keras 3.8 warns that a list of one input is called with a tensor.
@pytest.mark.filterwarnings("ignore:[\\s\\S]*structure of `inputs`")
def test_one_encoder_in_two_places():
    """What KerasHub's detectors do: wrap the net, and call it in a model of their own."""
    net = build(SPEC, include_top=False, seed=1)
    encoder = keras.Model(net.inputs, net.pyramid_outputs)
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    one, two = encoder(left), encoder(right)
    siamese = keras.Model([left, right], keras.layers.Subtract()([one["P3"], two["P3"]]))
    assert siamese.count_params() == net.count_params()
    x = _images(4, 8, 8, 3)
    maps = _run(encoder, [x])["P3"]
    assert maps.shape == (4, 4, 4, 8)
    output = _run(siamese, [x[:2], x[2:]])
    np.testing.assert_allclose(output, maps[:2] - maps[2:], atol=1e-6)
    # The net itself is as it was.
    np.testing.assert_allclose(_run(net, x), _run(encoder, [x])["P4"], atol=1e-6)


def test_a_net_of_features_as_a_layer():
    net = build(SPEC, features=["C2", "C4"], seed=1)
    inputs = keras.Input((8, 8, 3))
    maps = net(inputs)
    model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(maps["C4"]))
    x = _images(2, 8, 8, 3)
    np.testing.assert_allclose(_run(model, x), _run(net, x)["C4"].max((1, 2)), atol=1e-6)
