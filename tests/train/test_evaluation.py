"""Evaluation against NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import PreprocessSpec
from keras_resnet_train.data import ArraySource
from keras_resnet_train.evaluation import evaluate, wilson

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
