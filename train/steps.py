"""The training step and the loop of several steps that runs in one call of the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_resnet import Rematerialized

from .config import RunConfig
from .optimizers import l2_factors


class TrainingSteps:
    """Runs training steps on the replicas of a strategy.

    Public TensorFlow and Keras API only: `strategy.run` inside a `tf.function`, the loss of each
    replica scaled by the global batch, the sum of the gradients taken by the Keras optimizer.
    """

    def __init__(self, model: Any, optimizer: Any, config: RunConfig, strategy: Any) -> None:
        import tensorflow as tf

        self._model = model
        remat = config.runtime.remat
        self._forward = model if remat == "none" else Rematerialized(model, remat)
        self._optimizer = optimizer
        self._config = config
        self._strategy = strategy
        self._variables = model.trainable_variables
        self._l2 = l2_factors(config.optimizer, self._variables)
        # Python as it stands: for a net of 110 layers AutoGraph would look at a thousand calls.
        step = tf.autograph.experimental.do_not_convert(self._replica)
        self._step = tf.function(step, jit_compile=True) if config.runtime.xla else step
        self._loop = tf.function(self._steps)
        self._mean = tf.function(self._average)
        self._sum = tf.function(
            lambda own: strategy.reduce("SUM", strategy.run(lambda: own), axis=None)
        )

    def __call__(self, iterator: Any, count: int) -> np.ndarray:
        """Takes `count` steps.

        Args:
            iterator: Over the distributed training batches.
            count: Number of steps.

        Returns:
            float32 `(count, 2)`: each step's mean loss and share of right answers.
        """
        import tensorflow as tf

        return np.asarray(self._loop(iterator, tf.constant(count)).numpy())

    def total(self, own: list[float]) -> list[float]:
        """Returns the sums over the machines of what each of them brings."""
        import tensorflow as tf

        return [float(value) for value in self._sum(tf.constant(own)).numpy()]

    def average_statistics(self) -> None:
        """Averages moving statistics over replicas that each gathered their own.

        The averages are linear in what was gathered, so averaging now and again later gives what
        averaging only later would.
        """
        own = not self._config.runtime.sync_batch_norm
        if own and self._strategy.num_replicas_in_sync > 1:
            self._mean()

    def _steps(self, iterator: Any, count: Any) -> Any:
        import tensorflow as tf

        measured = tf.TensorArray(tf.float32, size=count, element_shape=(2,))
        for index in tf.range(count):
            batch = next(iterator)
            parts = self._strategy.run(self._step, args=batch)
            measured = measured.write(index, self._strategy.reduce("SUM", parts, axis=None))
        return measured.stack()

    def _replica(self, images: Any, labels: Any) -> Any:
        """One replica's part of a step; returns its share of the mean loss and accuracy."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            logits = tf.cast(self._forward(images, training=True), tf.float32)
            loss = tf.reduce_sum(self._losses(labels, logits)) / self._config.batch_size
            scaled = self._scale(loss)
        gradients = tape.gradient(scaled, self._variables)
        self._optimizer.apply(self._finished(gradients), self._variables)
        right = tf.cast(tf.argmax(logits, axis=-1) == labels, tf.float32)
        return tf.stack([loss, tf.reduce_sum(right) / self._config.batch_size])

    def _losses(self, labels: Any, logits: Any) -> Any:
        """Cross-entropy of each example, with smoothed targets where the recipe says so."""
        import tensorflow as tf

        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        smoothing = self._config.optimizer.label_smoothing
        if smoothing:
            uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
            losses = (1 - smoothing) * losses + smoothing * uniform
        return losses

    def _scale(self, value: Any) -> Any:
        """Scales a loss for float16; other precisions leave it as it is."""
        if self._config.runtime.precision != "mixed_float16":
            return value
        return self._optimizer.scale_loss(value)

    def _finished(self, gradients: Any) -> list[Any]:
        """Clips by the global norm, then adds the L2 term's gradient.

        The optimizer sums over replicas, so each adds its share. Two things need the sum before:
        Keras's own `global_clipnorm` would clip each replica's part, and its loss scaling asks one
        replica alone whether the gradients are finite.
        """
        import tensorflow as tf

        replicas = self._strategy.num_replicas_in_sync
        scale = self._scale(1.0)
        clip = self._config.optimizer.clip_norm
        scaled = self._config.runtime.precision == "mixed_float16"
        if clip or (scaled and replicas > 1):
            context = tf.distribute.get_replica_context()
            summed = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            if clip:
                summed, _ = tf.clip_by_global_norm(summed, clip * scale)
            gradients = [gradient / replicas for gradient in summed]
        # One constant for each factor, not for each variable.
        shares = {factor: tf.constant(factor / replicas) * scale for factor in set(self._l2)}
        return [
            gradient + shares[factor] * tf.convert_to_tensor(variable.value) if factor else gradient
            for gradient, variable, factor in zip(gradients, self._variables, self._l2, strict=True)
        ]

    def _average(self) -> None:
        import tensorflow as tf

        statistics = [v for v in self._model.non_trainable_variables if "float" in str(v.dtype)]

        held = self._strategy.run(lambda: [tf.identity(v.value) for v in statistics])
        for variable, values in zip(statistics, held, strict=True):
            variable.assign(self._strategy.reduce("MEAN", values, axis=None))
