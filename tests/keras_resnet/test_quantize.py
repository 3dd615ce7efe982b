"""Quantise-aware nets: their grids, gradients and files, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops

import keras_resnet
from keras_resnet.quantize import calibrate, quantize_aware
from keras_resnet.quantize.grid import (
    best_scales,
    exact_range,
    fake_quantized,
    fake_quantized_weights,
    rounded_bias,
    rounded_means,
    wide_enough,
)
from keras_resnet.quantize.layers import LARGEST
from keras_resnet.quantize.ranges import ActivationRange

TINY = keras_resnet.get_spec("cifar_resnet20").replace(depths=(1, 1), widths=(8, 16))
NETS = {
    "post": TINY,
    "pre": TINY.replace(order="pre", shortcut="B"),
    "se": TINY.replace(se_reduction=4, shortcut="B"),
    "d": TINY.replace(branch="bottleneck", stem="deep", shortcut="D", widths=(8, 8)),
    "grouped": TINY.replace(
        branch="bottleneck", groups=2, base_width=32, shortcut="B", merge="rezero", norm="none"
    ),
}
PREPROCESS = keras_resnet.PreprocessSpec((16, 16), (123.7, 116.3, 103.5), (58.4, 57.1, 57.4))


def _net(name: str) -> Any:
    """A net with norms and factors of no special values."""
    net = keras_resnet.build(NETS[name], classes=4, input_shape=(16, 16, 3), seed=1)
    rng = np.random.default_rng(0)
    for layer in net.layers:
        kind = type(layer).__name__
        if kind in ("BatchNormalization", "Scalar"):
            values = [rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()]
            layer.set_weights([value.astype("float32") for value in values])
    net.preprocess = PREPROCESS
    return net


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Images with structure, from dark to bright."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (48, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
    return np.clip(coarse + rng.integers(-20, 20, coarse.shape), 0, 255).astype("uint8")


def test_weights_lie_on_a_symmetric_grid() -> None:
    kernel = ops.convert_to_tensor(np.array([[-9.0, 0.26], [2.4, 0.24], [0.5, 8.0]], "float32"))
    scale = ops.convert_to_tensor(np.array([1.0, 0.5], "float32"))
    rounded = ops.convert_to_numpy(fake_quantized_weights(kernel, scale, 7))
    np.testing.assert_array_equal(rounded, [[-7.0, 0.5], [2.0, 0.0], [0.0, 3.5]])


def test_the_best_scale_clips_at_4_bits_only() -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 64, 2))
    largest = np.abs(kernel).reshape(-1, 2).max(axis=0)
    assert np.all(best_scales(kernel, 7) < 0.95 * largest / 7)
    assert np.all(best_scales(kernel, 127) > 0.95 * largest / 127)
    np.testing.assert_allclose(best_scales(np.zeros((1, 1, 2, 1)), 127), 1e-6 / 127, rtol=0.8)


def test_activations_have_256_values_and_an_exact_zero() -> None:
    x = ops.convert_to_tensor(np.linspace(-2, 4, 4001, dtype="float32"))
    y = ops.convert_to_numpy(fake_quantized(x, -1.0, 2.0))
    assert len(np.unique(y)) == 256
    assert 0.0 in y
    # The step is 3 / 255; zero is value 85 of 0..255, so the ends are those of the range.
    np.testing.assert_allclose([y.min(), y.max()], [-1.0, 2.0], rtol=2e-5)
    np.testing.assert_allclose(exact_range(-1.0, 2.0), [-1.0, 2.0], rtol=2e-5)
    # The zero of a range that does not fit is moved: step 0.1 / 255 * 11, value 23 of 255.
    assert exact_range(-0.1, 1.0) == pytest.approx((-0.09921569, 1.00078431), rel=2e-5)
    # An empty range, of a layer that is always zero, divides by no zero.
    assert abs(ops.convert_to_numpy(fake_quantized(x, 0.0, 0.0))).max() < 1e-5


def test_a_mean_halfway_is_rounded_away_from_zero_as_in_litert() -> None:
    """Range 0..255, so step 1 and zero point -128: pixel 127.5 is -0.5, rounded to -1."""
    x = ops.convert_to_tensor(np.array([0.25, 0.5, 127.5, 128.5, 200.5], "float32"))
    y = ops.convert_to_numpy(rounded_means(x, 0.0, 255.0))
    np.testing.assert_array_equal(y, [0.0, 0.0, 127.0, 129.0, 201.0])


def test_biases_are_multiples_of_both_steps_and_fit_into_32_bits() -> None:
    bias = ops.convert_to_tensor(np.array([1.03, 1e4], "float32"))
    scales = ops.convert_to_tensor(np.array([0.5, 1e-9], "float32"))
    wide = wide_enough(scales, bias, 0.1)
    assert float(wide[0]) == 0.5
    rounded = ops.convert_to_numpy(rounded_bias(bias, wide, 0.1))
    np.testing.assert_allclose(rounded, [1.05, 1e4], rtol=1e-6)
    assert 1e4 / (float(wide[1]) * 0.1) <= 2**30 * 1.001


def test_ranges_follow_for_some_steps_and_stay() -> None:
    """Momentum 1/2: the largest value goes half of the way to that of the batch, twice."""
    layer = ActivationRange(momentum=0.5, steps=2)
    x = ops.convert_to_tensor(np.array([-1.0, 3.0], "float32"))
    for expected in (1.5, 2.25, 2.25):
        layer(x, training=True)
        assert float(layer.maximum) == expected
    layer(4 * x, training=False)
    assert (float(layer.minimum), float(layer.seen)) == (-0.75, 2.0)


def test_the_extremes_of_batches_are_averaged(pixels: np.ndarray) -> None:
    net = quantize_aware(_net("post"))
    images = PREPROCESS.normalize(pixels)
    assert calibrate(net, [images[:16], images[16:32]]) == 32
    parts = [float(layer.maximum) for layer in net.layers if isinstance(layer, ActivationRange)]
    assert calibrate(net, images[:32], batch_size=32) == 32
    whole = [float(layer.maximum) for layer in net.layers if isinstance(layer, ActivationRange)]
    assert parts[0] == whole[0]  # the input's follows from the normalisation
    assert all(part <= one + 1e-5 for part, one in zip(parts, whole, strict=True))
    with pytest.raises(ValueError, match="Ranges are calibrated on images. Received: none"):
        calibrate(net, [])


@pytest.mark.parametrize(
    ("changes", "layer"),
    [
        ({"norm": "group", "widths": (32, 32)}, "GroupNormalization"),
        ({"eca": True}, "Conv1D"),
        ({"merge": "highway"}, "GatedSum"),
        ({"blur": 3, "shortcut": "B"}, "BlurPool"),
    ],
    ids=["group", "eca", "highway", "blur"],
)
def test_unsupported_layers_are_named(changes: dict[str, Any], layer: str) -> None:
    net = keras_resnet.build(TINY.replace(**changes), input_shape=(16, 16, 3), classes=4)
    with pytest.raises(ValueError, match=f"does not support: .*{layer}"):
        quantize_aware(net)
    with pytest.raises(ValueError, match="`bits` must be 8 or 4"):
        quantize_aware(net, bits=3)


@pytest.mark.tf
@pytest.mark.parametrize(
    ("name", "bits"), [("post", 8), ("pre", 8), ("se", 4), ("d", 8), ("grouped", 4)]
)
def test_the_file_equals_the_model_to_one_step(
    name: str, bits: int, pixels: np.ndarray, tmp_path: Path
) -> None:
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    net = quantize_aware(_net(name), bits=bits, calibration=PREPROCESS.normalize(pixels))
    path = tmp_path / "net.tflite"
    verification = keras_resnet.export.tflite(net, path, precision="int8", images=pixels)
    assert verification.operators.get("DEQUANTIZE", 0) == 0
    assert (verification.input.scale, verification.input.zero_point) == (1.0, 0)
    interpreter = interpreters.Interpreter(str(path))
    interpreter.allocate_tensors()
    given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = returned["quantization"]
    expected = ops.convert_to_numpy(net(PREPROCESS.normalize(pixels), training=False))
    steps = []
    for image, logits in zip(pixels, expected, strict=True):
        interpreter.set_tensor(given["index"], image[None])
        interpreter.invoke()
        found = (interpreter.get_tensor(returned["index"])[0].astype("float32") - zero) * scale
        steps.append(np.abs(found - logits).max() / scale)
    assert max(steps) < 1.01
    assert np.mean(np.array(steps) < 0.5) > 0.8
    kernels = [
        tensor
        for tensor in interpreter.get_tensor_details()
        if tensor["dtype"] == np.int8 and len(tensor["quantization_parameters"]["scales"]) > 1
    ]
    assert len(kernels) >= 5
    largest = [np.abs(interpreter.get_tensor(each["index"])).max() for each in kernels]
    assert largest.count(LARGEST[bits]) >= 3


@pytest.mark.tf
def test_a_file_returns_the_probabilities_of_several_labels(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    """The sigmoid was left out without a word, under the name `label_probabilities`."""
    pytest.importorskip("ai_edge_litert")
    from keras_resnet.export.runtimes import load

    net = quantize_aware(_net("post"), calibration=PREPROCESS.normalize(pixels))
    path = tmp_path / "net.tflite"
    options: dict[str, Any] = {"activation": "sigmoid", "output_type": "float32"}
    keras_resnet.export.tflite(net, path, precision="int8", images=pixels, **options)
    logits = ops.convert_to_numpy(net(PREPROCESS.normalize(pixels), training=False))
    np.testing.assert_allclose(load(path).run(pixels), 1 / (1 + np.exp(-logits)), atol=1.5 / 256)
