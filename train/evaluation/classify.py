"""Loss, accuracies and confusion over every example of a split, once each."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec

from ..data import Share, Source, evaluation_batches
from ..data.evaluation_plan import EvaluationPlan
from ..data.images import normalize
from ..data.tracing import without_autograph
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
        self._plan = EvaluationPlan(len(source), self._batch)
        self._model, self._preprocess = model, preprocess
        self._classes = model.outputs[0].shape[-1]
        channels = model.inputs[0].shape[-1]

        def batches(context: Any) -> Any:
            share = Share.of(context, self._batch, replicas)
            self._plan = dataclasses.replace(self._plan, workers=share.workers)
            dataset = evaluation_batches(source, preprocess, channels, share, raw=True)
            self._multilabel = len(dataset.element_spec[1].shape) == 2
            return dataset

        self._multilabel = False
        self._data = self._strategy.distribute_datasets_from_function(batches)
        self._run = tf.function(self._all)

    def __call__(self) -> Evaluation | MultilabelEvaluation:
        """Returns the metrics with the model's current weights.

        They are computed from a row of each example in the order of the examples, so that they do
        not depend on the number of workers and replicas.
        """
        rows = self._run(iter(self._data)).numpy()[self._plan.places()]
        loss = float(rows[:, 0].mean(dtype="float64"))
        if self._multilabel:
            scores, labels = np.split(rows[:, 1:], 2, axis=1)
            return MultilabelEvaluation(scores, labels > 0.5, loss)
        return Evaluation(
            examples=len(rows),
            loss=loss,
            accuracy=float((rows[:, 1] == rows[:, 2]).mean()),
            top5=float(rows[:, 3].mean(dtype="float64")),
            counts=Confusion.of(rows[:, 1], rows[:, 2], self._classes),
        )

    def _all(self, iterator: Any) -> Any:
        """Returns the rows of all global batches."""
        import tensorflow as tf

        shape = (self._batch, 1 + 2 * self._classes if self._multilabel else 4)
        rows = tf.TensorArray(tf.float32, self._plan.steps, element_shape=shape)
        for index in tf.range(self._plan.steps):
            found = self._strategy.run(self._replica, args=(next(iterator),))
            rows = rows.write(index, self._strategy.reduce("SUM", found, axis=None))
        return rows.concat()

    @without_autograph
    def _replica(self, batch: Any) -> Any:
        import tensorflow as tf

        images, labels, _ = batch
        images = normalize(images, self._preprocess)
        logits = tf.cast(self._model(images, training=False), tf.float32)
        measure = self._several_labels if self._multilabel else self._one_label
        return self._in_place(measure(labels, logits))

    def _one_label(self, labels: Any, logits: Any) -> Any:
        """Returns loss, true and predicted class, and top-5 of each example, float32.

        Numbers of classes are exact: there are fewer than 2^24.
        """
        import tensorflow as tf

        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        predicted = tf.argmax(logits, axis=-1)
        top5 = tf.math.in_top_k(labels, logits, min(5, self._classes))
        columns = (losses, labels, predicted, top5)
        return tf.stack([tf.cast(column, tf.float32) for column in columns], axis=1)

    def _several_labels(self, labels: Any, logits: Any) -> Any:
        """Returns the loss of each example, its probabilities and its labels, float32."""
        import tensorflow as tf

        labels = tf.cast(labels, tf.float32)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        losses = tf.reduce_mean(losses, axis=-1, keepdims=True)
        return tf.concat([losses, tf.sigmoid(logits), labels], axis=1)

    def _in_place(self, rows: Any) -> Any:
        """Returns a replica's rows at their places in the global batch, among zeros."""
        import tensorflow as tf

        if self._replicas == 1:
            return rows
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        count = self._batch // self._replicas
        before = tf.cast(replica, tf.int32) * count
        rows = tf.pad(rows, [[before, self._batch - count - before], [0, 0]])
        return tf.ensure_shape(rows, (self._batch, rows.shape[1]))


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
