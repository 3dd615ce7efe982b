"""Fine-tuning: frozen layers do not change by a bit, adapted nets respond as before."""

from __future__ import annotations

import functools
import re

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec, ResNetSpec, build
from keras_resnet.finetune import (
    freeze,
    freeze_norms,
    unfreeze,
    with_classes,
    with_input_channels,
)

SPEC = ResNetSpec("net", (1, 2), (4, 6), stem="cifar", classes=3, input_size=8)
IMAGENET = PreprocessSpec((8, 8), (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def _images(*shape: int, seed: int = 0) -> np.ndarray:
    # Far from the initial statistics, 0 and 1, so that a norm that moves is seen to move.
    return np.random.default_rng(seed).normal(2, 3, shape).astype("float32")


def _run(model: keras.Model, x: np.ndarray, training: bool = False) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(x), training=training))


def _fit(model: keras.Model) -> dict[str, bool]:
    """Trains two steps; returns for each layer with weights whether any of them has changed."""
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    # Momentum and decay would move weights without a gradient.
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=1e-2)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, run_eagerly=True)  # two steps cost less than a trace
    labels = np.arange(8) % model.output_shape[-1]
    for seed in (0, 1):
        model.train_on_batch(_images(8, 8, 8, 3, seed=seed), labels)
    return {
        name: any(
            not np.array_equal(old, new)
            for old, new in zip(values, model.get_layer(name).get_weights(), strict=True)
        )
        for name, values in before.items()
    }


@functools.cache
def _built(spec: ResNetSpec, **form: object) -> tuple[keras.Model, list[np.ndarray]]:
    model = build(spec, seed=0, **form)
    rng = np.random.default_rng(1)
    return model, [w + rng.uniform(0.05, 0.3, w.shape) for w in model.get_weights()]


def _trained(spec: ResNetSpec = SPEC, **form: object) -> keras.Model:
    """A net with other weights and statistics than a new one; built once, reset at each call."""
    model, weights = _built(spec, **form)
    for layer in (model, *model.layers):
        layer.trainable = True
    model.set_weights(weights)
    model.preprocess = None
    return model


@pytest.mark.parametrize(
    ("through", "order"), [(0, "post"), (1, "pre"), (2, "pre"), ("all", "post"), ("all", "pre")]
)
def test_what_is_frozen_stays_to_the_bit_and_the_rest_learns(through, order):
    model = _trained(SPEC.replace(order=order))
    assert freeze(model, through) is model
    prefixes = ("stem", "stage1", "stage2")[: 3 if through == "all" else through + 1]
    prefixes += ("final",) if through in (2, "all") else ()
    moved = _fit(model)
    assert {name for name, moves in moved.items() if not moves} == {
        name for name in moved if name.startswith(prefixes)
    }
    assert moved["logits"]


def test_frozen_norms_infer_under_training():
    model = _trained()
    x = _images(8, 8, 8, 3)
    assert np.abs(_run(model, x, training=True) - _run(model, x)).max() > 0.1
    freeze(model)
    before = model.get_weights()
    np.testing.assert_array_equal(_run(model, x, training=True), _run(model, x))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_freezing_adds_up_and_unfreezing_takes_back():
    model = _trained()
    variables = len(model.trainable_weights)
    freeze(freeze(model, 1), 0)
    frozen = {layer.name for layer in model.layers if not layer.trainable}
    assert {name.split("_")[0] for name in frozen} == {"stem", "stage1"}
    assert len(model.trainable_weights) < variables
    assert all(layer.trainable for layer in unfreeze(model).layers)
    moved = _fit(model)
    assert all(moved.values())


def test_frozen_norms_alone():
    model = _trained()
    assert freeze_norms(model) is model
    norms = {layer.name for layer in model.layers if "norm" in layer.name}
    assert len(norms) == 8
    assert {name for name, moves in _fit(model).items() if not moves} == norms


def test_unfreezing_all_but_the_norms():
    model = unfreeze(freeze(_trained()), norms=False)
    kept = {layer.name for layer in model.layers if not layer.trainable}
    assert kept == {layer.name for layer in model.layers if "norm" in layer.name}


def test_norms_of_nested_models():
    inputs = keras.Input((8, 8, 3))
    net = build(SPEC, include_top=False, pooling="avg")
    model = keras.Model(inputs, keras.layers.Dense(2)(net(inputs)))
    freeze_norms(model)
    assert not net.get_layer("stem_norm").trainable
    assert net.get_layer("stem_conv").trainable
    unfreeze(model)
    assert net.get_layer("stem_norm").trainable


@pytest.mark.parametrize("through", [-1, 3, True, 1.0])
def test_no_such_stage(through):
    message = rf"`through` must be 'all', a layer or a stage of net, 0 \(the stem\) to 2.*{through}"
    with pytest.raises(ValueError, match=message):
        freeze(_trained(), through)


def test_models_of_others_are_refused():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.ReLU()(inputs))
    for call in (freeze, lambda m: with_classes(m, 3), lambda m: with_input_channels(m, 1)):
        with pytest.raises(TypeError, match="must be a net made by `build`. Received: Functional"):
            call(model)


# Classes.


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        ({}, {}),
        ({}, {"classifier_activation": "softmax"}),
        ({}, {"include_top": False}),
        ({"order": "pre"}, {"include_top": False, "pooling": "max"}),
        ({}, {"features": True}),
        ({}, {"input_shape": (None, 12, 2)}),
        ({"norm": "fixup"}, {}),
        ({"norm": "fixup"}, {"include_top": False}),
    ],
    ids=str,
)
def test_another_head_on_the_same_body(changes, form):
    model = _trained(SPEC.replace(**changes), **form)
    model.preprocess = IMAGENET
    twin = with_classes(model, 7, seed=3)
    assert twin.output_shape == (None, 7)
    assert twin.preprocess == IMAGENET
    assert twin.spec == model.spec
    assert ("predictions" in {layer.name for layer in twin.layers}) == bool(
        form.get("classifier_activation")
    )
    head = ("logits", "predictions")
    body = [each for each in model.layers if each.weights and not each.name.startswith(head)]
    assert len(body) > 5
    for layer in body:
        for old, new in zip(
            layer.get_weights(), twin.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(old, new)
    if not form and not changes:
        again = with_classes(model, 7, seed=3).get_layer("logits").get_weights()
        np.testing.assert_array_equal(again[0], twin.get_layer("logits").get_weights()[0])
    # Its own weights: the net that it came from does not follow.
    twin.set_weights([value * 0 for value in twin.get_weights()])
    assert any(np.abs(value).max() > 0.01 for value in model.get_weights())


def test_frozen_body_and_new_head():
    model = freeze(with_classes(_trained(), 5))
    moved = _fit(model)
    assert {name for name, moves in moved.items() if moves} == {"logits"}


def test_some_stages_are_no_net():
    model = build(SPEC, features=("C2",))
    with pytest.raises(ValueError, match="'stage2_unit1_conv1' in the source"):
        with_classes(model, 4)
    with pytest.raises(ValueError, match="`classes` must be a positive integer.*classes=0"):
        with_classes(_trained(), 0)


# Input channels.

STEMS = {
    "cifar": SPEC,
    "imagenet": SPEC.replace(stem="imagenet"),
    "deep": SPEC.replace(stem="deep"),
    "bias": SPEC.replace(conv_bias=True),
    "unit": SPEC.replace(stem="unit", branch="repvgg"),
    "bare": SPEC.replace(order="pre", stem_activation=False),
    "fixup": SPEC.replace(norm="fixup"),
}


@pytest.mark.parametrize(
    ("stem", "channels", "method"),
    [
        *(("cifar", 1, method) for method in ("repeat", "mean")),
        ("cifar", 2, "mean"),
        ("imagenet", 5, "mean"),
        *((stem, 6, "repeat") for stem in STEMS),
    ],
)
def test_images_of_equal_channels_are_answered_as_before(stem, channels, method):
    model = _trained(STEMS[stem], input_shape=(16, 16, 3))
    twin = with_input_channels(model, channels, method=method)
    assert twin.input_shape == (None, 16, 16, channels)
    gray = _images(3, 16, 16, 1)
    wanted = _run(model, np.repeat(gray, 3, -1))
    assert np.abs(wanted - wanted[:1]).max() > 1e-2
    given = _run(twin, np.repeat(gray, channels, -1))
    assert np.abs(given - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_the_kernels_are_those_of_timm():
    model = _trained()
    kernel = model.get_layer("stem_conv").get_weights()[0]
    five = with_input_channels(model, 5)
    adapted = five.get_layer("stem_conv").get_weights()[0]
    wanted = np.concatenate([kernel, kernel[:, :, :2]], axis=2) * 3 / 5
    np.testing.assert_allclose(adapted, wanted, rtol=1e-6)
    one = with_input_channels(model, 1).get_layer("stem_conv").get_weights()[0]
    np.testing.assert_allclose(one, kernel.sum(2, keepdims=True), rtol=1e-5)
    for layer in model.layers:
        if layer.name != "stem_conv" and layer.weights:
            twin = five.get_layer(layer.name)
            for old, new in zip(layer.get_weights(), twin.get_weights(), strict=True):
                np.testing.assert_array_equal(old, new)


def test_the_same_number_of_channels_is_a_copy():
    model = _trained()
    model.preprocess = PreprocessSpec((8, 8), (1.0, 2.0, 3.0), (1.0, 1.0, 1.0), "bgr")
    twin = with_input_channels(model, 3)
    assert twin.preprocess == model.preprocess
    for old, new in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_form_of_net():
    model = _trained(features=True, input_shape=(8, 8, 3))
    twin = with_input_channels(model, 4)
    assert list(twin.output) == ["C2", "C3"]
    signals = _trained(dims=1, input_shape=(16, 2))
    assert with_input_channels(signals, 1).input_shape == (None, 16, 1)


def test_preprocessing_goes_along():
    model = _trained()
    model.preprocess = IMAGENET
    gray = with_input_channels(model, 1).preprocess
    assert gray.mean == pytest.approx((114.495,))
    assert gray.std == pytest.approx((57.63,))
    five = with_input_channels(model, 5).preprocess
    assert five.mean == (*IMAGENET.mean, 123.675, 116.28)
    assert five.std == (*IMAGENET.std, 58.395, 57.12)
    assert with_input_channels(model, 2, method="mean").preprocess.mean == pytest.approx(
        (114.495, 114.495)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), "uint8")
    difference = gray.normalize(pixels) - IMAGENET.normalize(np.repeat(pixels, 3, -1))
    assert 0.15 < np.abs(difference).max() < 0.21
    model.preprocess = None
    assert not with_input_channels(model, 1).preprocess


@pytest.mark.parametrize("mean", [(127.5,), (127.5,) * 3])
def test_gray_pixels_give_what_their_threefold_copy_gave(mean):
    model = _trained()
    model.preprocess = PreprocessSpec((8, 8), mean, mean)
    twin = with_input_channels(model, 1)
    assert twin.preprocess.mean == (127.5,)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), "uint8")
    wanted = _run(model, model.preprocess.normalize(np.repeat(pixels, 3, -1)))
    given = _run(twin, twin.preprocess.normalize(pixels))
    np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-5)


def test_a_net_of_bgr_takes_channels_in_the_images_order():
    """RGB and a fourth channel: red must meet the kernel and the mean that were red's."""
    model = _trained()
    model.preprocess = PreprocessSpec((8, 8), (10.0, 20.0, 30.0), (1.0, 1.0, 1.0), "bgr")
    twin = with_input_channels(model, 4)
    assert twin.preprocess.channel_order == "rgb"
    assert twin.preprocess.mean == (30.0, 20.0, 10.0, 30.0)
    kernel = model.get_layer("stem_conv").get_weights()[0][:, :, ::-1]
    adapted = twin.get_layer("stem_conv").get_weights()[0]
    np.testing.assert_allclose(adapted[:, :, :3], kernel * 3 / 4, rtol=1e-6)
    model.preprocess = PreprocessSpec((8, 8), (5.0,), (2.0,), "bgr")
    assert with_input_channels(model, 4).preprocess == PreprocessSpec((8, 8), (5.0,), (2.0,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "repeat"), "`channels` must be a positive integer. Received: channels=0"),
        ((True, "repeat"), "`channels` must be a positive integer. Received: channels=True"),
        ((1, "luma"), "`method` must be 'repeat' or 'mean'. Received: method='luma'"),
    ],
)
def test_wrong_channels(arguments, message):
    channels, method = arguments
    with pytest.raises(ValueError, match=re.escape(message)):
        with_input_channels(_trained(), channels, method=method)


@pytest.mark.parametrize(
    ("own", "others"), [("float32", "mixed_bfloat16"), ("mixed_bfloat16", "float32")]
)
def test_an_adapted_net_keeps_its_own_precision(own: str, others: str) -> None:
    """Keras's global policy, set for another model meanwhile, is none of its business."""
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(own)
        model = build(SPEC)
        keras.config.set_dtype_policy(others)
        adapted = with_classes(model, 5)
        assert keras.config.dtype_policy().name == others
    finally:
        keras.config.set_dtype_policy(before)
    policies = [
        {layer.name: layer.dtype_policy.name for layer in net.layers} for net in (model, adapted)
    ]
    assert policies[0] == policies[1]
    assert policies[1]["stem_conv"] == own
