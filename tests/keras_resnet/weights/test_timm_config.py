"""timm's config of a net: its architecture, preprocessing and labels."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import keras_resnet
from keras_resnet.weights import hub, save, timm_config
from keras_resnet.weights.timm_config import _architecture as architecture

RGB = keras_resnet.PreprocessSpec(
    (64, 64), (127.5, 51.0, 0.0), (255.0,) * 3, crop_fraction=0.95, interpolation="bicubic"
)


def tiny_head(name, **form):
    net = keras_resnet.build(name, **{"classes": 2, "input_shape": (64, 64, 3), **form})
    net.preprocess = RGB
    return net


@pytest.mark.usefixtures("undrawn")
def test_config():
    net = tiny_head("resnet18")
    config = json.loads(
        json.dumps(timm_config(net, class_names=["cat", "dog"], licence="apache-2.0"))
    )
    assert config == {
        "architecture": "resnet18",
        "num_classes": 2,
        "num_features": 512,
        "pretrained_cfg": {
            "input_size": [3, 64, 64],
            "fixed_input_size": False,
            "interpolation": "bicubic",
            "crop_pct": 0.95,
            "crop_mode": "center",
            "mean": [0.5, 0.2, 0.0],
            "std": [1.0, 1.0, 1.0],
            "num_classes": 2,
            "classifier": "fc",
            "first_conv": "conv1",
            "license": "apache-2.0",
        },
        "label_names": ["cat", "dog"],
    }
    # This package reads it as it reads timm's own.
    described = hub.describe("owner/name", config, {})
    assert described.library == "timm"
    assert described.licence == "apache-2.0"
    assert described.preprocess.size == RGB.size
    np.testing.assert_allclose(described.preprocess.mean, RGB.mean)
    with pytest.raises(ValueError, match=r"one name per class \(2\). Received: 3"):
        timm_config(net, class_names=["a", "b", "c"])


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("name", "architecture", "first", "classifier"),
    [
        ("resnet50_v1_5", "resnet50", "conv1", "fc"),
        ("resnet18d", "resnet18d", "conv1.0", "fc"),
        ("resnetv2_50", "resnetv2_50", "stem.conv", "head.fc"),
        ("repvgg_a0", "repvgg_a0", None, "head.fc"),
    ],
)
def test_architectures(name, architecture, first, classifier):
    config = timm_config(tiny_head(name))
    assert config["architecture"] == architecture
    assert config["pretrained_cfg"].get("first_conv") == first
    assert config["pretrained_cfg"]["classifier"] == classifier


def test_the_architecture_computes_the_nets_function():
    """Also where shapes do not show it: `resnetblur18` was written as timm's `resnet18`."""
    written = {}
    for name, spec in keras_resnet.variants.items():
        try:
            written[name] = architecture(spec)
        except ValueError:
            continue
        changes, _ = hub._timm_changes("local", {"architecture": written[name]})
        defaults = {"blur": 0, "stem_pool": spec.stem_pool if not spec.blur else "max"}
        for field, value in {**defaults, **changes}.items():
            assert getattr(spec, field) == value, name
    assert len(written) > 60
    expected = {"resnetblur18": "resnetblur18", "resnetaa50d": "resnetaa50d"}
    expected |= {"resnet18": "resnet18", "resnet50_v1_5": "resnet50", "resnet50_gn": "resnet50_gn"}
    assert {name: written[name] for name in expected} == expected
    narrow = keras_resnet.variants["resnetblur18"].replace(blur=5)
    with pytest.raises(ValueError, match="timm has no"):
        architecture(narrow)


@pytest.mark.usefixtures("undrawn")
def test_gray_images():
    net = tiny_head("resnet18", input_shape=(64, 64, 1))
    net.preprocess = keras_resnet.PreprocessSpec((64, 64), (127.5,), (51.0,))
    config = timm_config(net)
    assert config["model_args"] == {"in_chans": 1}
    assert config["pretrained_cfg"]["input_size"] == [1, 64, 64]
    assert (config["pretrained_cfg"]["mean"], config["pretrained_cfg"]["std"]) == ([0.5], [0.2])


def test_weights_with_the_config_are_read_back(tmp_path):
    net = tiny_head("resnet18")
    save(net, tmp_path / "model.safetensors", layout="timm")
    (tmp_path / "config.json").write_text(json.dumps(timm_config(net)), encoding="utf-8")
    again = keras_resnet.from_pretrained(tmp_path / "model.safetensors", input_shape=(64, 64, 3))
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(again.predict(images), net.predict(images), atol=1e-5)
    assert again.preprocess == RGB


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("resnet50", {}, "timm has no net like resnet50: stride_placement='1x1'"),
        ("cifar_resnet8", {}, "timm has no net like cifar_resnet8: "),
        ("resnet18", {"widths": (8, 16, 32, 64)}, "no architecture with the units and widths of"),
        ("resnet18", {"preprocess": None}, "has no `preprocess`"),
        ("resnet18", {"channel_order": "bgr"}, "timm feeds RGB images"),
        ("resnet18", {"interpolation": "area"}, "timm has no interpolation 'area'"),
        ("resnet18", {"include_top": False}, "has no classifier"),
    ],
)
def test_what_timm_cannot_express(name, change, message):
    spec = keras_resnet.get_spec(name)
    if "widths" in change:
        spec = spec.replace(**change)
    net = tiny_head(spec, classes=2, include_top=change.get("include_top", True))
    if "preprocess" in change:
        net.preprocess = None
    elif set(change) & {"channel_order", "interpolation"}:
        net.preprocess = dataclasses.replace(RGB, **change)
    with pytest.raises(ValueError, match=message):
        timm_config(net)
