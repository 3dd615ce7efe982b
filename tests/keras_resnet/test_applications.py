"""`ResNet50(...)` and its sisters: arguments and numbers of keras.applications."""

from __future__ import annotations

import inspect
import re

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import build, variants

APPLICATIONS = {
    "ResNet18": "resnet18",
    "ResNet34": "resnet34",
    "ResNet50": "resnet50",
    "ResNet101": "resnet101",
    "ResNet152": "resnet152",
    "ResNet200": "resnet200",
    "ResNet18V2": "resnet18v2",
    "ResNet34V2": "resnet34v2",
    "ResNet50V2": "resnet50v2",
    "ResNet101V2": "resnet101v2",
    "ResNet152V2": "resnet152v2",
    "ResNet200V2": "resnet200v2",
}


@pytest.mark.parametrize(("function", "variant"), APPLICATIONS.items())
def test_signatures_are_those_of_keras_applications(function, variant):
    ours = getattr(keras_resnet, function)
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    parameters = inspect.signature(ours).parameters
    assert list(parameters) == list(theirs)
    different = {name for name in theirs if theirs[name].default != parameters[name].default}
    assert different == {"weights", "name"}  # no download; each net has its own name
    assert all(parameters[name].kind is theirs[name].kind for name in theirs)
    assert ours.__name__ == ours.__qualname__ == function
    assert f"Builds {variant} with" in ours.__doc__
    assert ours.__doc__.count("{") == 0
    assert ("2016 (arXiv:1603.05027)" in ours.__doc__) == function.endswith("V2")


@pytest.mark.parametrize("function", ["ResNet18", "ResNet50V2"])
def test_builds_the_variant(function):
    model = getattr(keras_resnet, function)(input_shape=(32, 32, 3), classes=3)
    assert model.spec == variants[APPLICATIONS[function]]
    assert model.name == APPLICATIONS[function]
    assert model.output_shape == (None, 3)
    assert model.layers[-1].name == "predictions"
    chances = model.predict(np.ones((2, 32, 32, 3)), verbose=0)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)


def test_default_shape_and_classes():
    model = keras_resnet.ResNet18()
    assert (model.input_shape, model.output_shape) == ((None, 224, 224, 3), (None, 1000))


def test_arguments_stand_in_the_same_places():
    tensor = keras.Input((None, None, 1))
    model = keras_resnet.ResNet18(False, None, tensor, None, "max", 7, None, "mine")
    assert (model.name, model.output_shape, model.layers[-1].name) == ("mine", (None, 512), "pool")
    assert isinstance(model.layers[-1], keras.layers.GlobalMaxPooling2D)
    logits = keras_resnet.ResNet18(input_tensor=tensor, classes=7, classifier_activation=None)
    assert logits.layers[-1].name == "logits"
    assert logits.output_shape == (None, 7)


def test_pooling_under_the_top_is_ignored_as_in_keras_applications():
    model = keras_resnet.ResNet18(pooling="max", input_shape=(32, 32, 3), classes=3)
    assert isinstance(model.get_layer("pool"), keras.layers.GlobalAveragePooling2D)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weights": "imagenet"}, ValueError, "named pretrained weights are not part of this"),
        ({"weights": "no.weights.h5"}, FileNotFoundError, "No weights file at 'no.weights.h5'"),
        ({"classes": -1}, ValueError, "`classes` must be a positive integer."),
        ({"input_shape": (31, 32, 3)}, ValueError, "resnet18 needs images of at least 32 x 32"),
        ({"include_top": False, "pooling": "sum"}, ValueError, "`pooling` must be None, 'avg' or"),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        keras_resnet.ResNet18(**({"input_shape": (32, 32, 3), "classes": 2} | arguments))


def test_refuses_unknown_arguments():
    with pytest.raises(TypeError, match="unexpected keyword argument 'weight'"):
        keras_resnet.ResNet18(weight=None)


def _copy(theirs: keras.Model, ours: keras.Model) -> int:
    """Copies weights by keras.applications' names; returns how many layers they filled."""
    copied = 0
    kinds = {"conv": "conv", "bn": "norm"}
    for layer in theirs.layers:
        if not layer.weights:
            continue
        if layer.name == "predictions":
            name = "logits"
        elif match := re.fullmatch(r"conv1_(conv|bn)", layer.name):
            name = f"stem_{kinds[match[1]]}"
        else:
            match = re.fullmatch(r"conv(\d)_block(\d+)_(\d)_(conv|bn)", layer.name)
            end = f"shortcut_{kinds[match[4]]}" if match[3] == "0" else kinds[match[4]] + match[3]
            name = f"stage{int(match[1]) - 1}_unit{match[2]}_{end}"
        ours.get_layer(name).set_weights(layer.get_weights())
        copied += 1
    return copied


def _call(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Inference without `predict`, which would trace these deep nets anew for every size."""
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize("depth", [50, 101])
def test_parity_with_keras_applications(depth, randomize):
    """Random weights, random statistics; odd and even sizes in every stage, through one net."""
    make = getattr(keras.applications, f"ResNet{depth}")
    # With its own top, keras.applications takes no open sizes; the top is this one.
    base = make(weights=None, include_top=False, pooling="avg", input_shape=(None, None, 3))
    theirs = keras.Model(base.input, keras.layers.Dense(7, name="predictions")(base.output))
    randomize(theirs, 6)
    for layer in theirs.layers:  # weaker branches, so that logits stay of the order of 1
        if layer.name.endswith("_3_bn"):
            gamma, *others = layer.get_weights()
            layer.set_weights([0.2 * gamma, *others])
    ours = build(f"keras_resnet{depth}", input_shape=(None, None, 3), classes=7)
    with_weights = [layer for layer in ours.layers if layer.weights]
    assert _copy(theirs, ours) == len(with_weights)
    assert ours.count_params() == theirs.count_params()
    rng = np.random.default_rng(7)
    for size in (97, 128):
        x = rng.uniform(-1, 1, (2, size, size, 3)).astype("float32")
        wanted = _call(theirs, x)
        assert 0.5 < wanted.std() < 10
        assert np.abs(wanted[0] - wanted[1]).max() > 1e-2
        np.testing.assert_allclose(_call(ours, x), wanted, atol=1e-4)
    if depth == 50:  # the comparison sees a stride in the wrong convolution
        spec = variants["keras_resnet50"].replace(stride_placement="3x3")
        other = build(spec, input_shape=(None, None, 3), classes=7)
        _copy(theirs, other)
        assert np.abs(_call(other, x) - wanted).max() > 1e-2
