"""The named nets, as data: a variant is a `replace()` of another.

`VARIANTS` maps a name to its `ResNetSpec`. Families whose depth is free (`cifar_resnet{6n+2}`)
resolve for every depth, not only for those of the papers' tables.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Any

from keras_resnet.nets.spec import ResNetSpec

# He et al. 2015 (arXiv:1512.03385), Table 1 and section 4.1; 200 layers: He et al. 2016, Table 5.
# Bottlenecks stride in their first 1x1 as the paper's and keras.applications' do; "_v1_5" is the
# net of torchvision, timm and Goyal et al. 2017.
_R18 = ResNetSpec("resnet18", (2, 2, 2, 2), (64, 128, 256, 512))
_R34 = _R18.replace(name="resnet34", depths=(3, 4, 6, 3))
_R50 = _R34.replace(name="resnet50", branch="bottleneck", stride_placement="1x1")
_R101 = _R50.replace(name="resnet101", depths=(3, 4, 23, 3))
_R152 = _R50.replace(name="resnet152", depths=(3, 8, 36, 3))
_R200 = _R50.replace(name="resnet200", depths=(3, 24, 36, 3))
_POST = (_R18, _R34, _R50, _R101, _R152, _R200)
_V1_5 = tuple(
    spec.replace(name=f"{spec.name}_v1_5", stride_placement="3x3")
    for spec in _POST
    if spec.branch == "bottleneck"
)
_R50_V1_5, _R101_V1_5, _R152_V1_5, _R200_V1_5 = _V1_5
# He et al. 2016 (arXiv:1603.05027), full pre-activation; the stride stands in the 3x3.
_PRE = tuple(
    spec.replace(name=f"{spec.name}v2", order="pre", stride_placement="3x3") for spec in _POST
)

# He et al. 2018, "Bag of Tricks" (arXiv:1812.01187), Figure 2: B moves the stride into the 3x3, C
# puts three 3x3 in place of the stem's 7x7, D pools in the shortcut. C and D here contain those
# before them, as the paper's Table 5 and timm's nets do.
_C = tuple(
    spec.replace(name=spec.name.removesuffix("_v1_5") + "c", stem="deep")
    for spec in (_R50_V1_5, _R101_V1_5, _R152_V1_5)
)
_D = tuple(
    spec.replace(name=spec.name.removesuffix("_v1_5") + "d", stem="deep", shortcut="D")
    for spec in (_R18, _R34, _R50_V1_5, _R101_V1_5, _R152_V1_5, _R200_V1_5)
)

# Bello et al. 2021 (arXiv:2103.07579), section 3 and Table 9: D without the max pool, and
# squeeze-and-excitation of ratio 0.25; stochastic depth belongs to the training (Table 10).
_RS50 = _R50_V1_5.replace(
    name="resnetrs50", stem="deep", shortcut="D", stem_pool="conv", se_reduction=4
)
_RS = tuple(
    _RS50.replace(name=f"resnetrs{layers}", depths=depths, input_size=size, stochastic_depth=drop)
    for layers, depths, size, drop in (
        (50, (3, 4, 6, 3), 160, 0.0),
        (101, (3, 4, 23, 3), 192, 0.0),
        (152, (3, 8, 36, 3), 256, 0.0),
        (200, (3, 24, 36, 3), 256, 0.1),
        (270, (4, 29, 53, 4), 256, 0.1),
        (350, (4, 36, 72, 4), 288, 0.1),
        (420, (4, 44, 87, 4), 320, 0.1),
    )
)

# Xie et al. 2016 (arXiv:1611.05431), Table 1; Zagoruyko and Komodakis 2016 (arXiv:1605.07146),
# Table 8; Hu et al. 2017 (arXiv:1709.01507), Table 1; Zhang 2019 (arXiv:1904.11486).
_X50 = _R50_V1_5.replace(name="resnext50_32x4d", groups=32, base_width=4)
_GROUPED = (
    _X50,
    _R101_V1_5.replace(name="resnext101_32x4d", groups=32, base_width=4),
    _R101_V1_5.replace(name="resnext101_32x8d", groups=32, base_width=8),
    _R101_V1_5.replace(name="resnext101_64x4d", groups=64, base_width=4),
    _R50_V1_5.replace(name="wide_resnet50_2", base_width=128),
    _R101_V1_5.replace(name="wide_resnet101_2", base_width=128),
)
_SE = tuple(
    spec.replace(name="se" + spec.name.removesuffix("_v1_5"), se_reduction=16)
    for spec in (_R18, _R34, _R50_V1_5, _R101_V1_5, _R152_V1_5, *_GROUPED[:3])
)
_BLUR = tuple(
    spec.replace(name=spec.name.removesuffix("_v1_5") + "_blur", blur=3)
    for spec in (_R18, _R34, _R50_V1_5, _R101_V1_5)
)

# Ding et al. 2021 (arXiv:2101.03697), Tables 2 and 3: widths are multiples (a, b) of 64, 128, 256
# and 512; the stem, a unit itself, has at most 64 filters.
_REPVGG = tuple(
    ResNetSpec(
        f"repvgg_{kind}",
        (2, 4, 14, 1) if kind[0] == "a" else (4, 6, 16, 1),
        (*(int(width * a) for width in (64, 128, 256)), int(512 * b)),
        branch="repvgg",
        stem="unit",
        stem_width=64 if a > 1 else None,
        first_stride=2,
    )
    for kind, a, b in (
        ("a0", 0.75, 2.5),
        ("a1", 1.0, 2.5),
        ("a2", 1.5, 2.75),
        ("b0", 1.0, 2.5),
        ("b1", 2.0, 4.0),
    )
)

# He et al. 2015, section 4.2: 6n layers of widths 16, 32, 64, shortcuts of option A.
_CIFAR = ResNetSpec(
    "cifar_resnet20",
    (3, 3, 3),
    (16, 32, 64),
    shortcut="A",
    stem="cifar",
    classes=10,
    input_size=32,
)
# He et al. 2016, section 4, Table 4: 9n+2 layers of bottlenecks, projections where shapes differ.
_CIFAR_BOTTLENECK = _CIFAR.replace(branch="bottleneck", shortcut="B")
_CIFAR_PRE = _CIFAR.replace(order="pre")
# Other ways to be trainable than a bare addition, at the CIFAR net's depth and width: each with
# the order, norm and biases of its paper.
_UNNORMED: dict[str, Any] = {"norm": "none", "conv_bias": True}
_HIGHWAY = _CIFAR.replace(merge="highway")
_REZERO = _CIFAR.replace(merge="rezero")
_SKIPINIT = _CIFAR_PRE.replace(merge="skipinit", **_UNNORMED)
_FIXUP = _CIFAR.replace(norm="fixup")
_DELTA = _CIFAR.replace(merge="none", init="delta_orthogonal", **_UNNORMED)
_CIFAR_REPVGG = _CIFAR.replace(branch="repvgg", shortcut="B")


class _Family:
    """A family of nets whose depth is free: `layers = convolutions_a_unit * stages * n + 2`."""

    def __init__(self, prefix: str, suffix: str, base: ResNetSpec, listed: tuple[int, ...]) -> None:
        self.pattern = re.compile(rf"{prefix}(\d+){suffix}")
        self.form = f"{prefix}{{}}{suffix}"
        self.base = base
        self.step = base.layers // sum(base.depths) * len(base.depths)
        self.listed = listed

    def spec(self, layers: int) -> ResNetSpec:
        name = self.form.format(layers)
        units, rest = divmod(layers - 2, self.step)
        if rest or units < 1:
            near = [self.step * n + 2 for n in (max(1, units), max(1, units) + 1)]
            raise ValueError(
                f"{name!r} has no such depth: this family has {self.step}n+2 layers. "
                f"Nearest: {self.form.format(near[0])}, {self.form.format(near[1])}"
            )
        return self.base.replace(name=name, depths=(units,) * 3)


_FAMILIES = (
    _Family("cifar_resnet", "", _CIFAR, (20, 32, 44, 56, 110, 1202)),
    _Family("cifar_resnet", "_bottleneck", _CIFAR_BOTTLENECK, (164, 1001)),
    _Family("cifar_resnet", "v2", _CIFAR_BOTTLENECK.replace(order="pre"), (164, 1001)),
    _Family("cifar_resnet", "v2_basic", _CIFAR_PRE, (20, 56, 110)),
    # Huang et al. 2016 (arXiv:1603.09382), section 4: the last unit survives half of the time.
    _Family("cifar_resnet", "_sd", _CIFAR.replace(stochastic_depth=0.5), (110, 1202)),
    _Family("cifar_highway", "", _HIGHWAY, (20, 56)),
    _Family("cifar_rezero", "", _REZERO, (20, 56)),
    _Family("cifar_skipinit", "", _SKIPINIT, (20, 56)),
    _Family("cifar_fixup", "", _FIXUP, (20, 56, 110)),
    _Family("cifar_delta_orthogonal", "", _DELTA, (20, 56)),
    _Family("cifar_repvgg", "", _CIFAR_REPVGG, (20, 56)),
)

# Zagoruyko and Komodakis 2016 (arXiv:1605.07146), Table 1: "WRN-d-k" has d = 6n+4 layers and
# 16k, 32k and 64k filters behind a stem of 16; pre-activation, projections where shapes differ.
_WRN = re.compile(r"cifar_wrn(\d+)_(\d+)")
_WRN_LISTED = ("cifar_wrn16_8", "cifar_wrn28_10", "cifar_wrn40_4")


def _wide(name: str, layers: int, factor: int) -> ResNetSpec:
    units, rest = divmod(layers - 4, 6)
    if rest or units < 1 or factor < 1:
        raise ValueError(
            f"{name!r} is no Wide ResNet: it needs 6n+4 layers and a factor of at least 1, as "
            f"{', '.join(_WRN_LISTED)}"
        )
    return _CIFAR_PRE.replace(
        name=name,
        depths=(units,) * 3,
        widths=(16 * factor, 32 * factor, 64 * factor),
        shortcut="B",
        stem_width=16,
        stem_activation=False,
    )


# Banbury et al. 2021 (arXiv:2106.07597), image classification reference: Keras defaults
# throughout (biases, eps, momentum, "same" padding), and projections without a norm.
_RESNET8 = ResNetSpec(
    "mlperf_tiny_resnet8",
    (1, 1, 1),
    (16, 32, 64),
    stem="cifar",
    padding="same",
    conv_bias=True,
    shortcut_norm=False,
    norm_eps=1e-3,
    norm_momentum=0.99,
    classes=10,
    input_size=32,
)

# keras.applications' nets: the paper's with a bias in every convolution; their V2 strides in the
# last unit of a stage and pools values that were never rectified over a border of zeros.
_KERAS = tuple(
    spec.replace(name=f"keras_{spec.name}", conv_bias=True, norm_eps=1.001e-5, norm_momentum=0.99)
    for spec in (_R50, _R101, _R152)
)
_KERAS_V2 = tuple(
    spec.replace(
        name=f"{spec.name}v2",
        order="pre",
        stride_placement="3x3",
        stride_unit="last",
        stem_activation=False,
        stem_pool="max_zero",
        conv_bias="unnormed",
    )
    for spec in _KERAS
)
# timm's "resnetv2_50" and KerasHub's "resnet_v2_50": a bare stem, pooled over minus infinity.
_BARE_V2 = tuple(
    spec.replace(name=f"resnetv2_{spec.name[6:-2]}", stem_activation=False)
    for spec in _PRE
    if spec.name in ("resnet18v2", "resnet34v2", "resnet50v2", "resnet101v2", "resnet152v2")
)
# KerasHub's and PaddleClas's "vd": D, and a projection in the first unit of basic nets too; their
# 200 has other depths than He et al. 2016, Table 5.
_VD = tuple(
    spec.replace(
        name=f"{spec.name[:-1]}vd",
        stage_projection=True,
        depths=(3, 12, 48, 3) if spec.name == "resnet200d" else spec.depths,
    )
    for spec in _D
)


def plain_twin(spec: ResNetSpec) -> ResNetSpec:
    """Returns the net without its shortcuts: `resnet34` gives `plain34`.

    Raises:
        ValueError: If it is a RepVGG, whose plain form comes after training.

    Source: He et al. 2015, section 3.3, "Plain Network".
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


def _named() -> dict[str, ResNetSpec]:
    cifar = tuple(family.spec(layers) for family in _FAMILIES for layers in family.listed)
    papers = (*_POST, *_V1_5, *_PRE, *(spec for spec in cifar if _has_twin(spec)), _RESNET8)
    later = (*_C, *_D, *_VD, *_RS, *_GROUPED, *_SE, *_BLUR, *_REPVGG, *_KERAS_V2, *_BARE_V2)
    wide = tuple(_wide(name, *map(int, name[9:].split("_"))) for name in _WRN_LISTED)
    others = tuple(spec for spec in cifar if not _has_twin(spec))
    nets = (*papers, *_KERAS, *map(plain_twin, (*papers, *_KERAS)), *later, *wide, *others)
    return {spec.name: spec for spec in nets}


def _has_twin(spec: ResNetSpec) -> bool:
    plain = spec.merge == "add" and spec.norm == "batch" and spec.branch != "repvgg"
    return plain and not spec.stochastic_depth


class Variants(Mapping[str, ResNetSpec]):
    """Read-only map from a net's name to its spec.

    Iterating gives the nets of the papers' tables; a look-up also resolves every other depth of
    the CIFAR families, such as `"cifar_resnet74"`, `"cifar_plain26v2_basic"`, `"cifar_wrn22_8"`.
    """

    def __init__(self) -> None:
        self._specs = _named()

    def __getitem__(self, name: str) -> ResNetSpec:
        """Returns the spec called `name`.

        Raises:
            KeyError: If there is no such net.
        """
        try:
            spec = self.find(name)
        except ValueError as error:  # a depth that the family has not: no key either
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
            ValueError: If `name` asks a family for a depth that it has not; says which it has.
        """
        if not isinstance(name, str):
            return None
        return self._specs.get(name) or self._from_family(name)

    def _from_family(self, name: str) -> ResNetSpec | None:
        wide = _WRN.fullmatch(name)
        if wide:
            return _wide(name, int(wide[1]), int(wide[2]))
        residual = name.replace("cifar_plain", "cifar_resnet", 1)
        for family in _FAMILIES:
            match = family.pattern.fullmatch(residual)
            if match and residual == name:
                return family.spec(int(match[1]))
            if match:
                try:
                    return plain_twin(family.spec(int(match[1])))
                except ValueError as error:
                    raise ValueError(str(error).replace("cifar_resnet", "cifar_plain")) from None
        return None


VARIANTS = Variants()


def list_variants(pattern: str = "*") -> list[str]:
    """Returns the names that match a shell-style pattern, such as `"cifar*"`, in table order."""
    return [name for name in VARIANTS if fnmatch.fnmatchcase(name, pattern)]


def get_spec(spec: str | ResNetSpec) -> ResNetSpec:
    """Returns a spec, looked up where a name is given.

    Raises:
        TypeError: If `spec` is neither a name nor a `ResNetSpec`.
        ValueError: If there is no net of that name; lists the nearest names.
    """
    if isinstance(spec, ResNetSpec):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"A net is a name or a ResNetSpec. Received: {spec!r}")
    found = VARIANTS.find(spec)
    if found is None:
        raise ValueError(f"Unknown model {spec!r}. {nearest(spec, VARIANTS)}")
    return found


def nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Returns the end of an error message: the known names nearest to `name`, or all of a few."""
    names = list(known)
    close = difflib.get_close_matches(name.lower(), names, n=4, cutoff=0.5)
    if close:
        return f"Nearest: {', '.join(close)}"
    if len(names) <= 12:
        return f"Known: {', '.join(names)}"
    return f"Known: {', '.join(names[:8])} and {len(names) - 8} more"
