"""Configs of the hub: the net, its preprocessing, and configs that are refused."""

from __future__ import annotations

import re

import pytest

from keras_resnet import variants
from keras_resnet.weights import hub
from keras_resnet.weights.files.json_object import read_object

TIMM = {
    "architecture": "resnet50",
    "num_classes": 1000,
    "pretrained_cfg": {
        "input_size": [3, 160, 192],
        "crop_pct": 0.95,
        "interpolation": "bicubic",
        "mean": [0.5, 0.25, 0.125],
        "std": [0.5, 0.4, 0.2],
        "license": "apache-2.0",
    },
}
TRANSFORMERS = {"model_type": "resnet", "layer_type": "bottleneck", "hidden_act": "relu"}
PROCESSOR = {
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "resample": 3,
    "do_rescale": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
KERAS_HUB = {"class_name": "ResNetBackbone", "config": {"block_type": "bottleneck_block"}}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("hf://timm/resnet50.a1_in1k", ("timm/resnet50.a1_in1k", "main")),
        ("hf://a/b@v1.0", ("a/b", "v1.0")),
    ],
)
def test_parse(name, wanted):
    assert hub.parse(name) == wanted


@pytest.mark.parametrize("name", ["hf://", "hf://a", "hf://a/b/c", "hf://a/b@", "hf://a/b?x=1"])
def test_other_forms_are_refused(name):
    message = (
        "The name of a net of the hub must be `hf://owner/repository` or "
        "`hf://owner/repository@revision`. "
        f"Received: {name!r}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        hub.parse(name)


def test_urls(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    url = hub.file_url("a/b", "v2", "config.json")
    assert url == "https://huggingface.co/a/b/resolve/v2/config.json"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert hub.file_url("a/b", "v2", "x") == "https://mirror.example/a/b/resolve/v2/x"


def test_timm():
    net = hub.describe("timm/resnet50", TIMM, {})
    assert (net.library, net.changes, net.licence) == ("timm", {}, "apache-2.0")
    assert net.files == ("model.safetensors", "pytorch_model.bin")
    assert net.preprocess.size == (160, 192)
    assert net.preprocess.mean == (127.5, 63.75, 31.875)
    assert net.preprocess.std == pytest.approx((127.5, 102, 51))
    assert (net.preprocess.crop_fraction, net.preprocess.interpolation) == (0.95, "bicubic")


@pytest.mark.parametrize(
    "architecture",
    [
        "resnet18",
        "resnet34d",
        "resnet50c",
        "resnet101",
        "resnet152d",
        "resnext50_32x4d",
        "resnext101_64x4d",
        "wide_resnet101_2",
        "seresnet50",
        "seresnext50_32x4d",
        "resnetrs420",
        "resnetv2_101",
        "repvgg_a0",
        "repvgg_b3",
        "resnet10t",
        "resnet50s",
        "resnet50_gn",
        "seresnext26t_32x4d",
        "ecaresnet50t",
        "ecaresnetlight",
        "gluon_resnet50_v1d",
        "tv_resnext50_32x4d",
    ],
)
def test_timms_plain_forms_are_taken(architecture):
    assert hub.describe("x/y", {"architecture": architecture}, {}).library == "timm"


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("resnet50", {}),
        ("resnetblur18", {"blur": 3, "blur_shortcut": False}),
        ("resnetblur50d", {"blur": 3, "blur_shortcut": False}),
        ("resnetaa50", {"blur": 2, "blur_shortcut": False, "stem_pool": "avg"}),
        ("seresnextaa101d_32x8d", {"blur": 2, "blur_shortcut": False, "stem_pool": "avg"}),
        ("resnetv2_50", {}),
        ("resnetv2_50t", {"shortcut": "D"}),
        ("resnetv2_50d_gn", {"shortcut": "D"}),
    ],
)
def test_what_the_tensors_of_timm_do_not_show(architecture, changes):
    assert hub.describe("x/y", {"architecture": architecture}, {}).changes == changes
    if architecture in variants:
        spec = variants[architecture]
        assert {field: getattr(spec, field) for field in changes} == changes


@pytest.mark.parametrize(
    ("architecture", "cause"),
    [
        ("skresnet50", "its branches are selective kernels"),
        ("gcresnet50t", "it has global context or bilinear attention"),
        ("resnet50_clip", "CLIP: it ends in attention"),
        ("resnet50x4_clip_gap", "CLIP: it ends in attention"),
        ("resnet33ts", "its activation is SiLU"),
        ("resnet51q", "its activation is SiLU"),
        ("seresnext26ts", "its activation is SiLU"),
        ("repvgg_b1g4", "its convolutions are grouped"),
        ("repvgg_d2se", "RepVGG with squeeze-and-excitation"),
        ("resnetv2_50d_evos", "its norms are EvoNorm"),
        ("resnetv2_50x1_bit", "BiT: its convolutions have standardised weights"),
        ("efficientnet_b0", "it is not a residual net"),
        ("res2net50_26w_4s", "its branches are split, mixed or nested"),
        ("hrnet_w18", "its branches of several resolutions are mixed"),
        ("legacy_seresnet50", "its stem, pool or projections are those of SENet"),
        ("senet154", "its stem, pool or projections are those of SENet"),
        ("ecaresnet50d_pruned", "its widths differ from unit to unit"),
        ("resnet50_mlp", "its classifier has two layers"),
        ("lambda_resnet26rpt_256", "its branches contain self-attention"),
        ("nf_resnet50", "its weights are standardised"),
        ("test_resnet", "its stages have different branches"),
    ],
)
def test_timms_other_nets_are_refused_with_the_cause(architecture, cause):
    message = f"hf://x/y is timm's {architecture!r}, which is not supported: {cause}"
    with pytest.raises(ValueError, match=re.escape(message)):
        hub.describe("x/y", {"architecture": architecture, "pretrained_cfg": {}}, {})


def test_nets_that_timm_may_have_one_day_are_refused():
    message = "hf://x/y is timm's 'resnetx50', which is not supported. Supported are resnet, "
    with pytest.raises(ValueError, match=re.escape(message)):
        hub.describe("x/y", {"architecture": "resnetx50"}, {})


def test_another_pool_of_timm_is_refused():
    message = "hf://x/y is timm's 'resnet50' with {'global_pool': 'max'}, which is not supported"
    with pytest.raises(ValueError, match=re.escape(message)):
        hub.describe("x/y", {**TIMM, "global_pool": "max"}, {})


def test_arguments_of_timms_training_are_taken():
    config = {**TIMM, "model_args": {"drop_path_rate": 0.1, "num_classes": 10}}
    assert hub.describe("x/y", config, {}).changes == {}


def test_arguments_that_change_nothing_or_that_shapes_show():
    """Each config of timm 1.0.31 has the pool; the widths and depths are the file's."""
    written = {"num_classes": 7, "in_chans": 3, "global_pool": "avg"}
    found = hub.describe("x/y", {**TIMM, "model_args": written}, {})
    assert (found.changes, found.shown["depths"]) == ({}, (3, 4, 6, 3))
    narrow = {**written, "channels": [8, 16, 32, 64], "layers": [1, 2, 1, 1]}
    found = hub.describe("x/y", {**TIMM, "model_args": narrow}, {})
    assert found.shown["depths"] == (1, 2, 1, 1)
    assert "widths" not in found.shown


def test_arguments_of_timms_model_are_refused():
    """They change the net's function, and shapes need not show it."""
    config = {**TIMM, "model_args": {"act_layer": "silu"}}
    message = "hf://x/y is timm's 'resnet50' with {'act_layer': 'silu'}, which is not supported"
    with pytest.raises(ValueError, match=re.escape(message)):
        hub.describe("x/y", config, {})


@pytest.mark.parametrize(("early", "placement"), [(True, "1x1"), (False, "3x3"), (None, "3x3")])
def test_transformers(early, placement):
    config = (
        dict(TRANSFORMERS) if early is None else TRANSFORMERS | {"downsample_in_bottleneck": early}
    )
    net = hub.describe("x/y", config, PROCESSOR)
    assert net.library == "transformers"
    assert net.changes == {"stride_placement": placement, "first_stride": 1}
    assert net.preprocess.size == (224, 224)
    assert net.preprocess.mean == pytest.approx((123.675, 116.28, 103.53))
    assert net.preprocess.std == pytest.approx((58.395, 57.12, 57.375))
    assert (net.preprocess.crop_fraction, net.preprocess.interpolation) == (0.875, "bicubic")


def test_transformers_first_stage():
    config = {**TRANSFORMERS, "downsample_in_first_stage": True}
    assert hub.describe("x/y", config, {}).changes["first_stride"] == 2


@pytest.mark.parametrize(
    ("processor", "size", "crop", "mean", "std"),
    [
        ({"size": 192, "crop_pct": None}, 192, 0.875, 123.675, 58.395),
        ({"size": {"height": 200, "width": 200}}, 200, 0.875, 123.675, 58.395),
        ({"size": {"shortest_edge": 384}}, 384, 1.0, 123.675, 58.395),  # squashed, not cropped
        ({"do_rescale": False}, 224, 0.875, 0.485, 0.229),
        ({"do_normalize": False}, 224, 0.875, 0.0, 255.0),
    ],
)
def test_transformers_processors(processor, size, crop, mean, std):
    found = hub.describe("x/y", TRANSFORMERS, PROCESSOR | processor).preprocess
    assert found.size == (size, size)
    assert found.crop_fraction == crop
    assert (found.mean[0], found.std[0]) == pytest.approx((mean, std))


def test_transformers_without_a_processor():
    assert hub.describe("x/y", TRANSFORMERS, {}).preprocess is None


def test_transformers_activations_are_refused():
    with pytest.raises(ValueError, match="hf://x/y has the activation 'gelu'; this package builds"):
        hub.describe("x/y", TRANSFORMERS | {"hidden_act": "gelu"}, {})


def test_keras_hub():
    converter = {
        "image_size": [224, 256],
        "scale": [0.017, 0.018, 0.02],
        "offset": [-2, -1.8, -1.5],
    }
    processor = {"config": {"image_converter": {"config": converter}}}
    net = hub.describe("x/y", KERAS_HUB, processor)
    assert (net.files, net.head) == (("model.weights.h5",), "task.weights.h5")
    assert net.changes == {"conv_bias": False}
    assert net.preprocess.size == (224, 256)
    # scale * x + offset, written as (x - mean) / std.
    assert net.preprocess.mean == pytest.approx((2 / 0.017, 100, 75))
    assert net.preprocess.std == pytest.approx((1 / 0.017, 1 / 0.018, 50))
    single = {"image_size": [32, 32], "scale": 1 / 127.5, "offset": -1}
    net = hub.describe("x/y", KERAS_HUB, {"config": {"image_converter": {"config": single}}})
    assert (net.preprocess.mean, net.preprocess.std) == (
        pytest.approx((127.5,) * 3),
        pytest.approx((127.5,) * 3),
    )
    assert hub.describe("x/y", KERAS_HUB, {}).preprocess is None


def test_keras_hubs_vd():
    config = {"class_name": "ResNetBackbone", "config": {"block_type": "basic_block_vd"}}
    changes = hub.describe("x/y", config, {}).changes
    assert changes == {"conv_bias": False, "shortcut": "D", "stage_projection": True}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "vit"}, "vit"),
        ({"class_name": "ViTBackbone"}, "ViTBackbone"),
        ({}, "unknown"),
    ],
)
def test_other_nets_are_refused(config, kind):
    message = (
        "hf://x/y is not a residual net of timm, transformers or KerasHub: its config names "
        f"{kind!r}"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        hub.describe("x/y", config, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "is not a JSON file: "),
        (b"\xff\xfe", "is not a JSON file: "),
        (b"[1]", "does not contain a JSON object"),
    ],
)
def test_read_json(tmp_path, content, message):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_object(str(tmp_path / "config.json"))
