"""The loss of each example on literal numbers, for each kind of label."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet_train.config import RunConfig, with_changes
from keras_resnet_train.losses import balanced, balanced_pairs, make_loss

pytestmark = pytest.mark.tf

# Two examples of three classes; probabilities (0.7, 0.2, 0.1) and (0.1, 0.3, 0.6).
LOGITS = np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]).astype("float32")
HARD = np.array([0, 1])
SOFT = np.array([[0.8, 0.2, 0.0], [0.0, 0.5, 0.5]], "float32")
# For sigmoids: probabilities (0.8, 0.25, 0.5) and (0.5, 0.9, 0.2).
SIGMOID = np.log([[4.0, 1 / 3, 1.0], [1.0, 9.0, 0.25]]).astype("float32")


def losses(
    labels: Any, logits: Any = LOGITS, task: str = "classification", counts: Any = None, **changes
) -> np.ndarray:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    loss = make_loss(with_changes(RunConfig(steps=1), dotted), task=task, counts=counts)
    return loss(tf.constant(labels), tf.constant(logits)).numpy()


BCE = {"loss__kind": "bce"}
FOCAL = {"loss__kind": "focal"}
SMOOTH = {"optimizer__label_smoothing": 0.3}


@pytest.mark.parametrize(
    ("labels", "changes", "wanted"),
    [
        # -log 0.7, -log 0.3
        (HARD, {}, [0.3566749, 1.2039728]),
        # -(0.8 log 0.7 + 0.2 log 0.2), -(log 0.3 + log 0.6) / 2
        (SOFT, {}, [0.6072276, 0.8573992]),
        # 0.8, 0.1, 0.1 and 0.1, 0.8, 0.1
        (HARD, SMOOTH, [0.6765420, 1.2445193]),
        # 0.66, 0.24, 0.1 and 0.1, 0.45, 0.45
        (SOFT, SMOOTH, [0.8519257, 1.0019178]),
        # n / (k * count) = 30 / (3 * 20), 30 / (3 * 5), 30 / (3 * 5): 0.5, 2, 2
        (HARD, {"loss__class_weights": "balanced"}, [0.1783375, 2.4079456]),
        # of soft labels 0.8, 2.0
        (SOFT, {"loss__class_weights": "balanced"}, [0.4857821, 1.7147984]),
        # (1 - 0.7)^2 * 0.3566749, (1 - 0.3)^2 * 1.2039728
        (HARD, FOCAL, [0.0321007, 0.5899467]),
        # 0.8 * 0.0321007 + 0.2 * 0.64 * 1.6094379, 0.2949733 + 0.5 * 0.16 * 0.5108256
        (SOFT, FOCAL, [0.2316886, 0.3358394]),
        (HARD, {**FOCAL, "loss__focal_gamma": 0.0}, [0.3566749, 1.2039728]),
    ],
)
def test_softmax(labels: Any, changes: dict[str, Any], wanted: list[float]) -> None:
    np.testing.assert_allclose(losses(labels, counts=[20, 5, 5], **changes), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "changes", "wanted"),
    [
        # -(log 0.8 + log 0.75 + log 0.5) / 3, -(log 0.5 + log 0.9 + log 0.8) / 3
        (HARD, {}, [0.4013243, 0.3405503]),
        # the first: -(0.8 log 0.8 + 0.2 log 0.2 + 0.2 log 0.25 + 0.8 log 0.75 + log 0.5) / 3
        (SOFT, {}, [0.5669850, 0.9378038]),
        # 0.8, 0.1, 0.1 above 0.09 in each class, and 0.1 not above 0.1
        (HARD, {**SMOOTH, "loss__target_threshold": 0.09}, [0.7675284, 0.8026486]),
        (HARD, {**SMOOTH, "loss__target_threshold": 0.15}, [0.4013243, 0.3405503]),
        # 0.8, 0.2 and 0 become 1, 0 and 0; 0.5 becomes 1
        (SOFT, {"loss__target_threshold": 0.2}, [0.4013243, 0.8026486]),
        (SOFT, {"loss__target_threshold": 0.0}, [0.7675284, 0.8026486]),
    ],
)
def test_binary_cross_entropy(labels: Any, changes: dict[str, Any], wanted: list[float]) -> None:
    found = losses(labels, SIGMOID, **BCE, **changes)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, BCE])
def test_several_labels_an_image(changes: dict[str, Any]) -> None:
    labels = np.array([[1, 0, 1], [0, 0, 0]], "uint8")
    found = losses(labels, SIGMOID, "multilabel", **changes)
    # -(log 0.8 + log 0.75 + log 0.5) / 3, -(log 0.5 + log 0.1 + log 0.8) / 3
    np.testing.assert_allclose(found, [0.4013243, 1.0729586], rtol=1e-5)
    # each label towards 1/2: 0.85 and 0.15
    found = losses(labels, SIGMOID, "multilabel", **SMOOTH)
    np.testing.assert_allclose(found[1], 1.0729586 - 0.05 * (2.1972246 - 1.3862944), rtol=1e-5)
    found = losses(labels, SIGMOID, "multilabel", **FOCAL)
    # -(0.04 log 0.8 + 0.0625 log 0.75 + 0.25 log 0.5) / 3
    np.testing.assert_allclose(found[0], 0.0667310, rtol=1e-5)
    # 8 images, 2 with the first label, 4 with each other: 2 and 2/3, 1 and 1
    weights = {"loss__class_weights": "balanced"}
    found = losses(labels, SIGMOID, "multilabel", (8, 2, 4, 4), **weights)
    np.testing.assert_allclose(found[0], 0.4013243 + 0.2231436 / 3, rtol=1e-5)
    loss = make_loss(RunConfig(steps=1), task="multilabel")
    right = loss.correct(tf.constant(labels), tf.constant(SIGMOID)).numpy()
    np.testing.assert_allclose(right, [2 / 3, 2 / 3])


def test_the_largest_part_of_a_mixed_label_is_right() -> None:
    loss = make_loss(RunConfig(steps=1))
    mixed = np.array([[0.6, 0.4, 0.0], [0.6, 0.0, 0.4]], "float32")
    assert loss.correct(tf.constant(mixed), tf.constant(LOGITS)).numpy().tolist() == [1.0, 0.0]


def test_balanced_weights() -> None:
    np.testing.assert_allclose(balanced([30, 10]), [2 / 3, 2.0])
    np.testing.assert_allclose(balanced([6, 0, 2]), [2 / 3, 0.0, 2.0])  # a class without images
    np.testing.assert_allclose(balanced_pairs(8, [2, 8]), [[2 / 3, 0.0], [2.0, 1.0]])
    config = with_changes(RunConfig(steps=1), {"loss.class_weights": "balanced"})
    with pytest.raises(ValueError, match="needs the number of training images of each class"):
        make_loss(config)


def test_the_gradient_is_finite_where_a_probability_rounds_to_one() -> None:
    config = with_changes(RunConfig(steps=1), {"loss.kind": "focal", "loss.focal_gamma": 0.5})
    for task, labels in (("classification", [0]), ("multilabel", [[1.0, 0.0]])):
        logits = tf.constant([[90.0, -90.0]])
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = make_loss(config, task=task)(tf.constant(labels), logits)
        assert np.isfinite(tape.gradient(loss, logits).numpy()).all()


def test_a_threshold_belongs_to_bce() -> None:
    with pytest.raises(ValueError, match=r"`loss.target_threshold` needs `loss.kind=bce`"):
        with_changes(RunConfig(steps=1), {"loss.target_threshold": 0.2})
