"""The named networks: a table from name to `ResNetSpec`, grouped by paper.

A row of `_TABLE` states the name, the spec it starts from, the units per stage and the fields in
which it differs. To add a network, add a row.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from keras_resnet.nets.spec import ResNetSpec


def plain_twin(spec: ResNetSpec) -> ResNetSpec:
    """Returns the network without its shortcuts: `cifar_resnet26` gives `cifar_plain26`.

    Raises:
        ValueError: If it is a RepVGG, whose plain form comes after training.

    Source: He et al. 2015, section 3.3, "Plain Network".

    Example:
        >>> plain_twin(get_spec("cifar_resnet26")).name
        'cifar_plain26'
    """
    if spec.merge == "none":
        return spec
    if spec.branch == "repvgg":
        raise ValueError(
            f"{spec.name} has its plain form after training: `keras_resnet.reparam.fuse`"
        )
    name = spec.name.replace("resnet", "plain", 1)
    return spec.replace(
        name=name if name != spec.name else f"plain_{name}",
        merge="none",
        norm="none" if spec.norm == "fixup" else spec.norm,
        zero_init_residual=False,
        stochastic_depth=0.0,
        shortcut_scale=1.0,
        branch_scale=1.0,
        shortcut_dropout=0.0,
    )


# The specs that rows start from. Bottlenecks stride in their 3x3 convolution ("v1.5": torchvision,
# timm, Goyal et al. 2017); `_V1` strides in the first 1x1, as He et al. 2015.
_BASIC = ResNetSpec("basic", (2, 2, 2, 2), (64, 128, 256, 512))
_V1_5 = _BASIC.replace(branch="bottleneck")
_V1 = _V1_5.replace(stride_placement="1x1")
_V2_BASIC, _V2 = _BASIC.replace(order="pre"), _V1_5.replace(order="pre")
_D_BASIC, _D = (net.replace(stem="deep", shortcut="D") for net in (_BASIC, _V1_5))
_VD_BASIC, _VD = (net.replace(stage_projection=True) for net in (_D_BASIC, _D))
# timm's anti-aliased nets filter the branch and the stem's pool, not the projections.
_TIMM_BLUR: dict[str, Any] = {"blur": 3, "blur_shortcut": False}
_TIMM_AA: dict[str, Any] = {"blur": 2, "blur_shortcut": False, "stem_pool": "avg"}
_T = _D.replace(stem="tiered")
_V2_T = _V2.replace(stem_activation=False, stem="tiered", shortcut="D")
_V2_D = _V2_T.replace(stem="deep")
_V2_D_BASIC = _V2_D.replace(branch="basic")
_RS = _D.replace(stem_pool="conv", se_reduction=4)
_REPVGG = _BASIC.replace(branch="repvgg", stem="unit", first_stride=2)
# keras.applications: a bias in every convolution. Its V2 strides in the last unit of a stage, and
# pads the stem's pool with zeros although the values were not rectified.
_KERAS = _V1.replace(conv_bias=True, norm_eps=1.001e-5, norm_momentum=0.99)
_KERAS_V2 = _V2.replace(
    stride_unit="last",
    stem_activation=False,
    stem_pool="max_zero",
    conv_bias="unnormed",
    norm_eps=1.001e-5,
    norm_momentum=0.99,
)
# CIFAR-10 (He et al. 2015, section 4.2): widths 16, 32, 64 and shortcuts of option A.
_CIFAR = ResNetSpec(
    "cifar", (3, 3, 3), (16, 32, 64), shortcut="A", stem="cifar", classes=10, input_size=32
)
# Bottlenecks stride in their first 1x1, as the authors' code does (resnet-1k-layers).
_CIFAR_V1 = _CIFAR.replace(branch="bottleneck", shortcut="B", stride_placement="1x1")
_CIFAR_V2_BASIC, _CIFAR_V2 = _CIFAR.replace(order="pre"), _CIFAR_V1.replace(order="pre")
_CIFAR_SD = _CIFAR.replace(stochastic_depth=0.5)
_HIGHWAY, _REZERO = _CIFAR.replace(merge="highway"), _CIFAR.replace(merge="rezero")
_SKIPINIT = _CIFAR_V2_BASIC.replace(merge="skipinit", norm="none", conv_bias=True)
_FIXUP = _CIFAR.replace(norm="fixup")
_DELTA = _CIFAR.replace(merge="none", init="delta_orthogonal", norm="none", conv_bias=True)
_CIFAR_REPVGG = _CIFAR.replace(branch="repvgg", shortcut="B")
_WRN = _CIFAR_V2_BASIC.replace(shortcut="B", stem_width=16, stem_activation=False)
# Keras's defaults throughout, and projections without a norm.
_MLPERF = _CIFAR.replace(
    shortcut="B",
    padding="same",
    conv_bias=True,
    shortcut_norm=False,
    norm_eps=1e-3,
    norm_momentum=0.99,
)


class _Row(NamedTuple):
    """A network, and the name of its twin without shortcuts where that is listed too."""

    spec: ResNetSpec
    plain: str | None


def _row(
    name: str, base: ResNetSpec, depths: tuple[int, ...], plain: str | None = None, **changes: Any
) -> _Row:
    return _Row(base.replace(name=name, depths=depths, **changes), plain)


_TABLE = (
    # He et al. 2015 (arXiv:1512.03385), Table 1 and section 4.1, with the plain nets of section
    # 3.3; 200 layers: He et al. 2016, Table 5.
    _row("resnet18", _BASIC, (2, 2, 2, 2), "plain18"),
    _row("resnet34", _BASIC, (3, 4, 6, 3), "plain34"),
    _row("resnet50", _V1, (3, 4, 6, 3), "plain50"),
    _row("resnet101", _V1, (3, 4, 23, 3), "plain101"),
    _row("resnet152", _V1, (3, 8, 36, 3), "plain152"),
    _row("resnet200", _V1, (3, 24, 36, 3), "plain200"),
    # Goyal et al. 2017 (arXiv:1706.02677), section 5.1; torchvision and timm.
    _row("resnet50_v1_5", _V1_5, (3, 4, 6, 3), "plain50_v1_5"),
    _row("resnet101_v1_5", _V1_5, (3, 4, 23, 3), "plain101_v1_5"),
    _row("resnet152_v1_5", _V1_5, (3, 8, 36, 3), "plain152_v1_5"),
    _row("resnet200_v1_5", _V1_5, (3, 24, 36, 3), "plain200_v1_5"),
    # He et al. 2016 (arXiv:1603.05027), section 4.1 and Table 5: full pre-activation.
    _row("resnet18v2", _V2_BASIC, (2, 2, 2, 2), "plain18v2"),
    _row("resnet34v2", _V2_BASIC, (3, 4, 6, 3), "plain34v2"),
    _row("resnet50v2", _V2, (3, 4, 6, 3), "plain50v2"),
    _row("resnet101v2", _V2, (3, 4, 23, 3), "plain101v2"),
    _row("resnet152v2", _V2, (3, 8, 36, 3), "plain152v2"),
    _row("resnet200v2", _V2, (3, 24, 36, 3), "plain200v2"),
    # He et al. 2015, section 4.2, Table 6: 6n+2 layers.
    _row("cifar_resnet20", _CIFAR, (3, 3, 3), "cifar_plain20"),
    _row("cifar_resnet32", _CIFAR, (5, 5, 5), "cifar_plain32"),
    _row("cifar_resnet44", _CIFAR, (7, 7, 7), "cifar_plain44"),
    _row("cifar_resnet56", _CIFAR, (9, 9, 9), "cifar_plain56"),
    _row("cifar_resnet110", _CIFAR, (18, 18, 18), "cifar_plain110"),
    _row("cifar_resnet1202", _CIFAR, (200, 200, 200), "cifar_plain1202"),
    # He et al. 2016, section 4, Tables 3 and 4: 9n+2 layers, projections where shapes differ;
    # "_basic" has units of two 3x3 convolutions.
    _row("cifar_resnet164_bottleneck", _CIFAR_V1, (18, 18, 18), "cifar_plain164_bottleneck"),
    _row("cifar_resnet1001_bottleneck", _CIFAR_V1, (111, 111, 111), "cifar_plain1001_bottleneck"),
    _row("cifar_resnet164v2", _CIFAR_V2, (18, 18, 18), "cifar_plain164v2"),
    _row("cifar_resnet1001v2", _CIFAR_V2, (111, 111, 111), "cifar_plain1001v2"),
    _row("cifar_resnet20v2_basic", _CIFAR_V2_BASIC, (3, 3, 3), "cifar_plain20v2_basic"),
    _row("cifar_resnet56v2_basic", _CIFAR_V2_BASIC, (9, 9, 9), "cifar_plain56v2_basic"),
    _row("cifar_resnet110v2_basic", _CIFAR_V2_BASIC, (18, 18, 18), "cifar_plain110v2_basic"),
    # Banbury et al. 2021 (arXiv:2106.07597), image classification reference.
    _row("mlperf_tiny_resnet8", _MLPERF, (1, 1, 1), "mlperf_tiny_plain8"),
    # keras.applications, `ResNet50` and so on.
    _row("keras_resnet50", _KERAS, (3, 4, 6, 3), "keras_plain50"),
    _row("keras_resnet101", _KERAS, (3, 4, 23, 3), "keras_plain101"),
    _row("keras_resnet152", _KERAS, (3, 8, 36, 3), "keras_plain152"),
    # He et al. 2018 (arXiv:1812.01187), Figure 2: C puts three 3x3 in place of the stem's 7x7, D
    # pools in the shortcut. Both stride in the 3x3 (B), and D has C's stem, as in Table 5 and timm.
    _row("resnet50c", _V1_5, (3, 4, 6, 3), stem="deep"),
    _row("resnet101c", _V1_5, (3, 4, 23, 3), stem="deep"),
    _row("resnet152c", _V1_5, (3, 8, 36, 3), stem="deep"),
    _row("resnet18d", _D_BASIC, (2, 2, 2, 2)),
    _row("resnet34d", _D_BASIC, (3, 4, 6, 3)),
    _row("resnet50d", _D, (3, 4, 6, 3)),
    _row("resnet101d", _D, (3, 4, 23, 3)),
    _row("resnet152d", _D, (3, 8, 36, 3)),
    _row("resnet200d", _D, (3, 24, 36, 3)),
    # PaddleClas and KerasHub: D, with a projection in the first unit of every stage; their 200 has
    # other depths than He et al. 2016, Table 5.
    _row("resnet18vd", _VD_BASIC, (2, 2, 2, 2)),
    _row("resnet34vd", _VD_BASIC, (3, 4, 6, 3)),
    _row("resnet50vd", _VD, (3, 4, 6, 3)),
    _row("resnet101vd", _VD, (3, 4, 23, 3)),
    _row("resnet152vd", _VD, (3, 8, 36, 3)),
    _row("resnet200vd", _VD, (3, 12, 48, 3)),
    # Bello et al. 2021 (arXiv:2103.07579), section 3 and Table 9: D without the max pool, with
    # squeeze-and-excitation of ratio 0.25. The drop rates are those of training, Table 10.
    _row("resnetrs50", _RS, (3, 4, 6, 3), input_size=160),
    _row("resnetrs101", _RS, (3, 4, 23, 3), input_size=192),
    _row("resnetrs152", _RS, (3, 8, 36, 3), input_size=256),
    _row("resnetrs200", _RS, (3, 24, 36, 3), input_size=256, stochastic_depth=0.1),
    _row("resnetrs270", _RS, (4, 29, 53, 4), input_size=256, stochastic_depth=0.1),
    _row("resnetrs350", _RS, (4, 36, 72, 4), input_size=288, stochastic_depth=0.1),
    _row("resnetrs420", _RS, (4, 44, 87, 4), input_size=320, stochastic_depth=0.1),
    # Xie et al. 2016 (arXiv:1611.05431), Table 1 and section 5.
    _row("resnext50_32x4d", _V1_5, (3, 4, 6, 3), groups=32, base_width=4),
    _row("resnext101_32x4d", _V1_5, (3, 4, 23, 3), groups=32, base_width=4),
    _row("resnext101_32x8d", _V1_5, (3, 4, 23, 3), groups=32, base_width=8),
    _row("resnext101_64x4d", _V1_5, (3, 4, 23, 3), groups=64, base_width=4),
    # Zagoruyko and Komodakis 2016 (arXiv:1605.07146), Table 8.
    _row("wide_resnet50_2", _V1_5, (3, 4, 6, 3), base_width=128),
    _row("wide_resnet101_2", _V1_5, (3, 4, 23, 3), base_width=128),
    # Hu et al. 2017 (arXiv:1709.01507), Table 1.
    _row("seresnet18", _BASIC, (2, 2, 2, 2), se_reduction=16),
    _row("seresnet34", _BASIC, (3, 4, 6, 3), se_reduction=16),
    _row("seresnet50", _V1_5, (3, 4, 6, 3), se_reduction=16),
    _row("seresnet101", _V1_5, (3, 4, 23, 3), se_reduction=16),
    _row("seresnet152", _V1_5, (3, 8, 36, 3), se_reduction=16),
    _row("seresnext50_32x4d", _V1_5, (3, 4, 6, 3), se_reduction=16, groups=32, base_width=4),
    _row("seresnext101_32x4d", _V1_5, (3, 4, 23, 3), se_reduction=16, groups=32, base_width=4),
    _row("seresnext101_32x8d", _V1_5, (3, 4, 23, 3), se_reduction=16, groups=32, base_width=8),
    # Zhang 2019 (arXiv:1904.11486), section 4.2.
    _row("resnet18_blur", _BASIC, (2, 2, 2, 2), blur=3),
    _row("resnet34_blur", _BASIC, (3, 4, 6, 3), blur=3),
    _row("resnet50_blur", _V1_5, (3, 4, 6, 3), blur=3),
    _row("resnet101_blur", _V1_5, (3, 4, 23, 3), blur=3),
    # timm (`resnet.py`), nets that no paper names: other depths, stems and widths.
    _row("resnet10t", _D_BASIC, (1, 1, 1, 1), stem="tiered"),
    _row("resnet14t", _T, (1, 1, 1, 1)),
    _row("resnet26", _V1_5, (2, 2, 2, 2)),
    _row("resnet26d", _D, (2, 2, 2, 2)),
    _row("resnet26t", _T, (2, 2, 2, 2)),
    _row("resnet50t", _T, (3, 4, 6, 3)),
    _row("resnet50s", _V1_5, (3, 4, 6, 3), stem="deep", stem_width=128),
    _row("resnet101s", _V1_5, (3, 4, 23, 3), stem="deep", stem_width=128),
    _row("resnet152s", _V1_5, (3, 8, 36, 3), stem="deep", stem_width=128),
    _row("resnext50d_32x4d", _D, (3, 4, 6, 3), groups=32, base_width=4),
    _row("resnext101_32x16d", _V1_5, (3, 4, 23, 3), groups=32, base_width=16),
    _row("resnext101_32x32d", _V1_5, (3, 4, 23, 3), groups=32, base_width=32),
    # timm rounds the squeezed channels to multiples of 8; in bottlenecks they are already.
    _row("timm_seresnet18", _BASIC, (2, 2, 2, 2), se_reduction=16, se_divisor=8),
    _row("timm_seresnet34", _BASIC, (3, 4, 6, 3), se_reduction=16, se_divisor=8),
    _row("seresnet50t", _T, (3, 4, 6, 3), se_reduction=16),
    _row("seresnet152d", _D, (3, 8, 36, 3), se_reduction=16),
    _row("seresnet200d", _D, (3, 24, 36, 3), se_reduction=16),
    _row("seresnet269d", _D, (3, 30, 48, 8), se_reduction=16),
    _row("seresnext26d_32x4d", _D, (2, 2, 2, 2), se_reduction=16, groups=32, base_width=4),
    _row("seresnext26t_32x4d", _T, (2, 2, 2, 2), se_reduction=16, groups=32, base_width=4),
    _row("seresnext101_64x4d", _V1_5, (3, 4, 23, 3), se_reduction=16, groups=64, base_width=4),
    _row("seresnext101d_32x8d", _D, (3, 4, 23, 3), se_reduction=16, groups=32, base_width=8),
    _row("resnetblur18", _BASIC, (2, 2, 2, 2), **_TIMM_BLUR),
    _row("resnetblur50", _V1_5, (3, 4, 6, 3), **_TIMM_BLUR),
    _row("resnetblur50d", _D, (3, 4, 6, 3), **_TIMM_BLUR),
    _row("resnetblur101d", _D, (3, 4, 23, 3), **_TIMM_BLUR),
    _row("resnetaa34d", _D_BASIC, (3, 4, 6, 3), **_TIMM_AA),
    _row("resnetaa50", _V1_5, (3, 4, 6, 3), **_TIMM_AA),
    _row("resnetaa50d", _D, (3, 4, 6, 3), **_TIMM_AA),
    _row("resnetaa101d", _D, (3, 4, 23, 3), **_TIMM_AA),
    _row("seresnetaa50d", _D, (3, 4, 6, 3), se_reduction=16, **_TIMM_AA),
    _row(
        "seresnextaa101d_32x8d",
        _D.replace(groups=32, base_width=8, **_TIMM_AA),
        (3, 4, 23, 3),
        se_reduction=16,
    ),
    _row(
        "seresnextaa201d_32x8d",
        _D.replace(groups=32, base_width=8, stem_width=128, **_TIMM_AA),
        (3, 24, 36, 4),
        se_reduction=16,
    ),
    # Wang et al. 2020 (arXiv:1910.03151), in timm's forms.
    _row("ecaresnet26t", _T, (2, 2, 2, 2), eca=True),
    _row("ecaresnet50t", _T, (3, 4, 6, 3), eca=True),
    _row("ecaresnet50d", _D, (3, 4, 6, 3), eca=True),
    _row("ecaresnet101d", _D, (3, 4, 23, 3), eca=True),
    _row("ecaresnet200d", _D, (3, 24, 36, 3), eca=True),
    _row("ecaresnet269d", _D, (3, 30, 48, 8), eca=True),
    _row("ecaresnetlight", _V1_5.replace(shortcut="D"), (1, 1, 11, 3), eca=True),
    _row("ecaresnext26t_32x4d", _T, (2, 2, 2, 2), eca=True, groups=32, base_width=4),
    _row("ecaresnext50t_32x4d", _T, (3, 4, 6, 3), eca=True, groups=32, base_width=4),
    # Wu and He 2018 (arXiv:1803.08494), in timm's forms.
    _row("resnet50_gn", _V1_5, (3, 4, 6, 3), norm="group"),
    _row("resnetv2_50d_gn", _V2_D, (3, 4, 6, 3), norm="group"),
    # Ding et al. 2021 (arXiv:2101.03697), Tables 2 and 3: 64, 128 and 256 times a, 512 times b;
    # the stem, a unit itself, has at most 64 filters.
    _row("repvgg_a0", _REPVGG, (2, 4, 14, 1), widths=(48, 96, 192, 1280)),
    _row("repvgg_a1", _REPVGG, (2, 4, 14, 1), widths=(64, 128, 256, 1280)),
    _row("repvgg_a2", _REPVGG, (2, 4, 14, 1), widths=(96, 192, 384, 1408), stem_width=64),
    _row("repvgg_b0", _REPVGG, (4, 6, 16, 1), widths=(64, 128, 256, 1280)),
    _row("repvgg_b1", _REPVGG, (4, 6, 16, 1), widths=(128, 256, 512, 2048), stem_width=64),
    # keras.applications, `ResNet50V2` and so on.
    _row("keras_resnet50v2", _KERAS_V2, (3, 4, 6, 3)),
    _row("keras_resnet101v2", _KERAS_V2, (3, 4, 23, 3)),
    _row("keras_resnet152v2", _KERAS_V2, (3, 8, 36, 3)),
    # timm and KerasHub ("resnet_v2_50"): the stem is a convolution and a pool alone.
    _row("resnetv2_18", _V2_BASIC, (2, 2, 2, 2), stem_activation=False),
    _row("resnetv2_34", _V2_BASIC, (3, 4, 6, 3), stem_activation=False),
    _row("resnetv2_50", _V2, (3, 4, 6, 3), stem_activation=False),
    _row("resnetv2_101", _V2, (3, 4, 23, 3), stem_activation=False),
    _row("resnetv2_152", _V2, (3, 8, 36, 3), stem_activation=False),
    # timm (`resnetv2.py`): D's stem and shortcut.
    _row("resnetv2_18d", _V2_D_BASIC, (2, 2, 2, 2)),
    _row("resnetv2_34d", _V2_D_BASIC, (3, 4, 6, 3)),
    _row("resnetv2_50d", _V2_D, (3, 4, 6, 3)),
    _row("resnetv2_50t", _V2_T, (3, 4, 6, 3)),
    _row("resnetv2_101d", _V2_D, (3, 4, 23, 3)),
    _row("resnetv2_152d", _V2_D, (3, 8, 36, 3)),
    # Zagoruyko and Komodakis 2016, Table 1: "WRN-d-k" has d = 6n+4 layers and 16k, 32k and 64k
    # filters after a stem of 16.
    _row("cifar_wrn16_8", _WRN, (2, 2, 2), widths=(128, 256, 512)),
    _row("cifar_wrn28_10", _WRN, (4, 4, 4), widths=(160, 320, 640)),
    _row("cifar_wrn40_4", _WRN, (6, 6, 6), widths=(64, 128, 256)),
    # Huang et al. 2016 (arXiv:1603.09382), section 4: the last unit is kept half of the time.
    _row("cifar_resnet110_sd", _CIFAR_SD, (18, 18, 18)),
    _row("cifar_resnet1202_sd", _CIFAR_SD, (200, 200, 200)),
    # Other ways to make depth trainable, at the CIFAR nets' depths and widths; order, norm and
    # biases are those of the papers that `ResNetSpec` cites under `merge`, `init` and `branch`.
    _row("cifar_highway20", _HIGHWAY, (3, 3, 3)),
    _row("cifar_highway56", _HIGHWAY, (9, 9, 9)),
    _row("cifar_rezero20", _REZERO, (3, 3, 3)),
    _row("cifar_rezero56", _REZERO, (9, 9, 9)),
    _row("cifar_skipinit20", _SKIPINIT, (3, 3, 3)),
    _row("cifar_skipinit56", _SKIPINIT, (9, 9, 9)),
    _row("cifar_fixup20", _FIXUP, (3, 3, 3)),
    _row("cifar_fixup56", _FIXUP, (9, 9, 9)),
    _row("cifar_fixup110", _FIXUP, (18, 18, 18)),
    _row("cifar_delta_orthogonal20", _DELTA, (3, 3, 3)),
    _row("cifar_delta_orthogonal56", _DELTA, (9, 9, 9)),
    _row("cifar_repvgg20", _CIFAR_REPVGG, (6, 6, 6)),
    _row("cifar_repvgg56", _CIFAR_REPVGG, (18, 18, 18)),
)

# Families of any depth, of which the table lists the papers' members; {} is the number of layers.
_FAMILIES = {
    "cifar_resnet{}": _CIFAR,
    "cifar_resnet{}_bottleneck": _CIFAR_V1,
    "cifar_resnet{}v2": _CIFAR_V2,
    "cifar_resnet{}v2_basic": _CIFAR_V2_BASIC,
    "cifar_resnet{}_sd": _CIFAR_SD,
    "cifar_plain{}": plain_twin(_CIFAR),
    "cifar_plain{}_bottleneck": plain_twin(_CIFAR_V1),
    "cifar_plain{}v2": plain_twin(_CIFAR_V2),
    "cifar_plain{}v2_basic": plain_twin(_CIFAR_V2_BASIC),
    "cifar_plain{}_sd": plain_twin(_CIFAR_SD),
    "cifar_highway{}": _HIGHWAY,
    "cifar_rezero{}": _REZERO,
    "cifar_skipinit{}": _SKIPINIT,
    "cifar_fixup{}": _FIXUP,
    "cifar_delta_orthogonal{}": _DELTA,
    "cifar_repvgg{}": _CIFAR_REPVGG,
}


class Variants(Mapping[str, ResNetSpec]):
    """Read-only map from a network's name to its spec.

    Iterating gives the rows of the table and the plain twins; a look-up also resolves every other
    depth of the CIFAR families, such as `"cifar_resnet74"` or `"cifar_wrn22_8"`.

    Example:
        >>> variants["cifar_resnet74"].depths
        (12, 12, 12)
    """

    def __init__(self) -> None:
        with_twin = [row for row in _TABLE if row.plain]
        twins = [plain_twin(row.spec).replace(name=row.plain) for row in with_twin]
        others = [row.spec for row in _TABLE if not row.plain]
        specs = [*(row.spec for row in with_twin), *twins, *others]
        self._specs = {spec.name: spec for spec in specs}

    def __getitem__(self, name: str) -> ResNetSpec:
        """Returns the spec called `name`.

        Raises:
            KeyError: If there is no such network.
        """
        try:
            spec = self.find(name)
        except ValueError as error:  # a depth that the family does not have
            raise KeyError(str(error)) from None
        if spec is None:
            raise KeyError(name)
        return spec

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def find(self, name: str) -> ResNetSpec | None:
        """Returns the spec called `name`, or None.

        Raises:
            ValueError: If `name` asks a family for a depth that it does not have; lists the
                nearest depths.
        """
        if not isinstance(name, str):
            return None
        if name in self._specs:
            return self._specs[name]
        wide = re.fullmatch(r"cifar_wrn(\d+)_(\d+)", name)
        if wide:
            return self._wide(name, int(wide[1]), int(wide[2]))
        for form, base in _FAMILIES.items():
            match = re.fullmatch(form.replace("{}", r"(\d+)"), name)
            if match:
                return _member(name, form, base, int(match[1]))
        return None

    def _wide(self, name: str, layers: int, factor: int) -> ResNetSpec:
        units, rest = divmod(layers - 4, 6)
        if rest or units < 1 or factor < 1:
            listed = [each for each in self if each.startswith("cifar_wrn")]
            raise ValueError(
                f"{name!r} is not a Wide ResNet: it needs 6n+4 layers and a factor of at least 1, "
                f"as {', '.join(listed)}"
            )
        widths = (16 * factor, 32 * factor, 64 * factor)
        return _WRN.replace(name=name, depths=(units,) * 3, widths=widths)


def _member(name: str, form: str, base: ResNetSpec, layers: int) -> ResNetSpec:
    """Returns a family's network of this many layers."""
    per_unit = (base.layers - 2) // sum(base.depths)
    step = per_unit * len(base.depths)
    units, rest = divmod(layers - 2, step)
    if rest or units < 1:
        near = [form.format(step * n + 2) for n in (max(1, units), max(1, units) + 1)]
        raise ValueError(
            f"{name!r} has no such depth: this family has {step}n+2 layers. "
            f"Nearest: {', '.join(near)}"
        )
    return base.replace(name=name, depths=(units,) * len(base.depths))


VARIANTS = Variants()


def list_variants(pattern: str = "*") -> list[str]:
    """Returns the names that match a shell-style pattern, in the order of the table.

    Example:
        >>> len(list_variants("resnetrs*"))
        7
    """
    return [name for name in VARIANTS if fnmatch.fnmatchcase(name, pattern)]


def get_spec(spec: str | ResNetSpec) -> ResNetSpec:
    """Returns a spec, looked up where a name is given.

    Raises:
        TypeError: If `spec` is neither a name nor a `ResNetSpec`.
        ValueError: If there is no network of that name; lists the nearest names.

    Example:
        >>> get_spec("cifar_wrn22_8").widths
        (128, 256, 512)
    """
    if isinstance(spec, ResNetSpec):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"A net is a name or a ResNetSpec. Received: {spec!r}")
    variant = VARIANTS.find(spec)
    if variant is None:
        raise ValueError(f"Unknown model {spec!r}. {nearest(spec, VARIANTS)}")
    return variant


def nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Returns the end of an error message: the known names nearest to `name`, or all of a few."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, n=4, cutoff=0.5)
    if close:
        return f"Nearest: {', '.join(close)}"
    if len(names) <= 12:
        return f"Known: {', '.join(names)}"
    return f"Known: {', '.join(names[:8])} and {len(names) - 8} more"
