"""`ResNet50(...)` and the like: functions with the arguments of keras.applications.

Their outputs are compared with keras.applications in `weights/test_parity.py`.
"""

from __future__ import annotations

import inspect
import pathlib
import pickle
import re

import keras
import numpy as np
import pytest

import keras_resnet
from keras_resnet import variants

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
    "ResNet18D": "resnet18d",
    "ResNet34D": "resnet34d",
    "ResNet50D": "resnet50d",
    "ResNet101D": "resnet101d",
    "ResNet152D": "resnet152d",
    "ResNet200D": "resnet200d",
    "ResNeXt50_32x4d": "resnext50_32x4d",
    "ResNeXt101_32x8d": "resnext101_32x8d",
    "ResNeXt101_64x4d": "resnext101_64x4d",
    "WideResNet50_2": "wide_resnet50_2",
    "WideResNet101_2": "wide_resnet101_2",
    "SEResNet50": "seresnet50",
    "SEResNet101": "seresnet101",
    "SEResNet152": "seresnet152",
    "SEResNeXt50_32x4d": "seresnext50_32x4d",
    "SEResNeXt101_32x4d": "seresnext101_32x4d",
    "ResNetRS50": "resnetrs50",
    "ResNetRS101": "resnetrs101",
    "ResNetRS152": "resnetrs152",
    "ResNetRS200": "resnetrs200",
    "ResNetRS270": "resnetrs270",
    "ResNetRS350": "resnetrs350",
    "ResNetRS420": "resnetrs420",
}
PAPERS = {
    "ResNet": "He et al. 2015 (arXiv:1512.03385)",
    "V2": "He et al. 2016 (arXiv:1603.05027)",
    "D": "He et al. 2018 (arXiv:1812.01187)",
    "ResNeXt": "Xie et al. 2016 (arXiv:1611.05431)",
    "WideResNet": "Zagoruyko and Komodakis 2016 (arXiv:1605.07146)",
    "SE": "Hu et al. 2017 (arXiv:1709.01507)",
    "ResNetRS": "Bello et al. 2021 (arXiv:2103.07579)",
}


def test_every_application_is_public_and_named_once():
    pattern = r"\w*ResNe[tX]\w*\d\w*"
    assert {name for name in dir(keras_resnet) if re.fullmatch(pattern, name)} == set(APPLICATIONS)
    assert {name for name in keras_resnet.__all__ if re.fullmatch(pattern, name)} == set(
        APPLICATIONS
    )
    folder = pathlib.Path(keras_resnet.__file__).parent
    source = "".join((folder / name).read_text() for name in ("__init__.py", "applications.py"))
    for name in APPLICATIONS:
        assert len(re.findall(rf"\b{name} = ", source)) == 1
        assert len(re.findall(rf"^{name}\b|import {name}\b|\"{name}\"", source, re.M)) == 1


def test_signatures_are_those_of_keras_applications():
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    for function, variant in APPLICATIONS.items():
        ours = getattr(keras_resnet, function)
        parameters = inspect.signature(ours).parameters
        assert list(parameters) == list(theirs)
        different = {name for name in theirs if theirs[name].default != parameters[name].default}
        assert different == {"weights", "name"}  # no download; each net has its own name
        assert all(parameters[name].kind is theirs[name].kind for name in theirs)
        assert ours.__name__ == ours.__qualname__ == function
        assert pickle.loads(pickle.dumps(ours)) is ours
        assert f"Builds {variant} with" in ours.__doc__
        assert f"keras_resnet.{function}(weights=None" in ours.__doc__
        assert ours.__doc__.count("{") == 0
        start, end = re.fullmatch(r"(SE|ResNetRS|ResNeXt|Wide)?.*?(V2|D)?", function).groups()
        paper = PAPERS.get({"Wide": "WideResNet"}.get(start, start) or end or "ResNet")
        assert f"Source: {paper}" in ours.__doc__


@pytest.mark.parametrize(
    ("function", "listed"),
    [
        ("ResNet50", '`"imagenet"`, `"torchvision/v1"`, `"torchvision/v2"`, or\n'),
        ("ResNet34", '`"torchvision/v1"`, or\n'),
        ("ResNet200", "none of this network, or\n"),
    ],
)
def test_published_weights_are_listed(function, listed):
    assert f"or published weights: {listed}" in getattr(keras_resnet, function).__doc__


def test_builds_the_variant():
    # With the top `pooling` is ignored, as in keras.applications.
    model = keras_resnet.ResNet18V2(input_shape=(32, 32, 3), classes=3, pooling="max")
    assert isinstance(model.get_layer("pool"), keras.layers.GlobalAveragePooling2D)
    assert (model.spec, model.name) == (variants["resnet18v2"], "resnet18v2")
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
    assert (model.name, model.output_shape, model.layers[-1].name) == (
        "mine",
        (None, 512),
        "max_pool",
    )
    assert isinstance(model.layers[-1], keras.layers.GlobalMaxPooling2D)
    logits = keras_resnet.ResNet18(input_tensor=tensor, classes=7, classifier_activation=None)
    assert logits.layers[-1].name == "predictions"
    assert logits.output_shape == (None, 7)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weights": "imagenet"}, ValueError, "No weights named 'imagenet' for 'resnet18'."),
        (
            {"weights": "hf://timm"},
            ValueError,
            "The name of a net of the hub must be `hf://owner/repository`",
        ),
        ({"weights": "no.weights.h5"}, FileNotFoundError, "No weights file at 'no.weights.h5'"),
        ({"classes": -1}, ValueError, "`classes` must be a positive integer."),
        ({"input_shape": (31, 32, 3)}, ValueError, "resnet18 needs inputs of at least 32 x 32"),
        ({"include_top": False, "pooling": "sum"}, ValueError, "`pooling` must be None, 'avg' or"),
        (
            {"pooling": "sum"},
            ValueError,
            "`pooling` must be None, 'avg' or 'max'. Received: ",
        ),
        (
            {"include_top": "imagenet"},
            ValueError,
            "`include_top` must be True or False. Received",
        ),
    ],
)
def test_refuses(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        keras_resnet.ResNet18(**({"input_shape": (32, 32, 3), "classes": 2} | arguments))


def test_refuses_unknown_arguments():
    with pytest.raises(TypeError, match="unexpected keyword argument 'weight'"):
        keras_resnet.ResNet18(weight=None)
