"""Idioms of apps that use keras.applications: they work here, or say what to write."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import ResNetSpec, application_factory, build, variants
from keras_resnet.application_factory import application
from keras_resnet.finetune import freeze

SPEC = ResNetSpec("tiny", (1, 2), (4, 6), stem="cifar", classes=3, input_size=8)


def _small(monkeypatch, name: str):
    """Returns the application function of a net of the catalog, made small, and its spec."""
    spec = variants[name].replace(depths=(1, 1, 1, 1), widths=(4, 4, 8, 8), stem_width=4)
    monkeypatch.setattr(application_factory, "VARIANTS", {name: spec})
    return application(name), spec


# keras.applications' own tests (keras/src/applications/applications_test.py), for these nets.


@pytest.mark.parametrize("name", ["resnet50", "resnet50v2"])
def test_keras_applications_tests(tmp_path, monkeypatch, name):
    function, spec = _small(monkeypatch, name)
    width = spec.widths[-1] * spec.expansion
    whole = function(weights=None, input_shape=(32, 32, 3))
    assert whole.output_shape == (None, 1000)
    head = whole.layers[-1]
    assert type(head) is keras.layers.Dense
    assert (head.name, head.activation) == ("predictions", keras.activations.softmax)
    whole.save(tmp_path / "net.keras")
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    again = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), whole.predict(x, verbose=0))
    copy = whole.__class__.from_config(whole.get_config())
    assert len(copy.weights) == len(whole.weights)
    # Without the top.
    bare = function(weights=None, include_top=False, input_shape=(None, None, 4))
    assert bare.output_shape == (None, None, None, width)
    pooled = function(weights=None, include_top=False, pooling="max")
    assert pooled.output_shape == (None, width)
    shaped = function(weights=None, include_top=False, input_shape=(64, 32, 3))
    assert shaped.output_shape == (None, 2, 1, width)
    tensor = keras.Input((32, 32, 3))
    assert function(weights=None, input_tensor=tensor).input is tensor
    swish = function(weights=None, input_shape=(32, 32, 3), classifier_activation="silu")
    assert swish.layers[-1].activation is keras.activations.silu
    # Errors.
    for arguments in (
        {"weights": "no_such_file.keras"},
        {"weights": 3},
        {"weights": None, "input_tensor": np.zeros((1, 32, 32, 3))},
        {"weights": None, "input_shape": (8, 8, 3)},
        {"weights": "imagenet", "classes": 10},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            function(**arguments)


# Names of layers.


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", ["resnet50", "resnet50v2"])
def test_names_of_keras_applications(monkeypatch, name):
    """Every layer of theirs has a counterpart of its kind here, except explicit padding."""
    theirs = {"resnet50": keras.applications.ResNet50, "resnet50v2": keras.applications.ResNet50V2}
    peer = theirs[name](weights=None, input_shape=(32, 32, 3))
    model = build(
        variants[name].replace(widths=(4, 4, 8, 8), stem_width=4), input_shape=(32, 32, 3)
    )
    kinds = (keras.layers.Conv2D, keras.layers.BatchNormalization, keras.layers.Dense)
    for layer in peer.layers:
        skipped = isinstance(
            layer,
            keras.layers.InputLayer | keras.layers.ZeroPadding2D | keras.layers.MaxPooling2D,
        )
        # Their pre-activation stem has no norm, ours has; theirs activates in the first unit.
        if skipped or "conv2_block1_preact" in layer.name:
            continue
        ours = model.get_layer(layer.name)
        for kind in kinds:
            assert isinstance(ours, kind) == isinstance(layer, kind), layer.name
    assert model.get_layer("conv5_block3_out").name == (
        "stage4_unit3_out" if name == "resnet50" else "stage4_unit3_merge"
    )
    assert model.get_layer("avg_pool").name == "pool"
    assert model.get_layer(index=0) is model.layers[0]


def test_missing_layers_are_answered():
    model = build(SPEC)
    with pytest.raises(ValueError, match="calls it 'stage4_unit3_out', which this net does not"):
        model.get_layer("conv5_block3_out")
    with pytest.raises(ValueError, match="No such layer: 'stem_cnov'. Similar names: stem_conv"):
        model.get_layer("stem_cnov")
    model = build(SPEC, layer_names="keras.applications")
    with pytest.raises(ValueError, match="Similar names: conv3_block2_out, conv3_block1_out"):
        model.get_layer("conv3_block2_outt")
    with pytest.raises(ValueError, match="does not have. Similar names: conv3_block2_out"):
        model.get_layer("conv3_block3_out")
    with pytest.raises(ValueError, match="Similar names: .*avg_pool, logits"):
        model.get_layer("zzz")
    stacked = build(SPEC.replace(depths=(3, 1)), stacked=True)
    with pytest.raises(ValueError, match="'stage1_unit2_out' is inside a layer .* `stacked=False`"):
        stacked.get_layer("conv2_block2_out")


def test_names_of_keras_applications_in_features_and_heat_maps():
    """Grad-CAM tutorials give the last layer by this name, also of a net inside an app."""
    model, x = build(SPEC, seed=1), np.ones((1, 8, 8, 3), "float32")
    app = keras.Sequential([keras.Input((8, 8, 3)), model])
    for outer in (model, app):
        named = keras_resnet.features(outer, x, "conv3_block2_out")
        np.testing.assert_array_equal(named, keras_resnet.features(outer, x, "C3"))
        heat = keras_resnet.gradcam(outer, x, "conv3_block2_out")
        np.testing.assert_array_equal(heat, keras_resnet.gradcam(outer, x, "C3"))
    with pytest.raises(ValueError, match="has no level or layer 'conv9_block1_out'"):
        keras_resnet.features(model, x, "conv9_block1_out")


# Apps.


def test_freezing_through_a_layer():
    model = freeze(build(SPEC), through="conv2_block1_out")
    names = [layer.name for layer in model.layers if layer.trainable and layer.weights]
    assert names[0] == "stage2_unit1_conv1"
    assert not any(name.startswith(("stem", "stage1")) for name in names)
    with pytest.raises(ValueError, match="No such layer: 'none'"):
        freeze(model, through="none")


# Modules.


@pytest.mark.parametrize(("module", "mode"), [("resnet", "caffe"), ("resnet_v2", "tf")])
def test_modules_preprocess_as_those_of_keras(module, mode):
    ours, theirs = getattr(keras_resnet, module), getattr(keras.applications, module)
    names = {name for name in dir(theirs) if not name.startswith("_")}
    assert names == set(ours.__all__)
    x = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3))
    wanted = theirs.preprocess_input(x.copy())
    np.testing.assert_array_equal(ours.preprocess_input(x.copy()), wanted)
    again = keras_resnet.preprocess_input(x.copy(), mode=mode)
    np.testing.assert_array_equal(again, wanted)


def test_module_resnet50():
    assert keras_resnet.resnet50.ResNet50 is keras_resnet.ResNet50
    assert set(keras_resnet.resnet50.__all__) == {
        name for name in dir(keras.applications.resnet50) if not name.startswith("_")
    }
