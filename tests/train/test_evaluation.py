"""Evaluation against NumPy, and what is counted, against literal values."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec
from keras_resnet_train.data import ArraySource
from keras_resnet_train.evaluation import evaluate, wilson
from keras_resnet_train.evaluation.calibration import Calibration
from keras_resnet_train.evaluation.classes import (
    CIFAR10,
    check_classes,
    class_csv,
    class_table,
    confusion_csv,
)
from keras_resnet_train.evaluation.tally import Tally

pytestmark = pytest.mark.tf


def linear(classes: int) -> tuple[keras.Model, ArraySource, np.ndarray, PreprocessSpec]:
    """A linear model, images, and the logits by NumPy."""
    rng = np.random.default_rng(classes)
    images = rng.integers(0, 256, (53, 4, 5, 3), dtype=np.uint8)
    labels = rng.integers(0, classes, 53)
    preprocess = PreprocessSpec((4, 5), (100.0, 120.0, 130.0), (50.0, 60.0, 70.0))
    model = keras.Sequential(
        [keras.Input((4, 5, 3)), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
    kernel, bias = rng.normal(0, 0.2, (60, classes)), rng.normal(0, 1, classes)
    model.set_weights([kernel, bias])
    pixels = (images - np.float64(preprocess.mean)) / np.float64(preprocess.std)
    logits = pixels.reshape(53, 60) @ kernel + bias
    return model, ArraySource(images, labels), logits, preprocess


@pytest.mark.parametrize("classes", [3, 12])
@pytest.mark.parametrize("batch_size", [1, 16, 53, 1000])
def test_against_numpy(classes: int, batch_size: int) -> None:
    model, source, logits, preprocess = linear(classes)
    labels = source.labels
    found = evaluate(model, source, preprocess, batch_size=batch_size)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(53), labels]
    predicted = logits.argmax(axis=1)
    better = (logits > logits[np.arange(53), labels][:, None]).sum(axis=1)
    assert found.examples == 53
    assert found.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert found.accuracy == pytest.approx((predicted == labels).mean(), abs=1e-12)
    assert found.top5 == pytest.approx((better < 5).mean(), abs=1e-12)
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (labels, predicted), 1)
    np.testing.assert_array_equal(found.confusion, confusion)
    assert 0 < found.accuracy < 1
    values = found.to_dict()
    assert values["confusion"] == confusion.tolist()
    low, high = values["accuracy_interval"]
    assert (low, high) == wilson(round(found.accuracy * 53), 53)
    assert tuple(values["top5_interval"]) == wilson(int((better < 5).sum()), 53)


def test_images_of_another_size_are_fitted() -> None:
    model, source, _, preprocess = linear(3)
    twice = ArraySource(source.images.repeat(2, axis=1).repeat(2, axis=2), source.labels)
    nearest = PreprocessSpec((4, 5), preprocess.mean, preprocess.std, interpolation="nearest")
    one, other = evaluate(model, source, nearest), evaluate(model, twice, nearest)
    np.testing.assert_array_equal(one.confusion, other.confusion)
    assert one.loss == pytest.approx(other.loss, rel=1e-6)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (8, 10, 0.4901625, 0.9433178),
        (500, 1000, 0.4690696, 0.5309304),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Table I
        (1, 29, 0.0061, 0.1718),  # the same
    ],
)
def test_wilson(right: int, total: int, low: float, high: float) -> None:
    assert wilson(right, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("right", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_needs_counts(right: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"0..total. Received: right={right}, total={total}"):
        wilson(right, total)


# Calibration.


def test_calibration_of_literal_values() -> None:
    """Four bins: 0.3 and 0.5, its bin's upper end, share the second, the others are above 0.75."""
    confidence = np.array([0.8, 0.9, 1.0, 0.5, 0.3])
    right = np.array([True, True, False, False, True])
    found = Calibration.of(confidence, right, bins=4)
    assert found.counts.tolist() == [0, 2, 0, 3]
    # Bin 2: 1 of 2 right at 0.4 on average; bin 4: 2 of 3 at 0.9.
    assert found.gaps == pytest.approx([0, 0.1, 0, 2 / 3 - 0.9])
    assert found.error == pytest.approx(2 / 5 * 0.1 + 3 / 5 * (0.9 - 2 / 3))
    assert found.largest_gap == pytest.approx(0.9 - 2 / 3)
    rows = found.to_dict()["bins"]
    assert [(row["above"], row["up_to"]) for row in rows] == [
        (0, 0.25),
        (0.25, 0.5),
        (0.5, 0.75),
        (0.75, 1),
    ]
    assert (rows[0]["examples"], rows[0]["accuracy"], rows[0]["confidence"]) == (0, None, None)
    assert rows[3]["accuracy"] == pytest.approx(2 / 3)
    assert rows[3]["confidence"] == pytest.approx(0.9)


def test_calibration_adds_up() -> None:
    """By Guo et al.'s formula, bin for bin, over 15 bins; and in parts."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0, 1, 500)
    right = rng.uniform(0, 1, 500) < confidence**2
    error = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        error += inside.sum() / 500 * abs(right[inside].mean() - confidence[inside].mean())
    parts = [Calibration.of(confidence[i : i + 90], right[i : i + 90]) for i in range(0, 500, 90)]
    whole = sum(parts[1:], parts[0])
    assert len(whole.counts) == 15
    assert whole.counts.sum() == 500
    assert whole.error == pytest.approx(error)
    assert error > 0.1
    ends = Calibration.of(np.array([0.0, 1.0]), np.array([False, True]))
    assert ends.counts[[0, -1]].tolist() == [1, 1]


# What is counted.


def test_tally() -> None:
    shares = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.05, 0.05, 0.9]])
    labels = np.array([0, 1, 1, 0])
    pictures = np.arange(4)
    whole, parts = Tally(3, keep=2), Tally(3, keep=2)
    whole.add(np.log(shares), labels, image=lambda row: pictures[row])
    for first in (0, 2):
        part = slice(first, first + 2)
        parts.add(np.log(shares[part]), labels[part], first=first, image=pictures[part].__getitem__)
    for found in (whole.result(), parts.result()):
        assert found.evaluation.examples == 4
        assert found.evaluation.accuracy == 0.25
        assert found.evaluation.top5 == 1.0
        assert found.evaluation.loss == pytest.approx(-np.log([0.7, 0.3, 0.1, 0.05]).mean())
        assert found.evaluation.confusion.tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 0]]
        cases = [(c.number, c.true, c.predicted, int(c.image)) for c in found.mistakes]
        assert cases == [(3, 0, 2, 3), (2, 1, 2, 2)]  # the third mistake is the least sure
        assert [c.probability for c in found.mistakes] == pytest.approx([0.9, 0.8])
        assert found.calibration.error == pytest.approx((0.3 + 0.6 + 0.8 + 0.9) / 4)


def test_top5_of_many_classes() -> None:
    """A label that is the fifth counts, the sixth does not."""
    tally = Tally(7)
    shares = np.log(np.array([[7, 6, 5, 4, 3, 2, 1]]) / 28)
    for label in range(7):
        tally.add(shares, np.array([label]))
    assert tally.result().evaluation.top5 == pytest.approx(5 / 7)


def test_what_cannot_be_counted() -> None:
    tally = Tally(2)
    with pytest.raises(ValueError, match="There are no images to measure on"):
        tally.result()
    shares = np.log(np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match=r"Labels must lie in 0\.\.1.* Received: -1 at image 11"):
        tally.add(shares, np.array([0, -1]), first=10)
    shares[0, 1] = np.nan
    with pytest.raises(ValueError, match=r"finite numbers: .* image 10 \(1 of these 2"):
        tally.add(shares, np.array([0, 1]), first=10)


# Classes.


def test_class_table() -> None:
    confusion = np.array([[3, 1, 0, 0], [2, 4, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    names = ("a", "b, and more", "none", "d")
    rows = class_table(confusion, names)
    assert rows[0] == {
        "class": 0,
        "name": "a",
        "precision": 0.5,
        "recall": 0.75,
        "f1": pytest.approx(0.6),
        "support": 4,
    }
    assert (rows[1]["precision"], rows[1]["recall"]) == (0.8, pytest.approx(2 / 3))
    assert rows[1]["f1"] == pytest.approx(2 / (1 / 0.8 + 1 / (2 / 3)))
    assert [rows[2][key] for key in ("precision", "recall", "f1", "support")] == [None] * 3 + [0]
    assert [rows[3][key] for key in ("precision", "recall", "f1", "support")] == [None, 0, 0, 1]
    lines = class_csv(rows).splitlines()
    assert lines[0] == "class,name,precision,recall,f1,support"
    assert lines[2] == '1,"b, and more",0.800000,0.666667,0.727273,6'
    assert lines[3] == "2,none,,,,0"
    lines = confusion_csv(confusion, names).splitlines()
    assert lines[0] == 'true \\ predicted,a,"b, and more",none,d'
    assert lines[2] == '"b, and more",2,4,0,0'


def test_classes_that_fit() -> None:
    check_classes(("a", "b"), ("a", "b"), data="images", net="net")


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (("b", "a"), ("a", "b"), "of 'images' are not those that net was trained on: b, a"),
        (sorted(CIFAR10, reverse=True), CIFAR10, "truck, ship, horse, frog ... against airpl"),
        (("a",), ("a", "b"), "(1 against 2)"),
    ],
)
def test_classes_that_do_not_fit(names: list[str], wanted: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_classes(names, wanted, data="images", net="net")
