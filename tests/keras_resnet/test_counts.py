"""Parameters, multiply-adds and layers of every variant, against published numbers."""

from __future__ import annotations

import re

import keras
import pytest

from keras_resnet import ResNetSpec, build, variants
from keras_resnet.analysis import count, count_spec, stage_table

# JAX compiles every initial kernel: minutes for nets whose sizes alone are read.
not_on_jax = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="slow to build on JAX; the same on every backend"
)

# Trainable parameters. ResNets of Table 1 and the V2 net: torchvision and timm publish the same;
# keras_*: keras.applications; CIFAR: from the papers' architecture; ResNet-8: MLPerf Tiny;
# ResNeXt and Wide ResNet: torchvision (`num_params`); 200, D, SE: osmr/imgclsmob, whose
# ResNet(A) is D; Wide ResNet on CIFAR: osmr/imgclsmob and papers' tables, in millions.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet50v2": 25_549_352,
    "keras_resnet50": 25_583_592,
    "keras_resnet101": 44_601_832,
    "keras_resnet152": 60_268_520,
    "cifar_resnet20": 269_722,
    "cifar_resnet32": 464_154,
    "cifar_resnet44": 658_586,
    "cifar_resnet56": 853_018,
    "cifar_resnet110": 1_727_962,
    "cifar_resnet1202": 19_421_274,
    "cifar_resnet164v2": 1_703_258,
    "cifar_resnet1001v2": 10_327_706,
    "mlperf_tiny_resnet8": 78_186,
    "resnet50_v1_5": 25_557_032,
    "resnet200": 64_673_832,
    "keras_resnet50v2": 25_568_360,
    "keras_resnet101v2": 44_577_896,
    "keras_resnet152v2": 60_236_904,
    "resnet18d": 11_708_744,
    "resnet50d": 25_576_264,
    "resnet101d": 44_568_392,
    "resnet152d": 60_212_040,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x4d": 44_177_704,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "seresnet18": 11_778_592,
    "seresnet34": 21_958_868,
    "seresnet50": 28_088_024,
    "seresnet101": 49_326_872,
    "seresnet152": 66_821_848,
    "seresnext50_32x4d": 27_559_896,
    "seresnext101_32x4d": 48_955_416,
    "seresnext101_32x8d": 93_569_048,
    "repvgg_a2": 28_210_600,
    "cifar_wrn16_8": 10_961_370,
    "cifar_wrn16_10": 17_116_634,
    "cifar_wrn22_8": 17_158_106,
    "cifar_wrn28_10": 36_479_194,
    "cifar_wrn40_2": 2_243_546,
    "cifar_wrn40_4": 8_949_210,
    # A filter without weights, and units that are dropped at times, add nothing.
    "resnet18_blur": 11_689_512,
    "resnet34_blur": 21_797_672,
    "resnet50_blur": 25_557_032,
    "resnet101_blur": 44_549_160,
    "cifar_resnet110_sd": 1_727_962,
    "cifar_resnet1202_sd": 19_421_274,
    # timm 1.0.31: the sum of `numel()` over `create_model(name).parameters()`.
    "resnet10t": 5_435_488,
    "resnet14t": 10_081_632,
    "resnet26": 15_995_176,
    "resnet26d": 16_014_408,
    "resnet26t": 16_011_872,
    "resnet50t": 25_573_728,
    "resnet50s": 25_680_808,
    "resnet101s": 44_672_936,
    "resnet152s": 60_316_584,
    "resnext50d_32x4d": 25_048_136,
    "resnext101_32x16d": 194_026_792,
    "resnext101_32x32d": 468_530_472,
    "timm_seresnet18": 11_779_624,
    "timm_seresnet34": 21_960_416,
    "seresnet50t": 28_104_720,
    "seresnet152d": 66_841_080,
    "seresnet200d": 71_855_096,
    "seresnet269d": 113_672_760,
    "seresnext26d_32x4d": 16_809_512,
    "seresnext26t_32x4d": 16_806_976,
    "seresnext101_64x4d": 88_232_984,
    "seresnext101d_32x8d": 93_588_280,
    "resnetblur18": 11_689_512,
    "resnetblur50": 25_557_032,
    "resnetblur50d": 25_576_264,
    "resnetblur101d": 44_568_392,
    "resnetaa34d": 21_816_904,
    "resnetaa50": 25_557_032,
    "resnetaa50d": 25_576_264,
    "resnetaa101d": 44_568_392,
    "seresnetaa50d": 28_107_256,
    "seresnextaa101d_32x8d": 93_588_280,
    "seresnextaa201d_32x8d": 149_394_904,
    "ecaresnet26t": 16_011_916,
    "ecaresnet50t": 25_573_814,
    "ecaresnet50d": 25_576_350,
    "ecaresnet101d": 44_568_563,
    "ecaresnet200d": 64_693_400,
    "ecaresnet269d": 102_093_077,
    "ecaresnetlight": 30_162_046,
    "ecaresnext26t_32x4d": 15_406_220,
    "ecaresnext50t_32x4d": 25_045_686,
    "resnet50_gn": 25_557_032,
    "resnetv2_50d_gn": 25_568_584,
    "resnetv2_18d": 11_706_952,
    "resnetv2_34d": 21_815_112,
    "resnetv2_50d": 25_568_584,
    "resnetv2_50t": 25_566_048,
    "resnetv2_101d": 44_560_712,
    "resnetv2_152d": 60_204_360,
}
# Published in millions only: timm's results (`param_count`) and, for A0 and A1,
# OpenMMLab's table of RepVGG before its fusion. Papers: Bello et al. 2021, Table 9, prints whole
# millions ("36", "64", "87", "93", "130", "164", "192").
MILLIONS = {
    "resnet50c": 25.58,
    "resnet101c": 44.57,
    "resnet152c": 60.21,
    "resnet34d": 21.82,
    "resnet200d": 64.69,
    "resnetv2_50": 25.55,
    "resnetv2_101": 44.54,
    "resnetrs50": 35.69,
    "resnetrs101": 63.62,
    "resnetrs152": 86.62,
    "resnetrs200": 93.21,
    "resnetrs270": 129.86,
    "resnetrs350": 163.96,
    "resnetrs420": 191.89,
    "repvgg_a0": 9.11,
    "repvgg_a1": 14.09,
    "repvgg_b0": 15.82,
    "repvgg_b1": 57.42,
}
# KerasHub's presets (`params`) count the moving statistics too.
WITH_STATISTICS = {
    "resnet18vd": 11_722_824,
    "resnet34vd": 21_838_408,
    "resnet50vd": 25_629_512,
    "resnet101vd": 44_673_864,
    "resnet152vd": 60_363_592,
    "resnet200vd": 74_933_064,
    "keras_resnet50v2": 25_613_800,
    "keras_resnet101v2": 44_675_560,
    "keras_resnet152v2": 60_380_648,
}
# Built at full size. test_model.py builds the two deepest variants, and the other variants are
# counted from their specs.
BUILT = ("resnet18", "cifar_resnet20", "mlperf_tiny_resnet8")
COUNTED = (
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet50v2",
    "cifar_resnet110",
    "cifar_resnet164v2",
    "resnext50_32x4d",
    "seresnet18",
    "repvgg_a2",
    "cifar_wrn16_8",
)
# Multiply-adds at the variant's input size: 224 x 224, or 32 x 32 for CIFAR.
MULTIPLY_ADDS = {
    "resnet18": 1_814_073_344,
    "resnet34": 3_663_761_408,
    "resnet50": 3_857_973_248,
    "resnet101": 7_570_194_432,
    "resnet152": 11_282_415_616,
    "cifar_resnet20": 40_551_040,
    "cifar_resnet110": 252_887_680,
    "cifar_resnet164v2": 244_500_992,
    "mlperf_tiny_resnet8": 12_501_632,
    "resnext50_32x4d": 4_230_479_872,  # torchvision's `_ops`: 4.23
}
TABLE_1 = {"resnet18": 1.8, "resnet34": 3.6, "resnet50": 3.8, "resnet101": 7.6, "resnet152": 11.3}


class Formula:
    """Parameters of a spec, written independently of the code that builds nets.

    Attributes:
        trainable: Number of trainable parameters.
        statistics: Number of moving statistics.
    """

    def __init__(self, spec: ResNetSpec) -> None:
        self.spec = spec
        self.trainable = self.statistics = 0
        self.channels = spec.stem_width or spec.widths[0]
        self._stem()
        for stage in range(len(spec.depths)):
            for index in range(spec.depths[stage]):
                self._unit(stage, index)
        if spec.order == "pre":
            self._norm(self.channels)
        self.trainable += (self.channels + 1) * spec.classes

    def _conv(self, size: int, inputs: int, outputs: int, *, groups=1, normed=True) -> None:
        bias = self.spec.conv_bias
        if bias == "unnormed":
            bias = not normed or self.spec.norm == "none"
        self.trainable += size**2 * inputs // groups * outputs + bias * outputs

    def _norm(self, *channels: int) -> None:
        if self.spec.norm in ("batch", "group"):
            self.trainable += 2 * sum(channels)
            self.statistics += 2 * sum(channels) * (self.spec.norm == "batch")

    def _stem(self) -> None:
        spec, width, activated = self.spec, self.channels, self.spec.stem_activation
        if spec.stem == "unit":
            self._parallel_convs(spec.input_channels, width, identity=False)
            return
        if spec.stem in ("deep", "tiered"):
            first = width * 3 // 8 if spec.stem == "tiered" else width // 2
            self._conv(3, spec.input_channels, first)
            self._conv(3, first, width // 2)
            self._conv(3, width // 2, width, normed=activated)
            self._norm(first, width // 2)
        else:
            size = {"imagenet": 7, "cifar": 3}[spec.stem]
            self._conv(size, spec.input_channels, width, normed=activated)
        if activated:
            self._norm(width)
        if spec.stem_pool == "conv":
            self._conv(3, width, width)
            self._norm(width)
        if spec.norm == "fixup":  # a bias here and one before the classifier
            self.trainable += 2

    def _parallel_convs(self, inputs: int, outputs: int, *, identity: bool) -> None:
        """A unit of RepVGG, or the one convolution that it is fused into."""
        self._conv(3, inputs, outputs)
        self._norm(outputs)
        if self.spec.branch == "repvgg":
            self._conv(1, inputs, outputs)
            self._norm(outputs, *[outputs] * identity)

    def _strides(self, stage: int, index: int) -> bool:
        spec = self.spec
        if spec.stride_unit == "last":
            return stage < len(spec.depths) - 1 and index == spec.depths[stage] - 1
        return index == 0 and (stage > 0 or spec.first_stride == 2)

    def _unit(self, stage: int, index: int) -> None:
        spec, inputs, width = self.spec, self.channels, self.spec.widths[stage]
        outputs = 4 * width if spec.branch == "bottleneck" else width
        strides = self._strides(stage, index)
        differs = strides or inputs != outputs
        self.channels = outputs
        if spec.branch in ("repvgg", "single"):
            self._parallel_convs(inputs, outputs, identity=not differs)
            return
        post = spec.order == "post"
        if spec.branch == "basic":
            self._conv(3, inputs, width)
            self._conv(3, width, outputs, normed=post)
            norms = [width, outputs]
        else:
            inner = width * spec.base_width // 64 * spec.groups
            self._conv(1, inputs, inner)
            self._conv(3, inner, inner, groups=spec.groups)
            self._conv(1, inner, outputs, normed=post)
            norms = [inner, inner, outputs]
        convolutions = len(norms)
        if not post:  # one norm before each convolution; the stem may have the first
            norms = [inputs, *norms[:-1]]
            if stage == index == 0 and spec.stem_activation:
                norms = norms[1:]
        self._norm(*norms)
        if spec.se_reduction:
            squeezed = max(spec.se_divisor, outputs // spec.se_reduction)
            self.trainable += 2 * outputs * squeezed + squeezed + outputs
        if spec.eca:  # 5 neighbours in 256 to 1024 channels, 7 in 2048; 3 below 256
            self.trainable += 3 if outputs < 128 else 5 if outputs < 2048 else 7
        if spec.merge == "highway":
            self.trainable += outputs**2 + outputs
        elif spec.norm == "fixup":  # biases before and behind each convolution, and a factor
            self.trainable += 2 * convolutions + 1
        elif spec.merge in ("rezero", "skipinit"):
            self.trainable += 1
        if spec.merge == "none" or (spec.stride_unit == "last" and strides and inputs == outputs):
            return
        wanted = {"A": False, "B": differs, "C": True, "D": differs}[spec.shortcut]
        if wanted or (spec.shortcut != "A" and spec.stage_projection and index == 0):
            normed = post and spec.shortcut_norm
            self._conv(1, inputs, outputs, normed=normed)
            self._norm(*[outputs] * normed)


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameters_follow_from_the_spec(name):
    assert Formula(variants[name]).trainable == PARAMETERS[name]


@pytest.mark.parametrize("name", MILLIONS)
def test_published_millions_follow_from_the_spec(name):
    assert round(Formula(variants[name]).trainable / 1e6, 2) == MILLIONS[name]


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_published_totals_follow_from_the_spec(name):
    formula = Formula(variants[name])
    assert formula.trainable + formula.statistics == WITH_STATISTICS[name]


# ResNet-20 and -56 have 688 and 2,032 channels behind norms: 16 * 7 + (32 + 64) * 6, and so on.
@pytest.mark.parametrize(
    ("name", "base", "difference"),
    [
        # A gate over c channels has c * c + c parameters; 3 and 9 units in each stage.
        ("cifar_highway20", "cifar_resnet20", 3 * (16 * 17 + 32 * 33 + 64 * 65)),
        ("cifar_highway56", "cifar_resnet56", 9 * (16 * 17 + 32 * 33 + 64 * 65)),
        ("cifar_rezero20", "cifar_resnet20", 9),
        ("cifar_rezero56", "cifar_resnet56", 27),
        # A bias in place of gamma and beta, and a scalar a unit.
        ("cifar_skipinit20", "cifar_resnet20v2_basic", 9 - 688),
        ("cifar_skipinit56", "cifar_resnet56v2_basic", 27 - 2032),
        ("cifar_delta_orthogonal20", "cifar_plain20", -688),
        ("cifar_delta_orthogonal56", "cifar_plain56", -2032),
        # Five numbers a unit and two more, in place of gamma and beta.
        ("cifar_fixup20", "cifar_resnet20", 9 * 5 + 2 - 2 * 688),
        ("cifar_fixup56", "cifar_resnet56", 27 * 5 + 2 - 2 * 2032),
        ("cifar_fixup110", "cifar_resnet110", 54 * 5 + 2 - 2 * (16 * 37 + (32 + 64) * 36)),
        # Pre-activation nets lack nothing: the last norm stands in the stem's place.
        ("cifar_resnet20v2_basic", "cifar_resnet20", 0),
        ("cifar_plain20", "cifar_resnet20", 0),
        # The last bottleneck's norm, 256 channels, goes; the stem's, 16, comes; and each stage's
        # projection loses its own: 64, 128 and 256.
        ("cifar_resnet164_bottleneck", "cifar_resnet164v2", 896),
        ("cifar_resnet1001_bottleneck", "cifar_resnet1001v2", 896),
        ("resnet200v2", "resnet200", -7_680),
        ("resnet18v2", "resnet18", -1_792),
        ("resnet34v2", "resnet34", -1_792),
        ("resnet101v2", "resnet101", -7_680),
        ("resnet152v2", "resnet152", -7_680),
    ],
)
def test_differences_by_hand(name, base, difference):
    ours, theirs = (Formula(variants[each]).trainable for each in (name, base))
    assert ours - theirs == difference


@pytest.mark.parametrize("units", [20, 56])
def test_cifar_repvgg_by_hand(units):
    """3n + 2 layers: n units per stage, 10 c^2 weights and three norms in all but the first."""
    n = (units - 2) // 3
    wanted = 9 * 3 * 16 + 2 * 16 + n * (10 * 16**2 + 6 * 16)
    for inputs, outputs in ((16, 32), (32, 64)):
        wanted += 10 * inputs * outputs + 4 * outputs
        wanted += (n - 1) * (10 * outputs**2 + 6 * outputs)
    wanted += 65 * 10
    assert Formula(variants[f"cifar_repvgg{units}"]).trainable == wanted


@not_on_jax
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", [*BUILT, *COUNTED])
def test_nets_have_the_published_counts(name):
    counts = count(build(name)) if name in BUILT else count_spec(name)
    assert counts.parameters == PARAMETERS[name]
    assert counts.state == Formula(variants[name]).statistics
    assert counts.layers == _layers(variants[name])
    if name in MULTIPLY_ADDS:
        assert counts.multiply_adds == MULTIPLY_ADDS[name]


def _layers(spec: ResNetSpec) -> int:
    """Layers as the papers count them, plus those of the stem that they count as one."""
    return spec.layers + 2 * (spec.stem in ("deep", "tiered")) + (spec.stem_pool == "conv")


def _small(spec: ResNetSpec) -> ResNetSpec:
    """A net of three narrow units with the same values of all axes."""
    return spec.replace(
        name="small",
        depths=(2, 1),
        widths=(64, 128) if spec.norm == "group" else (8, 16),
        stem_width=spec.stem_width and 4,
        groups=min(spec.groups, 4),
        base_width=32 if spec.groups > 1 else spec.base_width,
        se_reduction=spec.se_reduction and 4,
        input_size=32,
    )


# Variants that differ in depth and width alone are one net here.
SMALL = {_small(spec): name for name, spec in variants.items()}


def test_every_kind_of_net_is_among_the_small_ones():
    assert len(SMALL) >= 40
    merges = {"add", "none", "rezero", "skipinit", "highway"}
    assert {spec.merge for spec in SMALL} == merges
    assert {spec.norm for spec in SMALL} == {"batch", "group", "fixup", "none"}
    assert {spec.stem for spec in SMALL} == {"imagenet", "deep", "tiered", "cifar", "unit"}
    assert {spec.branch for spec in SMALL} == {"basic", "bottleneck", "repvgg"}
    assert {spec.groups for spec in SMALL} == {1, 4}


@not_on_jax
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("small", SMALL, ids=list(SMALL.values()))
def test_every_variant_builds(small):
    """Builds every combination of axes in the catalog."""
    model = build(small, input_shape=(2 * small.smallest_input,) * 2 + (3,))
    assert model.spec == small
    assert model.output_shape == (None, small.classes)
    counts, formula = count(model), Formula(small)
    assert counts.parameters == formula.trainable
    assert counts.state == formula.statistics
    assert counts.layers == _layers(small)


@pytest.mark.usefixtures("undrawn")
def test_totals_of_keras_applications_resnet50():
    counts = count_spec("keras_resnet50", input_shape=(32, 32, 3))
    assert counts.parameters == PARAMETERS["keras_resnet50"]
    assert counts.state == 53_120
    assert counts.parameters + counts.state == 25_636_712


@pytest.mark.parametrize(("name", "billions"), TABLE_1.items())
def test_multiply_adds_of_table_1(name, billions):
    """He et al. 2015, Table 1, has one decimal, truncated for 34 and 50, rounded for the others.

    So every net lies within one unit of that decimal, and within 1 % of the table where it does
    not truncate: 34 has 3.66 and 50 has 3.86 billion, 1.8 % and 1.5 % above "3.6" and "3.8".
    """
    ours = MULTIPLY_ADDS[name] / 1e9
    assert abs(ours - billions) < 0.1
    if name in ("resnet34", "resnet50"):
        assert int(10 * ours) / 10 == billions
    else:
        assert round(ours, 1) == billions
        assert ours == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"order": "pre", "stride_unit": "last", "conv_bias": "unnormed"},
        {"shortcut": "D", "stem": "deep", "se_reduction": 2, "stochastic_depth": 0.5},
        {"branch": "repvgg", "stem": "unit", "first_stride": 2},
        {"merge": "highway", "shortcut": "C"},
        {"norm": "fixup", "max_stride": 4},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_counts_of_a_spec_are_those_of_the_net(changes):
    spec = ResNetSpec("deep", (4, 1, 4), (4, 8, 8), classes=3, input_size=64).replace(**changes)
    assert count_spec(spec) == count(build(spec))


def test_counts_a_net_by_hand():
    spec = ResNetSpec("hand", (1, 1), (2, 4), stem="cifar", classes=3, input_channels=1)
    counts = count(build(spec, input_shape=(6, 6, 1)))
    kernels = [9 * 1 * 2, 9 * 2 * 2, 9 * 2 * 2, 9 * 2 * 4, 9 * 4 * 4, 1 * 2 * 4]
    places = [36, 36, 36, 9, 9, 9]
    norm_channels = 2 + 2 + 2 + 4 + 4 + 4
    assert counts.parameters == sum(kernels) + 2 * norm_channels + 4 * 3 + 3
    assert counts.state == 2 * norm_channels
    adds = sum(kernel * place for kernel, place in zip(kernels, places, strict=True))
    assert counts.multiply_adds == adds + 4 * 3
    assert counts.activations == 3 * 36 * 2 + 3 * 9 * 4 + 3
    assert counts.layers == 6


def test_frozen_weights_count_as_state():
    model = build("mlperf_tiny_resnet8")
    model.trainable = False
    assert (count(model).parameters, count(model).state) == (0, 78_186 + 480)


def test_open_input_sizes_are_refused():
    model = build("mlperf_tiny_resnet8", input_shape=(None, None, 3))
    with pytest.raises(ValueError, match=re.escape("Received: input shape (None, None, 3)")):
        count(model)


def test_other_keras_models_are_counted():
    inputs = keras.Input((4, 4, 2))
    outputs = keras.layers.Dense(5)(keras.layers.Flatten()(inputs))
    counts = count(keras.Model(inputs, outputs))
    assert (counts.parameters, counts.multiply_adds, counts.layers) == (165, 160, 1)


@pytest.mark.parametrize("stacked", [False, True])
def test_the_table_of_stages(stacked):
    model = build("cifar_resnet20", stacked=stacked)
    lines = []
    model.summary(stages=True, print_fn=lines.append)
    rows = {row.split()[0]: row for row in lines[0].splitlines()}
    assert list(rows) == ["part", "stem", "stage1", "stage2", "stage3", "head", "total"]
    # The stem: 3 x 9 x 16 weights, 4 x 16 of the norm. Stage 1: 6 x (16 x 9 x 16 + 4 x 16).
    cells = {name: re.sub(r"\(.*\)", "", row).split()[1:] for name, row in rows.items()}
    assert cells["stem"] == ["-", "496", "0.44"]
    assert cells["stage1"] == ["3", "14,208", "14.16"]
    assert cells["stage2"] == ["3", "51,456", "12.98"]
    assert cells["stage3"] == ["3", "204,288", "12.98"]
    assert cells["head"] == ["-", "650", "0.00"]
    assert cells["total"] == ["9", f"{model.count_params():,}", "40.55"]
    assert "(16, 16, 32)" in rows["stage2"]
    lines.clear()
    model.summary(print_fn=lambda line, **kwargs: lines.append(line))
    assert "stage1_unit1" in "".join(lines) or stacked


def test_the_table_of_stages_of_an_open_size():
    model = build("cifar_resnet8", include_top=False, input_shape=(None, None, 3))
    table = stage_table(model)
    assert [row.split()[-1] for row in table.splitlines()[1:]] == ["-"] * 5
    with pytest.raises(TypeError, match="`model` must be a net made by `build`"):
        stage_table(keras.Sequential([keras.layers.Dense(1)]))
