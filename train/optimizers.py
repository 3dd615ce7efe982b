"""Keras's optimizers, with the weight decay of the papers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from .config import OptimizerConfig


@keras.saving.register_keras_serializable(package="keras_resnet_train")
class SGD(keras.optimizers.SGD):
    """Keras's SGD, whose update with momentum is one operation of TensorFlow instead of eight.

    Arguments, variables, names and numbers are those of `keras.optimizers.SGD`.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable and its momentum."""
        import tensorflow as tf

        if not self.momentum or not isinstance(gradient, tf.Tensor):
            super().update_step(gradient, variable, learning_rate)
            return
        slot = self.momentums[self._get_variable_index(variable)].value
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=slot.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )


def make_optimizer(
    config: OptimizerConfig, learning_rate: Any, precision: str
) -> keras.optimizers.Optimizer:
    """Returns the optimizer, with loss scaling under `mixed_float16`.

    `TrainingSteps` adds SGD's weight decay (see `l2_factors`) and clips gradients.

    Args:
        config: The optimizer's configuration.
        learning_rate: A number or a Keras schedule.
        precision: As in `RuntimeConfig`.
    """
    common = {
        "learning_rate": learning_rate,
        "use_ema": config.ema > 0,
        "ema_momentum": config.ema or 0.99,
    }
    optimizer: keras.optimizers.Optimizer
    if config.name == "sgd":
        optimizer = SGD(momentum=config.momentum, nesterov=config.nesterov, **common)
    else:
        optimizer = keras.optimizers.AdamW(weight_decay=config.weight_decay, **common)
        if not config.decay_all:
            optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    if precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def l2_factors(config: OptimizerConfig, variables: list[keras.Variable]) -> list[float]:
    """Returns, for each variable, the factor of the L2 term that SGD adds to its gradient.

    Keras's `weight_decay` shrinks weights separately from the update. The papers' decay is part of
    the gradient, so that it accumulates in the momentum: with momentum 0.9 its effect is ten times
    as strong.

    Source: He et al. 2015, section 3.4; Goyal et al. 2017, section 3, equation 8.
    """
    if config.name != "sgd":
        return [0.0] * len(variables)
    # By name, not by rank: the scales of stacked units have two axes.
    return [
        config.weight_decay if config.decay_all or variable.name.endswith("kernel") else 0.0
        for variable in variables
    ]


@contextlib.contextmanager
def averaged_weights(model: Any, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Assigns the optimizer's average of the weights to the model while the block runs."""
    variables = model.trainable_variables
    weights = [variable.numpy() for variable in variables]
    optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, weights, strict=True):
            variable.assign(value)
