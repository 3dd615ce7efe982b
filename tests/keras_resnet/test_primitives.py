"""Convolution, padding, pooling, norm and initial weights, as a spec wants them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import ResNetSpec, build, variants
from keras_resnet.nets.primitives import Convolution, Primitives, channel_axis, kernel_initializer
from keras_resnet.nets.stem import stem

SPEC = ResNetSpec("primitives", (1,), (8,))


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
    nn = Primitives(spec, seed=0)
    outputs = nn.conv(inputs, "my_conv1", Convolution(5, size, stride))
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
    model = keras.Model(inputs, stem(inputs, Primitives(SPEC)))
    randomize(model, 3)
    x = _images(2, size, size, 3)
    kernel = torch.tensor(model.get_layer("stem_conv").get_weights()[0]).permute(3, 2, 0, 1)
    gamma, beta, mean, variance = map(torch.tensor, model.get_layer("stem_norm").get_weights())
    y = functional.conv2d(torch.tensor(x).permute(0, 3, 1, 2), kernel, stride=2, padding=3)
    y = functional.batch_norm(y, mean, variance, gamma, beta, eps=1e-5).relu()
    y = functional.max_pool2d(y, 3, stride=2, padding=1).permute(0, 2, 3, 1)
    np.testing.assert_allclose(model.predict(x, verbose=0), y.numpy(), atol=1e-5)


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
            assert (gamma == 1).all()
            assert (variance == 1).all()
            assert not beta.any()
            assert not mean.any()
    assert not model.get_layer("logits").get_weights()[1].any()


def test_seeds_depend_on_the_name():
    def draw(name: str, seed: int | None) -> np.ndarray:
        return keras.ops.convert_to_numpy(kernel_initializer(name, seed)((3, 3, 4, 4)))

    np.testing.assert_array_equal(draw("a", 1), draw("a", 1))
    assert not np.allclose(draw("a", 1), draw("b", 1))
    assert not np.allclose(draw("a", 1), draw("a", 2))
    assert not np.allclose(draw("a", None), draw("a", None))


def test_norm_takes_the_specs_numbers():
    spec = SPEC.replace(norm_eps=1e-3, norm_momentum=0.7, zero_init_residual=True)
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, Primitives(spec).norm(inputs, "norm", ends_branch=True))
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


def test_delta_orthogonal_nets_hold_their_lengths():
    """Xiao et al. 2018: every kernel is an orthogonal matrix in its centre, times sqrt(2)."""
    model = build(variants["cifar_delta_orthogonal8"], seed=1)
    kernels = [
        layer.get_weights()[0] for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
    ]
    assert len(kernels) == 7
    for kernel in kernels:
        assert np.count_nonzero(np.abs(kernel).sum((2, 3))) == 1
        matrix = kernel[1, 1]
        np.testing.assert_allclose(matrix @ matrix.T, 2 * np.eye(len(matrix)), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "normed", "bias"),
    [
        ({}, True, False),
        ({}, False, False),
        ({"conv_bias": True}, True, True),
        ({"conv_bias": "unnormed"}, True, False),
        ({"conv_bias": "unnormed"}, False, True),
        ({"conv_bias": "unnormed", "norm": "none"}, True, True),
    ],
)
def test_biases(changes, normed, bias):
    nn = Primitives(SPEC.replace(**changes))
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, nn.conv(inputs, "c1", Convolution(3, 3), normed=normed))
    assert model.get_layer("c1").use_bias is bias


@pytest.mark.parametrize("norm", ["none", "fixup"])
def test_nets_without_norms_have_no_norm_layer(norm):
    inputs = keras.Input((4, 4, 2))
    nn = Primitives(SPEC.replace(norm=norm))
    assert nn.norm(inputs, "norm1") is inputs
    assert nn.norm_relu(inputs, "x_norm1")._keras_history.operation.name == "x_act1"


def test_names_have_the_scope():
    nn = Primitives(SPEC)
    assert (nn.name("conv1"), nn.scoped("stem").name("conv1")) == ("conv1", "stem_conv1")


def test_zero_and_scaled_kernels():
    inputs = keras.Input((4, 4, 2))

    def kernel(name: str, spec: ResNetSpec = SPEC, **options) -> np.ndarray:
        nn = Primitives(spec, seed=3)
        model = keras.Model(inputs, nn.conv(inputs, name, Convolution(3, 3), **options))
        return model.get_layer(name).get_weights()[0]

    scaled, whole = kernel("b_conv", gain=0.25), kernel("b_conv")
    np.testing.assert_allclose(scaled, 0.25 * whole, rtol=1e-6)
    assert not kernel("a_conv", gain=0.0).any()
    # The last convolution of a branch starts at zero where no norm behind it can.
    zero_init = SPEC.replace(zero_init_residual=True)
    assert not kernel("a_conv", zero_init, normed=False, ends_branch=True).any()
    assert not kernel("a_conv", zero_init.replace(norm="none"), ends_branch=True).any()
    for spec, options in (
        (zero_init, {"ends_branch": True}),
        (zero_init, {"normed": False}),
        (SPEC, {"normed": False, "ends_branch": True}),
    ):
        assert kernel("a_conv", spec, **options).any()


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_symmetric_padding_of_signals_and_volumes(dims, stride):
    """With a kernel of ones each output counts the input's elements that it saw."""
    inputs = keras.Input((*(6,) * dims, 1))
    nn = Primitives(SPEC, dims)
    model = keras.Model(inputs, nn.conv(inputs, "my_conv1", Convolution(1, 3, stride)))
    model.get_layer("my_conv1").set_weights([np.ones((*(3,) * dims, 1, 1))])
    seen = np.array([2, 3, 3, 3, 3, 2])[::stride]
    wanted = seen if dims == 1 else np.einsum("i,j,k->ijk", seen, seen, seen)
    output = keras.ops.convert_to_numpy(model(np.ones((1, *(6,) * dims, 1), "float32")))
    np.testing.assert_array_equal(output[0, ..., 0], wanted)


def _pooled(x: np.ndarray, spec: ResNetSpec, *, rectified: bool) -> tuple[np.ndarray, list[str]]:
    inputs = keras.Input(x.shape[1:])
    pooled = Primitives(spec).max_pool(inputs, "stem_pool", rectified=rectified)
    model = keras.Model(inputs, pooled)
    names = [layer.name for layer in model.layers[1:]]
    return keras.ops.convert_to_numpy(model(x))[0, ..., 0], names


def test_max_pools_of_negative_values():
    """Where nothing was rectified, the border matters: -inf, zeros, or one-sided."""
    x = -1 - np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
    output, names = _pooled(x, SPEC, rectified=False)
    np.testing.assert_array_equal(output, [[-1, -2], [-5, -6]])
    assert names == ["stem_pool_pad", "stem_pool"]
    output, _ = _pooled(x, SPEC.replace(stem_pool="max_zero"), rectified=False)
    np.testing.assert_array_equal(output, [[0, 0], [0, -6]])
    output, names = _pooled(x, SPEC.replace(padding="same"), rectified=False)
    np.testing.assert_array_equal(output, [[-1, -3], [-9, -11]])
    assert names == ["stem_pool"]
    x = x + 17
    for spec in (SPEC, SPEC.replace(stem_pool="max_zero")):
        output, _ = _pooled(x, spec, rectified=True)
        np.testing.assert_array_equal(output, [[16, 15], [12, 11]])


def test_blurred_max_pool():
    """Zhang 2019, equation 2: the maximum at stride 1, then the filter, then the stride."""
    x = np.zeros((1, 5, 5, 1), "float32")
    x[0, 2, 2] = 16
    output, names = _pooled(x, SPEC.replace(blur=3), rectified=True)
    assert names == ["stem_pool", "stem_pool_blur"]
    # The maximum spreads the pixel to 3 x 3; (1, 2, 1) / 4 then takes a half, and all, of it.
    row = np.array([0.5, 1, 0.5])
    np.testing.assert_array_equal(output, 16 * np.outer(row, row))


@pytest.mark.torch
@pytest.mark.parametrize("size", [16, 17])
def test_deep_bare_stem_pads_as_pytorch(size, randomize):
    """Three 3x3, no ReLU behind the last, and a max pool of negative values."""
    import torch
    from torch.nn import functional

    spec = SPEC.replace(stem="deep", order="pre", stem_activation=False)
    inputs = keras.Input((size, size, 3))
    model = keras.Model(inputs, stem(inputs, Primitives(spec)))
    randomize(model, 3)
    x = _images(2, size, size, 3)
    y = torch.tensor(x).permute(0, 3, 1, 2)
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        kernel = torch.tensor(model.get_layer(f"stem_conv{number}").get_weights()[0])
        y = functional.conv2d(y, kernel.permute(3, 2, 0, 1), stride=stride, padding=1)
        if number < 3:
            weights = model.get_layer(f"stem_norm{number}").get_weights()
            gamma, beta, mean, variance = map(torch.tensor, weights)
            y = functional.batch_norm(y, mean, variance, gamma, beta, eps=1e-5).relu()
    y = functional.max_pool2d(y, 3, stride=2, padding=1).permute(0, 2, 3, 1)
    np.testing.assert_allclose(model.predict(x, verbose=0), y.numpy(), atol=1e-5)
