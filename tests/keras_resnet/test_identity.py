"""Units against the identity: the claimed ones are equal to the last bit, and no others."""

from __future__ import annotations

from typing import get_args

import keras
import numpy as np
import pytest
from keras import ops

from keras_resnet import ResNetSpec, build
from keras_resnet.analysis import (
    accepted_specs,
    claims_identity,
    identity_report,
    unit_distances,
)
from keras_resnet.nets.spec import Branch, Merge, Order

SPECS = {spec.name: spec for spec in accepted_specs()}
BASIC = SPECS["basic/post/add"]
# Bottlenecks differ from basic units in the branch alone: each order and each merge once.
MEASURED = [
    name
    for name, spec in SPECS.items()
    if spec.branch != "bottleneck" or "post" in name or "/add" in name
]


def test_every_value_of_every_axis_is_measured():
    seen = [set(values) for values in zip(*(name.split("/") for name in MEASURED), strict=True)]
    branches, orders, merges = (set(get_args(axis)) for axis in (Branch, Order, Merge))
    assert seen == [branches, orders, {*merges, "fixup"}]


@pytest.mark.parametrize("name", MEASURED)
def test_a_unit_is_the_identity_where_the_rule_says_so_and_only_there(name):
    found = identity_report(SPECS[name], size=4, batch_size=2)
    assert found.claims == (found.error == 0), found.reason
    starts_at_zero = found.spec.merge in ("rezero", "skipinit") or found.spec.norm == "fixup"
    starts_there = found.claims and starts_at_zero
    assert (found.distance == 0) == starts_there


@pytest.mark.parametrize(
    ("changes", "claims"),
    [
        ({"shortcut_scale": 0.5}, False),
        ({"shortcut_dropout": 0.5}, False),
        ({"branch_scale": 0.5}, True),
        ({"shortcut": "C"}, False),
        ({"shortcut": "A", "stochastic_depth": 0.5}, True),
        ({"se_reduction": 2, "conv_bias": True}, True),
        ({"zero_init_residual": True}, True),
        ({"norm": "none", "conv_bias": True, "order": "pre"}, True),
    ],
    ids=str,
)
def test_values_of_other_axes(changes, claims):
    found = identity_report(BASIC.replace(**changes), size=4, batch_size=2)
    assert (found.claims, found.error == 0) == (claims, claims)
    assert (found.distance == 0) == changes.get("zero_init_residual", False)


def test_distance_of_other_units():
    half = identity_report(BASIC.replace(shortcut_scale=0.5), size=4)
    noise = np.random.default_rng(0).normal(size=(8, 4, 4, 8))
    assert half.error == pytest.approx(noise.max() / 2, rel=1e-6)
    # A gate with no weights at bias b lets 1 - sigmoid(b) of the shortcut through.
    shares = [
        identity_report(BASIC.replace(merge="highway", gate_bias=bias), size=4).distance
        for bias in (-3.0, -30.0)
    ]
    assert shares[1] < 1e-6 < 0.05 < shares[0]


def test_distances_along_a_net():
    spec = ResNetSpec("n", (2, 2), (4, 8), stem="cifar", classes=3, input_size=8, norm_eps=1e-3)
    model = build(spec, seed=3)
    images = np.random.default_rng(4).normal(size=(4, 8, 8, 3)).astype("float32")
    before = model.get_weights()
    found = unit_distances(model, images)
    # The first unit of the second stage changes the shape and is left out.
    assert [unit.name for unit in found] == ["stage1_unit1", "stage1_unit2", "stage2_unit2"]
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    ends = [model.get_layer(f"stage1_unit{index}_out").output for index in (1, 2)]
    with keras.StatelessScope():
        x, y = keras.Model(model.input, ends)(images, training=True)
    x, y = (ops.convert_to_numpy(ops.stop_gradient(value)) for value in (x, y))
    assert found[1].distance == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-5)
    still = unit_distances(build(spec.replace(merge="rezero"), seed=3), images)
    assert [unit.distance for unit in still] == [0, 0, 0]


def test_reasons_name_the_obstacle():
    assert claims_identity(BASIC.replace(shortcut_scale=0.5)) == (
        False,
        "its shortcut is multiplied by 0.5",
    )
    assert (
        claims_identity(BASIC.replace(order="norm_after_add"))[1] == "a norm follows the addition"
    )
