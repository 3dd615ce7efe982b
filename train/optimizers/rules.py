"""What differs between the variables of one optimizer: their decay and their learning rate."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from ..config import OptimizerConfig
from .rates import Factor

Decayed = Literal["all", "kernels and biases", "kernels"]

_STACK = re.compile(r"stage\d+_units\d+to\d+/")


def decayed_of(config: OptimizerConfig) -> Decayed:
    """Returns which variables a configuration decays."""
    if config.decay_all:
        return "all"
    return "kernels and biases" if config.decay_biases else "kernels"


def decays(variable: Any, decayed: Decayed) -> bool:
    """Whether a variable decays: the one rule of all optimizers.

    Kernels always do. Biases are those of convolutions and of dense layers, the classifier's among
    them. Everything else are the scales and shifts of norms and the learned scales and biases of
    ReZero, SkipInit and Fixup. The rule goes by name, not by rank: the scales of stacked units
    have two axes.

    Args:
        variable: A variable of a model.
        decayed: Which variables decay.
    """
    name = variable.name
    if decayed == "all" or name.endswith("kernel"):
        return True
    return decayed == "kernels and biases" and name.endswith("bias")


def is_stack(variable: Any) -> bool:
    """Whether a variable holds one weight of many units, along its first axis."""
    return _STACK.search(variable.path) is not None


@dataclasses.dataclass(frozen=True)
class Rule:
    """How an optimizer treats one variable.

    Attributes:
        factor: Factor of the learning rate.
        decay: Weight decay.
        stack: Whether its rows are the weights of different units.
    """

    factor: Factor = 1.0
    decay: float = 0.0
    stack: bool = False


class VariableRules(keras.optimizers.Optimizer):
    """Base of this package's optimizers: decay and learning rate by variable.

    It stands before an optimizer of Keras among the bases of a class, whose own `weight_decay` is
    not used.

    Args:
        learning_rate: A number or a schedule of Keras.
        decay: Weight decay.
        decayed: Which variables it acts on, as in `decays`.
        factors: The factor of the learning rate of each variable, as `rate_factors` returns them.
        **options: The other arguments of the optimizer of Keras.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        decay: float = 0.0,
        decayed: Decayed = "all",
        factors: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.decay, self.decayed, self.factors = decay, decayed, factors
        self._rules: list[Rule] = []
        self._summed: Literal["", "merge", "replica"] = ""

    def build(self, variables: list[Any]) -> None:
        """Makes the optimizer's variables.

        Raises:
            ValueError: If there is not one factor for each variable.
        """
        factors = self.factors if self.factors is not None else [1.0] * len(variables)
        if len(factors) != len(variables):
            raise ValueError(
                f"`factors` needs one entry per variable ({len(variables)}). "
                f"Received: {len(factors)} entries"
            )
        self._rules = [
            Rule(_factor(factor), self.decay * decays(each, self.decayed), is_stack(each))
            for each, factor in zip(variables, factors, strict=True)
        ]
        super().build(variables)

    def take_sums(self, *, merge: bool = True) -> None:
        """Makes `apply` take gradients that are summed over the replicas already.

        Keras sums them in `apply`. What needs the sum before, as clipping by the global norm does,
        would have them summed twice.

        Args:
            merge: Whether replicas wait for one another to update the variables. They must, but
                where XLA compiles the step of `MirroredStrategy`, where they cannot.
        """
        self._summed = "merge" if merge else "replica"

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> None:
        """Updates variables; see `take_sums`.

        Args:
            grads: The gradient of each variable.
            trainable_variables: The variables, all that the optimizer was built for.
        """
        import tensorflow as tf

        if not self._summed:
            super().apply(grads, trainable_variables)
            return
        rate = tf.convert_to_tensor(self.learning_rate)
        values = [variable.value for variable in trainable_variables or ()]

        def update(strategy: Any, gradients: list[Any], rate: Any) -> None:
            for value, gradient in zip(values, gradients, strict=True):
                strategy.extended.update(value, self._update, args=(gradient, rate), group=False)

        if self._summed == "merge":
            tf.distribute.get_replica_context().merge_call(update, args=(grads, rate))
        else:
            update(tf.distribute.get_strategy(), grads, rate)
        self.iterations.assign_add(1)

    def _update(self, variable: Any, gradient: Any, learning_rate: Any) -> None:
        self.update_step(gradient, variable, learning_rate)

    def rule_of(self, variable: Any) -> Rule:
        """Returns the rule of a variable, or of a replica's copy of it."""
        return self._rules[self.index_of(variable)]

    def index_of(self, variable: Any) -> int:
        """Returns the place of a variable, or of a replica's copy of it, among all variables."""
        return int(self._get_variable_index(variable))

    def add_slots(self, variables: list[Any], *names: str) -> tuple[list[Any], ...]:
        """Makes variables of the shapes of others, all of one variable in a row.

        Args:
            variables: The variables of the model.
            names: What the new ones of each variable are called.

        Returns:
            One list for each name.
        """
        rows = [[self.add_variable_from_reference(v, name) for name in names] for v in variables]
        return tuple([row[place] for row in rows] for place in range(len(names)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        config = super().get_config()
        config.pop("weight_decay", None)
        factors = self.factors
        return {
            **config,
            "decay": self.decay,
            "decayed": self.decayed,
            "factors": None if factors is None else [np.asarray(f).tolist() for f in factors],
        }


def _factor(value: Any) -> Factor:
    return float(value) if np.ndim(value) == 0 else np.asarray(value, "float32")


def scaled(rate: Any, factor: Factor) -> Any:
    """Returns a rate times a factor, without an operation where the factor is 1."""
    return rate if isinstance(factor, float) and factor == 1.0 else rate * factor


def shrink(variable: Any, rate: Any, rule: Rule) -> None:
    """Applies decoupled weight decay: w = w - rate decay w.

    Source: Loshchilov and Hutter 2019 (arXiv:1711.05101), Algorithm 2; as in the code of Keras,
    PyTorch and timm the decay is multiplied by the whole learning rate.
    """
    if rule.decay:
        variable.assign_sub(variable * (rate * rule.decay))


def norm(value: Any, rule: Rule) -> Any:
    """Returns the Euclidean norm of a weight; of a stack, one per unit, in a column's shape."""
    import tensorflow as tf

    axes = list(range(1, len(value.shape))) if rule.stack else None
    return tf.sqrt(tf.reduce_sum(tf.square(value), axis=axes, keepdims=rule.stack))
