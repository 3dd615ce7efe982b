"""The named nets: their specs, their families and the errors for wrong names."""

from __future__ import annotations

import pathlib
import re

import pytest

import keras_resnet
from keras_resnet import get_spec, list_variants, plain_twin, variants
from keras_resnet.nets import catalog

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
    # timm's and KerasHub's 200; Bello et al. 2021 (arXiv:2103.07579), Table 9.
    "resnet200d": (3, 24, 36, 3),
    "resnet200vd": (3, 12, 48, 3),  # PaddleClas and KerasHub
    "resnetrs200": (3, 24, 36, 3),
    "resnetrs270": (4, 29, 53, 4),
    "resnetrs350": (4, 36, 72, 4),
    "resnetrs420": (4, 44, 87, 4),
    "resnext101_64x4d": (3, 4, 23, 3),
    "seresnet152": (3, 8, 36, 3),
    # Ding et al. 2021 (arXiv:2101.03697), Table 2, without the stem.
    "repvgg_a0": (2, 4, 14, 1),
    "repvgg_b1": (4, 6, 16, 1),
    "cifar_wrn28_10": (4, 4, 4),
    "cifar_repvgg20": (6, 6, 6),
}


def test_depths():
    assert {name: variants[name].depths for name in DEPTHS} == DEPTHS


def test_every_listed_name_stands_in_the_source_once():
    source = pathlib.Path(catalog.__file__).read_text()
    assert [name for name in variants if source.count(f'"{name}"') != 1] == []


def test_names_count_the_layers():
    for name, spec in variants.items():
        assert spec.name == name
        if name.startswith("repvgg") or name == "ecaresnetlight":
            continue
        counted = int(re.match(r"[a-z_]*?(?:v2_|wrn)?(\d+)", name)[1])
        # Two names of Bello et al. 2021 are rounded: 4 + 29 + 53 + 4 units are 272 layers.
        counted = {
            "resnetrs270": 272,
            "resnetrs420": 419,
            "seresnextaa201d_32x8d": 203,  # 3 + 24 + 36 + 4 units, timm's name
        }.get(name, counted)
        assert spec.layers == counted, name


@pytest.mark.parametrize(("name", "layers"), [("repvgg_a0", 22), ("repvgg_b1", 28)])
def test_layers_of_repvgg(name, layers):
    """Ding et al. 2021, Table 2: 1, 2, 4, 14, 1 and 1, 4, 6, 16, 1, without the classifier."""
    assert variants[name].layers == layers + 1


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


def _differs(name: str, base: str) -> dict[str, object]:
    """The fields in which a net differs from another, its name left out."""
    spec, other = variants[name].to_dict(), variants[base].to_dict()
    return {
        key: spec[key] for key in spec if key not in ("name", "depths") and spec[key] != other[key]
    }


@pytest.mark.parametrize(
    ("name", "base", "differs"),
    [
        ("resnet50c", "resnet50_v1_5", {"stem": "deep"}),
        ("resnet50d", "resnet50c", {"shortcut": "D"}),
        ("resnet18d", "resnet18", {"stem": "deep", "shortcut": "D"}),
        ("resnet18vd", "resnet18d", {"stage_projection": True}),
        ("resnet50vd", "resnet50d", {"stage_projection": True}),
        (
            "resnetrs50",
            "resnet50d",
            {"stem_pool": "conv", "se_reduction": 4, "input_size": 160},
        ),
        (
            "resnetrs420",
            "resnetrs50",
            {"stochastic_depth": 0.1, "input_size": 320},
        ),
        ("resnext50_32x4d", "resnet50_v1_5", {"groups": 32, "base_width": 4}),
        ("resnext101_32x8d", "resnet101_v1_5", {"groups": 32, "base_width": 8}),
        ("wide_resnet101_2", "resnet101_v1_5", {"base_width": 128}),
        ("seresnet50", "resnet50_v1_5", {"se_reduction": 16}),
        ("seresnext101_32x8d", "resnext101_32x8d", {"se_reduction": 16}),
        ("resnet50_blur", "resnet50_v1_5", {"blur": 3}),
        ("resnetv2_50", "resnet50v2", {"stem_activation": False}),
        (
            "keras_resnet50v2",
            "resnet50v2",
            {
                "stride_unit": "last",
                "stem_activation": False,
                "stem_pool": "max_zero",
                "conv_bias": "unnormed",
                "norm_eps": 1.001e-5,
                "norm_momentum": 0.99,
            },
        ),
        ("cifar_resnet110_sd", "cifar_resnet110", {"stochastic_depth": 0.5}),
        ("cifar_highway20", "cifar_resnet20", {"merge": "highway"}),
        ("cifar_rezero20", "cifar_resnet20", {"merge": "rezero"}),
        (
            "cifar_skipinit20",
            "cifar_resnet20v2_basic",
            {"merge": "skipinit", "norm": "none", "conv_bias": True},
        ),
        ("cifar_fixup20", "cifar_resnet20", {"norm": "fixup"}),
        (
            "cifar_delta_orthogonal20",
            "cifar_resnet20",
            {"merge": "none", "norm": "none", "init": "delta_orthogonal", "conv_bias": True},
        ),
        ("cifar_repvgg20", "cifar_resnet20", {"branch": "repvgg", "shortcut": "B"}),
        (
            "cifar_wrn16_8",
            "cifar_resnet20v2_basic",
            {
                "widths": [128, 256, 512],
                "shortcut": "B",
                "stem_width": 16,
                "stem_activation": False,
            },
        ),
    ],
)
def test_variants_differ_from_their_base_in_what_their_papers_say(name, base, differs):
    assert _differs(name, base) == differs


@pytest.mark.parametrize(
    ("name", "stem", "widths"),
    [
        # Ding et al. 2021, Tables 2 and 3: (a, b) of A0 is (0.75, 2.5), of A2 (1.5, 2.75).
        ("repvgg_a0", 48, (48, 96, 192, 1280)),
        ("repvgg_a1", 64, (64, 128, 256, 1280)),
        ("repvgg_a2", 64, (96, 192, 384, 1408)),
        ("repvgg_b0", 64, (64, 128, 256, 1280)),
        ("repvgg_b1", 64, (128, 256, 512, 2048)),
    ],
)
def test_repvgg_widths(name, stem, widths):
    spec = variants[name]
    assert (spec.stem_filters, spec.widths) == (stem, widths)
    assert (spec.stem, spec.first_stride, spec.output_stride) == ("unit", 2, 32)


def test_cifar_nets():
    spec = variants["cifar_resnet20"]
    assert (spec.widths, spec.shortcut, spec.branch) == ((16, 32, 64), "A", "basic")
    assert (spec.stem, spec.classes, spec.input_size) == ("cifar", 10, 32)
    assert variants["cifar_resnet164v2"].shortcut == "B"
    assert variants["cifar_resnet164v2"].branch == "bottleneck"
    # The authors' code (resnet-1k-layers, `resnet-pre-act.lua`) strides in the first 1x1.
    for name in ("cifar_resnet164v2", "cifar_resnet164_bottleneck", "cifar_plain164v2"):
        assert variants[name].stride_placement == "1x1"
    assert variants["cifar_resnet110v2_basic"].branch == "basic"


def test_listed_members_are_those_of_their_families(monkeypatch):
    listed = {name: spec for name, spec in variants.items() if name.startswith("cifar_")}
    monkeypatch.setattr(variants, "_specs", {})
    assert {name: variants.find(name) for name in listed} == listed


def test_families_resolve_every_depth():
    assert variants["cifar_resnet8"].depths == (1, 1, 1)
    assert variants["cifar_resnet290"].depths == (48, 48, 48)
    assert variants["cifar_resnet11v2"].depths == (1, 1, 1)
    assert variants["cifar_resnet38_bottleneck"].depths == (4, 4, 4)
    assert variants["cifar_fixup8"].depths == variants["cifar_highway8"].depths == (1, 1, 1)
    assert variants["cifar_repvgg5"].depths == (1, 1, 1)
    assert variants["cifar_delta_orthogonal302"].depths == (50, 50, 50)
    assert variants["cifar_resnet74_sd"].stochastic_depth == 0.5
    assert variants["cifar_plain74_sd"].stochastic_depth == 0
    assert variants["cifar_wrn22_8"].widths == (128, 256, 512)
    assert variants["cifar_wrn22_8"].depths == (3, 3, 3)
    plain = variants["cifar_plain26v2_basic"]
    assert (plain.name, plain.merge, plain.depths) == ("cifar_plain26v2_basic", "none", (4, 4, 4))
    assert "cifar_resnet74" in variants
    assert "cifar_resnet74" not in list(variants)


@pytest.mark.parametrize(
    "name",
    ["cifar_resnet21", "cifar_plain13v2", "cifar_wrn21_8", "resnet51", "?", 3, None],
)
def test_is_a_mapping_for_wrong_names_too(name):
    assert name not in variants
    assert variants.get(name) is None
    with pytest.raises(KeyError, match=re.escape(str(name))):
        variants[name]


def test_is_read_only():
    with pytest.raises(TypeError, match="does not support item assignment"):
        variants["mine"] = variants["resnet18"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet51", "Unknown model 'resnet51'. Nearest: resnet50"),
        ("ResNet-50", "Unknown model 'ResNet-50'. Nearest: resnet50"),
        ("vgg", "Unknown model 'vgg'. Nearest: repvgg_"),
        ("mobilenet", "Unknown model 'mobilenet'. Known: resnet18, resnet34"),
        (
            "cifar_wrn21_8",
            "'cifar_wrn21_8' is not a Wide ResNet: it needs 6n+4 layers and a factor of at least "
            "1, as cifar_wrn16_8, cifar_wrn28_10, cifar_wrn40_4",
        ),
        ("cifar_wrn28_0", "is not a Wide ResNet"),
        ("cifar_fixup21", "this family has 6n+2 layers. Nearest: cifar_fixup20, cifar_fixup26"),
        ("cifar_repvgg21", "this family has 3n+2 layers. Nearest: cifar_repvgg20, cifar_repvgg23"),
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
    assert list_variants("resnet50*") == [
        "resnet50",
        "resnet50_v1_5",
        "resnet50v2",
        "resnet50c",
        "resnet50d",
        "resnet50vd",
        "resnet50_blur",
        "resnet50t",
        "resnet50s",
        "resnet50_gn",
    ]
    assert list_variants("nothing*") == []
    assert set(list_variants("*plain*")) == {plain_twin(variants[name]).name for name in TWINNED}


# The nets of the papers' tables have plain twins there too; every other net, such as timm's
# resnet26, has one on request.
TWINNED = [
    name
    for name in variants
    if re.fullmatch(
        r"resnet(?!26$)\d+(_v1_5|v2)?|keras_resnet\d+|mlperf_tiny_resnet8"
        r"|cifar_resnet\d+(_bottleneck|v2|v2_basic)?",
        name,
    )
]
OTHERS = [
    name
    for name in variants
    if name not in TWINNED and variants[name].merge != "none" and variants[name].branch != "repvgg"
]


def test_there_are_twins():
    assert (len(TWINNED), len(OTHERS)) == (33, 112)


def test_plain_twin_differs_in_its_merge_alone():
    for name in (*TWINNED, *OTHERS):
        spec = variants[name]
        twin = plain_twin(spec)
        if name in TWINNED:
            assert twin == variants[twin.name]
            assert twin.name == name.replace("resnet", "plain")
        norm = "none" if spec.norm == "fixup" else spec.norm
        changes = {"merge": "none", "norm": norm, "stochastic_depth": 0.0}
        assert twin == spec.replace(name=twin.name, **changes)
        assert twin.name != name


@pytest.mark.parametrize("name", ["plain18", "cifar_plain20", "cifar_delta_orthogonal20"])
def test_a_plain_net_is_its_own_twin(name):
    assert plain_twin(variants[name]) is variants[name]


def test_repvgg_has_no_plain_twin():
    """Its shortcuts are fused, not dropped."""
    message = "repvgg_a0 has its plain form after training: `keras_resnet.reparam.fuse`"
    with pytest.raises(ValueError, match=re.escape(message)):
        plain_twin(variants["repvgg_a0"])


def test_plain_twin_drops_the_zero_start():
    spec = variants["resnet18"].replace(zero_init_residual=True)
    assert plain_twin(spec) == variants["plain18"]


def test_public_names_exist():
    missing = [name for name in keras_resnet.__all__ if not hasattr(keras_resnet, name)]
    assert missing == []
    assert sorted(keras_resnet.__all__) == sorted(set(keras_resnet.__all__))
