"""Files beside the `config.json` of timm, transformers or KerasHub."""

from __future__ import annotations

import json
import pathlib
import re

import numpy as np
import pytest

from keras_resnet import ResNetSpec, build, from_pretrained
from keras_resnet.weights import open_weights
from keras_resnet.weights.files.tensor_file import write_safetensors
from keras_resnet.weights.layouts import LAYOUTS
from keras_resnet.weights.transfer import dump_tensors

BOTTLENECK = ResNetSpec(
    "net", (1, 1), (8, 16), branch="bottleneck", stride_placement="3x3", classes=5, input_size=20
)
# An architecture that the catalog does not have: its shapes are not compared.
TIMM = {
    "architecture": "resnet8",
    "pretrained_cfg": {"input_size": [3, 24, 24], "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5]},
}


@pytest.fixture(scope="module")
def model():
    return build(BOTTLENECK)


@pytest.fixture
def path(model, tmp_path) -> pathlib.Path:
    write_safetensors(
        tmp_path / "model.safetensors", dump_tensors(model, LAYOUTS["torchvision"]), None
    )
    return tmp_path / "model.safetensors"


def _beside(path: pathlib.Path, config: object) -> None:
    (path.parent / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("net", [None, "resnet50_v1_5"])
def test_an_architecture_that_is_not_built_is_refused(path, net):
    _beside(path, {**TIMM, "architecture": "resnet50_clip"})
    with pytest.raises(ValueError, match=r"beside '.*safetensors' is timm's 'resnet50_clip'"):
        open_weights(path, net=net)


def test_the_cause_of_a_config_is_told_where_the_names_are_strange(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"stages.0.0.strange.weight": np.ones(3, "float32")}, None)
    _beside(path, {"architecture": "gcresnet50t", "pretrained_cfg": {}})
    message = "is timm's 'gcresnet50t', which is not supported: it has global context or bilinear"
    with pytest.raises(ValueError, match=message):
        open_weights(path)


def test_the_preprocessing_of_a_config_is_read(path):
    _beside(path, TIMM)
    weights = open_weights(path)
    assert weights.assumed == ()
    assert weights.preprocess.size == (24, 24)
    np.testing.assert_allclose(weights.preprocess.mean, (127.5,) * 3)
    assert from_pretrained(path).preprocess == weights.preprocess


def test_a_config_of_another_program_is_ignored(path):
    _beside(path, {"epochs": 3, "lr": 0.1})
    weights = open_weights(path)
    assert weights.preprocess is None
    assert weights.assumed


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"architecture": "resnet50"}, "depths=(3, 4, 6, 3), not (1, 1); widths=(64, 128, 256"),
        (
            {"model_type": "resnet", "layer_type": "basic", "hidden_sizes": [32, 64]},
            "branch='basic', not 'bottleneck'; widths=(32, 64), not (8, 16)",
        ),
        (
            {"model_type": "resnet", "layer_type": "bottleneck", "depths": [1, 2]},
            "depths=(1, 2), not (1, 1). Put the file into a folder of its own",
        ),
    ],
)
def test_the_config_of_another_net_is_refused_or_overruled(path, config, told):
    _beside(path, config)
    with pytest.raises(ValueError, match=f"describes another net than .*: {re.escape(told)}"):
        open_weights(path)
    with pytest.warns(UserWarning, match="describes another net .*; it is ignored, because the "):
        opened = open_weights(path, net=BOTTLENECK)
    assert (opened.spec, opened.preprocess) == (BOTTLENECK, None)
    fitting = {"model_type": "resnet", "layer_type": "bottleneck", "hidden_sizes": [32, 64]}
    _beside(path, {**fitting, "depths": [1, 1]})
    assert open_weights(path).assumed == ()
