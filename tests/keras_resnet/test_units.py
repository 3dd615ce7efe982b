"""Residual units: where they stand, and their arithmetic against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import ResNetSpec, variants
from keras_resnet.network import residual_unit
from keras_resnet.units import Unit, units


def test_units_of_resnet18():
    rows = [
        (u.name, u.in_channels, u.width, u.out_channels, u.stride, u.first, u.changes_shape)
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


class Reference:
    """The arithmetic of a unit in float64, on the weights of a Keras model."""

    def __init__(self, model: keras.Model, eps: float) -> None:
        self.model = model
        self.eps = eps

    def conv(self, x: np.ndarray, name: str, stride: int = 1) -> np.ndarray:
        kernel, *bias = self.model.get_layer(name).get_weights()
        size = kernel.shape[0]
        pad = (size // 2, size // 2)
        x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
        windows = windows[:, ::stride, ::stride]
        return np.einsum("bhwcij,ijco->bhwo", windows, kernel) + (bias[0] if bias else 0)

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        gamma, beta, mean, variance = self.model.get_layer(name).get_weights()
        return gamma * (x - mean) / np.sqrt(variance + self.eps) + beta


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _unit_model(
    spec: ResNetSpec, unit: Unit, size: int, randomize
) -> tuple[keras.Model, Reference]:
    inputs = keras.Input((size, size, unit.in_channels))
    model = keras.Model(inputs, residual_unit(inputs, spec, unit))
    randomize(model, 11)
    return model, Reference(model, spec.norm_eps)


def _compare(model: keras.Model, x: np.ndarray, wanted: np.ndarray) -> None:
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, atol=2e-5)


def _unit(**changes) -> Unit:
    values = {"in_channels": 6, "width": 6, "out_channels": 6, "stride": 1, "first": False}
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
    model, ref = _unit_model(spec, _unit(width=12, out_channels=12, stride=2), size, randomize)
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
    model, ref = _unit_model(spec, _unit(width=3, out_channels=12, stride=2), 8, randomize)
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
    model, ref = _unit_model(spec, _unit(width=3, out_channels=12, stride=2), size, randomize)
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
    model, ref = _unit_model(spec, _unit(width=12, out_channels=12, stride=2), 8, randomize)
    x = _input(8)
    y = relu(ref.norm(ref.conv(x, "stage2_unit1_conv1", 2), "stage2_unit1_norm1"))
    y = ref.norm(ref.conv(y, "stage2_unit1_conv2"), "stage2_unit1_norm2")
    _compare(model, x, relu(y))
