"""The layers of quantise-aware nets that have weights, on the grids of a LiteRT int8 file."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.nets.tensor import Tensor
from keras_resnet.quantize.grid import (
    best_scales,
    fake_quantized_weights,
    rounded_bias,
    scaled_gradient,
    wide_enough,
)

# The largest integer of a weight, by bits.
LARGEST = {8: 127, 4: 7}


class _QuantizedWeights(keras.layers.Layer):
    """What layers with quantised kernels share: a scale per output channel, which is learned.

    Mixed in before a Keras layer with a `kernel`. `channels` is the number of output channels,
    `product` the operation with the rounded kernel.

    Args:
        *args: Those of the Keras layer.
        bits: 8 or 4.
        **kwargs: Those of the Keras layer.
    """

    kernel: Any
    bias: Any
    scales: Any

    def __init__(self, *args: Any, bits: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bits = bits

    @property
    def channels(self) -> int:
        """Number of output channels."""
        raise NotImplementedError

    def product(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Returns the layer's operation without the bias."""
        raise NotImplementedError

    def build(self, inputs_shape: tuple[int | None, ...], step_shape: tuple[()] = ()) -> None:
        """Creates kernel, bias and scales."""
        super().build(inputs_shape)
        if self.bits not in LARGEST:
            raise ValueError(f"`bits` must be 8 or 4. Received: bits={self.bits!r}")
        self.scales = self.add_weight(
            shape=(self.channels,), initializer="ones", name="scales", trainable=True
        )

    def call(self, inputs: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the layer with the rounded weights, and by output channel the unit of its sums.

        Args:
            inputs: Images or features on a grid.
            step: The step of the grid.
        """
        kernel, bias, scales = self.quantized(step)
        outputs = self.product(inputs, kernel)
        return outputs if bias is None else outputs + bias, scales * step

    def compute_output_shape(
        self, inputs_shape: tuple[int | None, ...], step_shape: tuple[()] = ()
    ) -> tuple[tuple[int | None, ...], tuple[int]]:
        """Returns the shapes of the outputs and of the units."""
        return super().compute_output_shape(inputs_shape), (self.channels,)

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

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int(self.filters)

    def product(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Returns the convolution."""
        return self.convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable(package="keras_resnet")
class QuantizedDense(_QuantizedWeights, keras.layers.Dense):
    """A dense layer whose kernel is rounded to signed integers times a scale per output.

    See `QuantizedConv2D`.

    Args:
        *args: Those of `keras.layers.Dense`.
        bits: 8 or 4.
        **kwargs: Those of `keras.layers.Dense`.
    """

    @property
    def channels(self) -> int:
        """Number of outputs."""
        return int(self.units)

    def product(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Returns the matrix product."""
        return ops.matmul(inputs, kernel)


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
