"""Residual units: where they stand, and their arithmetic against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import ResNetSpec, variants
from keras_resnet.nets.geometry import Unit, units
from keras_resnet.nets.network import residual_unit
from keras_resnet.nets.primitives import Primitives


def test_units_of_resnet18():
    rows = [
        (u.name, u.in_channels, u.inner, u.out_channels, u.stride, u.first, u.changes_shape)
        for u in units(variants["resnet18"])
    ]
    assert rows == [
        ("stage1_unit1", 64, 64, 64, 1, True, False),
        ("stage1_unit2", 64, 64, 64, 1, False, False),
        ("stage2_unit1", 64, 128, 128, 2, False, True),
        ("stage2_unit2", 128, 128, 128, 1, False, False),
        ("stage3_unit1", 128, 256, 256, 2, False, True),
        ("stage3_unit2", 256, 256, 256, 1, False, False),
        ("stage4_unit1", 256, 512, 512, 2, False, True),
        ("stage4_unit2", 512, 512, 512, 1, False, False),
    ]


def test_units_of_a_bottleneck_net():
    spec = variants["resnet50"].replace(depths=(2, 1), widths=(64, 128))
    rows = [(u.name, u.in_channels, u.out_channels, u.stride, u.changes_shape) for u in units(spec)]
    assert rows == [
        ("stage1_unit1", 64, 256, 1, True),
        ("stage1_unit2", 256, 256, 1, False),
        ("stage2_unit1", 256, 512, 2, True),
    ]


def test_units_of_the_last_kind_stride_at_the_end():
    """keras.applications' V2 (He et al. 2016's released code strides in the first)."""
    rows = [(u.name, u.stride) for u in units(variants["keras_resnet50v2"]) if u.stride > 1]
    assert rows == [("stage1_unit3", 2), ("stage2_unit4", 2), ("stage3_unit6", 2)]


def test_first_stride_and_stem_width():
    rows = [(u.name, u.in_channels, u.out_channels, u.stride) for u in units(variants["repvgg_b1"])]
    assert rows[0] == ("stage1_unit1", 64, 128, 2)
    assert [(name, stride) for name, *_, stride in rows if stride > 1] == [
        (f"stage{stage}_unit1", 2) for stage in (1, 2, 3, 4)
    ]
    wide = [(u.in_channels, u.out_channels) for u in units(variants["cifar_wrn16_8"])]
    assert wide == [(16, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("resnet50", [64, 128, 256, 512]),
        ("resnext50_32x4d", [128, 256, 512, 1024]),  # Xie et al. 2016, Table 1
        ("resnext101_32x8d", [256, 512, 1024, 2048]),
        ("resnext101_64x4d", [256, 512, 1024, 2048]),
        ("wide_resnet50_2", [128, 256, 512, 1024]),
    ],
)
def test_inner_widths(name, inner):
    opening = [unit for unit in units(variants[name]) if unit.opens]
    assert [unit.inner for unit in opening] == inner
    assert [unit.out_channels for unit in opening] == [256, 512, 1024, 2048]
    assert [unit.stage for unit in opening] == [1, 2, 3, 4]
    assert [unit.first for unit in opening] == [True, False, False, False]


def test_drop_rates_grow_linearly():
    """Huang et al. 2016, equation 4: p_l = 1 - l / L * (1 - p_L)."""
    spec = ResNetSpec("drops", (2, 1, 2), (4, 4, 4), stochastic_depth=0.5)
    assert [unit.drop_rate for unit in units(spec)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert {unit.drop_rate for unit in units(spec.replace(stochastic_depth=0.0))} == {0.0}


# Stride, dilation of the first 3x3 and dilation of the others: the first and the later units of
# each stage, as torchvision's `_make_layer` does with `replace_stride_with_dilation`.
DILATIONS = {
    None: [((1, 1, 1), (1, 1, 1)), *[((2, 1, 1), (1, 1, 1))] * 3],
    32: [((1, 1, 1), (1, 1, 1)), *[((2, 1, 1), (1, 1, 1))] * 3],
    16: [
        ((1, 1, 1), (1, 1, 1)),
        *[((2, 1, 1), (1, 1, 1))] * 2,
        ((1, 1, 2), (1, 2, 2)),
    ],
    8: [
        ((1, 1, 1), (1, 1, 1)),
        ((2, 1, 1), (1, 1, 1)),
        ((1, 1, 2), (1, 2, 2)),
        ((1, 2, 4), (1, 4, 4)),
    ],
    1: [
        ((1, 1, 1), (1, 1, 1)),
        ((1, 1, 2), (1, 2, 2)),
        ((1, 2, 4), (1, 4, 4)),
        ((1, 4, 8), (1, 8, 8)),
    ],
}


@pytest.mark.parametrize("limit", DILATIONS)
def test_dilations(limit):
    for unit in units(variants["resnet50"].replace(max_stride=limit)):
        first, later = DILATIONS[limit][unit.stage - 1]
        row = (unit.stride, unit.first_dilation, unit.dilation)
        assert row == (first if unit.opens else later), unit.name


SHORTCUT_NORM = "stage2_unit1_shortcut_norm"


class Reference:
    """The arithmetic of a unit in float64, on the weights of a Keras model."""

    def __init__(self, model: keras.Model, eps: float) -> None:
        self.model = model
        self.eps = eps

    def conv(self, x: np.ndarray, name: str, stride: int = 1, dilation: int = 1) -> np.ndarray:
        kernel, *bias = self.model.get_layer(name).get_weights()
        reach = dilation * (kernel.shape[0] - 1) + 1
        pad = (reach // 2, reach // 2)
        x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (reach, reach), axis=(1, 2))
        windows = windows[:, ::stride, ::stride, :, ::dilation, ::dilation]
        groups = x.shape[-1] // kernel.shape[2]
        parts = zip(
            np.split(windows, groups, axis=3), np.split(kernel, groups, axis=3), strict=True
        )
        y = [np.einsum("bhwcij,ijco->bhwo", part, weights) for part, weights in parts]
        return np.concatenate(y, axis=3) + (bias[0] if bias else 0)

    def number(self, name: str) -> float:
        return float(self.model.get_layer(name).get_weights()[0][0])

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        gamma, beta, mean, variance = self.model.get_layer(name).get_weights()
        return gamma * (x - mean) / np.sqrt(variance + self.eps) + beta


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _unit_model(
    spec: ResNetSpec, unit: Unit, size: int, randomize
) -> tuple[keras.Model, Reference]:
    inputs = keras.Input((size, size, unit.in_channels))
    model = keras.Model(inputs, residual_unit(inputs, Primitives(spec), unit))
    randomize(model, 11)
    return model, Reference(model, spec.norm_eps)


def _compare(model: keras.Model, x: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, atol=2e-5)


def _unit(**changes) -> Unit:
    values = {"in_channels": 6, "inner": 6, "out_channels": 6, "stride": 1, "first": False}
    return Unit(stage=2, index=1, **(values | changes))


def _input(size: int, channels: int = 6) -> np.ndarray:
    return np.random.default_rng(2).normal(size=(2, size, size, channels)).astype("float32")


def test_basic_post_unit(randomize):
    spec = ResNetSpec("post", (1,), (6,), norm_eps=1e-2)
    model, ref = _unit_model(spec, _unit(), 7, randomize)
    x = _input(7)
    y = relu(ref.norm(ref.conv(x, "stage2_unit1_conv1"), "stage2_unit1_norm1"))
    y = ref.norm(ref.conv(y, "stage2_unit1_conv2"), "stage2_unit1_norm2")
    _compare(model, x, relu(x + y))


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("option", ["A", "B"])
def test_basic_post_unit_that_strides(option, size, randomize):
    spec = ResNetSpec("post", (1,), (6,), shortcut=option, conv_bias=True)
    model, ref = _unit_model(spec, _unit(inner=12, out_channels=12, stride=2), size, randomize)
    x = _input(size)
    y = relu(ref.norm(ref.conv(x, "stage2_unit1_conv1", 2), "stage2_unit1_norm1"))
    y = ref.norm(ref.conv(y, "stage2_unit1_conv2"), "stage2_unit1_norm2")
    if option == "A":
        carried = np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (3, 3)))
    else:
        carried = ref.conv(x, "stage2_unit1_shortcut_conv", 2)
        carried = ref.norm(carried, "stage2_unit1_shortcut_norm")
    _compare(model, x, relu(carried + y))


@pytest.mark.parametrize("placement", ["1x1", "3x3"])
def test_bottleneck_post_unit_strides_where_it_should(placement, randomize):
    spec = ResNetSpec("post", (1,), (3,), branch="bottleneck", stride_placement=placement)
    model, ref = _unit_model(spec, _unit(inner=3, out_channels=12, stride=2), 8, randomize)
    x = _input(8)
    first, second = (2, 1) if placement == "1x1" else (1, 2)
    y = relu(ref.norm(ref.conv(x, "stage2_unit1_conv1", first), "stage2_unit1_norm1"))
    y = relu(ref.norm(ref.conv(y, "stage2_unit1_conv2", second), "stage2_unit1_norm2"))
    y = ref.norm(ref.conv(y, "stage2_unit1_conv3"), "stage2_unit1_norm3")
    carried = ref.norm(ref.conv(x, "stage2_unit1_shortcut_conv", 2), "stage2_unit1_shortcut_norm")
    _compare(model, x, relu(carried + y))


@pytest.mark.parametrize("size", [7, 8])
def test_bottleneck_pre_unit_with_projection(size, randomize):
    spec = ResNetSpec("pre", (1,), (3,), branch="bottleneck", order="pre")
    model, ref = _unit_model(spec, _unit(inner=3, out_channels=12, stride=2), size, randomize)
    x = _input(size)
    start = relu(ref.norm(x, "stage2_unit1_norm1"))
    y = ref.conv(start, "stage2_unit1_conv1")
    y = ref.conv(relu(ref.norm(y, "stage2_unit1_norm2")), "stage2_unit1_conv2", 2)
    y = ref.conv(relu(ref.norm(y, "stage2_unit1_norm3")), "stage2_unit1_conv3")
    _compare(model, x, ref.conv(start, "stage2_unit1_shortcut_conv", 2) + y)


def test_basic_pre_unit_carries_its_input_unchanged(randomize):
    spec = ResNetSpec("pre", (1,), (6,), order="pre")
    model, ref = _unit_model(spec, _unit(), 7, randomize)
    x = _input(7)
    y = ref.conv(relu(ref.norm(x, "stage2_unit1_norm1")), "stage2_unit1_conv1")
    y = ref.conv(relu(ref.norm(y, "stage2_unit1_norm2")), "stage2_unit1_conv2")
    _compare(model, x, x + y)


def test_plain_unit_is_the_branch_alone(randomize):
    spec = ResNetSpec("plain", (1,), (6,), merge="none")
    model, ref = _unit_model(spec, _unit(inner=12, out_channels=12, stride=2), 8, randomize)
    x = _input(8)
    y = relu(ref.norm(ref.conv(x, "stage2_unit1_conv1", 2), "stage2_unit1_norm1"))
    y = ref.norm(ref.conv(y, "stage2_unit1_conv2"), "stage2_unit1_norm2")
    _compare(model, x, relu(y))


def _basic(ref: Reference, x: np.ndarray, stride: int = 1) -> np.ndarray:
    y = relu(ref.norm(ref.conv(x, "stage2_unit1_conv1", stride), "stage2_unit1_norm1"))
    return ref.norm(ref.conv(y, "stage2_unit1_conv2"), "stage2_unit1_norm2")


def _gate(ref: Reference, y: np.ndarray) -> np.ndarray:
    squeezed = relu(ref.conv(y.mean((1, 2), keepdims=True), "stage2_unit1_se_fc1"))
    return sigmoid(ref.conv(squeezed, "stage2_unit1_se_fc2"))


def _pool(x: np.ndarray) -> np.ndarray:
    """PyTorch's `AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)`."""
    sizes = [-(-size // 2) for size in x.shape[1:3]]
    out = np.empty((len(x), *sizes, x.shape[3]))
    for row, column in np.ndindex(*sizes):
        window = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        out[:, row, column] = window.mean((1, 2))
    return out


@pytest.mark.parametrize("size", [7, 8])
def test_option_d_pools_and_projects(size, randomize):
    spec = ResNetSpec("d", (1,), (6,), shortcut="D")
    model, ref = _unit_model(spec, _unit(inner=12, out_channels=12, stride=2), size, randomize)
    x = _input(size)
    carried = ref.norm(ref.conv(_pool(x), "stage2_unit1_shortcut_conv"), SHORTCUT_NORM)
    _compare(model, x, relu(carried + _basic(ref, x, 2)))


def test_option_d_without_a_stride_projects_alone(randomize):
    spec = ResNetSpec("d", (1,), (6,), shortcut="D")
    model, ref = _unit_model(spec, _unit(inner=12, out_channels=12), 7, randomize)
    x = _input(7)
    carried = ref.norm(ref.conv(x, "stage2_unit1_shortcut_conv"), SHORTCUT_NORM)
    _compare(model, x, relu(carried + _basic(ref, x)))


def test_squeeze_and_excitation(randomize):
    spec = ResNetSpec("se", (1,), (6,), se_reduction=2)
    model, ref = _unit_model(spec, _unit(), 7, randomize)
    kernel, bias = model.get_layer("stage2_unit1_se_fc1").get_weights()
    assert kernel.shape == (1, 1, 6, 3)
    model.get_layer("stage2_unit1_se_fc1").set_weights([20 * kernel, bias])
    x = _input(7)
    y = _basic(ref, x)
    gate = _gate(ref, y)
    assert gate.shape == (2, 1, 1, 6)
    assert gate.std(0).max() > 0.05  # it sees the image
    _compare(model, x, relu(x + gate * y))


def test_squeezed_channels_are_rounded_down_to_one_at_least():
    inputs = keras.Input((4, 4, 6))
    for reduction, wanted in ((4, 1), (16, 1), (1, 6)):
        spec = ResNetSpec("se", (1,), (6,), se_reduction=reduction)
        model = keras.Model(inputs, residual_unit(inputs, Primitives(spec), _unit()))
        assert model.get_layer("stage2_unit1_se_fc1").filters == wanted


def test_squeeze_and_excitation_in_pre_activation_order(randomize):
    spec = ResNetSpec("se", (1,), (6,), order="pre", se_reduction=2)
    model, ref = _unit_model(spec, _unit(), 7, randomize)
    x = _input(7)
    y = ref.conv(relu(ref.norm(x, "stage2_unit1_norm1")), "stage2_unit1_conv1")
    y = ref.conv(relu(ref.norm(y, "stage2_unit1_norm2")), "stage2_unit1_conv2")
    _compare(model, x, x + _gate(ref, y) * y)


def test_groups_and_dilation(randomize):
    spec = ResNetSpec("x", (1,), (4,), branch="bottleneck", groups=2, base_width=32)
    unit = _unit(inner=4, out_channels=6, dilation=4, first_dilation=2)
    model, ref = _unit_model(spec, unit, 9, randomize)
    assert model.get_layer("stage2_unit1_conv2").kernel.shape == (3, 3, 2, 4)
    x = _input(9)
    y = relu(ref.norm(ref.conv(x, "stage2_unit1_conv1"), "stage2_unit1_norm1"))
    y = relu(ref.norm(ref.conv(y, "stage2_unit1_conv2", dilation=2), "stage2_unit1_norm2"))
    y = ref.norm(ref.conv(y, "stage2_unit1_conv3"), "stage2_unit1_norm3")
    _compare(model, x, relu(x + y))


def test_dilation_of_a_basic_unit(randomize):
    spec = ResNetSpec("dilated", (1,), (6,))
    model, ref = _unit_model(spec, _unit(dilation=2, first_dilation=1), 9, randomize)
    x = _input(9)
    y = relu(ref.norm(ref.conv(x, "stage2_unit1_conv1"), "stage2_unit1_norm1"))
    y = ref.norm(ref.conv(y, "stage2_unit1_conv2", dilation=2), "stage2_unit1_norm2")
    _compare(model, x, relu(x + y))


def _blurred(x: np.ndarray) -> np.ndarray:
    for axis in (1, 2):
        pads = [(0, 0)] * 4
        pads[axis] = (1, 1)
        x = np.pad(x, pads, mode="reflect")
        size = x.shape[axis] - 2
        x = (
            x.take(range(0, size, 2), axis)
            + 2 * x.take(range(1, size + 1, 2), axis)
            + x.take(range(2, size + 2, 2), axis)
        ) / 4
    return x


@pytest.mark.parametrize("size", [7, 8])
def test_blurred_unit_subsamples_behind_its_filter_alone(size, randomize):
    """Zhang 2019, section 3.2: conv at stride 1, ReLU, then blur; the shortcut blurs first."""
    spec = ResNetSpec("blur", (1,), (3,), branch="bottleneck", blur=3)
    model, ref = _unit_model(spec, _unit(inner=3, out_channels=12, stride=2), size, randomize)
    x = _input(size)
    y = relu(ref.norm(ref.conv(x, "stage2_unit1_conv1"), "stage2_unit1_norm1"))
    y = _blurred(relu(ref.norm(ref.conv(y, "stage2_unit1_conv2"), "stage2_unit1_norm2")))
    y = ref.norm(ref.conv(y, "stage2_unit1_conv3"), "stage2_unit1_norm3")
    carried = ref.norm(ref.conv(_blurred(x), "stage2_unit1_shortcut_conv"), SHORTCUT_NORM)
    _compare(model, x, relu(carried + y))


@pytest.mark.parametrize("kind", ["rezero", "skipinit"])
def test_learned_scalar_multiplies_the_branch(kind, randomize):
    spec = ResNetSpec("scaled", (1,), (6,), merge=kind)
    model, ref = _unit_model(spec, _unit(inner=12, out_channels=12, stride=2), 8, randomize)
    x = _input(8)
    carried = ref.norm(ref.conv(x, "stage2_unit1_shortcut_conv", 2), SHORTCUT_NORM)
    model.get_layer("stage2_unit1_scale").set_weights([np.array([0.7])])
    _compare(model, x, relu(carried + 0.7 * _basic(ref, x, 2)))


def test_highway_gate(randomize):
    """Srivastava et al. 2015, equation 3: y = H(x) T(x) + x (1 - T(x))."""
    spec = ResNetSpec("highway", (1,), (6,), merge="highway")
    model, ref = _unit_model(spec, _unit(), 7, randomize)
    x = _input(7)
    gate = sigmoid(ref.conv(x, "stage2_unit1_gate_conv"))
    assert gate.std() > 0.1
    _compare(model, x, relu(_basic(ref, x) * gate + x * (1 - gate)))


def test_gate_on_the_shortcut_alone(randomize):
    """He et al. 2016, section 3.1: the branch is added whole."""
    spec = ResNetSpec("gated", (1,), (6,), merge="shortcut_gate")
    model, ref = _unit_model(spec, _unit(), 7, randomize)
    x = _input(7)
    gate = sigmoid(ref.conv(x, "stage2_unit1_gate_conv"))
    _compare(model, x, relu(_basic(ref, x) + x * (1 - gate)))


def test_gates_start_from_the_bias_of_the_spec():
    spec = ResNetSpec("gated", (1,), (6,), merge="shortcut_gate", gate_bias=-6.0)
    model, _ = _unit_model(spec, _unit(), 7, lambda *_: None)
    np.testing.assert_array_equal(model.get_layer("stage2_unit1_gate_conv").get_weights()[1], -6)


@pytest.mark.parametrize("stride", [1, 2])
def test_constant_scaling(stride, randomize):
    """He et al. 2016, section 3.1: half the shortcut and, apart from it, half the branch."""
    spec = ResNetSpec("scaled", (1,), (6,), shortcut_scale=0.5, branch_scale=0.25)
    unit = _unit(inner=6 * stride, out_channels=6 * stride, stride=stride)
    model, ref = _unit_model(spec, unit, 8, randomize)
    x = _input(8)
    carried = x
    if stride == 2:
        carried = ref.norm(ref.conv(x, "stage2_unit1_shortcut_conv", 2), SHORTCUT_NORM)
    _compare(model, x, relu(0.5 * carried + 0.25 * _basic(ref, x, stride)))


def test_dropout_on_the_shortcut(randomize):
    """He et al. 2016, section 3.1: values of the shortcut are dropped in training alone."""
    spec = ResNetSpec("dropped", (1,), (6,), order="pre", shortcut_dropout=0.5)
    model, _ref = _unit_model(spec, _unit(), 7, randomize)
    for name in ("conv1", "conv2"):  # a branch of zero leaves the shortcut
        layer = model.get_layer(f"stage2_unit1_{name}")
        layer.set_weights([0 * weight for weight in layer.get_weights()])
    x = _input(7)
    _compare(model, x, x)
    dropped = keras.ops.convert_to_numpy(model(x, training=True))
    kept = dropped != 0
    assert 0.35 < kept.mean() < 0.65
    np.testing.assert_allclose(dropped[kept], 2 * x[kept], rtol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("order", ["norm_after_add", "relu_before_add", "relu_only_pre"])
def test_other_places_of_the_activation(order, stride, randomize):
    """He et al. 2016, Figure 4 (b), (c) and (d)."""
    name = "stage2_unit1"
    spec = ResNetSpec("placed", (1,), (6,), order=order)
    unit = _unit(inner=6 * stride, out_channels=6 * stride, stride=stride)
    model, ref = _unit_model(spec, unit, 8, randomize)
    x = _input(8)
    start = relu(x) if order == "relu_only_pre" else x
    y = relu(ref.norm(ref.conv(start, f"{name}_conv1", stride), f"{name}_norm1"))
    y = ref.conv(y, f"{name}_conv2")
    carried = x
    if stride == 2:
        carried = ref.conv(start, f"{name}_shortcut_conv", 2)
    if order != "norm_after_add":
        y = ref.norm(y, f"{name}_norm2")
        carried = carried if stride == 1 else ref.norm(carried, SHORTCUT_NORM)
    if order == "relu_before_add":
        y = relu(y)
    y = carried + y
    _compare(model, x, relu(ref.norm(y, f"{name}_out_norm")) if order == "norm_after_add" else y)


@pytest.mark.parametrize("stride", [1, 2])
def test_fixup_unit(stride, randomize):
    """Zhang et al. 2019, Figure 1: the projection shares the bias of the first convolution."""
    name = "stage2_unit1"
    spec = ResNetSpec("fixup", (1,), (6,), norm="fixup")
    filters = 6 * stride
    unit = _unit(inner=filters, out_channels=filters, stride=stride)
    model, ref = _unit_model(spec, unit, 8, randomize)
    assert not [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    x = _input(8)
    start = x + ref.number(f"{name}_bias1a")
    y = relu(ref.conv(start, f"{name}_conv1", stride) + ref.number(f"{name}_bias1b"))
    y = ref.conv(y + ref.number(f"{name}_bias2a"), f"{name}_conv2")
    y = y * ref.number(f"{name}_scale") + ref.number(f"{name}_bias2b")
    carried = x if stride == 1 else ref.conv(start, f"{name}_shortcut_conv", 2)
    _compare(model, x, relu(carried + y))


@pytest.mark.parametrize("stride", [1, 2])
def test_repvgg_unit_sums_its_normed_paths(stride, randomize):
    """Ding et al. 2021, Figure 2 (b): 3x3, 1x1 and, where shapes agree, the identity."""
    spec = ResNetSpec("repvgg", (1,), (6,), branch="repvgg")
    filters = 6 * stride
    unit = _unit(inner=filters, out_channels=filters, stride=stride)
    model, ref = _unit_model(spec, unit, 8, randomize)
    x = _input(8)
    y = ref.norm(ref.conv(x, "stage2_unit1_conv1", stride), "stage2_unit1_norm1")
    y = y + ref.norm(ref.conv(x, "stage2_unit1_conv2", stride), "stage2_unit1_norm2")
    assert model.get_layer("stage2_unit1_conv2").kernel_size == (1, 1)
    _compare(model, x, relu(y + ref.norm(x, SHORTCUT_NORM) if stride == 1 else y))


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_single_unit_is_one_convolution(norm, randomize):
    spec = ResNetSpec(
        "single", (1,), (6,), branch="single", merge="none", norm=norm, conv_bias=norm == "none"
    )
    model, ref = _unit_model(spec, _unit(inner=12, out_channels=12, stride=2), 8, randomize)
    x = _input(8)
    y = ref.conv(x, "stage2_unit1_conv1", 2)
    _compare(model, x, relu(ref.norm(y, "stage2_unit1_norm1") if norm == "batch" else y))


def test_subsampled_identity_of_a_unit_that_strides_last(randomize):
    """keras.applications' V2: the input itself, unactivated, through a 1x1 pool of stride 2."""
    spec = ResNetSpec("last", (1,), (6,), order="pre", stride_unit="last")
    model, ref = _unit_model(spec, _unit(stride=2), 8, randomize)
    x = _input(8)
    y = ref.conv(relu(ref.norm(x, "stage2_unit1_norm1")), "stage2_unit1_conv1", 2)
    y = ref.conv(relu(ref.norm(y, "stage2_unit1_norm2")), "stage2_unit1_conv2")
    _compare(model, x, x[:, ::2, ::2] + y)
