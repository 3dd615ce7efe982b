"""Muon, which takes convolutions."""

from __future__ import annotations

import math
import re
from typing import Any

import keras

from .adaptive import Adaptive
from .rules import Rule, VariableRules, is_stack, scaled, shrink

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_FIRST_CONVOLUTION = re.compile(r"(^|/)stem_conv1?/kernel$")


@keras.saving.register_keras_serializable(package="keras_resnet_train")
class Muon(Adaptive):
    """Momentum whose update is made orthogonal, for the kernels of convolutions.

    A kernel is the matrix of its inputs (height x width x channels) and its outputs; grouped and
    stacked kernels are handled alike, each unit by itself. Its momentum v = m v + g, or g + m v
    with Nesterov's, is replaced by the nearest orthogonal matrix, found by Newton-Schulz iteration,
    times 0.2 sqrt(larger side). So its root mean square is that of AdamW's updates, and one
    learning rate serves both. AdamW updates the first convolution, the classifier and whatever is
    not a kernel. `keras.optimizers.Muon` gives AdamW every variable that is not a matrix.

    Source: Jordan et al. 2024, `KellerJordan/Muon`, README ("for a ConvNet") and `muon.py`
    (coefficients, reshaping); Liu et al. 2025 (arXiv:2502.16982), section 2.2 (scale).

    Args:
        learning_rate: A number or a schedule of Keras.
        momentum: Momentum of the kernels; 0.95 in the source.
        nesterov: Whether it is Nesterov's, as in the source.
        schulz_steps: Iterations of Newton and Schulz.
        **options: Those of `Adaptive`, for AdamW.

    Example:
        >>> Muon(2e-3, momentum=0.95, nesterov=True, decay=0.01)
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        schulz_steps: int = 5,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum, self.nesterov, self.schulz_steps = momentum, nesterov, schulz_steps

    def build(self, variables: list[Any]) -> None:
        """Makes a momentum for each variable, and a second mean for those of AdamW."""
        VariableRules.build(self, variables)
        (self.means,) = self.add_slots(variables, "momentum")
        self.squares = [
            None if is_orthogonalized(each) else self.add_variable_from_reference(each, "velocity")
            for each in variables
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates a variable and its means."""
        import tensorflow as tf

        rule, index = self.rule_of(variable), self.index_of(variable)
        rate = scaled(tf.cast(learning_rate, variable.dtype), rule.factor)
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        mean, square = self.means[index].value, self.squares[index]
        shrink(variable, rate, rule)
        if square is not None:
            update = self.direction(gradient, mean, square.value)
        else:
            mean.assign(self.momentum * mean + gradient)
            direction = gradient + self.momentum * mean if self.nesterov else mean
            update = self._orthogonal(tf.convert_to_tensor(direction), rule)
        variable.assign_sub(rate * update)

    def _orthogonal(self, direction: Any, rule: Rule) -> Any:
        """Returns the direction of a kernel with all singular values near 1, scaled."""
        import tensorflow as tf

        shape = direction.shape.as_list()
        units = shape[:1] if rule.stack else []
        rows, columns = math.prod(shape[len(units) : -1]), shape[-1]
        matrix = orthogonalize(tf.reshape(direction, [*units, rows, columns]), self.schulz_steps)
        return tf.reshape(matrix, shape) * (0.2 * math.sqrt(max(rows, columns)))

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        names = ("momentum", "nesterov", "schulz_steps")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def is_orthogonalized(variable: Any) -> bool:
    """Whether Muon, not AdamW, updates a variable: a convolution's kernel but for the first one."""
    axes = len(variable.shape) - is_stack(variable)
    is_kernel = variable.name.endswith("kernel") and axes > 2
    return is_kernel and _FIRST_CONVOLUTION.search(variable.path) is None


def orthogonalize(matrix: Any, steps: int) -> Any:
    """Returns matrices with the singular vectors of `matrix` and singular values near 1.

    Args:
        matrix: float `(..., rows, columns)`.
        steps: Iterations of Newton and Schulz.
    """
    import tensorflow as tf

    first, third, fifth = _COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = tf.linalg.matrix_transpose(matrix) if tall else matrix
    x = x / (tf.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)
    for _ in range(steps):
        square = tf.matmul(x, x, transpose_b=True)
        x = first * x + tf.matmul(third * square + fifth * tf.matmul(square, square), x)
    return tf.linalg.matrix_transpose(x) if tall else x
