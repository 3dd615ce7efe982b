"""Operations of policies against Pillow, pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from keras_resnet_train.augment.operations import OPERATIONS, make_apply, number_of

pytestmark = pytest.mark.tf

FILL = (10, 200, 30)


def pictures() -> list[np.ndarray]:
    """Smooth, noisy, constant and dark images; colour and grey; sides odd, even, unequal."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((60, 40), Image.Resampling.BICUBIC))
    noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    constant = np.full((8, 8, 3), 60, np.uint8)
    return [smooth, smooth[:33, :32, :1], noise, constant, noise // 3 + 50, noise[..., :1]]


def fill_of(image: Image.Image) -> Any:
    return FILL if image.mode == "RGB" else FILL[0]


def moved(image: Image.Image, *coefficients: float) -> Image.Image:
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        coefficients,
        resample=Image.Resampling.BILINEAR,
        fillcolor=fill_of(image),
    )


def rotated(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(degrees, resample=Image.Resampling.BILINEAR, fillcolor=fill_of(image))


def solarized_add(image: Image.Image, added: float) -> Image.Image:
    table = [min(255, value + int(added)) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


ENHANCED = (0.0, 0.1, 0.5, 1.0, 1.3, 1.99)
SHEARS = (-0.99, -0.3, 0.1)
MOVES = (-32.0, -3.3, 0.0, 14.25)
# By operation: Pillow's function, arguments, and the largest difference of a pixel's value.
CASES: dict[str, tuple[Any, tuple[float, ...], int]] = {
    "Identity": (lambda image, _: image, (0,), 0),
    "AutoContrast": (lambda image, _: ImageOps.autocontrast(image), (0,), 0),
    "Equalize": (lambda image, _: ImageOps.equalize(image), (0,), 0),
    "Invert": (lambda image, _: ImageOps.invert(image), (0,), 0),
    "Posterize": (lambda image, v: ImageOps.posterize(image, int(v)), (1, 2, 4, 7, 8), 0),
    "Solarize": (ImageOps.solarize, (0, 1, 100.25, 128, 255, 256), 0),
    "SolarizeAdd": (solarized_add, (0, 50, 110, 128), 0),
    "Brightness": (lambda image, v: ImageEnhance.Brightness(image).enhance(v), ENHANCED, 0),
    "Contrast": (lambda image, v: ImageEnhance.Contrast(image).enhance(v), ENHANCED, 0),
    "Color": (lambda image, v: ImageEnhance.Color(image).enhance(v), ENHANCED, 0),
    "Sharpness": (lambda image, v: ImageEnhance.Sharpness(image).enhance(v), ENHANCED, 0),
    "GaussianBlur": (
        lambda image, v: image.filter(ImageFilter.GaussianBlur(v)),
        (0.1, 0.3, 0.7, 1.0, 1.5, 2.0),
        2,
    ),
    "Rotate": (rotated, (-135, -30, -7, 0, 12.5, 90), 1),
    "ShearX": (lambda image, v: moved(image, 1, v, 0, 0, 1, 0), SHEARS, 1),
    "ShearY": (lambda image, v: moved(image, 1, 0, 0, v, 1, 0), SHEARS, 1),
    "TranslateX": (lambda image, v: moved(image, 1, 0, v, 0, 1, 0), MOVES, 1),
    "TranslateY": (lambda image, v: moved(image, 1, 0, 0, 0, 1, v), MOVES, 1),
}


def test_every_operation_is_compared() -> None:
    assert set(CASES) == set(OPERATIONS)


@pytest.mark.parametrize("name", CASES)
def test_operations_are_pillows(name: str) -> None:
    expected, arguments, most = CASES[name]
    for image in pictures():
        channels = image.shape[-1]
        apply = make_apply(frozenset([name]), tf.constant(FILL[:channels], tf.uint8))
        pillow = Image.fromarray(image if channels == 3 else image[..., 0])
        for argument in arguments:
            number = tf.constant(number_of(name))
            found = apply(tf.constant(image), number, tf.constant(argument, tf.float32)).numpy()
            wanted = np.asarray(expected(pillow, argument)).reshape(image.shape)
            assert found.dtype == np.uint8
            difference = np.abs(found.astype("int32") - wanted)
            assert difference.max() <= most, (argument, image.shape)


def test_posterizing_to_no_bits_is_black() -> None:
    """Magnitude 10 of RandAugment's increasing levels; Pillow of today refuses it."""
    apply = make_apply(frozenset(["Posterize"]), tf.zeros(3, tf.uint8))
    image = tf.constant(pictures()[2])
    assert not apply(image, tf.constant(number_of("Posterize")), tf.constant(0.0)).numpy().any()


def test_only_the_chosen_operation_is_computed() -> None:
    """One branch for each operation, in one conditional; an operation left out is the identity."""
    apply = make_apply(frozenset(["Invert", "Equalize"]), tf.zeros(3, tf.uint8))
    image = tf.constant(pictures()[2])
    for name, changed in (("Invert", True), ("Rotate", False), ("Identity", False)):
        found = apply(image, tf.constant(number_of(name)), tf.constant(30.0)).numpy()
        assert (found != image.numpy()).any() == changed
    arguments = (image, tf.constant(0), tf.constant(0.0))
    graph = apply.get_concrete_function(*arguments).graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    assert kinds & {"Case", "StatelessCase"}
    assert not kinds & {"Bincount", "DenseBincount"}  # inside the branch alone
    branches = {node.op for function in graph.library.function for node in function.node_def}
    assert branches & {"Bincount", "DenseBincount"}
