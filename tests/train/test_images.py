"""Decoding and fitting of single images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec
from keras_resnet_train.data.images import decode, decode_part, fit, normalize
from keras_resnet_train.resizing import KERNELS, resize_antialiased, scale_and_translate

pytestmark = pytest.mark.tf


def pattern(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (1, 1)])
def test_identity_where_the_size_is_right(shape: tuple[int, int]) -> None:
    image = pattern(*shape)
    found = fit(tf.constant(image), PreprocessSpec(shape))
    assert found.dtype == tf.uint8
    np.testing.assert_array_equal(found, image)


@pytest.mark.parametrize(
    ("shape", "size", "rows", "columns"),
    [
        ((8, 12), (8, 8), (0, 8), (2, 10)),
        ((12, 8), (8, 8), (2, 10), (0, 8)),
        ((8, 11), (8, 8), (0, 8), (1, 9)),
        ((10, 9), (10, 4), (0, 10), (2, 6)),
    ],
)
def test_centre_crop(
    shape: tuple[int, int], size: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    image = pattern(*shape)
    found = fit(tf.constant(image), PreprocessSpec(size))
    np.testing.assert_array_equal(found, image[slice(*rows), slice(*columns)])


def test_crop_fraction() -> None:
    """7/8 of the shorter side: the centre 14 of 16 pixels, no pixel resized."""
    image = pattern(16, 20)
    found = fit(tf.constant(image), PreprocessSpec((14, 14), crop_fraction=0.875))
    np.testing.assert_array_equal(found, image[1:15, 3:17])


def test_resizing() -> None:
    """Half the size by nearest neighbour; a constant image stays constant under every kernel."""
    image = pattern(8, 8)
    nearest = fit(tf.constant(image), PreprocessSpec((16, 16), interpolation="nearest"))
    np.testing.assert_array_equal(nearest, image.repeat(2, axis=0).repeat(2, axis=1))
    for kernel in ("bilinear", "bicubic", "area", "lanczos3"):
        flat = tf.fill((9, 7, 3), tf.constant(201, tf.uint8))
        found = fit(flat, PreprocessSpec((5, 5), interpolation=kernel))
        assert found.dtype == tf.uint8
        np.testing.assert_array_equal(found, np.full((5, 5, 3), 201))


def test_overshoot_is_clipped() -> None:
    image = np.zeros((8, 8, 1), np.uint8)
    image[:, 4:] = 255
    found = fit(tf.constant(image), PreprocessSpec((32, 32), interpolation="bicubic")).numpy()
    assert found[0, 0, 0] == 0
    assert found[0, -1, 0] == 255
    assert (np.diff(found[0, :, 0].astype(int)) >= 0).all()  # no value wrapped around


@pytest.mark.parametrize("shape", [(9, 13), (13, 9), (224, 3), (3, 224), (1, 1), (500, 333)])
@pytest.mark.parametrize("fraction", [1.0, 0.875, 0.33])
def test_any_size(shape: tuple[int, int], fraction: float) -> None:
    found = fit(tf.constant(pattern(*shape)), PreprocessSpec((11, 11), crop_fraction=fraction))
    assert found.shape == (11, 11, 3)


def test_batches_are_fitted_as_single_images_are() -> None:
    images = np.stack([pattern(9, 13), pattern(9, 13)[::-1]])
    preprocess = PreprocessSpec((6, 6))
    found = fit(tf.constant(images), preprocess)
    assert found.shape == (2, 6, 6, 3)
    for image, one in zip(images, found, strict=True):
        np.testing.assert_array_equal(fit(tf.constant(image), preprocess), one)


def test_decoding() -> None:
    colour = pattern(5, 7)
    picture = Image.fromarray(colour)
    alpha = np.concatenate([colour, pattern(5, 7, 1)], axis=-1)
    wide = (np.arange(35, dtype=np.uint16).reshape(5, 7) + 10) * 257
    grey = colour[..., 0]
    twice = grey[..., None].repeat(3, axis=-1)
    palette = picture.quantize(16)
    cases = {
        "PNG": (encoded(picture, "PNG"), colour),
        "BMP": (encoded(picture, "BMP"), colour),
        "RGBA": (encoded(Image.fromarray(alpha), "PNG"), colour),
        "grey": (encoded(Image.fromarray(grey), "PNG"), twice),
        "palette": (encoded(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "GIF": (encoded(palette, "GIF"), np.asarray(palette.convert("RGB"))),
        "16 bits": (
            encoded(Image.fromarray(wide), "PNG"),
            (wide // 257).astype("uint8")[..., None].repeat(3, axis=-1),
        ),
    }
    for name, (content, expected) in cases.items():
        found = decode(tf.constant(content), 3)
        assert found.dtype == tf.uint8, name
        np.testing.assert_array_equal(found, expected, err_msg=name)
    one = decode(tf.constant(cases["grey"][0]), 1)
    np.testing.assert_array_equal(one, grey[..., None])


def test_decoding_jpeg() -> None:
    ramp = np.linspace(0, 255, 64).astype("uint8")
    smooth = np.stack([np.tile(ramp, (48, 1))] * 3, axis=-1)
    found = decode(tf.constant(encoded(Image.fromarray(smooth), "JPEG", quality=95)), 3)
    assert found.shape == (48, 64, 3)
    np.testing.assert_allclose(found.numpy().astype(int), smooth.astype(int), atol=3)


def smooth_picture(height: int, width: int) -> Image.Image:
    """Coloured noise of low frequency, as photographs are."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype="uint8")
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_part_is_decoded_as_the_whole_is(kind: str, mode: str) -> None:
    """Wherever it lies: JPEG's blocks of 8 or 16 pixels and shared colours leave no trace."""
    content = tf.constant(encoded(smooth_picture(75, 101).convert(mode), kind))
    whole = decode(content, 3).numpy()
    rng = np.random.default_rng(5)
    boxes = [(0, 0, 75, 101), (0, 0, 1, 1), (74, 100, 1, 1), (7, 13, 33, 41), (16, 32, 32, 16)]
    for _ in range(40):
        top, left = int(rng.integers(75)), int(rng.integers(101))
        boxes.append((top, left, int(rng.integers(1, 76 - top)), int(rng.integers(1, 102 - left))))
    for box in boxes:
        seen = []

        def choose(shape: Any, box: Any = box, seen: Any = seen) -> Any:
            seen.append(shape)
            return tf.constant(box)

        found = decode_part(content, 3, choose).numpy()
        top, left, height, width = box
        np.testing.assert_array_equal(found, whole[top : top + height, left : left + width])
        assert [tuple(shape.numpy()) for shape in seen] == [(75, 101)]


@pytest.mark.parametrize(
    ("mean", "std", "order"),
    [
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), "rgb"),
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), "bgr"),
        ((127.5,), (127.5,), "rgb"),
        ((0.0,), (1.0,), "rgb"),
        ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), "rgb"),
    ],
)
@pytest.mark.parametrize("shape", [(5, 7, 3), (2, 5, 7, 3)])
def test_normalization_by_rows_is_that_of_the_library(
    mean: tuple[float, ...], std: tuple[float, ...], order: Any, shape: tuple[int, ...]
) -> None:
    preprocess = PreprocessSpec((5, 7), mean=mean, std=std, channel_order=order)
    images = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    for given in (images, images.astype("float32") + 0.25):
        found = normalize(tf.constant(given), preprocess)
        assert (found.dtype, found.shape) == (tf.float32, shape)
        np.testing.assert_array_equal(found, preprocess.normalize(given))


def test_normalization_knows_its_shape_in_a_graph() -> None:
    """The batch stays open, all else is known: a net is traced with it."""
    preprocess = PreprocessSpec((5, 7), mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    images = tf.TensorSpec((None, 5, 7, 3), tf.uint8)
    traced = tf.function(lambda x: normalize(x, preprocess)).get_concrete_function(images)
    assert traced.outputs[0].shape.as_list() == [None, 5, 7, 3]


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    found = decode(tf.constant(content), 3).numpy()
    assert found.shape == (4, 4, 3)
    assert found[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos3"])
@pytest.mark.parametrize(("size", "crop"), [((32, 32), 0.875), ((64, 48), 1.0), ((60, 91), 1.0)])
def test_the_library_resizes_as_evaluation_does(interpolation, size, crop) -> None:
    """`model.preprocess(images)`, in any backend, is what a run is measured with."""
    images = np.random.default_rng(0).integers(0, 256, (2, 60, 91, 3)).astype("uint8")
    spec = PreprocessSpec(size, crop_fraction=crop, interpolation=interpolation)
    np.testing.assert_array_equal(spec.fit(images), fit(images, spec).numpy())


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos3"])
def test_fit_of_long_images(interpolation: Any) -> None:
    """Only what is kept is resized, and the library resizes to the same pixels."""
    preprocess = PreprocessSpec((16, 16), interpolation=interpolation)
    for height, width in ((4, 300), (900, 9), (3, 1001)):
        image = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
        found, wanted = fit(image, preprocess).numpy(), preprocess.fit(image)
        difference = np.abs(found.astype(int) - wanted)
        assert difference.max() <= 1  # halves may be rounded to either side
        assert difference.mean() < 0.01
        np.testing.assert_array_equal(fit(image[None], preprocess)[0], found)


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "lanczos3"])
def test_resizing_axis_by_axis_is_tensorflows_to_the_bit(method: str) -> None:
    rng = np.random.default_rng(0)
    for shape, size in (
        ((37, 53, 3), (16, 24)),
        ((9, 40, 1), (20, 11)),
        ((64, 3, 3), (8, 8)),
        ((5, 7, 3), (31, 33)),
    ):
        image = tf.constant(rng.integers(0, 256, shape, dtype=np.uint8))
        expected = tf.image.resize(image, size, method=method, antialias=True)
        np.testing.assert_array_equal(resize_antialiased(image, size, method), expected)
        moved = [-2.5, 1.25]
        expected = tf.raw_ops.ScaleAndTranslate(
            images=image[None],
            size=size,
            scale=[0.4, 0.7],
            translation=moved,
            kernel_type=KERNELS[method],
            antialias=True,
        )
        found = scale_and_translate(
            image, tf.constant(size), tf.constant([0.4, 0.7]), tf.constant(moved), method
        )
        np.testing.assert_array_equal(found, expected[0])
