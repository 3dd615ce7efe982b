"""The layers of quantise-aware nets: weights and activations on the grids of a LiteRT int8 file."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.nets.tensor import Tensor
from keras_resnet.quantize.grid import (
    best_scales,
    fake_quantized,
    fake_quantized_weights,
    grid_step,
    rounded_bias,
    rounded_means,
    rounded_product,
    rounded_sum,
    scaled_gradient,
    wide_enough,
)

# The largest integer of a weight, by bits.
LARGEST = {8: 127, 4: 7}
# The step of activations that are not rounded, while ranges are calibrated.
_FINE = 1e-6


class _QuantizedWeights(keras.layers.Layer):
    """What layers with quantised kernels share: a scale per output channel, which is learned.

    Mixed in before a Keras layer with a `kernel`.
    """

    bits: int
    kernel: Any
    bias: Any
    scales: Any

    def _add_scales(self, channels: int) -> None:
        if self.bits not in LARGEST:
            raise ValueError(f"`bits` must be 8 or 4. Received: bits={self.bits!r}")
        self.scales = self.add_weight(
            shape=(channels,), initializer="ones", name="scales", trainable=True
        )

    def quantized(self, step: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns the rounded kernel and bias, and the scales of the kernel.

        The gradient of a scale is divided by the root of weights times levels, so that it moves in
        proportion as the weights do (Esser et al. 2020, section 2.2).

        Args:
            step: Step of the input: the difference of two neighbouring values.
        """
        largest = LARGEST[self.bits]
        count = math.prod(self.kernel.shape[:-1])
        scales = ops.abs(self.scales)
        scales = scaled_gradient(scales, 1 / math.sqrt(count * largest))
        scales = wide_enough(scales, self.bias, step)
        kernel = fake_quantized_weights(ops.convert_to_tensor(self.kernel), scales, largest)
        return kernel, rounded_bias(self.bias, scales, step), scales

    def set_float_weights(self, kernel: np.ndarray, bias: np.ndarray | None) -> None:
        """Sets the weights, and the scales to those whose grid is nearest to them."""
        self.kernel.assign(kernel)
        self.scales.assign(best_scales(kernel, LARGEST[self.bits]))
        if bias is not None:
            self.bias.assign(bias)

    def save_own_variables(self, store: Any) -> None:
        """Saves all weights; Keras's layers with kernels know two only."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        """Loads all weights."""
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "bits": self.bits}


@keras.saving.register_keras_serializable(package="keras_resnet")
class QuantizedConv2D(_QuantizedWeights, keras.layers.Conv2D):
    """A 2-D convolution whose kernel is rounded to signed integers times a scale per channel.

    The grid is symmetric, -127 to 127 or -7 to 7, as in LiteRT's int8 files. The scales are
    learned; the bias is rounded to multiples of the kernel's and the input's step, as in 32 bits.

    Source: Krishnamoorthi 2018 (arXiv:1806.08342), per-channel quantisation; Esser et al. 2020
    (arXiv:1902.08153), section 2 (learned scales).

    Args:
        *args: Those of `keras.layers.Conv2D`.
        bits: 8 or 4.
        **kwargs: Those of `keras.layers.Conv2D`.
    """

    def __init__(self, *args: Any, bits: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bits = bits

    def build(self, inputs_shape: tuple[int | None, ...], step_shape: tuple[()] = ()) -> None:
        """Creates kernel, bias and scales."""
        super().build(inputs_shape)
        self._add_scales(self.filters)

    def call(self, inputs: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the convolution with the rounded weights, and by channel the unit of its sums.

        Args:
            inputs: Images on a grid.
            step: The step of the grid.
        """
        kernel, bias, scales = self.quantized(step)
        outputs = self.convolution_op(inputs, kernel)
        return outputs if bias is None else outputs + bias, scales * step

    def compute_output_shape(
        self, inputs_shape: tuple[int | None, ...], step_shape: tuple[()] = ()
    ) -> tuple[tuple[int | None, ...], tuple[int]]:
        """Returns the shapes of the convolution and of the units."""
        return super().compute_output_shape(inputs_shape), (self.filters,)


@keras.saving.register_keras_serializable(package="keras_resnet")
class QuantizedDense(_QuantizedWeights, keras.layers.Dense):
    """A dense layer whose kernel is rounded to signed integers times a scale per output.

    See `QuantizedConv2D`.

    Args:
        *args: Those of `keras.layers.Dense`.
        bits: 8 or 4.
        **kwargs: Those of `keras.layers.Dense`.
    """

    def __init__(self, *args: Any, bits: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bits = bits

    def build(self, inputs_shape: tuple[int | None, ...], step_shape: tuple[()] = ()) -> None:
        """Creates kernel, bias and scales."""
        super().build(inputs_shape)
        self._add_scales(self.units)

    def call(self, inputs: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the product with the rounded weights, and by output the unit of its sums.

        Args:
            inputs: Features on a grid, `(batch, features)`.
            step: The step of the grid.
        """
        kernel, bias, scales = self.quantized(step)
        outputs = ops.matmul(inputs, kernel)
        return outputs if bias is None else outputs + bias, scales * step

    def compute_output_shape(
        self, inputs_shape: tuple[int | None, ...], step_shape: tuple[()] = ()
    ) -> tuple[tuple[int | None, ...], tuple[int]]:
        """Returns the shapes of the product and of the units."""
        return super().compute_output_shape(inputs_shape), (self.units,)


@keras.saving.register_keras_serializable(package="keras_resnet")
class ChannelScale(keras.layers.Layer):
    """A layer that multiplies each channel by a number and adds another, as int8 files do it.

    It stands for a norm that no convolution can absorb, such as those of pre-activation nets, and
    for learned or constant factors. In the file it is a depthwise 1x1 convolution: one operator,
    whose weights are exact, because each number has a scale of its own. It has 8 bits in a net of
    4 bits too.

    Args:
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: `(batch, height, width, channels)`; unchanged.
    """

    def build(self, x_shape: tuple[int | None, ...], step_shape: tuple[()] = ()) -> None:
        """Creates factors and sums."""
        channels = x_shape[-1]
        self.kernel = self.add_weight(shape=(channels,), initializer="ones", name="kernel")
        self.bias = self.add_weight(shape=(channels,), initializer="zeros", name="bias")
        self.built = True

    def set_float_weights(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Sets factors and sums."""
        self.kernel.assign(kernel)
        self.bias.assign(bias)

    def quantized(self, step: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns the rounded factors and sums, and the scales of the factors.

        Args:
            step: Step of the input: the difference of two neighbouring values.
        """
        kernel = ops.convert_to_tensor(self.kernel)
        scales = wide_enough(ops.stop_gradient(ops.abs(kernel)) / LARGEST[8], self.bias, step)
        rounded = fake_quantized_weights(kernel, scales, LARGEST[8])
        return rounded, rounded_bias(self.bias, scales, step), scales

    def call(self, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the scaled images, and by channel their unit.

        Args:
            x: Images on a grid.
            step: The step of the grid.
        """
        kernel, bias, scales = self.quantized(step)
        return x * kernel + bias, scales * step

    def compute_output_shape(
        self, x_shape: tuple[int | None, ...], step_shape: tuple[()] = ()
    ) -> tuple[tuple[int | None, ...], tuple[int | None]]:
        """Returns the shapes of the images and of the units."""
        return tuple(x_shape), (x_shape[-1],)


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
        with zipfile.ZipFile(path) as file:
            return f'"{ActivationRange.__name__}"'.encode() in file.read("config.json")
    except (KeyError, OSError, zipfile.BadZipFile):
        return False


def is_quantize_aware(model: Any) -> bool:
    """Whether a model was made by `quantize_aware`.

    Args:
        model: Any model.

    Example:
        >>> keras_resnet.quantize.is_quantize_aware(keras_resnet.build("cifar_resnet20"))
        False
    """
    return any(isinstance(layer, ActivationRange) for layer in getattr(model, "layers", ()))
