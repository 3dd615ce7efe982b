"""The custom layers against plain NumPy: values, shapes, layouts, configs, files."""

from __future__ import annotations

import itertools
import re

import keras
import numpy as np
import pytest

from keras_resnet import PadChannels
from keras_resnet.nets.layers import (
    BlurPool,
    DeltaOrthogonal,
    GatedSum,
    PadEdges,
    Scalar,
    StochasticDepth,
)

BACKEND = keras.backend.backend()


def _images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype("float32")


def _run(layer: keras.layers.Layer, *arguments, **options) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer(*arguments, **options))


def _copy(layer: keras.layers.Layer) -> keras.layers.Layer:
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    return copy


# Option A.


@pytest.mark.parametrize("height", [6, 7])
def test_pad_channels_is_option_a(height):
    x = _images(2, height, 8, 16)
    output = _run(PadChannels(32, 2), x)
    wanted = np.zeros((2, (height + 1) // 2, 4, 32), "float32")
    wanted[..., 8:24] = x[:, ::2, ::2]
    np.testing.assert_array_equal(output, wanted)


def test_pad_channels_puts_an_odd_zero_behind():
    x = np.ones((1, 2, 2, 2), "float32")
    output = _run(PadChannels(5), x)
    np.testing.assert_array_equal(output[0, 0, 0], [0, 1, 1, 0, 0])


def test_pad_channels_channels_first():
    keras.config.set_image_data_format("channels_first")
    x = _images(2, 4, 5, 7)
    layer = PadChannels(8, 2)
    wanted = np.zeros((2, 8, 3, 4), "float32")
    wanted[:, 2:6] = x[:, :, ::2, ::2]
    np.testing.assert_array_equal(_run(layer, x), wanted)
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


@pytest.mark.parametrize("space", [(7,), (5, 6, 4)], ids=["signals", "volumes"])
def test_pad_channels_of_signals_and_volumes(space):
    x = _images(2, *space, 3)
    every = (slice(None), *[slice(None, None, 2)] * len(space))
    kept = x[every]
    wanted = np.concatenate([np.zeros_like(kept), kept, np.zeros_like(kept)], axis=-1)
    layer = PadChannels(9, 2)
    np.testing.assert_array_equal(_run(layer, x), wanted)
    assert layer.compute_output_shape((None, *space, 3)) == (None, *wanted.shape[1:])


# The border of a max pool.


def _max_pool(x: np.ndarray) -> np.ndarray:
    """PyTorch's `max_pool(3, stride=2, padding=1)`: what lies outside is never the largest."""
    space = x.shape[1:-1]
    sizes = [(size - 1) // 2 + 1 for size in space]
    out = np.empty((len(x), *sizes, x.shape[-1]), x.dtype)
    for place in itertools.product(*map(range, sizes)):
        window = tuple(slice(max(0, 2 * at - 1), 2 * at + 2) for at in place)
        out[(slice(None), *place)] = x[(slice(None), *window)].max(tuple(range(1, x.ndim - 1)))
    return out


@pytest.mark.parametrize("space", [(8,), (7, 8), (4, 5, 6)], ids=["1d", "2d", "3d"])
def test_pad_edges_leaves_a_max_pool_to_its_pixels(space):
    x = -1 - np.abs(_images(2, *space, 3))
    padded = PadEdges()(x)
    assert tuple(padded.shape) == (2, *(size + 2 for size in space), 3)
    pool = getattr(keras.layers, f"MaxPooling{len(space)}D")(3, 2)
    np.testing.assert_array_equal(_run(pool, padded), _max_pool(x))


def test_pad_edges_channels_first_and_shape():
    keras.config.set_image_data_format("channels_first")
    layer = PadEdges(name="border")
    x = _images(2, 3, 4, 5)
    wanted = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    np.testing.assert_array_equal(_run(layer, x), wanted)
    assert layer.compute_output_shape((None, 3, 4, None)) == (None, 3, 6, None)
    keras.config.set_image_data_format("channels_last")
    layer = _copy(PadEdges(name="border"))
    assert layer.compute_output_shape((None, 4, None, 3)) == (None, 6, None, 3)
    assert layer(keras.Input((4, None, 3))).shape == (None, 6, None, 3)


# Low-pass filter.

TAPS = {3: np.array([1, 2, 1]) / 4, 5: np.array([1, 4, 6, 4, 1]) / 16}


def _blur(x: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Filters each axis in turn over mirrored borders (`d c b | a b c d | c b a`)."""
    x = x.astype("float64")
    for axis in range(1, x.ndim - 1):
        length = x.shape[axis]
        total = 0.0
        for offset, weight in zip(range(-(size // 2), size // 2 + 1), TAPS[size], strict=True):
            places = np.abs(np.arange(0, length, stride) + offset)
            places = np.where(places < length, places, 2 * (length - 1) - places)
            total = total + weight * x.take(places, axis)
        x = total
    return x


@pytest.mark.parametrize("space", [(8,), (9,), (8, 9), (7, 6)], ids=str)
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_blur_pool(space, size, stride):
    x = _images(2, *space, 3)
    layer = BlurPool(size, stride)
    wanted = _blur(x, size, stride)
    assert layer.compute_output_shape(x.shape) == wanted.shape
    np.testing.assert_allclose(_run(layer, x), wanted, atol=1e-6)


def test_blur_pool_spreads_a_pixel():
    x = np.zeros((1, 5, 5, 1), "float32")
    x[0, 2, 2] = 16
    wanted = [[0, 0, 0, 0, 0], [0, 1, 2, 1, 0], [0, 2, 4, 2, 0], [0, 1, 2, 1, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(_run(BlurPool(3, 1), x)[0, ..., 0], wanted)


def test_blur_pool_channels_first():
    keras.config.set_image_data_format("channels_first")
    layer = BlurPool(3, 2)
    assert layer.compute_output_shape((None, 3, 7, None)) == (None, 3, 4, None)
    assert layer(keras.Input((3, 7, 8))).shape == (None, 3, 4, 4)
    if BACKEND == "tensorflow":
        return  # no channels-first convolutions on TensorFlow's CPU
    x = _images(2, 3, 7, 8)
    wanted = _blur(x.transpose(0, 2, 3, 1), 3, 2).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(_run(layer, x), wanted, atol=1e-6)


def test_blur_pool_knows_its_shape_and_config():
    layer = _copy(BlurPool(5, 2, name="blur", dtype="float16"))
    assert (layer.size, layer.stride, layer.name) == (5, 2, "blur")
    assert layer.compute_output_shape((None, 7, None, 3)) == (None, 4, None, 3)
    assert layer(keras.Input((None, None, 3))).shape == (None, None, None, 3)
    assert not layer.weights


def test_blur_pool_refuses():
    with pytest.raises(ValueError, match=re.escape("`size` must be 3 or 5. Received: size=4")):
        BlurPool(4)
    message = "one or two space axes. Received: input shape (None, 4, 4, 4, 1)"
    with pytest.raises(ValueError, match=re.escape(message)):
        BlurPool()(keras.Input((4, 4, 4, 1)))


# Stochastic depth.


def test_stochastic_depth_does_nothing_in_inference():
    x = _images(4, 3, 3, 2)
    layer = StochasticDepth(0.5, seed=1)
    np.testing.assert_array_equal(_run(layer, x), x)
    np.testing.assert_array_equal(_run(layer, x, training=False), x)
    np.testing.assert_array_equal(_run(StochasticDepth(0.0, seed=1), x, training=True), x)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_stochastic_depth_drops_whole_examples(rate):
    x = 1 + np.abs(_images(4000, 2, 3))
    output = _run(StochasticDepth(rate, seed=3), x, training=True)
    dropped = (output == 0).reshape(4000, -1)
    assert (dropped.all(1) == dropped.any(1)).all()
    kept = ~dropped.any(1)
    np.testing.assert_allclose(output[kept], x[kept] / (1 - rate), rtol=1e-6)
    # Four deviations of a binomial's share: the expectation is the input.
    allowed = 4 * np.sqrt(rate * (1 - rate) / 4000)
    assert kept.mean() == pytest.approx(1 - rate, abs=allowed)


def test_stochastic_depth_draws_anew():
    x = np.ones((64, 1), "float32")

    def draws(seed: int) -> list[tuple[float, ...]]:
        layer = StochasticDepth(0.5, seed=seed)
        return [tuple(_run(layer, x, training=True)[:, 0]) for _ in range(5)]

    one = draws(1)
    assert len(set(one)) == 5
    assert draws(1) == one
    # Keras on PyTorch adds seed and count: neighbouring seeds share draws, each at its own time.
    assert not set(draws(100)) & set(one)


def test_stochastic_depth_config_and_rates():
    layer = _copy(StochasticDepth(0.25, seed=7, name="drop"))
    assert (layer.rate, layer.seed, layer.name) == (0.25, 7, "drop")
    assert layer(keras.Input((4, None, 3))).shape == (None, 4, None, 3)
    assert not layer.trainable_weights
    for rate in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=re.escape(f"[0, 1). Received: rate={rate}")):
            StochasticDepth(rate)


# Learned numbers and gates.


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 3), (2, 4, 5, 3), (2, 2, 3, 4, 3)], ids=str)
def test_scalar(shape):
    x = _images(*shape)
    times, plus = Scalar("multiply", 0.5), Scalar("add", -2.0)
    np.testing.assert_array_equal(_run(times, x), x * np.float32(0.5))
    np.testing.assert_array_equal(_run(plus, x), x - np.float32(2))
    times.set_weights([np.array([3.0])])
    np.testing.assert_array_equal(_run(times, x), x * np.float32(3))
    assert times.count_params() == 1
    assert times.compute_output_shape((None, *shape[1:])) == (None, *shape[1:])


def test_scalar_config_and_errors():
    layer = _copy(Scalar("add", 0.25, name="bias"))
    assert (layer.operation, layer.initial, layer.name) == ("add", 0.25, "bias")
    message = "`operation` must be 'multiply' or 'add'. Received: operation='divide'"
    with pytest.raises(ValueError, match=re.escape(message)):
        Scalar("divide", 1.0)


def test_gated_sum():
    shortcut, branch = _images(2, 4, 3), 3 * _images(2, 4, 3)[::-1]
    gate = np.random.default_rng(2).uniform(size=(2, 4, 3)).astype("float32")
    output = _run(_copy(GatedSum()), [shortcut, branch, gate])
    np.testing.assert_allclose(output, gate * branch + (1 - gate) * shortcut, atol=1e-6)
    message = "GatedSum takes [shortcut, branch, gate] of one shape. Received: shapes [(2, 4, 3), "
    with pytest.raises(ValueError, match=re.escape(message + "(2, 4, 3)]")):
        GatedSum()([shortcut, branch])
    with pytest.raises(ValueError, match=re.escape(message + "(2, 4, 3), (2, 4, 1)]")):
        GatedSum()([shortcut, branch, gate[..., :1]])


# Initial kernels.


@pytest.mark.parametrize(
    "shape", [(3, 3, 6, 6), (3, 3, 4, 10), (5, 8, 8), (3, 3, 3, 2, 6)], ids=str
)
def test_delta_orthogonal(shape):
    kernel = keras.ops.convert_to_numpy(DeltaOrthogonal(seed=4)(shape))
    assert kernel.shape == shape
    centre = tuple(size // 2 for size in shape[:-2])
    matrix = kernel[centre].copy()
    # Rows are orthogonal and of length sqrt(2): every pixel's norm grows by that factor.
    np.testing.assert_allclose(matrix @ matrix.T, 2 * np.eye(shape[-2]), atol=1e-5)
    x = _images(5, shape[-2])
    lengths = np.linalg.norm(x @ matrix, axis=1) / np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(lengths, np.sqrt(2), rtol=1e-5)
    kernel[centre] = 0
    assert not kernel.any()


def test_delta_orthogonal_with_fewer_outputs_has_orthogonal_columns():
    matrix = keras.ops.convert_to_numpy(DeltaOrthogonal(1.0, seed=4)((1, 1, 6, 4)))[0, 0]
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(4), atol=1e-5)


def test_delta_orthogonal_seeds_and_config():
    def draw(initializer: DeltaOrthogonal) -> np.ndarray:
        return keras.ops.convert_to_numpy(initializer((3, 3, 4, 4)))

    one = DeltaOrthogonal(1.5, seed=2)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
    assert type(copy) is DeltaOrthogonal
    assert copy.get_config() == {"gain": 1.5, "seed": 2}
    np.testing.assert_array_equal(draw(copy), draw(one))
    assert not np.allclose(draw(one), draw(DeltaOrthogonal(1.5, seed=3)))


# Files.


def test_every_layer_survives_a_keras_file(tmp_path):
    inputs = keras.Input((8, 8, 2))
    conv = keras.layers.Conv2D(3, 3, padding="same", kernel_initializer=DeltaOrthogonal(seed=1))
    x = PadEdges()(Scalar("add", 0.5)(conv(inputs)))
    x = BlurPool(3)(keras.layers.MaxPooling2D(3, 1)(x))
    x = PadChannels(5)(StochasticDepth(0.5, seed=1)(x))
    gate = keras.layers.Activation("sigmoid")(x)
    model = keras.Model(inputs, GatedSum()([x, Scalar("multiply", -1.0)(x), gate]))
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert loaded.output_shape == (None, 4, 4, 5)
    images = _images(2, 8, 8, 2)
    output, wanted = _run(loaded, images), _run(model, images)
    assert wanted.std() > 0.1
    np.testing.assert_array_equal(output, wanted)
