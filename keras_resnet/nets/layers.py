"""The custom layers and initializers of residual networks, registered for `.keras` files."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.nets import draws
from keras_resnet.nets.tensor import Tensor


def _channels_first() -> bool:
    return keras.config.image_data_format() == "channels_first"


def _resized(
    shape: tuple[int | None, ...], channels_first: bool, resize: Callable[[int], int]
) -> tuple[int | None, ...]:
    """Returns a shape with `resize` applied to the known sizes of its space axes."""
    channels = 1 if channels_first else len(shape) - 1
    return tuple(
        size if size is None or axis in (0, channels) else resize(size)
        for axis, size in enumerate(shape)
    )


@keras.saving.register_keras_serializable(package="keras_resnet")
class PadChannels(keras.layers.Layer):
    """A layer that subsamples in space and pads the channels with zeros: shortcut option A.

    Half of the zeros stand before the channels and half after them, as in the widely used PyTorch
    weights for CIFAR. For training from scratch their place makes no difference.

    Source: He et al. 2015, sections 3.3 and 4.2, option A.

    Args:
        filters: Channels of the output; at least as many as the input has.
        stride: Every `stride`-th row and column is kept.
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: `(batch, height, width, channels)` to
    `(batch, ceil(height / stride), ceil(width / stride), filters)`; any number of space axes.

    Raises:
        ValueError: If the input has more than `filters` channels.

    Example:
        >>> tuple(PadChannels(32, stride=2)(keras.ops.ones((1, 8, 8, 16))).shape)
        (1, 4, 4, 32)
    """

    def __init__(self, filters: int, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.stride = stride
        self._channels_first = _channels_first()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks that the input has at most `filters` channels."""
        channels = input_shape[1 if self._channels_first else -1]
        if channels is None or channels > self.filters:
            raise ValueError(
                f"`filters` must be at least the input's channels ({channels}). "
                f"Received: filters={self.filters}"
            )
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Returns the subsampled and padded images."""
        rank = len(x.shape)
        axis = 1 if self._channels_first else rank - 1
        added = self.filters - x.shape[axis]
        if self.stride > 1:
            # The mean over one pixel: equal to a strided slice, in a third of its time.
            kind = "channels_first" if self._channels_first else "channels_last"
            x = ops.average_pool(x, 1, self.stride, padding="valid", data_format=kind)
        if not added:
            return x
        pads = [[0, 0]] * rank
        pads[axis] = [added // 2, added - added // 2]
        return ops.pad(x, pads)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape after subsampling and padding."""
        resized = list(
            _resized(input_shape, self._channels_first, lambda size: math.ceil(size / self.stride))
        )
        resized[1 if self._channels_first else -1] = self.filters
        return tuple(resized)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "filters": self.filters, "stride": self.stride}


@keras.saving.register_keras_serializable(package="keras_resnet")
class PadEdges(keras.layers.Layer):
    """A layer that repeats the border of images once on each side, for a 3x3 max pool.

    PyTorch pads a max pool with minus infinity, which int8 cannot represent. Each window over the
    border also covers the pixels that are repeated, so its maximum is the same. Keras's own padding
    is one-sided for even sizes, and zeros would exceed negative values.

    Shapes: `(batch, height, width, channels)` to `(batch, height + 2, width + 2, channels)`; any
    number of space axes.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._channels_first = _channels_first()
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Returns the padded images."""
        rank = len(x.shape)
        # Slices, not `ops.pad`: PyTorch pads volumes only with a constant.
        for axis in range(2, rank) if self._channels_first else range(1, rank - 1):
            every = (slice(None),) * axis
            x = ops.concatenate([x[(*every, slice(0, 1))], x, x[(*every, slice(-1, None))]], axis)
        return x

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape after padding."""
        return _resized(input_shape, self._channels_first, lambda size: size + 2)


@keras.saving.register_keras_serializable(package="keras_resnet")
class BlurPool(keras.layers.Layer):
    """A layer that subsamples after a binomial low-pass filter, with a mirrored border.

    Source: Zhang 2019, "Making Convolutional Networks Shift-Invariant Again" (arXiv:1904.11486),
    section 3.2 and Figure 3.

    Args:
        size: Taps of the filter per direction: 3 is `(1, 2, 1) / 4`, 5 `(1, 4, 6, 4, 1) / 16`.
        stride: Every `stride`-th row and column is kept.
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: `(batch, height, width, channels)` to
    `(batch, ceil(height / stride), ceil(width / stride), channels)`; one or two space axes, each
    longer than `size // 2`.
    """

    def __init__(self, size: int = 3, stride: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size not in (3, 5):
            raise ValueError(f"`size` must be 3 or 5. Received: size={size!r}")
        self.size = size
        self.stride = stride
        self._channels_first = _channels_first()

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Checks the number of axes."""
        if len(input_shape) not in (3, 4):
            raise ValueError(
                "BlurPool takes signals and images, one or two space axes. "
                f"Received: input shape {tuple(input_shape)}"
            )
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Returns the filtered and subsampled images."""
        space = len(x.shape) - 2
        row = np.asarray([math.comb(self.size - 1, tap) for tap in range(self.size)], "float64")
        row /= row.sum()
        kernel = row if space == 1 else np.outer(row, row)
        channels = x.shape[1 if self._channels_first else -1]
        kernel = np.repeat(kernel[..., None, None], channels, axis=-2)
        pads = [[self.size // 2] * 2] * space
        pads = [[0, 0], [0, 0], *pads] if self._channels_first else [[0, 0], *pads, [0, 0]]
        return ops.depthwise_conv(
            ops.pad(x, pads, mode="reflect"),
            ops.convert_to_tensor(kernel, dtype=x.dtype),
            strides=self.stride,
            padding="valid",
            data_format="channels_first" if self._channels_first else "channels_last",
        )

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape after subsampling."""
        return _resized(
            input_shape, self._channels_first, lambda size: math.ceil(size / self.stride)
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "size": self.size, "stride": self.stride}


@keras.saving.register_keras_serializable(package="keras_resnet")
class StochasticDepth(keras.layers.Layer):
    """A layer that drops the whole branch of single examples in training.

    Kept branches are divided by the probability of being kept, so that inference needs no scaling.
    The paper scales at inference instead; the expectation is the same.

    Source: Huang et al. 2016 (arXiv:1603.09382), section 3.

    Args:
        rate: Probability that an example's branch is dropped, in [0, 1).
        seed: Seed of the draws, which are a function of it and of the number of calls, or of what
            `draws.keyed_draws` states.
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: any, the batch first; unchanged.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        # Not cast automatically: a drop rate given to `call` stays float32 in mixed precision.
        super().__init__(autocast=False, **kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must lie in [0, 1). Received: rate={rate!r}")
        self.rate = rate
        self.seed = seed
        # On PyTorch the state of the generator is an int32.
        self.seed_generator = keras.random.SeedGenerator(None if seed is None else seed % 2**31)
        self.supports_masking = True
        self.built = True

    def call(self, x: Tensor, rate: Tensor | None = None, training: bool = False) -> Tensor:
        """Returns the branch; in training, with zeros for the dropped examples.

        Args:
            x: The branch, batch first.
            rate: A scalar that replaces the layer's own rate, for a layer that serves many units.
            training: Whether to drop.
        """
        x = ops.cast(x, self.compute_dtype)
        if not training or not self.rate:
            return x
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        numbers = draws.uniform(shape, self.seed_generator)
        kept = ops.cast(numbers >= (self.rate if rate is None else rate), x.dtype)
        return x * kept / (1 - self.rate if rate is None else ops.cast(1 - rate, x.dtype))

    def compute_output_shape(
        self, x_shape: tuple[int | None, ...], rate_shape: tuple[()] | None = None
    ) -> tuple[int | None, ...]:
        """Returns the same shape."""
        return tuple(x_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_resnet")
class Dropout(keras.layers.Dropout):
    """Keras's dropout, whose draws are a function of the example's position in `keyed_draws`.

    Source: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting", section 4.

    Args:
        rate: Probability that a value is set to zero, in [0, 1).
        seed: Seed of the draws.
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: any, the batch first; unchanged.
    """

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Returns the input; in training, with zeros for the dropped values."""
        if not training or not self.rate:
            return inputs
        numbers = draws.uniform(ops.shape(inputs), self.seed_generator)
        return inputs * ops.cast(numbers >= self.rate, inputs.dtype) / (1 - self.rate)


@keras.saving.register_keras_serializable(package="keras_resnet")
class Scalar(keras.layers.Layer):
    """A layer that multiplies by, or adds, one learned number.

    Source: the multipliers of ReZero (arXiv:2003.04887, equation 1), SkipInit (arXiv:2002.10444)
    and Fixup, and Fixup's biases (arXiv:1901.09321, section 3.2).

    Args:
        operation: `"multiply"` or `"add"`.
        initial: Initial value of the number.
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: any; unchanged.
    """

    def __init__(self, operation: str, initial: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if operation not in ("multiply", "add"):
            raise ValueError(
                f"`operation` must be 'multiply' or 'add'. Received: operation={operation!r}"
            )
        self.operation = operation
        self.initial = initial
        self.supports_masking = True

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the number."""
        # A vector of one element, not a scalar: converters and optimizers handle vectors better.
        self.value = self.add_weight(
            shape=(1,), initializer=keras.initializers.Constant(self.initial), name="value"
        )
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        """Returns the product or the sum."""
        value = ops.cast(self.value, x.dtype)
        if x.shape[-1] is not None:
            # LiteRT's converter moves a sum into the dense layer after it, and then reads the one
            # number as a vector of the input's length.
            value = ops.broadcast_to(value, (x.shape[-1],))
        return x * value if self.operation == "multiply" else x + value

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the same shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "operation": self.operation, "initial": self.initial}


@keras.saving.register_keras_serializable(package="keras_resnet")
class GatedSum(keras.layers.Layer):
    """A layer that returns `gate * branch + (1 - gate) * shortcut` of `[shortcut, branch, gate]`.

    Source: Srivastava et al. 2015 (arXiv:1505.00387), equation 3; He et al. 2016
    (arXiv:1603.05027), section 3.1, "exclusive gating" and "shortcut-only gating".

    Args:
        gates_branch: Whether the gate also multiplies the branch; otherwise the branch is added
            whole.
        **kwargs: Keras layer arguments (`name`, `dtype`).

    Shapes: three tensors of one shape, to that shape.
    """

    def __init__(self, gates_branch: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gates_branch = gates_branch
        self.supports_masking = True

    def compute_mask(self, inputs: list[Tensor], previous_mask: Any) -> Any:
        """Returns the shortcut's mask."""
        return previous_mask[0] if isinstance(previous_mask, list | tuple) else previous_mask

    def call(self, inputs: list[Tensor]) -> Tensor:
        """Returns the gated sum."""
        shortcut, branch, gate = inputs
        if not self.gates_branch:
            return shortcut - gate * shortcut + branch
        return shortcut + gate * (branch - shortcut)

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        """Checks that there are three inputs of one shape."""
        if len(input_shape) != 3 or len({tuple(shape) for shape in input_shape}) != 1:
            raise ValueError(
                "GatedSum takes [shortcut, branch, gate] of one shape. "
                f"Received: shapes {[tuple(shape) for shape in input_shape]}"
            )
        self.built = True

    def compute_output_shape(
        self, input_shape: list[tuple[int | None, ...]]
    ) -> tuple[int | None, ...]:
        """Returns the shape of one input."""
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "gates_branch": self.gates_branch}


@keras.saving.register_keras_serializable(package="keras_resnet")
class DeltaOrthogonal(keras.initializers.Initializer):
    """An initializer of kernels that are zero except for an orthogonal matrix at the centre.

    Such a convolution maps each pixel's channels by a scaled isometry, so that plain networks of
    thousands of layers can be trained.

    Source: Xiao et al. 2018 (arXiv:1806.05393), section 3.2 and algorithm 1.

    Args:
        gain: Factor of the matrix; the square root of 2 preserves the variance through ReLU.
        seed: Seed of the draw, or None.
    """

    def __init__(self, gain: float = math.sqrt(2.0), seed: int | None = None) -> None:
        self.gain = gain
        self.seed = seed
        self._orthogonal = keras.initializers.Orthogonal(gain, seed=seed)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Tensor:
        """Returns a kernel, `(*space, in, out)`; without space axes it is the matrix itself."""
        matrix = self._orthogonal(shape[-2:], dtype=dtype)
        pads = [[(size - 1) // 2, size // 2] for size in shape[:-2]]
        return ops.pad(
            ops.reshape(matrix, (1,) * len(pads) + tuple(shape[-2:])), [*pads, [0, 0], [0, 0]]
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {"gain": self.gain, "seed": self.seed}
