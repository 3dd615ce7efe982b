"""`ResNetSpec`: what it accepts, refuses, derives and survives."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from keras_resnet import ResNetSpec

TINY = ResNetSpec("tiny", (1, 2), (8, 16))


def test_lists_become_tuples_and_specs_are_hashable():
    spec = ResNetSpec("tiny", [1, 2], [8, 16])
    assert spec == TINY
    assert hash(spec) == hash(TINY)
    assert spec.depths == (1, 2)


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'depths'"):
        TINY.depths = (1, 1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"name": ""}, TypeError, "`name` must be a non-empty string. Received: name=''"),
        ({"name": 3}, TypeError, "`name` must be a non-empty string. Received: name=3"),
        ({"depths": ()}, ValueError, "`depths` must hold one positive integer per stage."),
        ({"depths": (1, 0)}, ValueError, "Received: depths=(1, 0)"),
        ({"depths": (1, 2.0)}, ValueError, "Received: depths=(1, 2.0)"),
        ({"depths": (1, True)}, ValueError, "Received: depths=(1, True)"),
        ({"depths": 3}, ValueError, "Received: depths=3"),
        ({"widths": (8, -1)}, ValueError, "`widths` must hold one positive integer per stage."),
        (
            {"depths": (3, 4, 6), "widths": (8, 16, 32, 64)},
            ValueError,
            "`depths` needs one entry per stage (4). Received: depths=(3, 4, 6)",
        ),
        (
            {"branch": "wide"},
            ValueError,
            "`branch` must be one of 'basic', 'bottleneck'. Received: branch='wide'",
        ),
        ({"order": "mid"}, ValueError, "`order` must be one of 'post', 'pre'."),
        ({"shortcut": "D"}, ValueError, "`shortcut` must be one of 'A', 'B', 'C'."),
        ({"merge": "concat"}, ValueError, "`merge` must be one of 'add', 'none'."),
        ({"stem": "deep"}, ValueError, "`stem` must be one of 'imagenet', 'cifar'."),
        ({"stride_placement": "2x2"}, ValueError, "`stride_placement` must be one of"),
        ({"padding": "valid"}, ValueError, "`padding` must be one of 'symmetric', 'same'."),
        ({"conv_bias": 1}, TypeError, "`conv_bias` must be True or False. Received: conv_bias=1"),
        ({"shortcut_norm": None}, TypeError, "`shortcut_norm` must be True or False."),
        ({"zero_init_residual": "no"}, TypeError, "`zero_init_residual` must be True or False."),
        ({"norm_sync": 0}, TypeError, "`norm_sync` must be True or False."),
        ({"classes": 0}, ValueError, "`classes` must be a positive integer."),
        ({"classes": True}, ValueError, "Received: classes=True"),
        ({"input_size": 32.0}, ValueError, "`input_size` must be a positive integer."),
        ({"input_channels": -3}, ValueError, "`input_channels` must be a positive integer."),
        ({"norm_eps": 0.0}, ValueError, "`norm_eps` must be above 0. Received: norm_eps=0.0"),
        ({"norm_eps": float("nan")}, ValueError, "`norm_eps` must be above 0."),
        ({"norm_momentum": 1.0}, ValueError, "`norm_momentum` must lie in [0, 1)."),
        ({"norm_momentum": -0.1}, ValueError, "Received: norm_momentum=-0.1"),
        (
            {"merge": "none", "zero_init_residual": True},
            ValueError,
            "`zero_init_residual` needs a shortcut",
        ),
        ({"groups": 2}, ValueError, "ResNetSpec has no field 'groups'. Fields: branch, classes"),
    ],
)
def test_refuses(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        TINY.replace(**changes)


def test_replace_leaves_the_original():
    wide = TINY.replace(widths=(16, 32))
    assert wide.widths == (16, 32)
    assert wide.name == "tiny"
    assert TINY.widths == (8, 16)


@pytest.mark.parametrize(
    ("spec", "layers", "expansion", "output_stride"),
    [
        (TINY, 8, 1, 8),
        (TINY.replace(branch="bottleneck"), 11, 4, 8),
        (TINY.replace(stem="cifar"), 8, 1, 2),
        (ResNetSpec("deep", (3, 4, 6, 3), (64, 128, 256, 512)), 34, 1, 32),
        (ResNetSpec("one", (5,), (4,), stem="cifar"), 12, 1, 1),
    ],
)
def test_derived_numbers(spec, layers, expansion, output_stride):
    assert (spec.layers, spec.expansion, spec.output_stride) == (layers, expansion, output_stride)


def test_survives_json():
    spec = TINY.replace(branch="bottleneck", norm_eps=1.001e-5, conv_bias=True, shortcut="A")
    values = json.loads(json.dumps(spec.to_dict()))
    assert values["depths"] == [1, 2]
    assert set(values) == {field.name for field in dataclasses.fields(ResNetSpec)}
    assert ResNetSpec.from_dict(values) == spec


def test_from_dict_takes_defaults_for_missing_fields():
    assert ResNetSpec.from_dict({"name": "tiny", "depths": [1, 2], "widths": [8, 16]}) == TINY


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "tiny", "depths": [1]}, "Not a ResNetSpec: missing 'widths'."),
        (TINY.to_dict() | {"color": 1}, "Not a ResNetSpec: unknown field 'color'."),
        (TINY.to_dict() | {"depths": [1]}, "`depths` needs one entry per stage (2)."),
    ],
)
def test_from_dict_refuses(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ResNetSpec.from_dict(values)
