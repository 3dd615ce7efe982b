"""Augmentation against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet_train.augment import (
    DRAWS,
    crop_box,
    example_draws,
    pad_crop_flip,
    random_crop,
    resize_crop,
)
from keras_resnet_train.config import AugmentConfig

pytestmark = pytest.mark.tf


def numpy_pad_crop_flip(
    images: np.ndarray, draws: np.ndarray, pad: int, *, crop: bool, flip: bool
) -> np.ndarray:
    made = []
    for image, draw in zip(images, draws, strict=True):
        height, width, _ = image.shape
        if crop:
            padded = np.zeros((height + 2 * pad, width + 2 * pad, image.shape[2]), image.dtype)
            padded[pad : pad + height, pad : pad + width] = image
            top, left = int(draw[0] * (2 * pad + 1)), int(draw[1] * (2 * pad + 1))
            image = padded[top : top + height, left : left + width]
        made.append(image[:, ::-1] if flip and draw[2] < 0.5 else image)
    return np.stack(made)


@pytest.mark.parametrize(
    ("crop", "pad", "flip"),
    [("pad", 4, True), ("pad", 1, False), ("pad", 0, True), ("none", 4, True), ("none", 4, False)],
)
def test_pad_crop_flip(crop: str, pad: int, flip: bool) -> None:
    rng = np.random.default_rng(1)
    images = rng.normal(size=(64, 6, 9, 3)).astype("float32")
    draws = rng.uniform(size=(64, DRAWS)).astype("float32")
    config = AugmentConfig(crop=crop, pad=pad, flip=flip)
    found = pad_crop_flip(tf.constant(images), tf.constant(draws), config).numpy()
    expected = numpy_pad_crop_flip(images, draws, pad, crop=crop == "pad", flip=flip)
    np.testing.assert_array_equal(found, expected)


def test_pad_crop_flip_reaches_every_place_and_no_other() -> None:
    """The lowest and the highest draws are the corners of the padded image."""
    image = np.arange(1, 5, dtype="float32").reshape(1, 2, 2, 1)
    almost = np.nextafter(np.float32(1), np.float32(0))
    config = AugmentConfig(crop="pad", pad=1)

    def crop(row: float, column: float) -> list[list[float]]:
        draws = np.float32([[row, column, 0, 0, 0]])
        return pad_crop_flip(tf.constant(image), draws, config).numpy()[0, ..., 0].tolist()

    assert crop(0, 0) == [[0, 0], [0, 1]]
    assert crop(0, almost) == [[0, 0], [2, 0]]
    assert crop(almost, 0) == [[0, 3], [0, 0]]
    assert crop(almost, almost) == [[4, 0], [0, 0]]
    assert crop(0.5, 0.5) == [[1, 2], [3, 4]]


def gradient(height: int, width: int) -> np.ndarray:
    """An image whose pixels tell where they are: row in channel 0, column in channel 1."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype("uint8")


ALMOST = float(np.nextafter(np.float32(1), np.float32(0)))


def crop(
    image: np.ndarray, draws: list[float], size: tuple[int, int], **fields: object
) -> np.ndarray:
    config = AugmentConfig(**fields)
    image = tf.constant(image)
    return random_crop(image, tf.constant(draws, tf.float32), config, size).numpy()


@pytest.mark.parametrize("kind", ["resized", "scale"])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (200, 5), (3, 3), (1, 30)])
def test_random_crop_stays_within_the_image(kind: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    extremes = [[a, a, 0.9, b, c] for a in (0, ALMOST) for b in (0, ALMOST) for c in (0, ALMOST)]
    image = gradient(*shape)
    for draws in [*extremes, *rng.uniform(size=(10, DRAWS)).tolist()]:
        found = crop(image, draws, (8, 6), crop=kind, flip=True)
        assert (found.shape, found.dtype) == ((8, 6, 3), np.float32)
        assert found.min() >= 0
        assert found[..., 0].max() <= shape[0] - 1 + 1e-4
        assert found[..., 1].max() <= shape[1] - 1 + 1e-4
        np.testing.assert_allclose(found[..., 2], 7, atol=1e-4)


def reference_box(
    height: int, width: int, min_area: float, tries: np.ndarray
) -> tuple[int, int, int, int]:
    """`get_params` of torchvision's `RandomResizedCrop` in NumPy, on given uniform numbers."""
    for row, column, scale, shape in tries:
        area = (min_area + (1 - min_area) * scale) * height * width
        ratio = np.exp(np.log(3 / 4) + (np.log(4 / 3) - np.log(3 / 4)) * shape)
        w, h = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(row * (height - h + 1)), int(column * (width - w + 1)), h, w
    if width / height < 3 / 4:
        h, w = round(width / (3 / 4)), width
    elif width / height > 4 / 3:
        h, w = height, round(height * (4 / 3))
    else:
        h, w = height, width
    return (height - h) // 2, (width - w) // 2, h, w


def resized_boxes(height: int, width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The boxes of the first step of a run, and the reference's on the same numbers."""
    config = AugmentConfig(crop="resized")
    draws = example_draws(config, 7, tf.constant(0), count)

    @tf.function
    def boxes(place: tf.Tensor, retry: tf.Tensor) -> tf.Tensor:
        def box(row: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            return crop_box(tf.constant([height, width]), row[0], config, (224, 224), row[1])

        return tf.map_fn(box, (place, retry), fn_output_signature=tf.int32)

    found = boxes(draws["place"], draws["retry"]).numpy()
    place = draws["place"].numpy()[:, None, [0, 1, 3, 4]]
    tries = np.concatenate([place, draws["retry"].numpy()], axis=1).astype("float64")
    return found, np.array([reference_box(height, width, 0.08, row) for row in tries])


def test_resized_draws_as_often_as_the_reference_code() -> None:
    """Full-height crops of 500 x 375 images: 0.5 %; one draw that is clipped gives 27.7 %."""
    found, expected = resized_boxes(375, 500, 20_000)
    # float32 and float64 may round a side, or place a corner, differently by one pixel.
    assert (np.abs(found - expected).max(axis=1) <= 1).mean() > 0.999
    area = found[:, 2] * found[:, 3] / (375 * 500)
    assert (found[:, 2] == 375).mean() == pytest.approx(0.005, abs=0.002)
    assert area.mean() == pytest.approx(0.43, abs=0.01)
    assert area.min() >= 0.079


def test_resized_falls_back_to_the_centre() -> None:
    """Where no draw fits: the largest centred box with an aspect ratio from 3/4 to 4/3."""
    config = AugmentConfig(crop="resized", min_area=1.0)
    draws, retries = tf.fill([DRAWS], 0.1), tf.fill([9, 4], 0.1)
    for shape, box in (
        ((30, 300), (0, 130, 30, 40)),
        ((300, 30), (130, 0, 40, 30)),
        ((31, 29), (0, 0, 31, 29)),
    ):
        found = crop_box(tf.constant(shape), draws, config, (8, 8), retries)
        assert tuple(found.numpy()) == box


def test_resized_takes_the_drawn_box() -> None:
    image = gradient(32, 32)
    # A quarter of the area, square: 16 x 16, so that the crop to 16 x 16 changes no pixel.
    draws = [0.0, ALMOST, 0.9, (0.25 - 0.08) / 0.92, 0.5]
    found = crop(image, draws, (16, 16), crop="resized")
    np.testing.assert_array_equal(found, image[:16, 16:])
    whole = crop(image, [0.3, 0.7, 0.9, 1.0, 0.5], (32, 32), crop="resized")
    np.testing.assert_array_equal(whole, image)


@pytest.mark.parametrize(("draw", "box"), [(0.0, (18, 14)), (ALMOST, (14, 18))])
def test_resized_draws_aspect_ratios_from_3_4_to_4_3(draw: float, box: tuple[int, int]) -> None:
    """A box of 16 x 16 pixels' area becomes 18.5 x 13.9 or 13.9 x 18.5: whole pixels, nearest."""
    found = crop(
        gradient(64, 64),
        [0, 0, 0.9, (1 / 16 - 0.01) / 0.99, draw],
        box,
        crop="resized",
        min_area=0.01,
    )
    np.testing.assert_array_equal(found, gradient(64, 64)[: box[0], : box[1]])


def test_scale_crops_from_the_drawn_shorter_side() -> None:
    """Shorter side of 16 pixels where the crop has 8: half of the 16 x 24 image's height."""
    image = gradient(16, 24)
    found = crop(image, [0, ALMOST, 0.9, 0.3, 0], (8, 8), crop="scale", shorter_side=(2.0, 2.0))
    np.testing.assert_array_equal(found, image[:8, 16:])


def test_what_grows_and_what_shrinks_is_resized_alike() -> None:
    """With antialiasing, which changes nothing where an image grows, and is left out there."""
    image = np.random.default_rng(4).integers(0, 256, (40, 30, 3)).astype("float32")
    draws = tf.constant([0.1, 0.2, 0.9, 0.4, 0.3])
    for size in ((40, 30), (41, 30), (80, 90), (39, 60), (60, 29), (20, 15)):
        found = resize_crop(tf.constant(image), draws, AugmentConfig(crop="resized"), size)
        expected = tf.image.resize(image, size, antialias=True)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_flip() -> None:
    image = gradient(32, 32)
    draws = [0.1, 0.2, 0.9, 0.4, 0.3]
    mirrored = [*draws[:2], 0.4, *draws[3:]]
    plain = crop(image, draws, (8, 8), crop="resized", flip=True)
    np.testing.assert_array_equal(
        crop(image, mirrored, (8, 8), crop="resized", flip=True), plain[:, ::-1]
    )
    np.testing.assert_array_equal(crop(image, mirrored, (8, 8), crop="resized"), plain)
