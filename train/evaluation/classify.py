"""Loss, top-1, top-5 and confusion matrix over every example of a split, once each."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec

from ..data import Share, Source, evaluation_batches
from .intervals import wilson


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of a split.

    Attributes:
        examples: Number of images, each counted once.
        loss: Mean cross-entropy, nats.
        accuracy: Top-1 accuracy, 0..1.
        top5: Top-5 accuracy, 0..1; 1 with fewer than five classes.
        confusion: Counts, `(classes, classes)`, rows are true classes.
    """

    examples: int
    loss: float
    accuracy: float
    top5: float
    confusion: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values, with the 95 % intervals of the accuracies."""
        top1, top5 = (
            list(wilson(round(share * self.examples), self.examples))
            for share in (self.accuracy, self.top5)
        )
        return {
            "examples": self.examples,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "accuracy_interval": top1,
            "top5_accuracy": self.top5,
            "top5_interval": top5,
            "confusion": self.confusion.tolist(),
        }


class Evaluator:
    """Evaluates one model repeatedly on one split; the graph is traced once."""

    def __init__(
        self,
        model: Any,
        source: Source,
        preprocess: PreprocessSpec,
        *,
        strategy: Any = None,
        batch_size: int = 256,
    ) -> None:
        import tensorflow as tf

        self._strategy = strategy or tf.distribute.get_strategy()
        replicas = self._strategy.num_replicas_in_sync
        self._batch = max(replicas, min(batch_size, len(source)) // replicas * replicas)
        self._steps = -(-len(source) // self._batch)
        self._model = model
        self._classes = model.outputs[0].shape[-1]
        channels = model.inputs[0].shape[-1]

        def batches(context: Any) -> Any:
            share = Share.of(context, self._batch, replicas)
            return evaluation_batches(source, preprocess, channels, share)

        self._data = self._strategy.distribute_datasets_from_function(batches)
        self._run = tf.function(self._all)

    def __call__(self) -> Evaluation:
        """Returns the metrics with the model's current weights."""
        sums, confusion = self._run(iter(self._data))
        loss, right, right5, count = sums.numpy()
        return Evaluation(
            examples=round(float(count)),
            loss=float(loss / count),
            accuracy=float(right / count),
            top5=float(right5 / count),
            confusion=np.rint(confusion.numpy()).astype("int64"),
        )

    def _all(self, iterator: Any) -> Any:
        import tensorflow as tf

        sums = tf.zeros(4, tf.float64)
        confusion = tf.zeros((self._classes, self._classes), tf.float64)
        for _ in tf.range(self._steps):
            parts = self._strategy.run(self._replica, args=(next(iterator),))
            sums += self._strategy.reduce("SUM", parts[0], axis=None)
            confusion += self._strategy.reduce("SUM", parts[1], axis=None)
        return sums, confusion

    def _replica(self, batch: Any) -> Any:
        import tensorflow as tf

        images, labels, weights = batch
        logits = tf.cast(self._model(images, training=False), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        predicted = tf.argmax(logits, axis=-1)
        top5 = tf.math.in_top_k(labels, logits, min(5, self._classes))
        right = tf.cast(predicted == labels, tf.float32)
        stacked = tf.stack([losses, right, tf.cast(top5, tf.float32), tf.ones_like(losses)])
        sums = tf.reduce_sum(tf.cast(stacked * weights, tf.float64), axis=1)
        confusion = tf.math.confusion_matrix(
            labels, predicted, self._classes, weights=weights, dtype=tf.float64
        )
        return sums, confusion


def evaluate(
    model: Any,
    source: Source,
    preprocess: PreprocessSpec,
    *,
    strategy: Any = None,
    batch_size: int = 256,
) -> Evaluation:
    """Evaluates a model on every example of a split.

    Args:
        model: Takes normalized images, returns logits `(batch, classes)`.
        source: The images and labels.
        preprocess: The preprocessing of the images.
        strategy: The `tf.distribute` strategy; the current one where None.
        batch_size: Global batch size.
    """
    return Evaluator(model, source, preprocess, strategy=strategy, batch_size=batch_size)()
