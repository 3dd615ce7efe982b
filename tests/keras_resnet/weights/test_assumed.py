"""What neither tensors nor a config show: assumed, said, and overruled by the net that is named."""

from __future__ import annotations

import dataclasses
import json
import re

import keras
import numpy as np
import pytest

from keras_resnet import from_pretrained, weights
from keras_resnet.weights import Certificate, certify, open_weights, resolve
from keras_resnet.weights.certificate import source_of
from keras_resnet.weights.files.tensor_file import write_safetensors
from keras_resnet.weights.sources import SOURCES
from keras_resnet.weights.transfer import dump_tensors

ASSUMED = (
    "stride_placement",
    "first_stride",
    "max_stride",
    "stem_pool",
    "blur",
    "padding",
    "norm_eps",
)


@pytest.fixture
def net(small_net):
    return small_net("torchvision")


@pytest.fixture
def file(tmp_path, net):
    """A file of torchvision's names without metadata or config."""
    tensors = dump_tensors(net.make(1), net.layout)
    write_safetensors(tmp_path / "net.safetensors", tensors, None)
    return tmp_path / "net.safetensors"


def _logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


@pytest.mark.parametrize(
    "changes",
    [{"stride_placement": "1x1"}, {"norm_eps": 1e-3}, {"blur": 3, "blur_shortcut": False}],
    ids=["stride", "eps", "blur"],
)
def test_the_named_net_wins(file, net, images, changes):
    """Caffe's strides, another eps, timm's filters: the file is the same, the function is not."""
    wanted = net.make(1, **changes)
    spec = net.spec.replace(name="mine", **changes)
    with pytest.warns(UserWarning, match="is read as mine, with .*; nets of torchvision usually"):
        model = from_pretrained(file, spec, input_shape=(None, None, 3))
    assert model.spec == spec
    np.testing.assert_array_equal(_logits(model, images), _logits(wanted, images))
    assert np.abs(_logits(net.make(1), images) - _logits(wanted, images)).max() > 1e-3
    other = net.make(2, **changes)
    with pytest.warns(UserWarning, match="is read as bottleneck, with "):
        report = weights.load(other, file)
    np.testing.assert_array_equal(_logits(other, images), _logits(wanted, images))
    assert (report.assumed, report.explicit) == ((), ASSUMED)
    assert report.complete


def test_a_named_field_wins(file, net, images):
    """The other fields that the file does not show stay assumed."""
    fields = {"stride_placement": "1x1", "norm_eps": 1e-3}
    with (
        pytest.warns(UserWarning, match="is read as .*, with stride_placement='1x1', .*norm_eps"),
        pytest.warns(UserWarning, match="does not show 5 properties of its net"),
    ):
        model = from_pretrained(file, fields, input_shape=(None, None, 3))
    np.testing.assert_array_equal(_logits(model, images), _logits(net.make(1, **fields), images))
    with pytest.warns(UserWarning, match="is read as"):
        opened = open_weights(file, net=fields)
    assert opened.explicit == tuple(field for field in ASSUMED if field in fields)
    assert set(opened.assumed) == set(ASSUMED) - set(fields)
    with pytest.raises(ValueError, match="does not hold"):
        open_weights(file, net={"widths": (4, 8)})
    with pytest.raises(TypeError, match="must be a name or a ResNetSpec. Received: net={'norm_e"):
        open_weights("torchvision/v2", net={"norm_eps": 1e-3})


def test_without_a_net_everything_is_assumed_and_said(file, net):
    opened = open_weights(file)
    assert (opened.assumed, opened.explicit) == (ASSUMED, ())
    shown = "does not show 7 properties of its net, which were taken from "
    custom = "the custom of torchvision (name the net if they differ): stride_placement='3x3', "
    with pytest.warns(UserWarning, match=re.escape(f"{shown}{custom}")):
        from_pretrained(file)
    opened = open_weights(file, net=net.spec)
    assert (opened.assumed, opened.explicit) == ((), ASSUMED)


def test_an_explicit_net_is_loaded_without_a_warning(file, net):
    """The model, or the net by name, settles what the file does not show."""
    report = weights.load(net.make(2), file)
    assert (report.assumed, report.explicit) == ((), ASSUMED)
    assert from_pretrained(file, net.spec).spec == net.spec
    assert from_pretrained(open_weights(file, net=net.spec)).spec == net.spec


def test_a_certificate_that_rests_on_an_assumption_proves_nothing(file, net):
    opened = open_weights(file)
    with pytest.warns(UserWarning, match="does not show 7 properties"):
        model = from_pretrained(opened, input_shape=(20, 20, 3))
    found = certify(model, opened.tensors, opened.layout, source=source_of(opened))
    assert found.holds
    assert not found.proves
    assert found.assumed == ASSUMED
    assert "if the publisher's net has stride_placement='3x3', " in found.describe()
    assert "this is no proof" in json.loads(found.to_json())["description"]
    known = dataclasses.replace(opened, assumed=())
    proof = certify(model, opened.tensors, opened.layout, source=source_of(known))
    assert proof.proves
    assert proof.describe() == f"The logits are those of {proof.compared_with}."
    other = dataclasses.replace(proof, max_difference=1.0)
    assert not other.proves
    assert other.describe().startswith("The logits differ from those of NumPy")


@pytest.mark.parametrize("changes", [{"stride_placement": "1x1"}, {"norm_eps": 1e-3}])
def test_the_reference_computes_the_named_net(file, net, changes):
    with pytest.warns(UserWarning, match="is read as mine"):
        opened = open_weights(file, net=net.spec.replace(name="mine", **changes))
    model = from_pretrained(opened, input_shape=(20, 20, 3))
    found = certify(model, opened.tensors, opened.layout, source=source_of(opened))
    assert isinstance(found, Certificate)
    assert found.holds
    assert not found.proves


def test_no_reference_for_dilated_nets(net):
    model = net.make(1, max_stride=4)
    tensors = dump_tensors(net.make(1), net.layout)
    with pytest.raises(ValueError, match="without dilation and with symmetric padding. Received"):
        certify(model, tensors, net.layout, source={})


def test_a_published_file_is_known_by_its_hash(file, net, monkeypatch):
    """Its function is not assumed, so that no other net is taken for it."""
    digest = resolve.read(str(file)).sha256
    source = dataclasses.replace(
        SOURCES["resnet18", "torchvision/v1"], hash=f"sha256:{digest}", spec=net.spec
    )
    monkeypatch.setitem(SOURCES, ("resnet18", "torchvision/v1"), source)
    assert open_weights(file).assumed == ()
    early = net.spec.replace(name="early", stride_placement="1x1")
    with pytest.raises(ValueError, match="another function with them, without stride_placement"):
        open_weights(file, net=early)


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [("resnetblur11", {"blur": 3}), ("resnetaa11", {"blur": 2, "stem_pool": "avg"})],
)
def test_timms_config_determines_the_filters(file, net, images, architecture, changes):
    (file.parent / "config.json").write_text(json.dumps({"architecture": architecture}))
    opened = open_weights(file)
    assert opened.assumed == ()
    model = from_pretrained(opened, input_shape=(20, 26, 3))
    wanted = net.make(1, blur_shortcut=False, **changes)
    images = np.random.default_rng(3).normal(size=(2, 20, 26, 3)).astype("float32")
    np.testing.assert_array_equal(_logits(model, images), _logits(wanted, images))
    found = certify(model, opened.tensors, opened.layout, source=source_of(opened))
    assert found.proves
    with pytest.raises(ValueError, match="another function with them, without .*blur=0"):
        open_weights(file, net=net.spec)
