"""`PreprocessSpec` against literal values, and keras.applications' functions for images."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec, decode_predictions, preprocess_input
from keras_resnet.weights import preprocess_spec

PIXEL = np.array([[[0, 128, 255]]], "uint8")


def test_default_leaves_the_pixels():
    output = PreprocessSpec((1, 1)).normalize(PIXEL)
    assert output.dtype == np.float32
    np.testing.assert_array_equal(output, [[[0, 128, 255]]])


def test_caffe():
    """BGR minus the mean: keras.applications v1."""
    spec = PreprocessSpec(
        (1, 1), mean=(103.939, 116.779, 123.68), std=(1, 1, 1), channel_order="bgr"
    )
    wanted = [[[255 - 103.939, 128 - 116.779, -123.68]]]
    np.testing.assert_allclose(spec.normalize(PIXEL), wanted, rtol=1e-6)
    theirs = keras.applications.resnet.preprocess_input(PIXEL[None].astype("float32"))
    np.testing.assert_allclose(spec.normalize(PIXEL[None]), theirs, rtol=1e-6)


def test_mean_and_std_in_pixel_values():
    """As torchvision's weights want it, whose mean and std are fractions of 255."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    spec = PreprocessSpec((1, 1), mean=tuple(255 * mean), std=tuple(255 * std))
    wanted = (PIXEL / 255 - mean) / std
    np.testing.assert_allclose(spec.normalize(PIXEL), wanted, rtol=1e-5)


def test_one_number_serves_all_channels():
    spec = PreprocessSpec((1, 1), mean=(127.5,), std=(127.5,))
    np.testing.assert_allclose(spec.normalize(PIXEL), [[[-1, 0.5 / 127.5, 1]]], rtol=1e-5)


def test_tensors_give_tensors_of_equal_value():
    spec = PreprocessSpec((4, 4), mean=(1, 2, 3), std=(4, 5, 6), channel_order="bgr")
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("uint8")
    output = spec.normalize(keras.ops.convert_to_tensor(images))
    assert keras.ops.is_tensor(output)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(output), spec.normalize(images), rtol=1e-6, atol=1e-6
    )


def test_works_inside_a_model():
    spec = PreprocessSpec((4, 4), mean=(1, 2, 3), std=(4, 5, 6))
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(inputs, spec.normalize(inputs))
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3)).astype("uint8")
    output = model.predict(images, verbose=0)
    np.testing.assert_allclose(output, spec.normalize(images), rtol=1e-6, atol=1e-6)


def test_leaves_its_input_alone():
    images = PIXEL.astype("float32")
    PreprocessSpec((1, 1), mean=(3.0,), std=(2.0,)).normalize(images)
    np.testing.assert_array_equal(images, PIXEL)


def test_survives_json():
    spec = PreprocessSpec(
        [32, 48],
        mean=[1, 2, 3],
        std=[4, 5, 6],
        channel_order="bgr",
        crop_fraction=0.875,
        interpolation="bicubic",
    )
    assert spec.size == (32, 48)
    assert PreprocessSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert hash(spec) == hash(PreprocessSpec.from_dict(spec.to_dict()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (32,)}, "from 1 to 65536. Received: size=(32,)"),
        ({"size": (32, 0)}, "from 1 to 65536. Received: size=(32, 0)"),
        (
            {"size": (64.5, 64)},
            "whole numbers of pixels from 1 to 65536. Received: size=(64.5",
        ),
        ({"size": (10**9, 64)}, "from 1 to 65536. Received: size=(1000000000, 64)"),
        ({"size": (True, 1)}, "`size` must hold finite numbers. Received: size=(True, 1)"),
        ({"size": None}, "`size` must be (height, width). Received: size=None"),
        ({"size": 224}, "`size` must be (height, width). Received: size=224"),
        ({"mean": "abc"}, "`mean` must hold finite numbers. Received: mean='abc'"),
        ({"mean": ("1",)}, "`mean` must hold finite numbers. Received: mean=('1',)"),
        ({"std": (float("nan"),)}, "`std` must hold finite numbers. Received: std=(nan,)"),
        ({"std": (float("inf"),)}, "`std` must hold finite numbers. Received: std=(inf,)"),
        ({"crop_fraction": "x"}, "`crop_fraction` must hold finite numbers."),
        ({"channel_order": ["rgb"]}, "`channel_order` must be 'rgb' or 'bgr'."),
        ({"crop_fraction": 0}, "`crop_fraction` must lie in [0.01, 1]. Received: crop_fraction=0"),
        ({"crop_fraction": 1.1}, "`crop_fraction` must lie in [0.01, 1]."),
        ({"crop_fraction": 1e-9}, "`crop_fraction` must lie in [0.01, 1]."),
        ({"size": (8193, 8192)}, "`size` must have at most 67,108,864 pixels."),
        ({"std": (0.0,)}, "`std` must be above 0. Received: std=(0.0,)"),
        ({"mean": (1, 2, 3)}, "`mean` and `std` need the same number of channels."),
        ({"channel_order": "gbr"}, "`channel_order` must be 'rgb' or 'bgr'."),
        ({"interpolation": "sinc"}, "`interpolation` must be one of"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PreprocessSpec(**({"size": (32, 32)} | arguments))


@pytest.mark.parametrize(
    ("name", "net", "mode"),
    [
        ("imagenet", "resnet50", "caffe"),
        ("imagenet", "resnet50v2", "tf"),
        ("torchvision/v1", "resnet50", "torch"),
        ("torchvision/v2", None, "torch"),
        ("akamaster", "cifar_resnet20", "torch"),
    ],
)
def test_published_preprocessing_is_that_of_keras_applications(name, net, mode):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    wanted = keras.applications.imagenet_utils.preprocess_input(images.copy(), mode=mode)
    found = preprocess_spec(name, net).normalize(images)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(preprocess_input(images.copy(), mode=mode), wanted)


def test_preprocess_input_as_keras_applications_call_it():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype("float32")
    wanted = keras.applications.resnet50.preprocess_input(images.copy())
    np.testing.assert_array_equal(preprocess_input(images.copy()), wanted)
    channels_first = np.moveaxis(images, -1, 1).copy()
    found = preprocess_input(channels_first, data_format="channels_first")
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), wanted, rtol=1e-6)
    with pytest.raises(ValueError, match="Expected mode to be one of"):
        preprocess_input(images, mode="timm")


def test_preprocessing_of_unknown_weights():
    with pytest.raises(ValueError, match="No weights named 'imagenet21k'. Nearest: imagenet; "):
        preprocess_spec("imagenet21k")
    with pytest.raises(ValueError, match="No weights named 'imagenet' for 'resnet18'. Known: "):
        preprocess_spec("imagenet", "resnet18")


def test_decode_predictions(monkeypatch):
    """Keras downloads the classes' names once a process; here they are there already."""
    from keras.src.applications import imagenet_utils

    names = {str(index): [f"n{index:08}", f"class_{index}"] for index in range(1000)}
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", names)
    chances = np.zeros((2, 1000), "float32")
    chances[0, [3, 999]] = 0.25, 0.5
    chances[1, 7] = 1.0
    first, second = decode_predictions(chances, top=2)
    assert first == [("n00000999", "class_999", 0.5), ("n00000003", "class_3", 0.25)]
    assert second[0] == ("n00000007", "class_7", 1.0)
    assert [len(each) for each in decode_predictions(chances)] == [5, 5]
    with pytest.raises(ValueError, match=r"samples, 1000.*shape: \(2, 10\)"):
        decode_predictions(np.zeros((2, 10)))


def test_old_names_are_still_there():
    """The module once held the functions too."""
    from keras_resnet import preprocessing

    assert preprocessing.PreprocessSpec is PreprocessSpec
    assert preprocessing.for_weights is preprocess_spec
    assert preprocessing.preprocess_input is preprocess_input
    assert preprocessing.decode_predictions is decode_predictions
    with pytest.raises(AttributeError, match="preprocessing' has no attribute 'nothing'"):
        preprocessing.nothing  # noqa: B018


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos3", "nearest"])
def test_long_images(interpolation):
    """Only what the crop keeps is resized, with the pixels of the whole image resized."""
    if interpolation == "lanczos3" and keras.backend.backend() == "torch":
        pytest.skip("Keras does not resize so on PyTorch")
    size, differences = 16, []
    for height, width in ((4, 300), (900, 9), (3, 1001), (40, 2000)):
        images = np.random.default_rng(height).integers(0, 256, (2, height, width, 3), "uint8")
        found = PreprocessSpec((size, size), interpolation=interpolation).fit(images)
        scale = max(size / height, size / width)
        sides = [max(round(side * scale), size) for side in (height, width)]
        whole = keras.ops.image.resize(
            images.astype("float32"),
            sides,
            interpolation=interpolation,
            antialias=True,
            data_format="channels_last",
        )
        top, left = ((side - size) // 2 for side in sides)
        whole = keras.ops.convert_to_numpy(whole)[:, top : top + size, left : left + size]
        wanted = np.clip(np.round(whole), 0, 255)
        differences.append(np.abs(found - wanted))
    # Halves may be rounded to either side.
    assert max(each.max() for each in differences) <= 1
    assert np.mean([each.mean() for each in differences]) < 0.01
    # Once 6.8 GiB.
    long = np.full((2, 20_000, 3), 7, "uint8")
    assert (PreprocessSpec((224, 224), interpolation=interpolation).fit(long) == 7).all()


@pytest.mark.parametrize("values", [None, [], {}, {"mean": [0.0]}, {"size": [8, 8], "other": 1}])
def test_a_stored_preprocessing_needs_its_fields(values):
    with pytest.raises(ValueError, match="A preprocessing needs `size` and may have channel_order"):
        PreprocessSpec.from_dict(values)
