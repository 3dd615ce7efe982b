"""Partial loads: missing, unexpected and misshaped tensors are reported; none loads by half."""

from __future__ import annotations

import re

import numpy as np
import pytest

from keras_resnet.weights import LoadReport
from keras_resnet.weights.transfer import dump_tensors, load_tensors


@pytest.fixture
def net(small_net):
    return small_net("torchvision-basic")


@pytest.fixture
def tensors(net):
    return dump_tensors(net.make(1), net.layout)


def _unchanged(model, before) -> None:
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def _damage(tensors) -> None:
    del tensors["bn1.bias"]
    tensors["layer9.0.conv1.weight"] = np.zeros(3, "float32")
    tensors["layer2.0.conv1.weight"] = np.zeros((16, 8, 1, 1), "float32")


def test_all_that_does_not_fit_is_told_at_once(net, tensors):
    _damage(tensors)
    model = net.make(2)
    before = model.get_weights()
    message = (
        "the file does not fit basic: 1 missing: bn1.bias; 1 unexpected: layer9.0.conv1.weight; "
        "1 of another shape: layer2.0.conv1.weight (1, 1, 8, 16), not (3, 3, 8, 16)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_tensors(model, tensors, net.layout, source="the file")
    _unchanged(model, before)


@pytest.mark.parametrize("spoil", ["missing", "unexpected", "misshaped"])
def test_one_kind_suffices(net, tensors, spoil):
    if spoil == "missing":
        del tensors["fc.bias"]
    elif spoil == "unexpected":
        tensors["fc2.bias"] = np.zeros(5, "float32")
    else:
        tensors["fc.bias"] = np.zeros(6, "float32")
    model = net.make(2)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"^x does not fit basic: 1 .*: fc2?\.bias"):
        load_tensors(model, tensors, net.layout, source="x")
    _unchanged(model, before)


def test_what_fits_is_loaded_where_asked(net, tensors):
    _damage(tensors)
    source, model = net.make(1), net.make(2)
    report = load_tensors(model, tensors, net.layout, source="the file", strict=False)
    assert not report.complete
    assert report.missing == ("bn1.bias",)
    assert report.unexpected == ("layer9.0.conv1.weight",)
    assert report.misshaped == (("layer2.0.conv1.weight", (1, 1, 8, 16), (3, 3, 8, 16)),)
    assert report.left_out == ()
    assert "bn1.weight" in report.loaded
    assert "bn1.bias" not in report.loaded
    other = net.make(2)
    for layer in model.layers:
        wanted = (other if layer.name == "stage2_unit1_conv1" else source).get_layer(layer.name)
        for index, (one, two) in enumerate(
            zip(layer.get_weights(), wanted.get_weights(), strict=True)
        ):
            if (layer.name, index) == ("stem_norm", 1):
                two = other.get_layer("stem_norm").get_weights()[1]
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("strict", [True, False])
def test_nothing_that_fits_is_an_error_always(net, strict):
    model = net.make(2)
    with pytest.raises(ValueError, match="^x does not fit basic: 42 missing: conv1.weight, "):
        load_tensors(model, {"a": np.zeros(3)}, net.layout, source="x", strict=strict)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("strict", [True, False])
def test_values_that_are_not_finite_are_refused(net, tensors, value, strict):
    tensors["layer2.0.bn1.running_var"][3] = value
    model = net.make(2)
    before = model.get_weights()
    message = "'layer2.0.bn1.running_var' of x contains values that are not finite"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_tensors(model, tensors, net.layout, source="x", strict=strict)
    _unchanged(model, before)


def test_the_classifier_is_left_out_of_a_net_without(net, tensors):
    source, model = net.make(1), net.make(2, include_top=False)
    report = load_tensors(model, tensors, net.layout, source="x")
    assert report.complete
    assert report.left_out == ("fc.bias", "fc.weight")
    for layer in model.layers:
        for one, other in zip(
            layer.get_weights(), source.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_a_net_with_features_takes_no_classifier_either(small_net):
    net = small_net("timm_v2")
    tensors = dump_tensors(net.make(1), net.layout)
    report = load_tensors(net.make(2, features=True), tensors, net.layout, source="x")
    assert report.left_out == ("head.fc.bias", "head.fc.weight")
    assert report.complete


def test_counters_of_batches_are_neither_needed_nor_unexpected(net, tensors):
    bare = {name: array for name, array in tensors.items() if not name.endswith("tracked")}
    assert len(bare) < len(tensors)
    for given in (bare, tensors):
        assert load_tensors(net.make(2), given, net.layout, source="x").complete


def test_wider_floats_and_transposed_views_are_taken(net, tensors):
    wide = {name: np.asfortranarray(array.astype("float64")) for name, array in tensors.items()}
    model, source = net.make(2), net.make(1)
    load_tensors(model, wide, net.layout, source="x")
    _unchanged(model, source.get_weights())


def test_reports_name_a_few_of_many():
    report = LoadReport(("a",), missing=tuple("bcdefg"), unexpected=("x", "y"))
    assert report.describe() == "6 missing: b, c, d, e and 2 more; 2 unexpected: x, y"
    assert report.describe(limit=1) == "6 missing: b and 5 more; 2 unexpected: x and 1 more"
    assert LoadReport(("a",)).describe() == ""
    assert LoadReport(("a",), left_out=("fc.bias",)).complete
