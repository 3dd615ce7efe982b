"""Fake quantisation: values rounded to the grid of an integer type, with gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_resnet.nets.tensor import Tensor

# Activations: asymmetric int8, 256 values.
LEVELS = 255
# A range narrower than this would divide by zero; a dead layer has the range 0..0.
_NARROWEST = 1e-6
_SMALLEST_SCALE = 1e-9
# Half of what 32 bits hold, so that the sum of products fits beside it.
_LARGEST_BIAS = 2.0**30
# Slightly more than 1/2: the error of float32 does not turn a half into less.
_HALF = 0.501
# Scales that are tried, as shares of the one that reaches the largest weight.
_SHARES = np.linspace(0.3, 1.0, 71)


def round_straight_through(x: Tensor) -> Tensor:
    """Returns the nearest integers; the gradient is that of the identity.

    Source: Bengio et al. 2013 (arXiv:1308.3432), section 4, "straight-through estimator".
    """
    return x + ops.stop_gradient(ops.round(x) - x)


def fake_quantized_weights(kernel: Tensor, scale: Tensor, largest: int) -> Tensor:
    """Returns a kernel rounded to integers of at most `largest` times the scale of its channel.

    The gradient reaches the weights inside the grid, and the scale.

    Source: Esser et al. 2020 (arXiv:1902.08153), section 2 (LSQ); there with one scale per layer.

    Args:
        kernel: Weights, output channels last.
        scale: One positive number per output channel.
        largest: 127 for 8 bits, 7 for 4 bits: the grid is symmetric, without -128.
    """
    inside = ops.clip(kernel / scale, -largest, largest)
    return round_straight_through(inside) * scale


def wide_enough(scales: Tensor, bias: Tensor | None, step: Tensor) -> Tensor:
    """Returns scales of a kernel, widened where the bias would not fit into 32 bits.

    That happens where the kernel of a channel is close to zero.

    Args:
        scales: One number per output channel, at least 0.
        bias: One number per output channel, or None.
        step: Step of the input.
    """
    least = ops.ones_like(scales) * _SMALLEST_SCALE
    if bias is not None:
        least = ops.maximum(least, ops.stop_gradient(ops.abs(bias)) / (step * _LARGEST_BIAS))
    return in_16_bits(ops.maximum(scales, least))


def rounded_bias(bias: Tensor | None, scales: Tensor, step: Tensor) -> Tensor | None:
    """Returns a bias as the 32-bit integers that are added to sums of products.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 2.4, equation 11.

    Args:
        bias: One number per output channel, or None.
        scales: Scales of the kernel.
        step: Step of the input.
    """
    if bias is None:
        return None
    unit = ops.stop_gradient(scales * step)
    return round_straight_through(bias / unit) * unit


def scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """Returns `x`; its gradient is multiplied by a factor."""
    return x * factor + ops.stop_gradient(x - x * factor)


def fake_quantized(x: Tensor, minimum: Tensor, maximum: Tensor) -> Tensor:
    """Returns activations rounded to the 256 values of an asymmetric int8 range.

    The range is moved so that zero is one of its values. Values outside are clipped, and have no
    gradient.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3, equation 12.

    Args:
        x: Activations.
        minimum: Lower end of the range, at most 0.
        maximum: Upper end of the range, at least 0.
    """
    scale = grid_step(minimum, maximum)
    zero = ops.round(-minimum / scale)
    steps = ops.clip(x / scale, -zero, LEVELS - zero)
    return round_straight_through(steps) * scale


def rounded_means(x: Tensor, minimum: Tensor, maximum: Tensor) -> Tensor:
    """Returns means of few pixels, rounded to the grid of the pixels as AVERAGE_POOL_2D does.

    Means of four lie halfway between two integers in a quarter of all cases. LiteRT rounds the
    int8 number away from zero then (`kernels/internal/reference/integer_ops/pooling.h`).

    Args:
        x: Means of values of the grid.
        minimum: Lower end of the range.
        maximum: Upper end of the range.
    """
    scale = grid_step(minimum, maximum)
    zero = ops.round(-minimum / scale) - 128
    numbers = ops.clip(x / scale + zero, -128, 127)
    nearest = ops.sign(numbers) * ops.floor(ops.abs(numbers) + _HALF)
    return (numbers + ops.stop_gradient(nearest - numbers) - zero) * scale


def rounded_product(x: Tensor, unit: Tensor, minimum: Tensor, maximum: Tensor) -> Tensor:
    """Returns the result of a convolution, rounded as XNNPACK's integer kernels round it.

    They multiply the integer sum of each channel by one float32 number. Dividing the rounded sum by
    the step instead differs in one result of about a hundred thousand.

    Source: XNNPACK (commit 00a6530), `src/microparams-init.c`,
    `xnn_init_qc8_conv_minmax_fp32_scalar_lrintf_params`: limits less the zero point in float, one
    float scale per channel.

    Args:
        x: The result, channels last, in any float error of the sum below half a unit.
        unit: By channel: the step of the input times the scale of the kernel.
        minimum: Lower end of the range.
        maximum: Upper end of the range.
    """
    step = grid_step(minimum, maximum)
    zero = ops.round(-minimum / step)
    numbers = ops.round(ops.round(x / unit) * (unit / step))
    return ops.clip(numbers, -zero, LEVELS - zero) * step


def rounded_sum(
    addends: Sequence[tuple[Tensor, Tensor]], minimum: Tensor, maximum: Tensor
) -> Tensor:
    """Returns the sum of two tensors on grids, rounded as the integer ADD of XNNPACK rounds it.

    It multiplies each addend's integers by the ratio of the steps, as a fixed-point number of 21
    bits, which changes one result in several thousand. The ReLU behind an ADD is the lower end of
    its range.

    Source: XNNPACK (commit 00a6530), `src/microparams-init.c`, `xnn_init_qs8_add_minmax_*_params`:
    the shift is 20 less the exponent of the larger ratio, so that its multiplier lies between 2^20
    and 2^21.

    Args:
        addends: Two tensors, each with the step of its grid.
        minimum: Lower end of the range of the sum.
        maximum: Upper end of the range of the sum.
    """
    step = grid_step(minimum, maximum)
    zero = ops.cast(ops.round(-minimum / step), "int32") - 128
    ratios = [ops.divide(each, step) for _, each in addends]
    exponent = ops.floor(ops.log2(ops.maximum(*ratios)))
    unit = ops.power(2.0, 20.0 - exponent)
    total = ops.cast(unit / 2, "int32")
    for (x, own), ratio in zip(addends, ratios, strict=True):
        numbers = ops.cast(ops.round(x / own), "int32")
        total = total + numbers * ops.cast(ops.round(ratio * unit), "int32")
    numbers = ops.floor_divide(total, ops.cast(unit, "int32")) + zero
    return ops.cast(ops.clip(numbers, -128, 127) - zero, "float32") * step


def grid_step(minimum: Tensor, maximum: Tensor) -> Tensor:
    """Returns the difference of two neighbouring values of an int8 range."""
    return in_16_bits(ops.maximum(maximum - minimum, _NARROWEST) / LEVELS)


def in_16_bits(x: Tensor) -> Tensor:
    """Returns positive numbers rounded to 16 significant bits; the gradient is 1.

    255 times such a step is exact in float32, so that the converter finds the same step again when
    it divides a range by its levels.

    Source: Dekker 1971, "A floating-point technique for extending the available precision"
    (Veltkamp's splitting, with the factor 2^8 + 1).
    """
    large = x * 257.0
    return large - (large - x)


def exact_range(minimum: float, maximum: float) -> tuple[float, float]:
    """Returns the range that `fake_quantized` uses: moved so that zero is one of its values."""
    low, high = (ops.convert_to_tensor(each, "float32") for each in (minimum, maximum))
    scale = float(grid_step(low, high))
    zero = round(float(ops.round(-low / grid_step(low, high))))
    return -zero * scale, (LEVELS - zero) * scale


def mean_shift(mean: Sequence[float], std: Sequence[float]) -> tuple[float, ...]:
    """Returns what is added to normalised pixels where an int8 file rounds their mean.

    The file normalises by one operator, whose 32-bit sum is a multiple of 1/127 of a pixel.

    Args:
        mean: Mean of each channel, pixels.
        std: Standard deviation of each channel, pixels.
    """
    means, deviations = np.asarray(mean, "float64"), np.asarray(std, "float64")
    return tuple((means - np.round(means * 127) / 127) / deviations)


def best_scales(kernel: np.ndarray, largest: int) -> np.ndarray:
    """Returns for each output channel the scale whose grid is nearest to the weights.

    Among scales of 30 to 100 % of the one that reaches the largest weight, by the mean squared
    error. At 4 bits the best one clips the largest weights.

    Args:
        kernel: Weights, output channels last.
        largest: 127 for 8 bits, 7 for 4 bits.
    """
    weights = np.asarray(kernel, "float64").reshape(-1, kernel.shape[-1])
    full = np.maximum(np.abs(weights).max(axis=0), _NARROWEST) / largest
    errors = []
    for share in _SHARES:
        rounded = np.clip(np.round(weights / (full * share)), -largest, largest) * full * share
        errors.append(np.mean((rounded - weights) ** 2, axis=0))
    return (full * _SHARES[np.argmin(errors, axis=0)]).astype("float32")
