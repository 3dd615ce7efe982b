"""`PreprocessSpec`: normalisation against literal values, and what it refuses."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec

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
        [32, 48], mean=[1, 2, 3], std=[4, 5, 6], channel_order="bgr", crop_fraction=0.875,
        interpolation="bicubic",
    )  # fmt: skip
    assert spec.size == (32, 48)
    assert PreprocessSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert hash(spec) == hash(PreprocessSpec.from_dict(spec.to_dict()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (32,)}, "`size` must be (height, width). Received: size=(32,)"),
        ({"size": (32, 0)}, "`size` must be (height, width). Received: size=(32, 0)"),
        ({"crop_fraction": 0}, "`crop_fraction` must lie in (0, 1]. Received: crop_fraction=0"),
        ({"crop_fraction": 1.1}, "`crop_fraction` must lie in (0, 1]."),
        ({"std": (0.0,)}, "`std` must be above 0. Received: std=(0.0,)"),
        ({"mean": (1, 2, 3)}, "`mean` and `std` need the same number of channels."),
        ({"channel_order": "gbr"}, "`channel_order` must be 'rgb' or 'bgr'."),
        ({"interpolation": "sinc"}, "`interpolation` must be one of"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PreprocessSpec(**({"size": (32, 32)} | arguments))
