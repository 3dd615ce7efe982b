"""SGD with momentum in two forms, and LARS."""

from __future__ import annotations

from typing import Any, Literal

import keras

from .rules import VariableRules, norm, scaled

Form = Literal["keras", "pytorch"]


@keras.saving.register_keras_serializable(package="keras_resnet_train")
class SGD(VariableRules, keras.optimizers.SGD):
    """SGD whose update with momentum is one operation of TensorFlow; Keras's is eight.

    With gradient g, rate r and momentum m:

    - `keras`, the form of Caffe: v = m v - r g, then w = w + v. Arguments, variables, names and
      numbers are those of `keras.optimizers.SGD`.
    - `pytorch`: v = m v + g, then w = w - r v.

    The two are equal while the rate is constant. When it falls, past updates go on at the old rate
    in the first form and at the new one in the second.

    The weight decay of `decay` is an L2 term in the gradient, which `TrainingSteps` adds before it
    clips the gradient, so `make_optimizer` leaves it 0 here.

    Source: Goyal et al. 2017 (arXiv:1706.02677), equations 9 and 10, Remark 2 (the first form needs
    momentum correction, the second does not); Sutskever et al. 2013, section 2 (Nesterov).

    Args:
        learning_rate: A number or a schedule of Keras.
        momentum_form: `keras` or `pytorch`.
        **options: Those of `VariableRules` and of `keras.optimizers.SGD`.

    Example:
        >>> SGD(0.1, momentum=0.9, momentum_form="pytorch")
    """

    def __init__(
        self, learning_rate: Any = 0.01, *, momentum_form: Form = "keras", **options: Any
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum_form = momentum_form

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable and its momentum."""
        import tensorflow as tf

        rule = self.rule_of(variable)
        # Momentum is linear in the gradient: a factor of the rate is one of the gradient.
        if not self.momentum or not isinstance(gradient, tf.Tensor):
            rate = scaled(tf.cast(learning_rate, variable.dtype), rule.factor)
            super().update_step(gradient, variable, rate)
            return
        slot = self.momentums[self.index_of(variable)].value
        gradient = scaled(tf.cast(gradient, variable.dtype), rule.factor)
        apply = tf.raw_ops.ResourceApplyKerasMomentum
        if self.momentum_form == "pytorch":
            apply = tf.raw_ops.ResourceApplyMomentum
        apply(
            var=variable.handle,
            accum=slot.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            grad=gradient,
            momentum=tf.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "momentum_form": self.momentum_form}


@keras.saving.register_keras_serializable(package="keras_resnet_train")
class Lars(VariableRules, keras.optimizers.Optimizer):
    """LARS: SGD with momentum whose rate follows the norms of each weight and of its gradient.

    For weights w that decay: t = trust |w| / (|g| + decay |w| + epsilon), and t (g + decay w) takes
    the place of the gradient; t is 1 where a norm is 0. Variables that do not decay are those of
    SGD. The momentum gathers updates in the form `keras`, as the paper does, and gradients in the
    form `pytorch`, as timm does.

    Source: You et al. 2017 (arXiv:1708.03888), Algorithm 1; the epsilon and the rule for variables
    without decay: timm, `timm/optim/lars.py`.

    Args:
        learning_rate: A number or a schedule of Keras.
        momentum: Momentum.
        momentum_form: `keras` or `pytorch`, as in `SGD`.
        trust: Trust coefficient.
        epsilon: Added to the denominator.
        **options: Those of `VariableRules`.

    Example:
        >>> Lars(1.0, decay=1e-4, decayed="kernels")
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        *,
        momentum: float = 0.9,
        momentum_form: Form = "keras",
        trust: float = 0.001,
        epsilon: float = 1e-8,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum, self.momentum_form = momentum, momentum_form
        self.trust, self.epsilon = trust, epsilon
        self.slots: list[Any] = []

    def build(self, variables: list[Any]) -> None:
        """Makes the momentum of each variable."""
        super().build(variables)
        (self.slots,) = self.add_slots(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable and its momentum."""
        import tensorflow as tf

        rule = self.rule_of(variable)
        rate = scaled(tf.cast(learning_rate, variable.dtype), rule.factor)
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        if rule.decay:
            weights, slope = norm(variable, rule), norm(gradient, rule)
            ratio = self.trust * weights / (slope + rule.decay * weights + self.epsilon)
            ratio = tf.where((weights > 0) & (slope > 0), ratio, tf.ones_like(ratio))
            gradient = (gradient + rule.decay * variable) * ratio
        slot = self.slots[self.index_of(variable)].value
        if self.momentum_form == "pytorch":
            slot.assign(self.momentum * slot + gradient)
            variable.assign_sub(rate * slot)
        else:
            slot.assign(self.momentum * slot - rate * gradient)
            variable.assign_add(slot)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("momentum", "momentum_form", "trust", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
