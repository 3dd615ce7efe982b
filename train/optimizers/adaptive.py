"""AdamW, LAMB and Lion."""

from __future__ import annotations

from typing import Any

import keras

from .rules import VariableRules, norm, scaled, shrink


class Adaptive(VariableRules, keras.optimizers.Optimizer):
    """Base of optimizers that keep means of the gradients and of their squares.

    Args:
        learning_rate: A number or a schedule of Keras.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of their squares.
        epsilon: Added to the root of that mean.
        **options: Those of `VariableRules`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.means: list[Any] = []
        self.squares: list[Any] = []

    def build(self, variables: list[Any]) -> None:
        """Makes the two means of each variable."""
        super().build(variables)
        self.means, self.squares = self.add_slots(variables, "momentum", "velocity")

    def direction(self, gradient: Any, mean: Any, square: Any) -> Any:
        """Returns mean / (sqrt(square) + epsilon), without bias, after an update of both means."""
        import tensorflow as tf

        step = tf.cast(self.iterations + 1, mean.dtype)
        mean.assign_add((gradient - mean) * (1 - self.beta_1))
        square.assign_add((tf.square(gradient) - square) * (1 - self.beta_2))
        deviation = tf.sqrt(square / (1 - self.beta_2**step))
        return mean / (1 - self.beta_1**step) / (deviation + self.epsilon)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("beta_1", "beta_2", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="keras_resnet_train")
class AdamW(Adaptive):
    """Adam with decoupled weight decay, whose update is one operation of TensorFlow.

    w = w - rate decay w, then w = w - rate mean / (sqrt(square) + epsilon), with both means
    corrected for their bias. Keras adds epsilon before that correction, which makes the first
    updates of weights with small gradients smaller.

    Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), Algorithm 2.

    Example:
        >>> AdamW(1e-3, decay=0.05, decayed="kernels")
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable and its two means."""
        import tensorflow as tf

        rule, index = self.rule_of(variable), self.index_of(variable)
        rate = scaled(tf.cast(learning_rate, variable.dtype), rule.factor)
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        mean, square = self.means[index].value, self.squares[index].value
        shrink(variable, rate, rule)
        if not isinstance(rule.factor, float):
            variable.assign_sub(rate * self.direction(gradient, mean, square))
            return
        step = tf.cast(self.iterations + 1, variable.dtype)
        beta_2_power = self.beta_2**step
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=self.beta_1**step,
            beta2_power=beta_2_power,
            lr=rate,
            beta1=tf.cast(self.beta_1, variable.dtype),
            beta2=tf.cast(self.beta_2, variable.dtype),
            # The operation adds epsilon before it corrects the bias.
            epsilon=self.epsilon * tf.sqrt(1 - beta_2_power),
            grad=gradient,
        )


@keras.saving.register_keras_serializable(package="keras_resnet_train")
class Lion(VariableRules, keras.optimizers.Lion):
    """Keras's Lion with decoupled weight decay, each at the rate of the variable.

    Source: Chen et al. 2023 (arXiv:2302.06675), Algorithm 2.

    Example:
        >>> Lion(1e-4, beta_1=0.9, beta_2=0.99, decay=1.0)
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable and its momentum."""
        import tensorflow as tf

        rule = self.rule_of(variable)
        rate = scaled(tf.cast(learning_rate, variable.dtype), rule.factor)
        shrink(variable, rate, rule)
        super().update_step(gradient, variable, rate)


@keras.saving.register_keras_serializable(package="keras_resnet_train")
class Lamb(Adaptive):
    """LAMB: Adam's direction and the weight decay together, scaled to the norm of the weights.

    u = mean / (sqrt(square) + epsilon) + decay w, with both means corrected for their bias, then
    w = w - rate (|w| / |u|) u, where the ratio is 1 if a norm is 0. The decay is inside the ratio;
    in `keras.optimizers.Lamb` it is outside. Variables that do not decay have the ratio 1, as in
    timm. timm clips the global norm of the gradient to 1 too: set `optimizer.clip_norm`.

    Source: You et al. 2020 (arXiv:1904.00962), Algorithm 2; timm, `timm/optim/lamb.py`.

    Args:
        learning_rate: A number or a schedule of Keras.
        epsilon: Added to the root of the mean of squares.
        **options: Those of `Adaptive`.

    Example:
        >>> Lamb(5e-3, decay=0.02, decayed="kernels")
    """

    def __init__(
        self, learning_rate: Any = 0.001, *, epsilon: float = 1e-6, **options: Any
    ) -> None:
        super().__init__(learning_rate, epsilon=epsilon, **options)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable and its two means."""
        import tensorflow as tf

        rule, index = self.rule_of(variable), self.index_of(variable)
        rate = scaled(tf.cast(learning_rate, variable.dtype), rule.factor)
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        mean, square = self.means[index].value, self.squares[index].value
        update = self.direction(gradient, mean, square)
        if rule.decay:
            update += rule.decay * variable
            weights, slope = norm(variable, rule), norm(update, rule)
            both = (weights > 0) & (slope > 0)
            rate *= tf.where(both, weights / slope, tf.ones_like(weights))
        variable.assign_sub(rate * update)
