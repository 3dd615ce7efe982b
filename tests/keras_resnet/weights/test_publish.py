"""Weights saved for other libraries: names, axes and configs, or an error and no file."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec, ResNetSpec, from_pretrained, weights
from keras_resnet.weights import publish
from keras_resnet.weights.transfer import dump_tensors


@pytest.mark.parametrize("name", ["torchvision", "timm-rs", "timm_v2", "timm_repvgg", "hf"])
def test_safetensors_itself_reads_the_file(tmp_path, small_net, name):
    load_file = pytest.importorskip("safetensors.numpy").load_file
    net = small_net(name)
    model = net.make()
    path = tmp_path / "net.safetensors"
    written = weights.save(model, path, layout=net.layout.name.split("_")[0])
    wanted = dump_tensors(model, net.layout)
    found = load_file(path)
    assert written == {key: array.shape for key, array in wanted.items()}
    assert set(found) == set(wanted)
    for key, array in found.items():
        np.testing.assert_array_equal(array, wanted[key])
        assert array.shape == wanted[key].shape
    assert sum(key.endswith("num_batches_tracked") for key in found) == sum(
        key.endswith("running_mean") for key in found
    )


def test_metadata(tmp_path, small_net):
    safe_open = pytest.importorskip("safetensors").safe_open
    model = small_net("torchvision").make()
    model.preprocess = PreprocessSpec((20, 20), (1.0,), (2.0,))
    for preprocess in (model.preprocess, None):
        model.preprocess = preprocess
        weights.save(model, tmp_path / "net.safetensors")
        with safe_open(tmp_path / "net.safetensors", "np") as file:
            told = file.metadata()
        assert told["format"] == "pt"
        assert ResNetSpec.from_dict(json.loads(told["keras_resnet.spec"])) == model.spec
        assert ("keras_resnet.preprocess" in told) == (preprocess is not None)
        if preprocess:
            read = PreprocessSpec.from_dict(json.loads(told["keras_resnet.preprocess"]))
            assert read == preprocess


def test_what_is_saved_comes_back(tmp_path, small_net, images):
    model = small_net("timm-d").make()
    weights.save(model, tmp_path / "net.safetensors", layout="timm")
    back = from_pretrained(tmp_path / "net.safetensors", input_shape=(None, None, 3))
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(m(images)) for m in (model, back)))


@pytest.mark.parametrize(
    ("layout", "changes", "told"),
    [
        ("torchvision", {"shortcut": "A"}, "shortcut='A' (not 'B')"),
        ("torchvision", {"stride_placement": "1x1"}, "stride_placement='1x1' (not '3x3')"),
        ("torchvision", {"conv_bias": True}, "conv_bias=True (not False)"),
        ("torchvision", {"blur": 3}, "blur=3 (not 0)"),
        ("torchvision", {"stem": "deep"}, "stem='deep' (not 'imagenet')"),
        ("torchvision", {"stem_pool": "conv"}, "stem_pool='conv' (not 'max')"),
        ("torchvision", {"order": "pre"}, "order='pre' (not 'post')"),
        ("timm", {"shortcut": "C"}, "shortcut='C' (not 'B' or 'D')"),
        ("timm", {"order": "pre"}, "stem_activation=True (not False)"),
        ("hf", {"groups": 2}, "groups=2 (not 1)"),
        ("hf", {"se_reduction": 4}, "se_reduction=4 (not 0)"),
    ],
)
def test_what_a_library_cannot_express_is_said(tmp_path, small_net, layout, changes, told):
    model = small_net("torchvision").make(**changes)
    with pytest.raises(ValueError, match=f"has no net like bottleneck: .*{re.escape(told)}"):
        weights.save(model, tmp_path / "net.safetensors", layout=layout)
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments(tmp_path, small_net):
    model = small_net("torchvision").make()
    with pytest.raises(
        ValueError, match=r"`path` must end in `.safetensors`. Received: path='x.pt'"
    ):
        weights.save(model, "x.pt")
    message = "`layout` must be 'torchvision', 'timm' or 'hf'. Received: layout='keras'"
    with pytest.raises(ValueError, match=re.escape(message)):
        weights.save(model, tmp_path / "x.safetensors", layout="keras")
    assert list(tmp_path.iterdir()) == []


def test_a_net_without_a_classifier(tmp_path, small_net):
    model = small_net("torchvision").make(include_top=False)
    assert not any(
        name.startswith("fc") for name in weights.save(model, tmp_path / "net.safetensors")
    )
    (tmp_path / "hf").mkdir()
    message = "ResNetForImageClassification needs a classifier, which 'bottleneck' does not have"
    with pytest.raises(ValueError, match=message):
        weights.save(model, tmp_path / "hf" / "model.safetensors", layout="hf")
    assert list((tmp_path / "hf").iterdir()) == []


def test_transformers_config(tmp_path, small_net):
    model = small_net("hf").make(input_shape=(20, 20, 1))
    weights.save(model, tmp_path / "model.safetensors", layout="hf")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "resnet"
    assert config["num_channels"] == 1
    assert (config["embedding_size"], config["hidden_sizes"]) == (8, [32, 64])
    assert (config["depths"], config["layer_type"]) == ([2, 1], "bottleneck")
    assert config["downsample_in_bottleneck"] is True
    assert config["downsample_in_first_stage"] is False
    assert len(config["id2label"]) == len(config["label2id"]) == 5


def test_anothers_config_is_left_alone(tmp_path, small_net):
    model = small_net("hf").make()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config.json' exists: .*choose another folder"):
        weights.save(model, tmp_path / "model.safetensors", layout="hf")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.parametrize("layout", ["torchvision", "hf"])
def test_nothing_is_left_behind(tmp_path, small_net, monkeypatch, layout):
    def full(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(publish, "write_safetensors", full)
    with pytest.raises(OSError, match="No space left"):
        publish.save(small_net("torchvision").make(), tmp_path / "model.safetensors", layout=layout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
@pytest.mark.parametrize("placement", ["1x1", "3x3"])
def test_transformers_loads_the_folder(tmp_path, small_net, images, placement):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = small_net("hf").make(stride_placement=placement)
    weights.save(model, tmp_path / "model.safetensors", layout="hf")
    theirs, told = transformers.ResNetForImageClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(told.values()), told
    with torch.no_grad():
        wanted = theirs.eval()(torch.tensor(np.moveaxis(images, -1, 1).copy())).logits.numpy()
    logits = keras.ops.convert_to_numpy(model(images))
    assert wanted.std() > 0.1
    np.testing.assert_allclose(logits, wanted, atol=1e-4)
