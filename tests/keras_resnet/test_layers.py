"""Convolution, padding, initial weights and the layer of option A."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from keras_resnet import PadChannels, ResNetSpec, build, variants
from keras_resnet.layers import channel_axis, conv, kernel_initializer, norm
from keras_resnet.stem import stem

SPEC = ResNetSpec("layers", (1,), (8,))


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def _convolve(x: np.ndarray, kernel: np.ndarray, stride: int, pads: tuple[int, int]) -> np.ndarray:
    """A convolution as its definition reads; `pads` stand before and behind both axes."""
    x = np.pad(x.astype("float64"), ((0, 0), pads, pads, (0, 0)))
    size = kernel.shape[0]
    rows, columns = ((n - size) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), rows, columns, kernel.shape[3]))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            window = x[:, top : top + size, left : left + size]
            out[:, row, column] = np.tensordot(window, kernel, axes=3)
    return out


def _conv_model(spec: ResNetSpec, size: int, stride: int, height: int, width: int) -> keras.Model:
    inputs = keras.Input((height, width, 3))
    outputs = conv(inputs, spec, "my_conv1", filters=5, size=size, stride=stride, seed=0)
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("height", [8, 9])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_symmetric_padding(size, stride, height):
    model = _conv_model(SPEC, size, stride, height, 11)
    x = _images(2, height, 11, 3)
    kernel = model.get_layer("my_conv1").get_weights()[0]
    wanted = _convolve(x, kernel, stride, (size // 2, size // 2))
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, atol=1e-5)


def test_same_padding_differs_on_even_sizes_alone():
    same = SPEC.replace(padding="same")
    even, odd = _images(2, 8, 8, 3), _images(2, 9, 9, 3)
    model = _conv_model(same, 3, 2, 8, 8)
    kernel = model.get_layer("my_conv1").get_weights()[0]
    output = model.predict(even, verbose=0)
    np.testing.assert_allclose(output, _convolve(even, kernel, 2, (0, 1)), atol=1e-5)
    assert np.abs(output - _convolve(even, kernel, 2, (1, 1))).max() > 0.1
    output = _conv_model(same, 3, 2, 9, 9).predict(odd, verbose=0)
    np.testing.assert_allclose(output, _convolve(odd, kernel, 2, (1, 1)), atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("size", [16, 17])
def test_stem_pads_as_pytorch(size, randomize):
    """The 7x7 of stride 2 and the max pool, which PyTorch pads with minus infinity."""
    import torch
    from torch.nn import functional

    inputs = keras.Input((size, size, 3))
    model = keras.Model(inputs, stem(inputs, SPEC, seed=None))
    randomize(model, 3)
    x = _images(2, size, size, 3)
    kernel = torch.tensor(model.get_layer("stem_conv").get_weights()[0]).permute(3, 2, 0, 1)
    gamma, beta, mean, variance = map(torch.tensor, model.get_layer("stem_norm").get_weights())
    y = functional.conv2d(torch.tensor(x).permute(0, 3, 1, 2), kernel, stride=2, padding=3)
    y = functional.batch_norm(y, mean, variance, gamma, beta, eps=1e-5).relu()
    y = functional.max_pool2d(y, 3, stride=2, padding=1).permute(0, 2, 3, 1)
    np.testing.assert_allclose(model.predict(x, verbose=0), y.numpy(), atol=1e-5)


@pytest.mark.parametrize("height", [6, 7])
def test_pad_channels_is_option_a(height):
    x = _images(2, height, 8, 16)
    output = keras.ops.convert_to_numpy(PadChannels(32, 2)(x))
    wanted = np.zeros((2, (height + 1) // 2, 4, 32), "float32")
    wanted[..., 8:24] = x[:, ::2, ::2]
    np.testing.assert_array_equal(output, wanted)


def test_pad_channels_puts_an_odd_zero_behind():
    x = np.ones((1, 2, 2, 2), "float32")
    output = keras.ops.convert_to_numpy(PadChannels(5)(x))
    np.testing.assert_array_equal(output[0, 0, 0], [0, 1, 1, 0, 0])


def test_pad_channels_channels_first():
    keras.config.set_image_data_format("channels_first")
    x = _images(2, 4, 5, 7)
    layer = PadChannels(8, 2)
    wanted = np.zeros((2, 8, 3, 4), "float32")
    wanted[:, 2:6] = x[:, :, ::2, ::2]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(x)), wanted)
    assert layer.compute_output_shape((None, 4, 5, None)) == (None, 8, 3, None)


def test_pad_channels_knows_its_shape_and_config():
    layer = PadChannels(32, 2, name="pad", dtype="float16")
    assert layer.compute_output_shape((None, 7, None, 16)) == (None, 4, None, 32)
    assert layer(keras.Input((7, None, 16))).shape == (None, 4, None, 32)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is PadChannels
    assert (copy.filters, copy.stride, copy.name) == (32, 2, "pad")
    assert copy.compute_dtype == "float16"


def test_pad_channels_refuses_to_drop_channels():
    with pytest.raises(ValueError, match=re.escape("at least the input's channels (16). Received")):
        PadChannels(8)(keras.Input((4, 4, 16)))


def test_he_initialization():
    """He et al. 2015 (arXiv:1502.01852): deviation sqrt(2 / fan-in), mean 0, a normal's tails."""
    model = build("resnet18", input_shape=(32, 32, 3), classes=500, seed=5)
    measured = 0
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            continue
        kernel = layer.get_weights()[0]
        deviation = np.sqrt(2 / np.prod(kernel.shape[:-1]))
        # The relative error of a deviation estimated from n values is 1 / sqrt(2 n).
        allowed = 4 / np.sqrt(2 * kernel.size)
        assert kernel.std() == pytest.approx(deviation, rel=allowed), layer.name
        assert abs(kernel.mean()) < 4 * deviation / np.sqrt(kernel.size), layer.name
        measured += 1
    assert measured == 21
    large = model.get_layer("stage4_unit2_conv2").get_weights()[0]
    scaled = np.abs(large) * np.sqrt(9 * 512 / 2)
    assert (scaled > 2).mean() == pytest.approx(0.0455, rel=0.02)  # truncation would give 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            assert (gamma == 1).all() and (variance == 1).all()
            assert not beta.any() and not mean.any()
    assert not model.get_layer("logits").get_weights()[1].any()


def test_seeds_depend_on_the_name():
    def draw(name: str, seed: int | None) -> np.ndarray:
        return keras.ops.convert_to_numpy(kernel_initializer(name, seed)((3, 3, 4, 4)))

    np.testing.assert_array_equal(draw("a", 1), draw("a", 1))
    assert not np.allclose(draw("a", 1), draw("b", 1))
    assert not np.allclose(draw("a", 1), draw("a", 2))
    assert not np.allclose(draw("a", None), draw("a", None))


def test_norm_takes_the_specs_numbers():
    spec = SPEC.replace(norm_eps=1e-3, norm_momentum=0.7)
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, norm(inputs, spec, "norm", zero_gamma=True))
    layer = model.get_layer("norm")
    assert (layer.epsilon, layer.momentum, layer.axis) == (1e-3, 0.7, -1)
    assert not layer.get_weights()[0].any()
    assert not layer.synchronized


@pytest.mark.tf
def test_norm_is_synchronized_on_request():
    model = build(variants["cifar_resnet8"].replace(norm_sync=True))
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 7
    assert all(layer.synchronized for layer in norms)


def test_channel_axis_follows_keras():
    assert channel_axis() == -1
    keras.config.set_image_data_format("channels_first")
    assert channel_axis() == 1
