"""The loss of each example: cross-entropy, binary cross-entropy and focal loss, on any labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .config import LossConfig, RunConfig

# Takes targets `(batch, classes)` and logits; returns the loss of each example.
_Formula = Callable[[Any, Any], Any]


class Loss:
    """The loss of each example, and whether its prediction is right.

    Labels are int64 `(batch,)`, or float32 `(batch, classes)` where they are soft or an image has
    several. The order is that of timm: labels are smoothed, then compared with the threshold
    (`timm/data/mixup.py`, `mixup_target`; `timm/loss/binary_cross_entropy.py`). Smoothing a mixed
    label gives the mixture of smoothed labels, so the mixing may come before.

    Args:
        formula: Takes targets and logits.
        smoothing: Share of each label that is spread over all classes; for several labels an image,
            the share that moves each of them towards 1/2.
        threshold: Targets above it become 1, the others 0. None keeps them.
        weights: Weight of each class; an example's loss is multiplied by the mean weight of its
            label before smoothing. For several labels an image `(2, classes)`: the weights of
            labels 0 and 1.
        multilabel: Whether an image may have several labels.

    Attributes:
        multilabel: As given.

    Example:
        >>> loss = make_loss(RunConfig(steps=1))
        >>> loss(labels=tf.constant([1]), logits=tf.constant([[0.0, 0.0]]))  # log 2
    """

    def __init__(
        self,
        formula: _Formula | None,
        *,
        smoothing: float = 0.0,
        threshold: float | None = None,
        weights: np.ndarray | None = None,
        multilabel: bool = False,
    ) -> None:
        self._formula = formula
        self._smoothing = smoothing
        self._threshold = threshold
        self._weights = weights
        self.multilabel = multilabel

    def __call__(self, labels: Any, logits: Any) -> Any:
        """Returns float32 `(batch,)`.

        Args:
            labels: The labels.
            logits: float32 `(batch, classes)`.
        """
        if self.multilabel:
            return self._of_several(labels, logits)
        sparse = len(labels.shape) == 1
        if self._formula is None and sparse:
            losses = _sparse_cross_entropy(labels, logits, self._smoothing)
        else:
            targets = _one_hot(labels, logits) if sparse else labels
            losses = (self._formula or _cross_entropy)(self._targets(targets), logits)
        return losses if self._weights is None else losses * self._weight_of(labels)

    def correct(self, labels: Any, logits: Any) -> Any:
        """Returns float32 `(batch,)`: 1 where the largest logit is at the largest label, else 0.

        For several labels an image it is the share of the classes whose logit has the right sign.
        """
        import tensorflow as tf

        if self.multilabel:
            right = (logits > 0) == (tf.cast(labels, tf.float32) > 0.5)
            return tf.reduce_mean(tf.cast(right, tf.float32), axis=-1)
        true = labels if len(labels.shape) == 1 else tf.argmax(labels, axis=-1)
        return tf.cast(tf.argmax(logits, axis=-1) == true, tf.float32)

    def _of_several(self, labels: Any, logits: Any) -> Any:
        import tensorflow as tf

        labels = tf.cast(labels, tf.float32)
        targets = labels
        if self._smoothing:
            targets = targets * (1 - self._smoothing) + 0.5 * self._smoothing
        losses = (self._formula or binary_cross_entropy)(self._above_threshold(targets), logits)
        if self._weights is not None:
            off, on = self._weights
            losses *= labels * on + (1 - labels) * off
        return tf.reduce_mean(losses, axis=-1)

    def _targets(self, labels: Any) -> Any:
        if self._smoothing:
            labels = labels * (1 - self._smoothing) + self._smoothing / labels.shape[-1]
        return self._above_threshold(labels)

    def _above_threshold(self, targets: Any) -> Any:
        import tensorflow as tf

        if self._threshold is None:
            return targets
        return tf.cast(targets > self._threshold, tf.float32)

    def _weight_of(self, labels: Any) -> Any:
        """Returns the weight of each example's class; of a mixed label, the mean."""
        import tensorflow as tf

        weights = tf.constant(self._weights, tf.float32)
        if len(labels.shape) == 1:
            return tf.gather(weights, labels)
        return tf.linalg.matvec(labels, weights)


def make_loss(
    config: RunConfig, *, task: str = "classification", counts: Sequence[int] | None = None
) -> Loss:
    """Returns the loss of a run.

    Args:
        config: The run: its section `loss`, and `optimizer.label_smoothing`.
        task: `"classification"`, or `"multilabel"` where an image may have several labels.
        counts: Training images of each class, for balanced class weights; for several labels an
            image, preceded by the number of images: `(images, count of class 0, ...)`.

    Raises:
        ValueError: If class weights are balanced and `counts` is None.
    """
    several = task == "multilabel"
    weights = None
    if config.loss.class_weights == "balanced":
        if counts is None:
            raise ValueError(
                "`loss.class_weights=balanced` needs the number of training images of each class, "
                "and this data set does not state its labels"
            )
        weights = balanced_pairs(counts[0], counts[1:]) if several else balanced(counts)
    return Loss(
        _formula(config, several=several),
        smoothing=config.optimizer.label_smoothing,
        threshold=config.loss.target_threshold,
        weights=weights,
        multilabel=several,
    )


def balanced(counts: Sequence[int]) -> np.ndarray:
    """Returns `n / (k * count)` of each class, float32, for n images of k classes.

    Classes without images count neither in n nor in k; their weight is 0. The mean weight of the
    images is 1, so that the learning rate keeps its scale.

    Source: scikit-learn, `sklearn.utils.class_weight.compute_class_weight`, `"balanced"` (King and
    Zeng 2001, "Logistic Regression in Rare Events Data").

    Args:
        counts: Images of each class.

    Example:
        >>> balanced([30, 10])
        array([0.6666667, 2.       ], dtype=float32)
    """
    found = np.asarray(counts, "float64")
    present = found > 0
    weights = np.zeros(len(found))
    weights[present] = found.sum() / (present.sum() * found[present])
    return weights.astype("float32")


def balanced_pairs(images: int, counts: Sequence[int]) -> np.ndarray:
    """Returns the balanced weights of label 0 and label 1 of each class, float32 `(2, classes)`.

    Each class is a problem of two classes, with and without the label.

    Args:
        images: Number of images.
        counts: Images with the label of each class.

    Example:
        >>> balanced_pairs(8, [2])
        array([[0.6666667],
               [2.       ]], dtype=float32)
    """
    return np.stack([balanced([images - count, count]) for count in counts], axis=1)


def binary_cross_entropy(targets: Any, logits: Any) -> Any:
    """Returns the cross-entropy of each class by itself, `(batch, classes)`.

    Source: Wightman et al. 2021 (arXiv:2110.00476), section 2.1.
    """
    import tensorflow as tf

    return tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)


def focal(gamma: float, *, multilabel: bool) -> _Formula:
    """Returns the focal loss: cross-entropy times `(1 - p) ** gamma`, for probability p.

    The sum over classes of a softmax, `(batch,)`; the loss of each sigmoid, `(batch, classes)`,
    with several labels an image. A soft label weighs the terms of its classes.

    Source: Lin et al. 2017 (arXiv:1708.02002), equation 4; there without class weights alpha.

    Args:
        gamma: The focusing parameter; 0 is cross-entropy.
        multilabel: Whether an image may have several labels.
    """

    def of_softmax(targets: Any, logits: Any) -> Any:
        import tensorflow as tf

        logs = tf.nn.log_softmax(logits)
        # A probability that rounds to 1 would have an infinite gradient for a gamma below 1.
        others = tf.maximum(-tf.math.expm1(logs), 1e-12)
        return -tf.reduce_sum(targets * others**gamma * logs, axis=-1)

    def of_sigmoids(targets: Any, logits: Any) -> Any:
        import tensorflow as tf

        on, off = tf.math.log_sigmoid(logits), tf.math.log_sigmoid(-logits)
        terms = targets * tf.exp(gamma * off) * on + (1 - targets) * tf.exp(gamma * on) * off
        return -terms

    return of_sigmoids if multilabel else of_softmax


def distilled(
    losses: Any, logits: Any, taught: Any, config: LossConfig, *, multilabel: bool
) -> Any:
    """Returns `(1 - alpha) * losses + alpha * T^2 * KL(teacher || student)`, `(batch,)`.

    The divergence is that of the outputs at temperature T; the factor keeps its gradients at the
    scale of the losses'. For several labels an image it is the mean over the classes.

    Source: Hinton et al. 2015 (arXiv:1503.02531), section 2; the weighting is that of DeiT
    (arXiv:2012.12877), equation 2.

    Args:
        losses: The loss of each example without a teacher.
        logits: The student's, `(batch, classes)`.
        taught: The teacher's.
        config: The loss: `teacher_temperature` and `teacher_alpha`.
        multilabel: Whether the classes are independent.
    """
    import tensorflow as tf

    temperature, alpha = config.teacher_temperature, config.teacher_alpha
    own, theirs = logits / temperature, taught / temperature
    if multilabel:
        share = tf.sigmoid(theirs)
        cross = tf.nn.sigmoid_cross_entropy_with_logits(share, own)
        divergence = tf.reduce_mean(
            cross - tf.nn.sigmoid_cross_entropy_with_logits(share, theirs), axis=-1
        )
    else:
        logs, own_logs = tf.nn.log_softmax(theirs), tf.nn.log_softmax(own)
        divergence = tf.reduce_sum(tf.exp(logs) * (logs - own_logs), axis=-1)
    return (1 - alpha) * losses + alpha * temperature**2 * divergence


def _formula(config: RunConfig, *, several: bool) -> _Formula | None:
    """Returns the formula of a configuration; None for the cross-entropy of the task."""
    if config.loss.kind == "focal":
        return focal(config.loss.focal_gamma, multilabel=several)
    if config.loss.kind == "bce" and not several:
        return _mean_binary_cross_entropy
    return None


def _mean_binary_cross_entropy(targets: Any, logits: Any) -> Any:
    """Returns the mean over the classes, as timm does unless it is told to sum."""
    import tensorflow as tf

    return tf.reduce_mean(binary_cross_entropy(targets, logits), axis=-1)


def _cross_entropy(targets: Any, logits: Any) -> Any:
    import tensorflow as tf

    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def _sparse_cross_entropy(labels: Any, logits: Any, smoothing: float) -> Any:
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if smoothing:
        uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        losses = (1 - smoothing) * losses + smoothing * uniform
    return losses


def _one_hot(labels: Any, logits: Any) -> Any:
    import tensorflow as tf

    return tf.one_hot(labels, logits.shape[-1])
