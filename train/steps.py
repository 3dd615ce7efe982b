"""The training step, and the loop of several steps that runs in one call of the graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_resnet import Rematerialized
from keras_resnet.nets.draws import keyed_draws

from .config import RunConfig
from .losses import Loss, distilled, make_loss
from .optimizers import l2_factors
from .strategies import sum_options


class TrainingSteps:
    """Runs training steps on the replicas of a `tf.distribute` strategy.

    Uses public API of TensorFlow and Keras only: `strategy.run` inside a `tf.function`. Each
    replica scales its loss by the global batch. The gradients are summed over the replicas once,
    here: clipping, loss scaling and the logged norm need the sum.

    Args:
        model: The model, built under the strategy.
        optimizer: The optimizer, as `make_optimizer` returns it, built for the model's trainable
            variables. On several replicas it then takes sums of gradients only.
        config: The run.
        strategy: The strategy.
        schedule: The learning rate as a function of the step of the run. The optimizer is then
            built with a number as its rate. Without a schedule the optimizer's rate stays.
        averages: Averaged weights. `averages.update(step)` is called in the graph after each
            update, outside of the replicas, with the step that the update belongs to.
        loss: The loss; by default that of the configuration for classification.
        teacher: Returns the logits of a trained net for the normalized images, to learn from.
        finish: Makes the net's input of what the batches have in place of images, on the device
            (`data.make_finish`); None where they have the net's input. XLA does not compile it, so
            that its values are the same to the bit.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        config: RunConfig,
        strategy: Any,
        *,
        schedule: Callable[[Any], Any] | None = None,
        averages: Any = None,
        loss: Loss | None = None,
        teacher: Callable[[Any], Any] | None = None,
        finish: Callable[[Any], Any] | None = None,
    ) -> None:
        import tensorflow as tf

        remat = config.runtime.remat
        self._forward = model if remat == "none" else Rematerialized(model, remat)
        self._optimizer = optimizer
        self._config = config
        self._strategy = strategy
        self._schedule = schedule
        self._averages = averages
        self._loss = loss or make_loss(config)
        self._teacher = teacher
        # Only what is used is in the graph.
        self._draws = any(v.name == "seed_generator_state" for v in model.non_trainable_variables)
        self._counts_steps = self._draws or schedule is not None or averages is not None
        self._replicas = strategy.num_replicas_in_sync
        self._per_replica = config.batch_size // self._replicas
        self._parts = _parts(config, self._replicas)
        if self._replicas > 1:
            mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
            rules = getattr(optimizer, "inner_optimizer", optimizer)  # inside of loss scaling
            rules.take_sums(merge=not (config.runtime.xla and mirrored))
        self._variables = model.trainable_variables
        self._l2_factors = l2_factors(config.optimizer, self._variables)
        # AutoGraph would inspect about a thousand Python calls for a network of 110 layers.
        step = tf.autograph.experimental.do_not_convert(self._replica_step)
        self._compiled = tf.function(step, jit_compile=True) if config.runtime.xla else step
        self._finish = finish
        self._loop = tf.function(self._steps)

    def __call__(self, iterator: Any, count: int, first_step: int = 0) -> np.ndarray:
        """Trains for `count` steps.

        Args:
            iterator: An iterator over the distributed training batches: images, or what `finish`
                makes them of, and labels. Labels are int64 `(batch,)`, or float32
                `(batch, classes)` where they are soft or an image has several.
            count: Number of steps.
            first_step: Index of the first of them in the run. It sets the learning rate, where
                there is a schedule, and keys the draws of stochastic depth and dropout.

        Returns:
            float32 `(count, 2)`: the mean loss and the accuracy of each step. With
            `runtime.log_gradient_norm` `(count, 3)`: then also the L2 norm of the gradient of the
            mean loss over the global batch, before it is clipped and without weight decay.
        """
        import tensorflow as tf

        first = tf.constant(first_step, tf.int64)
        return np.asarray(self._loop(iterator, tf.constant(count), first).numpy())

    def _steps(self, iterator: Any, count: Any, first_step: Any = 0) -> Any:
        import tensorflow as tf

        update = tf.autograph.experimental.do_not_convert(self._update)
        columns = 3 if self._config.runtime.log_gradient_norm else 2
        metrics = tf.TensorArray(tf.float32, size=count, element_shape=(columns,))
        for index in tf.range(count):
            batch = next(iterator)
            parts = update(batch, first_step, index)
            metrics = metrics.write(index, self._strategy.reduce("SUM", parts, axis=None))
        return metrics.stack()

    def _update(self, batch: Any, first_step: Any, index: Any) -> Any:
        """Updates the weights once, on all replicas; returns their parts of the metrics."""
        import tensorflow as tf

        if self._counts_steps:
            step = first_step + tf.cast(index, tf.int64)
        if self._schedule is not None:
            self._optimizer.learning_rate = self._schedule(step)
        if self._draws:
            parts = self._strategy.run(self._keyed_step, args=(*batch, step))
        else:
            parts = self._strategy.run(self._step, args=batch)
        if self._averages is not None:
            self._averages.update(step)
        return parts

    def _keyed_step(self, images: Any, labels: Any, step: Any) -> Any:
        """Runs `_step` with the position of the replica's first example in the global batch."""
        import tensorflow as tf

        # Here, because XLA compiles one function for all replicas.
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return self._step(images, labels, step, tf.cast(replica, tf.int64) * self._per_replica)

    def _step(self, images: Any, *rest: Any) -> Any:
        """Finishes the images of one replica, and trains on them."""
        return self._compiled(images if self._finish is None else self._finish(images), *rest)

    def _replica_step(self, images: Any, labels: Any, step: Any = None, first: Any = None) -> Any:
        """Trains one replica for one step; returns its part of the mean loss and accuracy.

        Args:
            images: The replica's images.
            labels: Their labels.
            step: The step, which keys the draws of the net's layers, if they draw.
            first: Position of the first image in the global batch.
        """
        import tensorflow as tf

        if self._parts == 1:
            gradients, measured = self._gradients(images, labels, step, first)
        else:
            gradients, measured = self._accumulated(images, labels, step, first)
        gradients, norm = self._clip(self._sum(gradients))
        self._optimizer.apply(self._add_l2(gradients), self._variables)
        return measured if norm is None else tf.concat([measured, [norm]], axis=0)

    def _gradients(self, images: Any, labels: Any, step: Any, first: Any) -> tuple[list[Any], Any]:
        """Returns the gradients of images of the batch, and their part of loss and accuracy."""
        import tensorflow as tf

        batch_size = self._config.batch_size
        keys: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self._draws:
            keys = keyed_draws(self._config.seed, step, first, batch_size)
        with keys:
            with tf.GradientTape() as tape:
                logits = tf.cast(self._forward(images, training=True), tf.float32)
                loss = tf.reduce_sum(self._losses(images, labels, logits)) / batch_size
                scaled_loss = self._scale(loss)
            gradients = tape.gradient(scaled_loss, self._variables)
        correct = tf.reduce_sum(self._loss.correct(labels, logits))
        return gradients, tf.stack([loss, correct / batch_size])

    def _losses(self, images: Any, labels: Any, logits: Any) -> Any:
        """Returns the loss of each image."""
        losses, settings = self._loss(labels, logits), self._config.loss
        if self._teacher is None:
            return losses
        taught = self._teacher(images)
        return distilled(losses, logits, taught, settings, multilabel=self._loss.multilabel)

    def _accumulated(
        self, images: Any, labels: Any, step: Any, first: Any
    ) -> tuple[list[Any], Any]:
        """Returns what `_gradients` does, computed for one part of the images after the other.

        Everything that follows sees the sum, so that a step is that of the whole batch. Only batch
        norm differs: it normalizes each part by the part's own statistics.
        """
        import tensorflow as tf

        count = self._per_replica // self._parts

        def add_part(index: Any, gradients: list[Any], measured: Any) -> tuple[Any, list[Any], Any]:
            begin = index * count
            part = images[begin : begin + count], labels[begin : begin + count]
            part = tuple(
                tf.ensure_shape(rows, (count, *whole.shape[1:]))
                for rows, whole in zip(part, (images, labels), strict=True)
            )
            where = None if first is None else first + tf.cast(begin, tf.int64)
            new, more = self._gradients(*part, step, where)
            sums = [total + value for total, value in zip(gradients, new, strict=True)]
            return index + 1, sums, measured + more

        state = (tf.constant(0), [tf.zeros(v.shape, v.dtype) for v in self._variables], tf.zeros(2))
        if self._replicas > 1 and self._config.runtime.sync_batch_norm:
            # Replicas cannot communicate inside a loop. A part waits for the one before it.
            for _ in range(self._parts):
                with tf.control_dependencies(state[1]):
                    state = add_part(*state)
        else:
            state = tf.while_loop(
                lambda index, *_: index < self._parts,
                add_part,
                state,
                parallel_iterations=1,
                maximum_iterations=self._parts,
            )
        return state[1], state[2]

    def _scale(self, value: Any) -> Any:
        """Multiplies by the loss scale of `mixed_float16`; returns `value` otherwise."""
        if self._config.runtime.precision != "mixed_float16":
            return value
        return self._optimizer.scale_loss(value)

    def _sum(self, gradients: list[Any]) -> list[Any]:
        """Returns the sums of the replicas' gradients."""
        import tensorflow as tf

        if self._replicas == 1:
            return gradients
        context = tf.distribute.get_replica_context()
        runtime = self._config.runtime
        options = sum_options(
            runtime.collective, runtime.collective_pack, runtime.collective_timeout
        )
        return list(context.all_reduce(tf.distribute.ReduceOp.SUM, gradients, options))

    def _clip(self, gradients: list[Any]) -> tuple[list[Any], Any]:
        """Clips summed gradients by their global norm.

        Returns:
            The gradients, and the replica's part of their norm before; None if it is not logged.
        """
        import tensorflow as tf

        clip_norm = self._config.optimizer.clip_norm
        norm = part = None
        if self._config.runtime.log_gradient_norm:
            norm = tf.linalg.global_norm(gradients)
            part = norm / self._scale(1.0) / self._replicas
        if clip_norm:
            limit = clip_norm * self._scale(1.0)
            gradients, _ = tf.clip_by_global_norm(gradients, limit, use_norm=norm)
        return gradients, part

    def _add_l2(self, gradients: list[Any]) -> list[Any]:
        """Adds the gradient of the L2 term to summed gradients."""
        import tensorflow as tf

        scale = self._scale(1.0)
        # One constant per factor, not per variable.
        parts = {factor: tf.constant(factor) * scale for factor in set(self._l2_factors)}
        return [
            gradient + parts[factor] * tf.convert_to_tensor(variable.value) if factor else gradient
            for gradient, variable, factor in zip(
                gradients, self._variables, self._l2_factors, strict=True
            )
        ]


def _parts(config: RunConfig, replicas: int) -> int:
    """Returns the number of parts of a replica's batch.

    Raises:
        ValueError: If the batch does not divide into them.
    """
    parts = config.optimizer.accumulate
    if parts > 1 and config.batch_size % (parts * replicas):
        raise ValueError(
            f"`--batch-size` must divide by `--accumulate` parts on each of {replicas} replica(s). "
            f"Received: --batch-size {config.batch_size}, --accumulate {parts}"
        )
    return parts
