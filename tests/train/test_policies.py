"""Policies, mixing, erasing, noise and sizes as functions of given random numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet_train.augment import (
    check_augmentation,
    color_shifts,
    example_draws,
    image_plan,
    make_change,
    mix,
    soft_labels,
    training_size,
)
from keras_resnet_train.augment.erasing import ERASING_DRAWS, erase, erased_boxes
from keras_resnet_train.augment.levels import autoaugment, increasing, original, trivial
from keras_resnet_train.augment.mixing import beta, cut_box, neighbours
from keras_resnet_train.augment.operations import OPERATIONS, number_of
from keras_resnet_train.augment.policies import mixing_weights, plan, plan_jitter
from keras_resnet_train.config import AugmentConfig

pytestmark = pytest.mark.tf


def value(arguments: dict[str, Any], name: str) -> float:
    return float(arguments[name].numpy())


def test_timms_increasing_levels() -> None:
    """The arguments of timm 1.0.31's `LEVEL_TO_ARG` with `inc1`, computed there by hand."""
    plus = increasing(tf.constant(7.0), tf.constant(1.0), (100, 200), 0.45)
    minus = increasing(tf.constant(7.0), tf.constant(-1.0), (100, 200), 0.45)
    expected = {
        "Rotate": (21.0, -21.0),
        "Posterize": (2, 2),
        "Solarize": (77, 77),
        "SolarizeAdd": (77, 77),
        "Color": (1.63, 0.37),
        "Sharpness": (1.63, 0.37),
        "ShearX": (0.21, -0.21),
        "TranslateX": (63.0, -63.0),
        "TranslateY": (31.5, -31.5),
    }
    for name, pair in expected.items():
        assert (value(plus, name), value(minus, name)) == pytest.approx(pair, abs=1e-5), name
    highest = increasing(tf.constant(10.0), tf.constant(-1.0), (10, 10), 0.45)
    assert value(highest, "Posterize") == 0
    assert value(highest, "Solarize") == 0
    assert value(highest, "Brightness") == pytest.approx(0.1)
    lowest = increasing(tf.constant(0.0), tf.constant(1.0), (10, 10), 0.45)
    assert (value(lowest, "Posterize"), value(lowest, "Solarize")) == (4, 256)


def test_levels_of_randaugments_authors() -> None:
    """`level_to_arg` of tensorflow/tpu's `autoaugment.py` at magnitudes 10 and 15."""
    names = ("Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "ShearX", "TranslateX")
    for level, expected in {
        10.0: (30.0, 4, 256, 110, 1.9, 0.3, 100.8),
        15.0: (45.0, 6, 384, 165, 2.8, 0.45, 151.2),
        0.0: (0.0, 0, 0, 0, 0.1, 0.0, 0.0),
    }.items():
        found = original(tf.constant(level), tf.constant(1.0), (224, 224), 0.45)
        assert [value(found, name) for name in names] == pytest.approx(expected, rel=1e-6)
    beyond = increasing(tf.constant(15.0), tf.constant(-1.0), (224, 224), 0.45)
    assert value(beyond, "Posterize") == 0  # timm: -2, which leaves no bit either
    assert value(beyond, "Color") == pytest.approx(0.1)


def test_torchvisions_bins() -> None:
    """The arguments of torchvision's `TrivialAugmentWide` and `AutoAugment`."""
    found = trivial(tf.constant(20.0), tf.constant(-1.0))
    assert value(found, "Rotate") == -90
    assert value(found, "ShearX") == pytest.approx(-0.66)
    assert value(found, "TranslateY") == -21  # int(21.33)
    assert value(found, "Posterize") == 4
    assert value(found, "Solarize") == 85
    assert value(found, "Color") == pytest.approx(0.34)
    posterized = [
        value(trivial(tf.constant(float(n)), tf.constant(1.0)), "Posterize") for n in range(31)
    ]
    assert posterized == [8, 8, 8, *[7] * 5, *[6] * 5, *[5] * 5, *[4] * 5, *[3] * 5, 2, 2, 2]
    found = autoaugment(tf.constant(9.0), tf.constant(1.0), (32, 64))
    assert value(found, "TranslateX") == 29  # int(64 * 150 / 331)
    assert value(found, "TranslateY") == 14
    assert value(found, "Rotate") == 30
    assert value(found, "Solarize") == 0
    assert value(found, "Brightness") == pytest.approx(1.9)
    found = [
        value(autoaugment(tf.constant(float(n)), tf.constant(1.0), (32, 32)), "Posterize")
        for n in range(10)
    ]
    assert found == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]


def steps_of(count: int, **fields: Any) -> tuple[np.ndarray, np.ndarray]:
    config = AugmentConfig(**fields)
    draws = example_draws(config, 3, tf.constant(0), count)["policy"]
    numbers, arguments = plan(config, draws, (32, 32))
    return numbers.numpy(), arguments.numpy()


def shares(numbers: np.ndarray) -> dict[str, float]:
    counts = np.bincount(numbers.ravel(), minlength=len(OPERATIONS)) / numbers.size
    return dict(zip(OPERATIONS, counts, strict=True))


def test_rand_chooses_evenly_with_probability_and_spread() -> None:
    numbers, arguments = steps_of(30_000, policy="rand", policy_magnitude=5)
    assert numbers.shape == (30_000, 2)
    found = shares(numbers)
    assert found["Identity"] == pytest.approx(0.5, abs=0.01)
    assert found["GaussianBlur"] == 0
    others = [share for name, share in found.items() if name not in ("Identity", "GaussianBlur")]
    assert others == pytest.approx([0.5 / 15] * 15, abs=0.004)
    degrees = arguments[numbers == number_of("Rotate")]
    assert degrees.mean() == pytest.approx(0, abs=1.5)
    assert np.abs(degrees).mean() == pytest.approx(15, abs=0.2)
    assert np.abs(degrees).std() == pytest.approx(1.5, abs=0.1)  # 0.5 levels
    strong = {"policy_magnitude": 15, "policy_levels": "original"}
    numbers, arguments = steps_of(2_000, policy="rand", policy_spread=0.0, **strong)
    assert np.abs(arguments[numbers == number_of("Rotate")]) == pytest.approx(45, abs=1e-4)
    assert arguments[numbers == number_of("Sharpness")] == pytest.approx(2.8, abs=1e-5)
    numbers, _ = steps_of(10, policy="rand", policy_operations=3, policy_probability=1.0)
    assert numbers.shape == (10, 3)
    assert numbers.all()


def test_trivial_chooses_one_of_14_and_any_magnitude() -> None:
    numbers, arguments = steps_of(30_000, policy="trivial")
    found = shares(numbers)
    used = [share for share in found.values() if share]
    assert used == pytest.approx([1 / 14] * 14, abs=0.006)
    assert (found["Invert"], found["SolarizeAdd"], found["GaussianBlur"]) == (0, 0, 0)
    degrees = np.unique(np.abs(arguments[numbers == number_of("Rotate")]))
    np.testing.assert_allclose(degrees, np.arange(31) * 4.5, rtol=1e-6)


def test_autoaugment_follows_its_table() -> None:
    numbers, arguments = steps_of(50_000, policy="autoaugment")
    assert numbers.shape == (50_000, 2)
    found = shares(numbers)
    # Sub-policies 2 (probability 0.7, magnitude 2) and 1 (0.1 for `Invert`, first), 25 in all.
    rotated = numbers == number_of("Rotate")
    assert rotated[:, 0].mean() == pytest.approx(0.7 / 25, abs=0.003)
    assert not rotated[:, 1].any()
    np.testing.assert_allclose(np.abs(arguments[rotated]), 2 * 30 / 9, rtol=1e-6)
    assert found["ShearX"] == 0
    # The second `Equalize` after an `Equalize`: sub-policies 9 (0.6, 0.5) and 17 (0.2, 0.6).
    both = (numbers == number_of("Equalize")).all(axis=1).mean()
    assert both == pytest.approx((0.6 * 0.5 + 0.2 * 0.6) / 25, abs=0.002)


def test_augmix_mixes_three_chains_of_one_to_three() -> None:
    numbers, arguments = steps_of(20_000, policy="augmix")
    lengths = (numbers.reshape(-1, 3, 3) > 0).sum(axis=2)
    assert np.bincount(lengths.ravel())[1:] / lengths.size == pytest.approx([1 / 3] * 3, abs=0.01)
    degrees = np.abs(arguments[numbers == number_of("Rotate")])
    assert degrees.max() <= 9  # magnitude 3 of 10
    assert degrees.mean() == pytest.approx(4.5, abs=0.1)
    config = AugmentConfig(policy="augmix")
    draws = example_draws(config, 3, tf.constant(0), 20_000)["policy"]
    weights = mixing_weights(draws).numpy()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert weights.mean(axis=0) == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6], abs=0.01)
    assert weights[:, 0].std() == pytest.approx(math.sqrt(1 / 12), abs=0.005)


def test_three_solarizes_greys_or_blurs() -> None:
    numbers, arguments = steps_of(20_000, policy="three")
    found = shares(numbers)
    for name in ("Solarize", "Color", "GaussianBlur"):
        assert found[name] == pytest.approx(1 / 3, abs=0.01)
    assert set(arguments[numbers == number_of("Solarize")]) == {128.0}
    assert set(arguments[numbers == number_of("Color")]) == {0.0}
    radius = arguments[numbers == number_of("GaussianBlur")]
    assert (radius.min(), radius.max()) == pytest.approx((0.1, 2.0), abs=0.01)


def test_jitter_has_any_order_and_even_factors() -> None:
    draws = tf.random.stateless_uniform([30_000, 6], [1, 2])
    numbers, factors = (array.numpy() for array in plan_jitter(0.4, draws))
    _, counts = np.unique(numbers, axis=0, return_counts=True)
    assert counts / 30_000 == pytest.approx([1 / 6] * 6, abs=0.01)
    assert (factors.min(), factors.max()) == pytest.approx((0.6, 1.4), abs=1e-3)
    assert factors.mean() == pytest.approx(1, abs=0.01)
    assert plan_jitter(1.5, draws).arguments.numpy().min() >= 0


@pytest.mark.parametrize("policy", ["rand", "trivial", "autoaugment", "augmix", "three"])
@pytest.mark.parametrize("channels", [1, 3])
def test_policies_keep_shape_and_type(policy: str, channels: int) -> None:
    config = AugmentConfig(policy=policy, color_jitter=0.3)
    draws = example_draws(config, 0, tf.constant(5), 6)
    rows = image_plan(config, draws, (12, 10))
    change = make_change(config, tf.zeros(channels, tf.uint8))
    images = np.random.default_rng(1).integers(0, 256, (6, 12, 10, channels), dtype=np.uint8)
    found = [
        change(tf.constant(image), {name: row[n] for name, row in rows.items()}).numpy()
        for n, image in enumerate(images)
    ]
    assert all((image.shape, image.dtype) == ((12, 10, channels), np.uint8) for image in found)
    assert (np.stack(found) != images).any(axis=(1, 2, 3)).sum() >= 4


def test_mixup() -> None:
    images = tf.random.stateless_uniform([4, 6, 5, 3], [1, 1])
    labels = soft_labels(tf.constant([0, 1, 2, 2]), 3)
    mixed, soft = mix(images, labels, AugmentConfig(mixup=0.4), 0, tf.constant(3))
    share = float(soft[0, 0])
    assert 0 < share < 1
    expected = [[share, 1 - share, 0], [1 - share, share, 0], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_allclose(soft, expected, atol=1e-6)
    swapped = images.numpy()[[1, 0, 3, 2]]
    np.testing.assert_allclose(mixed, share * images + (1 - share) * swapped, atol=1e-6)


def test_cutmix() -> None:
    """Each pixel comes from the image or its neighbour; the label's share is that of the area."""
    images = tf.random.stateless_uniform([4, 16, 12, 3], [1, 1])
    labels = soft_labels(tf.constant([0, 1, 2, 0]), 3)
    config = AugmentConfig(cutmix=1.0)
    areas = []
    for step in range(20):
        mixed, soft = mix(images, labels, config, 0, tf.constant(step))
        other = (mixed.numpy() == images.numpy()[[1, 0, 3, 2]]).all(axis=-1)
        kept = (mixed.numpy() == images.numpy()).all(axis=-1)
        assert (kept != other).all()
        assert (other == other[0]).all()  # one rectangle for the batch
        rows, columns = np.nonzero(other[0])
        if len(rows):
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        np.testing.assert_allclose(soft[0, 1], other[0].mean(), atol=1e-6)
        areas.append(other[0].mean())
    assert 0.05 < np.mean(areas) < 0.6
    assert len(set(areas)) > 10


def test_cut_boxes_are_clipped_and_counted_after_that() -> None:
    """A quarter of 8 x 8 about the corner: only a quarter of the quarter lies in the image."""
    box = cut_box(tf.constant(0.75), tf.constant([0.0, 0.999]), tf.constant(8), tf.constant(8))
    assert [int(side) for side in box] == [0, 5, 2, 8]


def test_both_are_switched_with_probability_a_half() -> None:
    config = AugmentConfig(mixup=0.2, cutmix=1.0)
    images = tf.reshape(tf.range(2 * 8 * 8, dtype=tf.float32), (2, 8, 8, 1))
    labels = soft_labels(tf.constant([0, 1]), 2)
    run = tf.function(lambda step: mix(images, labels, config, 0, step)[0])
    cut = []
    for step in range(200):
        mixed = run(tf.constant(step)).numpy()
        both = np.isin(mixed, images.numpy()).all()
        cut.append(both)
    # A mixup of share 0 or 1 to the bit looks like a cutmix of nothing: rare.
    assert np.mean(cut) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 1.0])
def test_beta(alpha: float) -> None:
    """The variance of Beta(a, a) is 1 / (4 (2a + 1)); none of a small `a` is missing."""
    draw = tf.function(lambda step: beta(tf.stack([1, step]), alpha))
    found = np.array([float(draw(tf.constant(step))) for step in range(1500)])
    assert np.isfinite(found).all()
    assert found.mean() == pytest.approx(0.5, abs=0.04)
    assert found.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.015)


def test_neighbours() -> None:
    assert neighbours(tf.range(6)).numpy().tolist() == [1, 0, 3, 2, 5, 4]


def test_soft_labels_of_several_labels() -> None:
    several = np.array([[1, 0, 1], [0, 0, 1]], "uint8")
    found = soft_labels(tf.constant(several), 3)
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, several)


def test_erasing_draws_as_the_reference() -> None:
    """Areas from 2 % to a third, aspect ratios from 0.3 to 1 / 0.3."""
    draws = tf.random.stateless_uniform([20_000, ERASING_DRAWS], [4, 4])
    erased = erased_boxes(0.25, draws, (64, 96)).numpy()[:, 2] > 0
    assert erased.mean() == pytest.approx(0.25, abs=0.01)
    top, left, height, width = erased_boxes(1.0, draws, (64, 96)).numpy().T
    area = height * width / (64 * 96)
    assert area.min() >= 0.018
    assert area.max() <= 0.345
    # timm 1.0.31's `RandomErasing` on 20,000 images of this size: 0.170.
    assert area.mean() == pytest.approx(0.170, abs=0.003)
    assert (top + height).max() <= 64
    assert (left + width).max() <= 96
    assert (top.min(), left.min()) == (0, 0)
    ratio = height / width
    assert ratio.min() >= 0.28
    assert ratio.max() <= 3.7  # sides are rounded


@pytest.mark.parametrize("mode", ["pixel", "const"])
def test_erase(mode: Any) -> None:
    image = tf.fill([32, 30, 3], 7.0)
    found = erase(image, tf.constant([2, 3, 20, 25]), tf.constant([1, 2]), mode).numpy()
    outside = np.ones((32, 30), bool)
    outside[2:22, 3:28] = False
    assert (found[outside] == 7).all()
    inside = found[~outside]
    if mode == "const":
        assert (inside == 0).all()
    else:
        assert (inside.mean(), inside.std()) == pytest.approx((0, 1), abs=0.1)
    nothing = erase(image, tf.zeros(4, tf.int32), tf.constant([1, 2]), mode)
    np.testing.assert_array_equal(nothing, image)


def test_color_shifts() -> None:
    """A factor of 1 of the first component: 255 * 0.2175 * (-0.5675, -0.5808, -0.5836)."""
    found = color_shifts(0.1, tf.constant([[10.0, 0, 0], [0, 10.0, 0]])).numpy()
    np.testing.assert_allclose(found[0], [-31.475, -32.213, -32.368], atol=1e-3)
    np.testing.assert_allclose(found[1], [3.4478, -0.0216, -3.3309], atol=1e-3)


def test_sizes_grow_linearly_in_multiples() -> None:
    config = AugmentConfig(start_size=128, full_size_at=0.5)
    found = [
        training_size(config, (224, 448), tf.constant(step), 100).numpy() for step in range(100)
    ]
    short = [int(size[0]) for size in found]
    assert short == sorted(short)
    assert (short[0], short[25], short[50], short[99]) == (128, 176, 224, 224)
    assert not any(side % 8 for side in short)
    assert len(set(short)) == 13
    assert [list(size) for size in found[:1] + found[-1:]] == [[128, 256], [224, 448]]


REFUSED = [
    ({"mixup": 0.2}, {"per_replica": 3}, "must be even. Received: 3 images per replica"),
    ({"cutmix": 1.0}, {"per_replica": 7}, "must be even"),
    ({"pca_noise": 0.1}, {"channels": 1}, "needs images of 3 channels"),
    ({"policy": "rand"}, {"channels": 4}, "need images of 1 or 3 channels"),
    ({"repeats": 8}, {}, "must leave 2 different images in a batch"),
    ({"start_size": 40}, {}, r"at most the size of the training images \(32\)"),
]


@pytest.mark.parametrize(("fields", "images", "message"), REFUSED)
def test_what_does_not_fit_is_refused(
    fields: dict[str, Any], images: dict[str, Any], message: str
) -> None:
    fitting = {"size": (32, 32), "channels": 3, "batch": 8, "per_replica": 8}
    check_augmentation(AugmentConfig(), **fitting)
    with pytest.raises(ValueError, match=message):
        check_augmentation(AugmentConfig(**fields), **{**fitting, **images})
