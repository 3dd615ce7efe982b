"""Loss, accuracies and confusion over every example of a split, once each."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec

from ..data import Share, Source, evaluation_batches
from ..data.images import normalize
from .confusion import Confusion
from .intervals import wilson
from .multilabel import MultilabelEvaluation


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of a split.

    Attributes:
        examples: Number of images, each counted once.
        loss: Mean cross-entropy, nats.
        accuracy: Top-1 accuracy, 0..1.
        top5: Top-5 accuracy, 0..1; 1 with fewer than five classes.
        counts: Images of each pair of true and predicted class.
    """

    examples: int
    loss: float
    accuracy: float
    top5: float
    counts: Confusion

    @property
    def confusion(self) -> np.ndarray:
        """The counts as an int64 matrix `(classes, classes)`, rows are true classes."""
        return self.counts.dense()

    @property
    def score(self) -> float:
        """The figure that chooses weights: the accuracy."""
        return self.accuracy

    @property
    def figures(self) -> dict[str, float]:
        """The figures of an epoch."""
        return {"loss": self.loss, "accuracy": self.accuracy}

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values, with the 95 % intervals of the accuracies.

        The counts are those of `Confusion.to_dict`.
        """
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
            **self.counts.to_dict(),
        }


class Evaluator:
    """Evaluates one model repeatedly on one split; the graph is traced once.

    The devices normalise the images, which they receive as uint8. Where the labels are rows of
    zeros and ones, an image may have several labels.

    Args:
        model: Takes normalised images, returns logits `(batch, classes)`.
        source: The images and labels.
        preprocess: The preprocessing of the images.
        strategy: The `tf.distribute` strategy; the current one where None.
        batch_size: Images of one replica in a batch.
    """

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
        self._replicas = self._strategy.num_replicas_in_sync
        replicas = self._replicas
        self._batch = replicas * max(1, min(batch_size, -(-len(source) // replicas)))
        self._size = len(source)
        self._steps = -(-len(source) // self._batch)
        self._model, self._preprocess = model, preprocess
        self._classes = model.outputs[0].shape[-1]
        channels = model.inputs[0].shape[-1]

        def batches(context: Any) -> Any:
            share = Share.of(context, self._batch, replicas)
            dataset = evaluation_batches(source, preprocess, channels, share, raw=True)
            self._multilabel = len(dataset.element_spec[1].shape) == 2
            return dataset

        self._multilabel = False
        self._data = self._strategy.distribute_datasets_from_function(batches)
        self._run = tf.function(self._all)

    def __call__(self) -> Evaluation | MultilabelEvaluation:
        """Returns the metrics with the model's current weights."""
        sums, rows = self._run(iter(self._data))
        sums, rows = sums.numpy(), rows.numpy()[: self._size]
        if self._multilabel:
            scores, labels = rows[:, 0], rows[:, 1] > 0.5
            loss = float(sums[0] / sums[-1])
            return MultilabelEvaluation(scores, labels, loss)
        loss, right, right5, count = sums
        return Evaluation(
            examples=round(float(count)),
            loss=float(loss / count),
            accuracy=float(right / count),
            top5=float(right5 / count),
            counts=Confusion.of(rows[:, 0], rows[:, 1], self._classes),
        )

    def _all(self, iterator: Any) -> Any:
        """Returns sums over all examples, and a row of each example."""
        import tensorflow as tf

        sums = tf.zeros(4, tf.float64)
        shape = (self._batch, 2, self._classes) if self._multilabel else (self._batch, 2)
        dtype = tf.float32 if self._multilabel else tf.int32
        rows = tf.TensorArray(dtype, self._steps, element_shape=shape)
        for index in tf.range(self._steps):
            parts = self._strategy.run(self._replica, args=(next(iterator),))
            sums += self._strategy.reduce("SUM", parts[0], axis=None)
            rows = rows.write(index, self._strategy.reduce("SUM", parts[1], axis=None))
        return sums, rows.concat()

    def _replica(self, batch: Any) -> Any:
        import tensorflow as tf

        images, labels, weights = batch
        images = normalize(images, self._preprocess)
        logits = tf.cast(self._model(images, training=False), tf.float32)
        measure = self._several_labels if self._multilabel else self._one_label
        figures, rows = measure(labels, logits)
        stacked = tf.stack([*figures, tf.ones_like(weights)])
        sums = tf.reduce_sum(tf.cast(stacked * weights, tf.float64), axis=1)
        return sums, self._in_place(rows)

    def _one_label(self, labels: Any, logits: Any) -> tuple[list[Any], Any]:
        """Returns loss, top-1 and top-5 of each example, and its true and predicted class."""
        import tensorflow as tf

        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        predicted = tf.argmax(logits, axis=-1)
        top5 = tf.math.in_top_k(labels, logits, min(5, self._classes))
        right = tf.cast(predicted == labels, tf.float32)
        rows = tf.cast(tf.stack([labels, predicted], axis=1), tf.int32)
        return [losses, right, tf.cast(top5, tf.float32)], rows

    def _several_labels(self, labels: Any, logits: Any) -> tuple[list[Any], Any]:
        """Returns the loss of each example, twice zero, and its probabilities and labels."""
        import tensorflow as tf

        labels = tf.cast(labels, tf.float32)
        losses = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), axis=-1)
        nothing = tf.zeros_like(losses)
        return [losses, nothing, nothing], tf.stack([tf.sigmoid(logits), labels], axis=1)

    def _in_place(self, rows: Any) -> Any:
        """Returns a replica's rows at their places in the global batch, among zeros."""
        import tensorflow as tf

        if self._replicas == 1:
            return rows
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        count = self._batch // self._replicas
        before = tf.cast(replica, tf.int32) * count
        margins = [[before, self._batch - count - before], *[[0, 0]] * (len(rows.shape) - 1)]
        return tf.ensure_shape(tf.pad(rows, margins), (self._batch, *rows.shape[1:]))


def evaluate(
    model: Any,
    source: Source,
    preprocess: PreprocessSpec,
    *,
    strategy: Any = None,
    batch_size: int = 256,
) -> Evaluation | MultilabelEvaluation:
    """Evaluates a model on every example of a split.

    Args:
        model: Takes normalized images, returns logits `(batch, classes)`.
        source: The images and labels.
        preprocess: The preprocessing of the images.
        strategy: The `tf.distribute` strategy; the current one where None.
        batch_size: Images of one replica in a batch.
    """
    return Evaluator(model, source, preprocess, strategy=strategy, batch_size=batch_size)()
