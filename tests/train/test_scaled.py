"""Large JPEGs that are decoded at a fraction of their size."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec
from keras_resnet_train.config import DataConfig
from keras_resnet_train.config.data import with_earlier_data_defaults
from keras_resnet_train.data.decoding import Decoding, decode, decode_part
from keras_resnet_train.data.images import fit
from keras_resnet_train.data.scaled import decode_and_crop, decode_and_fit

pytestmark = pytest.mark.tf

SCALED = Decoding(scaled=True)


def photograph(height: int, width: int, orientation: int = 1, mode: str = "RGB") -> bytes:
    """A smooth scene with edges and some noise, as a JPEG with halved colours."""
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    scene = scene.astype("int16") + rng.integers(-12, 13, scene.shape)
    scene[height // 3 : height // 2, width // 5 : width // 2] //= 3
    image = Image.fromarray(np.clip(scene, 0, 255).astype("uint8")).convert(mode)
    file, exif = io.BytesIO(), Image.Exif()
    exif[274] = orientation
    image.save(file, "JPEG", quality=92, exif=exif)
    return file.getvalue()


def distance(found: Any, expected: Any) -> tuple[float, float]:
    found, expected = (np.asarray(each, "float64") for each in (found, expected))
    assert found.shape == expected.shape
    return float(np.abs(found - expected).mean()), float(np.abs(found - expected).max())


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_evaluation_is_near_that_of_all_pixels(interpolation: Any) -> None:
    """For each orientation, and sides that are no multiple of a block: not a pixel is displaced."""
    preprocess = PreprocessSpec((32, 24), crop_fraction=0.875, interpolation=interpolation)
    signature = [tf.TensorSpec((), tf.string)]
    scaled = tf.function(lambda e: decode_and_fit(e, 3, preprocess, SCALED), signature)
    whole = tf.function(lambda e: fit(decode(e, 3), preprocess), signature)
    for orientation in range(1, 9):
        content = tf.constant(photograph(803, 605, orientation))
        mean, largest = distance(scaled(content), whole(content))
        assert mean < 0.7
        assert largest < 16


def test_small_images_and_other_formats_are_the_same_to_the_bit() -> None:
    preprocess = PreprocessSpec((32, 32))
    file = io.BytesIO()
    Image.open(io.BytesIO(photograph(300, 400))).save(file, "PNG")
    for content in (photograph(120, 126, 6), file.getvalue()):
        expected = fit(decode(tf.constant(content), 3), preprocess)
        found = decode_and_fit(tf.constant(content), 3, preprocess, SCALED)
        np.testing.assert_array_equal(found, expected)
    content = photograph(500, 400)
    expected = fit(decode(tf.constant(content), 3), preprocess)
    np.testing.assert_array_equal(decode_and_fit(tf.constant(content), 3, preprocess), expected)
    assert (decode_and_fit(tf.constant(content), 3, preprocess, SCALED) != expected).numpy().any()


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_are_near_those_of_all_pixels(channels: int) -> None:
    for orientation, box in (
        (1, [101, 50, 611, 403]),
        (6, [3, 7, 509, 701]),
        (3, [0, 0, 605, 803]),
    ):
        content = tf.constant(photograph(803, 605 if orientation != 3 else 803, orientation))
        height, width = decode(content, 3).shape[:2]
        box = [box[0], box[1], min(box[2], height - box[0]), min(box[3], width - box[1])]

        def choose(shape: Any, box: Any = box) -> Any:
            return tf.constant(box)

        part = decode_part(content, channels, choose)
        expected = tf.image.resize(part, (32, 32), antialias=True)
        found = decode_and_crop(
            content, channels, choose, (32, 32), lambda: tf.zeros((1, 1, channels)), SCALED
        )
        mean, largest = distance(found, expected)
        assert mean < 0.9
        assert largest < 24


def test_earlier_runs_decode_all_pixels() -> None:
    assert Decoding.of(DataConfig()).scaled
    assert not Decoding.of(DataConfig(large_jpeg="whole")).scaled
    assert not Decoding.of(DataConfig(decoding="fast")).scaled
    full = dataclasses.asdict(DataConfig())
    del full["large_jpeg"]
    assert with_earlier_data_defaults({"data": full})["data"]["large_jpeg"] == "whole"
    assert "large_jpeg" not in with_earlier_data_defaults({"data": {"dataset": "x"}})["data"]
