"""Certificates: they hold for the right net, and for no other."""

from __future__ import annotations

import dataclasses
import importlib.util
import json

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec, build
from keras_resnet.comparison import spread_of
from keras_resnet.weights import Certificate, certify, open_weights, save
from keras_resnet.weights import certificate as module
from keras_resnet.weights.certificate import source_of
from keras_resnet.weights.layouts import LAYOUTS
from keras_resnet.weights.transfer import dump_tensors


def _images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 20, 20, 3)).astype("float32")


def _certify(model, tensors, layout, **options) -> Certificate:
    return certify(model, tensors, layout, source={"name": "x"}, **options)


@pytest.mark.parametrize(
    "name", ["torchvision-grouped", "timm-rs", "timm-gn", "timm_v2-d", "timm_repvgg", "akamaster"]
)
def test_it_holds_for_the_right_net(small_net, name):
    net = small_net(name)
    model = net.make()
    found = _certify(model, dump_tensors(model, net.layout), net.layout)
    assert found.holds
    assert 0 < found.max_difference <= found.limit
    assert found.agreement == 1.0
    # One rule with exported files: in units of the spread over the classes, for logits of any size.
    theirs = keras.ops.convert_to_numpy(model(_images()))
    assert found.limit == pytest.approx(1e-4 * spread_of(theirs), rel=1e-3)
    assert found.compared_with == (
        f"NumPy {np.__version__} in float64, by the names of {net.layout.library}"
    )
    assert found.inputs == {"shape": [4, 20, 20, 3], "seed": 0}
    assert found.versions["backend"] == keras.backend.backend()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("torchvision", {"norm_eps": 1e-3}),
        ("torchvision", {"stride_placement": "1x1"}),
        ("torchvision-basic", {"stem_pool": "max", "blur": 3}),
        ("timm_v2", {"stem_pool": "max_zero"}),
    ],
)
def test_it_holds_for_no_other(small_net, name, changes):
    net = small_net(name)
    right, wrong = net.make(), net.make(**changes)
    wrong.set_weights(right.get_weights())
    found = _certify(wrong, dump_tensors(right, net.layout), net.layout)
    assert not found.holds
    assert found.max_difference > 2 * found.limit
    assert not json.loads(found.to_json())["holds"]


def test_small_logits_do_not_hide_a_difference(small_net):
    """Logits of 0.01 with an error of 1 %: an absolute limit of 1e-4 accepted it."""
    net = small_net("torchvision")
    model = net.make()
    model.get_layer("logits").set_weights(
        [value * 0.01 for value in model.get_layer("logits").get_weights()]
    )
    tensors = dump_tensors(model, net.layout)
    assert _certify(model, tensors, net.layout).holds
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel * 1.01, bias])
    assert not _certify(model, tensors, net.layout).holds


def test_it_does_not_hold_for_other_weights(small_net):
    net = small_net("torchvision")
    found = _certify(net.make(2), dump_tensors(net.make(1), net.layout), net.layout)
    assert not found.holds


def test_a_difference_that_is_no_number_does_not_hold(small_net):
    net = small_net("torchvision")
    model = net.make()
    tensors = dump_tensors(model, net.layout)
    images = np.full((1, 20, 20, 3), np.nan, "float32")
    assert not _certify(model, tensors, net.layout, images=images).holds


def test_json(small_net):
    net = small_net("torchvision")
    model = net.make()
    model.preprocess = PreprocessSpec((20, 20))
    found = _certify(model, dump_tensors(model, net.layout), net.layout)
    read = json.loads(found.to_json())
    assert (read.pop("holds"), read.pop("proves")) == (True, True)
    assert read.pop("description").startswith("The logits are those of NumPy ")
    assert Certificate(**read) == found
    assert read["spec"] == model.spec.to_dict()
    assert read["preprocess"] == model.preprocess.to_dict()
    assert read["layout"] == "torchvision"


def test_images_and_seeds(small_net, images):
    net = small_net("torchvision")
    model = net.make()
    tensors = dump_tensors(model, net.layout)
    given = _certify(model, tensors, net.layout, images=images)
    assert given.holds
    assert given.inputs == {"shape": [2, 21, 26, 3], "given": True}
    first, same, other = (_certify(model, tensors, net.layout, seed=seed) for seed in (1, 1, 2))
    assert first.inputs == {"shape": [4, 20, 20, 3], "seed": 1}
    assert first == same
    assert first.max_logit != other.max_logit


def test_what_a_source_is(tmp_path, small_net):
    path = tmp_path / "net.safetensors"
    save(small_net("torchvision").make(), path)
    told = source_of(open_weights(path))
    assert (told["name"], told["licence"]) == (repr(str(path)), None)
    (file,) = told["files"]
    assert (file["path"], len(file["sha256"])) == (str(path), 64)
    assert json.loads(json.dumps(told)) == told


def test_a_net_without_its_classifier(small_net):
    net = small_net("torchvision")
    tensors = dump_tensors(net.make(), net.layout)
    model = net.make(include_top=False)
    with pytest.raises(
        ValueError, match=r"NumPy .* returns \(4, 5\), the net \(4, 3, 3, 64\): build"
    ):
        _certify(model, tensors, net.layout, images=np.zeros((4, 20, 20, 3), "float32"))


def test_an_activation_is_seen(small_net):
    """Probabilities have the logits' shape, but are not equal to them."""
    net = small_net("torchvision")
    model = net.make()
    top = build(net.spec, classifier_activation="softmax", input_shape=(20, 20, 3))
    top.set_weights(model.get_weights())
    assert not _certify(top, dump_tensors(model, net.layout), net.layout).holds


def test_nothing_to_compare_with(small_net, monkeypatch):
    tiny = small_net("mlperf_tiny")
    with pytest.raises(
        ValueError, match="there is no other implementation of MLPerf Tiny's net here"
    ):
        _certify(tiny.make(), dump_tensors(tiny.make(), tiny.layout), tiny.layout)
    hub = small_net("keras_hub")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="compared with KerasHub: pip install keras-hub"):
        _certify(hub.make(), dump_tensors(hub.make(), hub.layout), hub.layout)


def test_transformers_nets_without_transformers(small_net, monkeypatch):
    net = small_net("hf")
    model = net.make()
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    found = _certify(model, dump_tensors(model, net.layout), net.layout)
    assert found.holds
    assert found.compared_with.startswith("NumPy ")


@pytest.mark.torch
def test_transformers(small_net):
    pytest.importorskip("transformers")
    for name in ("hf", "hf-basic"):
        net = small_net(name)
        model = net.make()
        tensors = dump_tensors(model, net.layout)
        found = _certify(model, tensors, net.layout)
        assert found.holds
        assert found.compared_with.startswith("transformers.ResNetForImageClassification 5.")
        model.get_layer("stem_conv").kernel.assign(
            1.01 * tensors["resnet.embedder.embedder.convolution.weight"].transpose(2, 3, 1, 0)
        )
        assert not _certify(model, tensors, net.layout).holds


@pytest.mark.skipif(not importlib.util.find_spec("keras_hub"), reason="keras_hub is not installed")
@pytest.mark.parametrize("name", ["keras_hub", "keras_hub-vd", "keras_hub-v2"])
def test_keras_hub(small_net, name):
    net = small_net(name)
    spec = dataclasses.replace(net.spec, widths=(64, 72))  # its first stage always has 64
    net = dataclasses.replace(net, spec=spec)
    model = build(spec)
    tensors = dump_tensors(model, net.layout)
    found = _certify(model, tensors, net.layout)
    assert found.holds
    assert found.compared_with.startswith("keras_hub.models.ResNetImageClassifier of KerasHub ")
    if name == "keras_hub":
        model.get_layer("logits").bias.assign(1e-2 + model.get_layer("logits").bias)
        assert not _certify(model, tensors, net.layout).holds


def test_keras_applications():
    model = build("keras_resnet50v2", classes=3, input_shape=(33, 33, 3), seed=0)
    tensors = dump_tensors(model, LAYOUTS["keras"])
    images = np.random.default_rng(0).normal(size=(2, 33, 33, 3)).astype("float32")
    found = _certify(model, tensors, LAYOUTS["keras"], images=images)
    assert found.holds
    assert found.compared_with == f"keras.applications.ResNet50V2 of Keras {keras.__version__}"


def test_keras_applications_of_other_depths(small_net):
    net = small_net("keras")
    model = net.make()
    with pytest.raises(ValueError, match="keras.applications has no net of 11 layers"):
        _certify(model, dump_tensors(model, net.layout), net.layout)
