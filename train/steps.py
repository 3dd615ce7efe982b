"""The training step, and the loop of several steps that runs in one call of the graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_resnet import Rematerialized

from .config import RunConfig
from .optimizers import l2_factors


class TrainingSteps:
    """Runs training steps on the replicas of a `tf.distribute` strategy.

    Uses public API of TensorFlow and Keras only: `strategy.run` inside a `tf.function`. Each
    replica scales its loss by the global batch, and the Keras optimizer sums the gradients over
    the replicas.

    Args:
        model: The model, built under the strategy.
        optimizer: The optimizer, built for the model's trainable variables.
        config: The run.
        strategy: The strategy.
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
        self._l2_factors = l2_factors(config.optimizer, self._variables)
        # AutoGraph would inspect about a thousand Python calls for a network of 110 layers.
        step = tf.autograph.experimental.do_not_convert(self._replica_step)
        self._step = tf.function(step, jit_compile=True) if config.runtime.xla else step
        self._loop = tf.function(self._steps)
        self._average = tf.function(self._average_over_replicas)

    def __call__(self, iterator: Any, count: int) -> np.ndarray:
        """Trains for `count` steps.

        Args:
            iterator: An iterator over the distributed training batches.
            count: Number of steps.

        Returns:
            float32 `(count, 2)`: the mean loss and the accuracy of each step.
        """
        import tensorflow as tf

        return np.asarray(self._loop(iterator, tf.constant(count)).numpy())

    def average_statistics(self) -> None:
        """Averages batch-norm statistics over the replicas, where each replica has its own.

        The averages are linear in the replicas' statistics, so that averaging now and again later
        gives the same result as averaging later only.
        """
        synchronized = self._config.runtime.sync_batch_norm
        if self._strategy.num_replicas_in_sync > 1 and not synchronized:
            self._average()

    def _steps(self, iterator: Any, count: Any) -> Any:
        import tensorflow as tf

        metrics = tf.TensorArray(tf.float32, size=count, element_shape=(2,))
        for index in tf.range(count):
            batch = next(iterator)
            parts = self._strategy.run(self._step, args=batch)
            metrics = metrics.write(index, self._strategy.reduce("SUM", parts, axis=None))
        return metrics.stack()

    def _replica_step(self, images: Any, labels: Any) -> Any:
        """Trains one replica for one step; returns its part of the mean loss and accuracy."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            logits = tf.cast(self._forward(images, training=True), tf.float32)
            loss = tf.reduce_sum(self._losses(labels, logits)) / self._config.batch_size
            scaled_loss = self._scale(loss)
        gradients = tape.gradient(scaled_loss, self._variables)
        gradients = self._add_l2(self._clip(gradients))
        self._optimizer.apply(gradients, self._variables)
        correct = tf.cast(tf.argmax(logits, axis=-1) == labels, tf.float32)
        return tf.stack([loss, tf.reduce_sum(correct) / self._config.batch_size])

    def _losses(self, labels: Any, logits: Any) -> Any:
        """Returns the cross-entropy of each example, with label smoothing if configured."""
        import tensorflow as tf

        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        smoothing = self._config.optimizer.label_smoothing
        if smoothing:
            uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
            losses = (1 - smoothing) * losses + smoothing * uniform
        return losses

    def _scale(self, value: Any) -> Any:
        """Multiplies by the loss scale of `mixed_float16`; returns `value` otherwise."""
        if self._config.runtime.precision != "mixed_float16":
            return value
        return self._optimizer.scale_loss(value)

    def _clip(self, gradients: Any) -> list[Any]:
        """Clips the sum of the replicas' gradients by its global norm.

        The optimizer sums gradients over replicas, but two things need the sum before: Keras's
        `global_clipnorm` would clip the gradients of each replica by themselves, and Keras's loss
        scaling asks one replica only whether the gradients are finite.
        """
        import tensorflow as tf

        replicas = self._strategy.num_replicas_in_sync
        clip_norm = self._config.optimizer.clip_norm
        loss_scaled = self._config.runtime.precision == "mixed_float16"
        if not clip_norm and not (loss_scaled and replicas > 1):
            return list(gradients)
        context = tf.distribute.get_replica_context()
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        if clip_norm:
            summed, _ = tf.clip_by_global_norm(summed, clip_norm * self._scale(1.0))
        return [gradient / replicas for gradient in summed]

    def _add_l2(self, gradients: list[Any]) -> list[Any]:
        """Adds the gradient of the L2 term; each replica adds its part of it."""
        import tensorflow as tf

        replicas = self._strategy.num_replicas_in_sync
        scale = self._scale(1.0)
        # One constant per factor, not per variable.
        parts = {factor: tf.constant(factor / replicas) * scale for factor in set(self._l2_factors)}
        return [
            gradient + parts[factor] * tf.convert_to_tensor(variable.value) if factor else gradient
            for gradient, variable, factor in zip(
                gradients, self._variables, self._l2_factors, strict=True
            )
        ]

    def _average_over_replicas(self) -> None:
        import tensorflow as tf

        statistics = [v for v in self._model.non_trainable_variables if "float" in str(v.dtype)]
        values = self._strategy.run(lambda: [tf.identity(v.value) for v in statistics])
        for variable, value in zip(statistics, values, strict=True):
            variable.assign(self._strategy.reduce("MEAN", value, axis=None))
