"""The layers that round activations to a range, and nets that have them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_resnet.nets.tensor import Tensor
from keras_resnet.quantize.grid import (
    fake_quantized,
    grid_step,
    rounded_means,
    rounded_product,
    rounded_sum,
)
from keras_resnet.weights.files.json_object import read_member

# The step of activations that are not rounded, while ranges are calibrated.
_FINE = 1e-6


@keras.saving.register_keras_serializable(package="keras_resnet")
class ActivationRange(keras.layers.Layer):
    """A layer that rounds activations to int8, in a range that it averages while it trains.

    In training the range follows the smallest and the largest value of each batch, as a moving
    average, for `steps` steps; then it is frozen, so that the weights settle in the grid that they
    are deployed in. Zero is always in the range, and is exact.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3.1 (moving averages); torchvision's
    `references/classification/train_quantization.py` (`--num-observer-update-epochs`: ranges are
    frozen long before training ends).

    Args:
        momentum: Decay of the moving average.
        steps: Training steps in which the range moves; 0 keeps it as it was calibrated.
        fixed: Smallest and largest value where the integer operator fixes them, as that of the
            sigmoid; they never move.
        shift: Numbers that are added to the channels of the net's input first: what the file
            changes by rounding the means of the normalisation (`mean_shift`).
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Attributes:
        found: A list that `call` adds the ends of a batch to, instead of rounding it; None outside
            of a calibration.

    Shapes: any; unchanged. The second output is a scalar, the step of the grid.
    """

    found: list[tuple[float, float]] | None = None

    def __init__(
        self,
        momentum: float = 0.99,
        steps: int = 0,
        fixed: tuple[float, float] | None = None,
        shift: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must lie in [0, 1). Received: momentum={momentum!r}")
        self.momentum = momentum
        self.steps = steps
        self.fixed = None if fixed is None else (float(fixed[0]), float(fixed[1]))
        self.shift = None if shift is None else tuple(float(each) for each in shift)

    def build(self, x_shape: tuple[int | None, ...]) -> None:
        """Creates the range and the number of steps that it has followed."""
        low, high = self.fixed or (0.0, 0.0)
        constant = keras.initializers.Constant
        for name, value in (("minimum", low), ("maximum", high), ("seen", 0.0)):
            variable = self.add_weight(
                shape=(), initializer=constant(value), trainable=False, name=name
            )
            setattr(self, name, variable)
        self.built = True

    def call(
        self, x: Tensor, observe: bool = True, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Returns the rounded activations, and the step between two neighbouring ones.

        Args:
            x: Activations.
            observe: Whether the range follows these values; not where an operator, such as an
                average pool, returns values in the range of its input.
            training: Whether the net trains.
        """
        if self.shift is not None:
            x = x + ops.convert_to_tensor(self.shift, dtype=x.dtype)
        if self.found is not None:
            values = ops.stop_gradient(x)
            self.found.append((float(ops.min(values)), float(ops.max(values))))
            return x, ops.convert_to_tensor(_FINE)
        if training and observe and self.trainable and self.steps and self.fixed is None:
            self._follow(x)
        low, high = self.minimum.value, self.maximum.value
        rounded = fake_quantized(x, low, high) if observe else rounded_means(x, low, high)
        return rounded, grid_step(low, high)

    def calibrate(self, minimum: float, maximum: float) -> None:
        """Sets the range, widened to contain zero."""
        if self.fixed is None:
            self.minimum.assign(min(float(minimum), 0.0))
            self.maximum.assign(max(float(maximum), 0.0))

    def _follow(self, x: Tensor) -> None:
        values = ops.stop_gradient(x)
        share = ops.where(self.seen < self.steps, 1.0 - self.momentum, 0.0)
        ends = ((self.minimum, ops.min, ops.minimum), (self.maximum, ops.max, ops.maximum))
        for variable, reduce, bound in ends:
            found = bound(reduce(values), 0.0)
            variable.assign(variable + share * (found - variable))
        self.seen.assign(ops.minimum(self.seen + 1.0, float(self.steps)))

    def compute_output_shape(
        self, x_shape: tuple[int | None, ...]
    ) -> tuple[tuple[int | None, ...], tuple[()]]:
        """Returns the same shape, and that of a scalar."""
        return tuple(x_shape), ()

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "steps": self.steps,
            "fixed": self.fixed,
            "shift": self.shift,
        }


@keras.saving.register_keras_serializable(package="keras_resnet")
class ProductRange(ActivationRange):
    """The range of a convolution, which in inference is rounded exactly as in the file.

    Args:
        **kwargs: Those of `ActivationRange`.

    Shapes: as `ActivationRange`; the unit is `(channels,)`.
    """

    def build(self, x_shape: tuple[int | None, ...], unit_shape: Any = None) -> None:
        """Creates the range."""
        super().build(x_shape)

    def call(
        self, x: Tensor, observe: bool = True, training: bool = False, unit: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the rounded activations, and their step.

        Args:
            x: The convolution, behind its ReLU if it has one.
            observe: As for `ActivationRange`.
            training: Whether the net trains.
            unit: By channel, the unit of its sums; None for means of the result.
        """
        y, step = super().call(x, observe=observe, training=training)
        if training or unit is None or self.found is not None:
            return y, step
        exact = rounded_product(x, unit, self.minimum.value, self.maximum.value)
        return y + ops.stop_gradient(exact - y), step

    def compute_output_shape(
        self, x_shape: tuple[int | None, ...], unit_shape: Any = None
    ) -> tuple[tuple[int | None, ...], tuple[()]]:
        """Returns the shape of the activations, and that of a scalar."""
        return tuple(x_shape), ()


@keras.saving.register_keras_serializable(package="keras_resnet")
class SumRange(ActivationRange):
    """The range of a sum of two tensors, which in inference is rounded exactly as in the file.

    Args:
        **kwargs: Those of `ActivationRange`.

    Shapes: as `ActivationRange`; the addends have the shape of the sum.
    """

    def build(self, x_shape: tuple[int | None, ...], *shapes: Any, **named: Any) -> None:
        """Creates the range."""
        super().build(x_shape)

    def call(
        self,
        x: Tensor,
        observe: bool = True,
        training: bool = False,
        first: Tensor | None = None,
        first_step: Tensor | None = None,
        second: Tensor | None = None,
        second_step: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns the rounded sum, and its step.

        Args:
            x: The sum, behind its ReLU if it has one.
            observe: As for `ActivationRange`.
            training: Whether the net trains.
            first: An addend; None for means of the sum (`observe=False`).
            first_step: The step of its grid.
            second: The other addend.
            second_step: The step of its grid.
        """
        y, step = super().call(x, observe=observe, training=training)
        if training or first is None or self.found is not None:
            return y, step
        addends = ((first, first_step), (second, second_step))
        exact = rounded_sum(addends, self.minimum.value, self.maximum.value)
        return y + ops.stop_gradient(exact - y), step

    def compute_output_shape(
        self, x_shape: tuple[int | None, ...], *shapes: Any, **named: Any
    ) -> tuple[tuple[int | None, ...], tuple[()]]:
        """Returns the shape of the sum, and that of a scalar."""
        return tuple(x_shape), ()


def holds_quantized(path: str | os.PathLike[str]) -> bool:
    """Whether a `.keras` file holds a net made by `quantize_aware`; reads its configuration only.

    Args:
        path: The file.

    Example:
        >>> keras_resnet.quantize.holds_quantized("model.keras")
        False
    """
    try:
        config = read_member(os.fspath(path), "config.json")
    except (KeyError, ValueError):
        return False
    return f'"{ActivationRange.__name__}"' in json.dumps(config)


def is_quantize_aware(model: Any) -> bool:
    """Whether a model was made by `quantize_aware`.

    Args:
        model: Any model.

    Example:
        >>> keras_resnet.quantize.is_quantize_aware(keras_resnet.build("cifar_resnet20"))
        False
    """
    return any(isinstance(layer, ActivationRange) for layer in getattr(model, "layers", ()))
