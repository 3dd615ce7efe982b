"""`ResNetSpec`: what it accepts, refuses, derives and survives."""

from __future__ import annotations

import dataclasses
import json
import re
from types import SimpleNamespace

import pytest

from keras_resnet import ResNetSpec
from keras_resnet.nets.spec_rules import RULES

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
            "`branch` must be one of 'basic', 'bottleneck', 'repvgg', 'single'. "
            "Received: branch='wide'",
        ),
        ({"order": "mid"}, ValueError, "`order` must be one of 'post', 'pre', 'norm_after_add'"),
        ({"shortcut": "E"}, ValueError, "`shortcut` must be one of 'A', 'B', 'C', 'D'."),
        (
            {"merge": "concat"},
            ValueError,
            "`merge` must be one of 'add', 'none', 'rezero', 'skipinit', 'highway'",
        ),
        ({"shortcut_scale": "0.5"}, ValueError, "`shortcut_scale` must be a number."),
        ({"gate_bias": True}, ValueError, "Received: gate_bias=True"),
        ({"shortcut_dropout": 1.0}, ValueError, "`shortcut_dropout` must lie in [0, 1)."),
        (
            {"norm": "layer"},
            ValueError,
            "`norm` must be one of 'batch', 'group', 'fixup', 'none'.",
        ),
        (
            {"norm": "group"},
            ValueError,
            "norm='group' has 32 groups: all normed channels must be multiples of 32. Received: ",
        ),
        ({"norm": None}, ValueError, "Received: norm=None"),
        ({"init": "glorot"}, ValueError, "`init` must be one of 'he', 'delta_orthogonal'."),
        (
            {"stem": "patch"},
            ValueError,
            "`stem` must be one of 'imagenet', 'deep', 'tiered', 'cifar', 'unit'.",
        ),
        (
            {"stem_pool": "min"},
            ValueError,
            "`stem_pool` must be one of 'max', 'max_zero', 'conv', 'avg'.",
        ),
        ({"first_stride": 3}, ValueError, "`first_stride` must be one of 1, 2."),
        ({"first_stride": True}, ValueError, "Received: first_stride=True"),
        ({"stride_unit": "middle"}, ValueError, "`stride_unit` must be one of 'first', 'last'."),
        ({"blur": 4}, ValueError, "`blur` must be one of 0, 2, 3, 5. Received: blur=4"),
        ({"blur": False}, ValueError, "Received: blur=False"),
        ({"blur": 3.0}, ValueError, "Received: blur=3.0"),
        ({"max_stride": 3}, ValueError, "`max_stride` must be one of None, 1, 2, 4, 8, 16, 32."),
        ({"max_stride": 64}, ValueError, "Received: max_stride=64"),
        ({"max_stride": True}, ValueError, "Received: max_stride=True"),
        ({"stride_placement": "2x2"}, ValueError, "`stride_placement` must be one of"),
        ({"padding": "valid"}, ValueError, "`padding` must be one of 'symmetric', 'same'."),
        (
            {"conv_bias": 1},
            ValueError,
            "`conv_bias` must be one of False, True, 'unnormed'. Received: conv_bias=1",
        ),
        ({"conv_bias": 0}, ValueError, "Received: conv_bias=0"),
        ({"stem_activation": 1}, TypeError, "`stem_activation` must be True or False."),
        ({"stage_projection": 0}, TypeError, "`stage_projection` must be True or False."),
        ({"shortcut_norm": None}, TypeError, "`shortcut_norm` must be True or False."),
        ({"zero_init_residual": "no"}, TypeError, "`zero_init_residual` must be True or False."),
        ({"norm_sync": 0}, TypeError, "`norm_sync` must be True or False."),
        ({"classes": 0}, ValueError, "`classes` must be a positive integer."),
        ({"classes": True}, ValueError, "Received: classes=True"),
        ({"input_size": 32.0}, ValueError, "`input_size` must be a positive integer."),
        ({"input_channels": -3}, ValueError, "`input_channels` must be a positive integer."),
        ({"groups": 0}, ValueError, "`groups` must be a positive integer. Received: groups=0"),
        ({"groups": True}, ValueError, "Received: groups=True"),
        ({"base_width": 0}, ValueError, "`base_width` must be a positive integer."),
        ({"base_width": 64.0}, ValueError, "Received: base_width=64.0"),
        ({"stem_width": 0}, ValueError, "`stem_width` must be a positive integer."),
        ({"stem_width": True}, ValueError, "Received: stem_width=True"),
        (
            {"se_reduction": -4},
            ValueError,
            "`se_reduction` must be a positive integer, or 0 for none. Received: se_reduction=-4",
        ),
        ({"se_divisor": 0}, ValueError, "`se_divisor` must be a positive integer."),
        ({"eca": 1}, TypeError, "`eca` must be True or False."),
        ({"blur_shortcut": 0}, TypeError, "`blur_shortcut` must be True or False."),
        ({"se_reduction": 0.25}, ValueError, "Received: se_reduction=0.25"),
        ({"se_reduction": True}, ValueError, "Received: se_reduction=True"),
        ({"se_reduction": False}, ValueError, "Received: se_reduction=False"),
        ({"stochastic_depth": 1.0}, ValueError, "`stochastic_depth` must lie in [0, 1)."),
        ({"stochastic_depth": -0.1}, ValueError, "Received: stochastic_depth=-0.1"),
        ({"stochastic_depth": float("nan")}, ValueError, "Received: stochastic_depth=nan"),
        ({"norm_eps": 0.0}, ValueError, "`norm_eps` must be above 0. Received: norm_eps=0.0"),
        ({"norm_eps": float("nan")}, ValueError, "`norm_eps` must be above 0."),
        ({"norm_momentum": 1.0}, ValueError, "`norm_momentum` must lie in [0, 1)."),
        ({"norm_momentum": -0.1}, ValueError, "Received: norm_momentum=-0.1"),
        ({"color": 2}, ValueError, "ResNetSpec has no field 'color'. Fields: base_width, blur"),
    ],
)
def test_refuses(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        TINY.replace(**changes)


_BOTTLENECK = {"branch": "bottleneck"}
_REPVGG = {"branch": "repvgg", "stem": "unit"}
_SINGLE = _REPVGG | {"branch": "single", "merge": "none"}
_FIXUP = {"norm": "fixup"}
# A spec that keeps a rule, changes that break it, and the message.
EXCLUSIONS = [
    (
        {"inner_widths": (4, 8)},
        [{"branch": "bottleneck", "groups": 2}],
        "inner_widths=(4, 8) needs groups=1: they are the channels between a unit's convolutions, "
        "not those of groups",
    ),
    (
        {"merge": "none"},
        [{"zero_init_residual": True}],
        "merge='none' needs zero_init_residual=False: without a shortcut, a branch that is "
        "zero or dropped passes nothing on. Received: name='tiny', depths=(1, 2), "
        "widths=(8, 16), merge='none', zero_init_residual=True",
    ),
    (
        {"zero_init_residual": True},
        [{"merge": "rezero"}, {"merge": "skipinit"}],
        "needs zero_init_residual=False: this merge starts at the shortcut already",
    ),
    ({"merge": "none"}, [{"stochastic_depth": 0.5}], "merge='none' needs stochastic_depth=0: with"),
    (
        {"merge": "rezero"},
        [{"shortcut_scale": 0.5}, {"branch_scale": 2.0}, {"shortcut_dropout": 0.5}],
        "merge='rezero' needs {needs}: constant factors and dropout belong to the addition",
    ),
    (
        {"order": "norm_after_add"},
        [{"norm": "none"}, {"se_reduction": 4}],
        "order='norm_after_add' needs {needs}: He et al. 2016 compare places of the norm",
    ),
    (
        {"order": "relu_before_add"},
        [{"zero_init_residual": True}],
        "order='relu_before_add' needs zero_init_residual=False: a branch that ends in ReLU",
    ),
    (_SINGLE, [{"merge": "add"}, {"merge": "highway"}], "branch='single' needs merge='none'"),
    (
        _REPVGG,
        [
            {"merge": "none"},
            {"merge": "rezero"},
            {"norm": "none"},
            {"shortcut": "A"},
            {"shortcut": "C"},
            {"shortcut": "D"},
        ],
        "branch='repvgg' needs {needs}: RepVGG adds up normed",
    ),
    (
        _REPVGG,
        [
            {"order": "pre"},
            {"stride_unit": "last"},
            {"se_reduction": 4},
            {"eca": True},
            {"blur": 3},
            {"zero_init_residual": True},
            {"shortcut_scale": 0.5},
        ],
        "branch='repvgg' needs {needs}: the unit is fused",
    ),
    (
        _SINGLE,
        [{"order": "pre"}, {"stride_unit": "last"}, {"se_reduction": 4}, {"blur": 3}],
        "branch='single' needs {needs}: the unit is fused",
    ),
    (
        {},
        [{"stem": "unit"}, {"stem": "unit", "branch": "bottleneck"}],
        "stem='unit' needs branch='repvgg' or 'single': only RepVGG has a unit as its stem",
    ),
    (
        {},
        [{"groups": 2}, {"base_width": 32}, _REPVGG | {"groups": 2}],
        "needs {needs}: both apply to the 3x3 convolution of a bottleneck",
    ),
    (
        _BOTTLENECK | {"base_width": 8},
        [{"base_width": 7}, {"widths": (7, 64)}],
        "`base_width` leaves no filters in the narrowest stage",
    ),
    (
        _FIXUP,
        [
            {"merge": "none"},
            {"merge": "rezero"},
            {"order": "pre"},
            {"order": "relu_only_pre"},
            {"branch": "single"},
            {"conv_bias": True},
            {"conv_bias": "unnormed"},
            {"se_reduction": 4},
            {"blur": 3},
            {"zero_init_residual": True},
            {"branch_scale": 0.5},
        ],
        "norm='fixup' needs {needs}: Fixup has scalars of its own in place of norms and biases",
    ),
    ({"eca": True}, [{"se_reduction": 4}], "eca=True needs se_reduction=0: a branch has one kind"),
    (
        {"order": "pre", "stem_activation": False},
        [{"order": "post"}],
        "stem_activation=False needs order='pre': the first unit has to begin with the activation",
    ),
    (
        {"stem_pool": "conv"},
        [{"stem": "cifar"}],
        "stem='cifar' needs stem_pool='max': this stem has no pool",
    ),
    (_REPVGG, [{"stem_pool": "conv"}], "stem='unit' needs stem_pool='max'"),
    (
        {"order": "pre", "stem_activation": False},
        [{"stem_pool": "conv"}],
        "stem_pool='conv' needs stem_activation=True: two convolutions in a row are one",
    ),
    (
        {"stem_pool": "max_zero"},
        [{"padding": "same"}, {"blur": 3}],
        "stem_pool='max_zero' needs {needs}: only a pool of stride 2",
    ),
    (
        {"blur": 3},
        [{"shortcut": "A"}, {"stride_unit": "last"}],
        "blur=3 needs {needs}: the low-pass filter precedes a projection",
    ),
    (
        {"shortcut": "C"},
        [{"stride_unit": "last"}],
        "shortcut='C' needs stride_unit='first': a unit with stride_unit='last' subsamples",
    ),
    (
        {"shortcut": "A", "widths": (8, 8), "stem_width": 8},
        [{"stem_width": 9}, {"widths": (8, 7)}, _BOTTLENECK | {"stem_width": 33}],
        "shortcut='A' pads channels: neither `stem_width` nor `widths` may shrink from one stage",
    ),
    (
        _BOTTLENECK | {"init": "delta_orthogonal"},
        [{"groups": 2}],
        "init='delta_orthogonal' needs groups=1: an orthogonal matrix maps all channels",
    ),
    (
        {"stride_unit": "last"},
        [{"first_stride": 2}, {"max_stride": 8}],
        "stride_unit='last' needs {needs}: the stride stands in the last",
    ),
]


def test_every_rule_is_broken_by_an_exclusion():
    unbroken = {rule.why for rule in RULES}
    for kept, several, _ in EXCLUSIONS:
        for broken in several:
            values = TINY.to_dict() | kept | broken
            unbroken -= {rule.why for rule in RULES if rule.broken(SimpleNamespace(**values))}
    assert unbroken == set()


@pytest.mark.parametrize(
    ("kept", "broken", "message"),
    [(kept, each, message) for kept, several, message in EXCLUSIONS for each in several],
)
def test_fields_that_exclude_one_another(kept, broken, message):
    """The message names the broken fields alone: `{needs}` stands for the last changed one."""
    spec = TINY.replace(**kept)
    pattern = re.escape(message).replace(re.escape("{needs}"), rf"{list(broken)[-1]}=[^=:]*")
    with pytest.raises(ValueError, match=pattern):
        spec.replace(**broken)


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
        (TINY.replace(stem="deep", first_stride=2), 8, 1, 16),
        (TINY.replace(branch="repvgg", stem="unit", first_stride=2), 5, 1, 8),
        (TINY.replace(branch="single", merge="none", stem="cifar"), 5, 1, 2),
        (TINY.replace(max_stride=4), 8, 1, 4),
        (TINY.replace(max_stride=32), 8, 1, 8),
        (TINY.replace(max_stride=2), 8, 1, 4),  # the stem's stride stays
        (TINY.replace(stem="cifar", max_stride=1), 8, 1, 1),
    ],
)
def test_derived_numbers(spec, layers, expansion, output_stride):
    assert (spec.layers, spec.expansion, spec.output_stride) == (layers, expansion, output_stride)


def test_the_smallest_input_does_not_depend_on_dilation():
    spec = ResNetSpec("s", (1, 1, 1, 1), (4, 4, 4, 4))
    assert spec.smallest_input == spec.replace(max_stride=8).smallest_input == 32
    assert spec.replace(first_stride=2).smallest_input == 64
    assert spec.replace(stem="cifar").smallest_input == 8
    assert spec.replace(branch="repvgg", stem="unit", first_stride=2).smallest_input == 32


def test_stem_filters():
    assert TINY.stem_filters == 8
    assert TINY.replace(stem_width=5).stem_filters == 5


# Between them every field is off its default.
_OFF = (
    ResNetSpec(
        "off",
        (2, 1),
        (32, 64),
        branch="bottleneck",
        order="pre",
        shortcut="D",
        merge="highway",
        norm="none",
        stem="deep",
        stem_width=24,
        stem_pool="conv",
        first_stride=2,
        stride_placement="1x1",
        stage_projection=True,
        padding="same",
        conv_bias="unnormed",
        shortcut_norm=False,
        zero_init_residual=True,
        gate_bias=-6.0,
        groups=2,
        base_width=16,
        se_reduction=8,
        stochastic_depth=0.25,
        blur=5,
        max_stride=16,
        norm_eps=1.001e-5,
        norm_momentum=0.99,
        norm_sync=True,
        classes=7,
        input_size=48,
        input_channels=1,
    ),
    TINY.replace(
        order="pre",
        stem_activation=False,
        stride_unit="last",
        init="delta_orthogonal",
        shortcut_scale=0.5,
        branch_scale=0.25,
        shortcut_dropout=0.5,
    ),
    TINY.replace(
        eca=True,
        se_divisor=8,
        blur=2,
        blur_shortcut=False,
        head_dropout=0.25,
        inner_widths=(4, 8),
    ),
)


@pytest.mark.parametrize("spec", _OFF, ids=lambda spec: spec.name)
def test_survives_json(spec):
    values = json.loads(json.dumps(spec.to_dict()))
    assert values["depths"] == list(spec.depths)
    assert set(values) == {field.name for field in dataclasses.fields(ResNetSpec)}
    again = ResNetSpec.from_dict(values)
    assert again == spec
    assert repr(again) == repr(spec)  # equality alone holds True for 1
    assert ResNetSpec.from_dict(spec.to_dict()) == spec


def test_every_field_survives():
    off = {
        field.name
        for field in dataclasses.fields(ResNetSpec)
        if any(getattr(spec, field.name) != field.default for spec in _OFF)
    }
    assert off == {field.name for field in dataclasses.fields(ResNetSpec)}


def test_from_dict_reads_fixup_as_a_merge():
    """Files from before `norm="fixup"`."""
    old = {"merge": "fixup", "norm": "none"}
    assert ResNetSpec.from_dict(TINY.to_dict() | old) == TINY.replace(norm="fixup")
    assert TINY.replace(**old) == TINY.replace(norm="fixup")
    with pytest.raises(ValueError, match="`merge` must be one of"):
        TINY.replace(merge="fixup", norm="batch")


def test_from_dict_takes_defaults_for_missing_fields():
    assert ResNetSpec.from_dict({"name": "tiny", "depths": [1, 2], "widths": [8, 16]}) == TINY


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "Not a ResNetSpec: a mapping is needed. Received: None"),
        ({"name": "tiny", "depths": [1]}, "Not a ResNetSpec: missing 'widths'."),
        (TINY.to_dict() | {"color": 1}, "Not a ResNetSpec: unknown field 'color'."),
        (TINY.to_dict() | {"depths": [1]}, "`depths` needs one entry per stage (2)."),
    ],
)
def test_from_dict_refuses(values, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ResNetSpec.from_dict(values)
