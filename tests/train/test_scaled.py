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
from keras_resnet_train.augment import resize_crop
from keras_resnet_train.config import AugmentConfig, DataConfig
from keras_resnet_train.config.data import with_earlier_data_defaults
from keras_resnet_train.data.decoding import Decoding, decode
from keras_resnet_train.data.images import fit
from keras_resnet_train.data.jpeg_parts import decode_part
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
        found = decode_and_crop(content, channels, choose, (32, 32), SCALED)
        mean, largest = distance(found, expected)
        assert mean < 0.9
        assert largest < 24


def jpegs(height: int, width: int) -> list[bytes]:
    """One scene in each way that a JPEG stores colours, and progressive."""
    file = io.BytesIO(photograph(height, width))
    picture, found = Image.open(file), []
    options: list[tuple[str, dict[str, Any]]] = [("RGB", {"subsampling": n}) for n in range(3)]
    options += [("RGB", {"progressive": True}), ("L", {}), ("CMYK", {})]
    for mode, kind in options:
        file = io.BytesIO()
        picture.convert(mode).save(file, "JPEG", quality=90, **kind)
        found.append(file.getvalue())
    return found


@pytest.mark.parametrize(
    ("height", "width", "interpolation", "channels"),
    [
        (75, 101, "bilinear", 3),
        (99, 67, "bicubic", 1),
        (97, 64, "lanczos3", 3),
        (41, 190, "bilinear", 3),
        (32, 40, "bilinear", 3),
        (20, 27, "bilinear", 3),
    ],
)
def test_evaluation_decodes_what_it_keeps_to_the_bit(
    height: int, width: int, interpolation: Any, channels: int
) -> None:
    """The pixels of the whole image, however colours are stored and wherever the crop ends."""
    preprocess = PreprocessSpec((32, 24), crop_fraction=0.8, interpolation=interpolation)
    signature = [tf.TensorSpec((), tf.string)]
    run = tf.function(lambda e: decode_and_fit(e, channels, preprocess, SCALED), signature)
    complete = tf.function(
        lambda e: decode_and_fit(e, channels, preprocess, SCALED, complete=True), signature
    )
    whole = tf.function(lambda e: fit(decode(e, channels), preprocess), signature)
    for content in jpegs(height, width):
        expected = whole(tf.constant(content))
        np.testing.assert_array_equal(run(tf.constant(content)), expected)
        np.testing.assert_array_equal(complete(tf.constant(content)), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_are_those_of_the_whole_image_to_the_bit(channels: int) -> None:
    """Resized with the columns beside them left out, also where an axis grows."""
    draws, augment = tf.constant([0.0] * 5), AugmentConfig("resized")
    boxes = [(0, 0, 75, 101), (7, 13, 33, 41), (31, 33, 44, 68), (1, 0, 9, 101), (5, 90, 12, 11)]
    signature = [tf.TensorSpec((), tf.string), tf.TensorSpec((4,), tf.int32)]
    run = tf.function(
        lambda e, box: decode_and_crop(e, channels, lambda shape: box, (24, 16)), signature
    )
    for content in jpegs(75, 101):
        image = decode(tf.constant(content), channels)
        for top, left, height, width in boxes:
            crop = image[top : top + height, left : left + width]
            expected = resize_crop(crop, draws, augment, (24, 16))
            found = run(tf.constant(content), tf.constant([top, left, height, width]))
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("height", "width"), [(200, 60), (500, 250)])
def test_a_file_that_ends_too_early_is_an_error_where_it_is_asked_for(
    height: int, width: int
) -> None:
    """Prediction names such files, also where what they lack is cropped away."""
    preprocess = PreprocessSpec((32, 32))
    content = photograph(height, width)
    cut = tf.constant(content[: len(content) * 15 // 16])
    for decoding in (SCALED, Decoding()):
        decode_and_fit(cut, 3, preprocess, SCALED)
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_and_fit(cut, 3, preprocess, decoding, complete=True)


def test_earlier_runs_decode_all_pixels() -> None:
    assert Decoding.of(DataConfig()).scaled
    assert not Decoding.of(DataConfig(large_jpeg="whole")).scaled
    assert not Decoding.of(DataConfig(decoding="fast")).scaled
    full = dataclasses.asdict(DataConfig())
    del full["large_jpeg"]
    assert with_earlier_data_defaults({"data": full})["data"]["large_jpeg"] == "whole"
    assert "large_jpeg" not in with_earlier_data_defaults({"data": {"dataset": "x"}})["data"]
