"""The named nets: which there are, what they are, how a wrong name is answered."""

from __future__ import annotations

import re

import pytest

import keras_resnet
from keras_resnet import get_spec, list_variants, plain_twin, variants

# Layers as the papers count them stand in the names; units per stage are He et al. 2015, Table 1
# and section 4.2, and He et al. 2016, section 4 and Table 5.
DEPTHS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
    "resnet200": (3, 24, 36, 3),
    "cifar_resnet20": (3, 3, 3),
    "cifar_resnet56": (9, 9, 9),
    "cifar_resnet110": (18, 18, 18),
    "cifar_resnet1202": (200, 200, 200),
    "cifar_resnet164v2": (18, 18, 18),
    "cifar_resnet1001v2": (111, 111, 111),
}


@pytest.mark.parametrize(("name", "depths"), DEPTHS.items())
def test_depths(name, depths):
    assert variants[name].depths == depths


@pytest.mark.parametrize("name", list(variants))
def test_names_count_the_layers(name):
    spec = variants[name]
    assert spec.name == name
    counted = int(re.search(r"(?:resnet|plain)(\d+)", name)[1])
    assert spec.layers == counted


def test_nets_of_table_1_stride_as_their_sources_do():
    assert variants["resnet50"].stride_placement == "1x1"
    assert variants["resnet50_v1_5"] == variants["resnet50"].replace(
        name="resnet50_v1_5", stride_placement="3x3"
    )
    assert variants["resnet50v2"].stride_placement == "3x3"
    assert variants["resnet50v2"].order == "pre"
    assert variants["keras_resnet50"] == variants["resnet50"].replace(
        name="keras_resnet50", conv_bias=True, norm_eps=1.001e-5, norm_momentum=0.99
    )


def test_cifar_nets():
    spec = variants["cifar_resnet20"]
    assert (spec.widths, spec.shortcut, spec.branch) == ((16, 32, 64), "A", "basic")
    assert (spec.stem, spec.classes, spec.input_size) == ("cifar", 10, 32)
    assert variants["cifar_resnet164v2"].shortcut == "B"
    assert variants["cifar_resnet164v2"].branch == "bottleneck"
    assert variants["cifar_resnet110v2_basic"].branch == "basic"


def test_families_resolve_every_depth():
    assert variants["cifar_resnet8"].depths == (1, 1, 1)
    assert variants["cifar_resnet290"].depths == (48, 48, 48)
    assert variants["cifar_resnet11v2"].depths == (1, 1, 1)
    assert variants["cifar_resnet38_bottleneck"].depths == (4, 4, 4)
    plain = variants["cifar_plain26v2_basic"]
    assert (plain.name, plain.merge, plain.depths) == ("cifar_plain26v2_basic", "none", (4, 4, 4))
    assert "cifar_resnet74" in variants
    assert "cifar_resnet74" not in list(variants)


@pytest.mark.parametrize("name", ["cifar_resnet21", "cifar_plain13v2", "resnet51", "?", 3, None])
def test_is_a_mapping_for_wrong_names_too(name):
    assert name not in variants
    assert variants.get(name) is None
    with pytest.raises(KeyError, match=re.escape(str(name).replace("plain", "resnet"))):
        variants[name]


def test_is_read_only():
    with pytest.raises(TypeError, match="does not support item assignment"):
        variants["mine"] = variants["resnet18"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", "Unknown model 'resnet51'. Nearest: resnet50"),
        ("ResNet-50", "Unknown model 'ResNet-50'. Nearest: resnet50"),
        ("vgg", "Unknown model 'vgg'. Known: resnet18, resnet34"),
        (
            "cifar_resnet21",
            "'cifar_resnet21' has no such depth: this family has 6n+2 layers. "
            "Nearest: cifar_resnet20, cifar_resnet26",
        ),
        ("cifar_resnet5", "Nearest: cifar_resnet8, cifar_resnet14"),
        (
            "cifar_resnet165v2",
            "this family has 9n+2 layers. Nearest: cifar_resnet164v2, cifar_resnet173v2",
        ),
    ],
)
def test_unknown_names_list_the_nearest(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        get_spec(name)


def test_get_spec_takes_specs_and_refuses_the_rest():
    spec = variants["resnet18"]
    assert get_spec(spec) is spec
    assert get_spec("resnet18") == spec
    with pytest.raises(TypeError, match=r"A net is a name or a ResNetSpec\. Received: 18"):
        get_spec(18)


def test_list_variants():
    assert len(list_variants()) == len(variants) == len(set(list_variants()))
    assert list_variants("resnet50*") == ["resnet50", "resnet50_v1_5", "resnet50v2"]
    assert list_variants("nothing*") == []
    assert set(list_variants("*plain*")) == {plain_twin(variants[n]).name for n in variants}


@pytest.mark.parametrize("name", list_variants("*resnet*"))
def test_plain_twin_differs_in_its_merge_alone(name):
    spec = variants[name]
    twin = plain_twin(spec)
    assert twin == variants[twin.name]
    assert twin == spec.replace(name=name.replace("resnet", "plain"), merge="none")


def test_plain_twin_drops_the_zero_start():
    spec = variants["resnet18"].replace(zero_init_residual=True)
    assert plain_twin(spec) == variants["plain18"]


def test_public_names_exist():
    missing = [name for name in keras_resnet.__all__ if not hasattr(keras_resnet, name)]
    assert missing == []
    assert sorted(keras_resnet.__all__) == sorted(set(keras_resnet.__all__))
