"""Grad-CAM and features: against the formulas in NumPy, in nests and in pictures."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_resnet

SPEC = keras_resnet.get_spec("cifar_resnet8").replace(name="tiny", widths=(4, 8, 8))
SHAPE = (16, 16, 3) if keras.config.image_data_format() == "channels_last" else (3, 16, 16)


@pytest.fixture(scope="module")
def net():
    net = keras_resnet.build(SPEC, classes=5, input_shape=SHAPE, seed=0)
    kernel = np.random.default_rng(1).normal(size=(8, 5))
    net.get_layer("logits").set_weights([kernel, np.zeros(5)])
    return net


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).normal(size=(3, *SHAPE)).astype("float32")


def by_hand(maps, kernel, classes, size):
    """Grad-CAM behind average pooling: the gradient of a logit is its column of the kernel."""
    heat = []
    for each, chosen in zip(maps, classes, strict=True):
        weights = kernel[:, chosen] / (each.shape[0] * each.shape[1])
        small = np.maximum((each * weights).sum(-1), 0)
        centres = (np.arange(size) + 0.5) * small.shape[0] / size - 0.5
        rows = np.stack([np.interp(centres, np.arange(len(r)), r) for r in small])
        full = np.stack([np.interp(centres, np.arange(len(c)), c) for c in rows.T]).T
        heat.append(full / full.max() if full.max() > 0 else full)
    return np.stack(heat)


def test_equals_the_formula(net, images):
    maps = keras_resnet.features(net, images, "C4")
    assert maps.shape == (3, 4, 4, 8)
    kernel = net.get_layer("logits").get_weights()[0]
    best = keras.ops.convert_to_numpy(net(images)).argmax(-1)
    heat = keras_resnet.gradcam(net, images)
    assert (heat.shape, heat.dtype) == ((3, 16, 16), np.float32)
    np.testing.assert_allclose(heat, by_hand(maps, kernel, best, 16), atol=1e-5)
    assert heat.max() == 1
    assert heat.min() >= 0
    np.testing.assert_allclose(
        keras_resnet.gradcam(net, images, classes=[0, 4, 2]),
        by_hand(maps, kernel, [0, 4, 2], 16),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        keras_resnet.gradcam(net, images, "C4", classes=3),
        by_hand(maps, kernel, [3, 3, 3], 16),
        atol=1e-5,
    )
    early = keras_resnet.gradcam(net, images, "stage1_unit1_out")
    assert early.shape == (3, 16, 16)
    assert np.abs(early - heat).max() > 0.01


def test_gradient_of_an_earlier_layer(images):
    """The weights of the channels equal finite differences of the logit."""
    inputs = keras.Input(SHAPE)
    x = keras.layers.Conv2D(2, 3, activation="relu", name="map")(inputs)
    x = keras.layers.Flatten()(keras.layers.Conv2D(3, 5, strides=4, activation="tanh")(x))
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    map_, tail = model.get_layer("map"), model.layers[2:]
    maps = keras.ops.convert_to_numpy(map_(images[:1]))

    def logit(maps):
        for layer in tail:
            maps = layer(maps)
        return float(keras.ops.convert_to_numpy(maps)[0, 1])

    step, weights = 0.05, []
    for channel in range(2):
        # The mean of the gradient over the positions: the slope of a shift of the whole channel.
        shift = np.zeros_like(maps)
        shift[..., channel] = step
        weights.append(
            (logit(maps + shift) - logit(maps - shift)) / (2 * step) / maps[0, ..., 0].size
        )
    heat = keras_resnet.gradcam(model, images[:1], "map", classes=1)[0]
    expected = by_hand(maps, np.array([weights]).T, [0], 16)[0]
    assert expected.max() == 1
    np.testing.assert_allclose(heat, expected, atol=0.02)


def test_probabilities_and_nests_give_the_map_of_the_logits(net, images):
    expected = keras_resnet.gradcam(net, images)
    dense = keras.layers.Dense(5, activation="softmax")
    forms = {
        "activation": [net, keras.layers.Activation("softmax")],
        "softmax": [net, keras.layers.Softmax()],
        "sequential": [keras.layers.Rescaling(1.0), net, keras.layers.Softmax()],
    }
    for name, layers in forms.items():
        app = keras.Sequential([keras.Input(SHAPE), *layers])
        np.testing.assert_allclose(
            keras_resnet.gradcam(app, images), expected, atol=1e-5, err_msg=name
        )
    # A headless net in a functional app, with a classifier of the app's own.
    backbone = keras_resnet.build(
        SPEC, include_top=False, pooling="avg", input_shape=SHAPE, name="backbone"
    )
    for layer in backbone.layers[1:]:  # the inputs have the names of their models
        layer.set_weights(net.get_layer(layer.name).get_weights())
    inputs = keras.Input(SHAPE)
    app = keras.Model(inputs, dense(backbone(keras.layers.Rescaling(0.5)(inputs))))
    dense.set_weights(net.get_layer("logits").get_weights())
    before = keras.ops.convert_to_numpy(app(2 * images))
    for layer in (None, "C4", "stage3_unit1_out"):
        np.testing.assert_allclose(
            keras_resnet.gradcam(app, 2 * images, layer), expected, atol=1e-5
        )
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(app(2 * images)), before)
    assert dense.activation is keras.activations.softmax
    np.testing.assert_allclose(
        keras_resnet.features(app, 2 * images, "pool", batch_size=2),
        keras_resnet.features(net, images),
        atol=1e-5,
    )


def test_signals_and_statistics():
    net = keras_resnet.build(SPEC, dims=1, classes=2, input_shape=(32, 3), seed=0)
    before = [np.array(weight) for weight in net.get_weights()]
    assert keras_resnet.gradcam(net, np.ones((2, 32, 3))).shape == (2, 32)
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_features(net, images):
    pooled = keras_resnet.features(net, images, batch_size=2)
    assert (pooled.shape, pooled.dtype) == ((3, 8), np.float32)
    maps = keras_resnet.features(net, images, "C4")
    np.testing.assert_allclose(pooled, maps.mean((1, 2)), atol=1e-6)
    assert keras_resnet.features(net, images, "C2").shape == (3, 16, 16, 4)
    headless = keras_resnet.build(SPEC, include_top=False, input_shape=SHAPE, seed=0)
    np.testing.assert_allclose(keras_resnet.features(headless, images), pooled, atol=1e-6)
    levels = keras_resnet.build(SPEC, features=["C3", "C4"], input_shape=SHAPE, seed=0)
    np.testing.assert_allclose(keras_resnet.features(levels, images), pooled, atol=1e-6)
    stacked = keras_resnet.build(SPEC, classes=5, stacked=True, input_shape=SHAPE, seed=0)
    np.testing.assert_allclose(keras_resnet.features(stacked, images), pooled, atol=1e-6)


def test_overlay(net, tmp_path):
    image = pytest.importorskip("PIL.Image", reason="writing pictures needs Pillow")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3)).astype("uint8")
    with pytest.raises(ValueError, match="'tiny' has no `preprocess`: pass the preprocessed"):
        keras_resnet.gradcam_overlay(net, pixels)
    spec = keras_resnet.PreprocessSpec((16, 16), (127.5,), (127.5,))
    net.preprocess = spec
    try:
        path = tmp_path / "cam.png"
        pictures = keras_resnet.gradcam_overlay(net, pixels, path)
    finally:
        net.preprocess = None
    assert (pictures.shape, pictures.dtype) == ((2, 16, 16, 3), np.uint8)
    with image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.concatenate(list(pictures), 1))
    inputs = spec(pixels)
    heat = keras_resnet.gradcam(net, inputs)
    red, blue = np.argwhere(heat[0] == 1)[0], np.argwhere(heat[0] == 0)
    colours = keras_resnet.gradcam_overlay(net, spec.fit(pixels), inputs=inputs, opacity=1.0)[0]
    assert colours[tuple(red)].tolist() == [128, 0, 0]
    assert len(blue)
    assert colours[tuple(blue[0])].tolist() == [0, 0, 128]
    whole = keras_resnet.gradcam_overlay(net, pixels, inputs=inputs, opacity=0)
    np.testing.assert_array_equal(whole, pixels)
    with pytest.raises(ValueError, match="Received: 1 inputs and 2 images"):
        keras_resnet.gradcam_overlay(net, pixels, inputs=inputs[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "C9"}, "'tiny' has no level or layer 'C9'. "),
        ({"layer": "logits"}, "must name a layer whose output has channels and positions"),
        ({"classes": 5}, r"`classes` must lie in 0..4. Received: classes=5"),
        ({"classes": [1, 2]}, r"one per image \(3\). Received: classes=\[1, 2\]"),
        ({"images": np.zeros((1, 8, 8, 3))}, r"Received: shape \(1, 8, 8, 3\)"),
    ],
)
def test_wrong_arguments(net, images, arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_resnet.gradcam(net, **{"images": images, **arguments})


def test_wrong_models(net, images):
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match="must be a functional model.*Received: Own"):
        keras_resnet.gradcam(Own(), images)
    headless = keras_resnet.build(SPEC, include_top=False, input_shape=SHAPE)
    with pytest.raises(ValueError, match=r"one output, \(batch, classes\).*\(None, 4, 4, 8\)"):
        keras_resnet.gradcam(headless, images)
    app = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="It holds no nets of this package: give a layer's name"):
        keras_resnet.features(app, images)
    with pytest.raises(ValueError, match="has no layer with channels and positions"):
        keras_resnet.gradcam(app, images)
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer"):
        keras_resnet.features(net, images, batch_size=0)
