"""LiteRT's float operators in TensorFlow, for the statistics of every tensor of a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_resnet.export.litert_graph import LiteRTGraph, Operator

# Operators whose output has the scale of their input in int8 files.
SAME_SCALE = frozenset(
    ("PAD", "AVERAGE_POOL_2D", "MAX_POOL_2D", "RESHAPE", "STRIDED_SLICE", "TRANSPOSE")
)
# Operators with weights per output channel.
WEIGHTED = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"))
# Values of the schema's `ActivationFunctionType`.
_ACTIVATIONS: dict[int, Callable[[np.ndarray, np.ndarray | None], np.ndarray]] = {
    0: lambda x, out: x,
    1: lambda x, out: np.maximum(x, 0, out=out),
    3: lambda x, out: np.clip(x, 0, 6, out=out),
}


class UnsupportedOperator(ValueError):
    """An operator that this module does not compute."""


def check_operators(graph: LiteRTGraph) -> None:
    """Checks that all operators of a float file can be computed.

    Raises:
        UnsupportedOperator: If one cannot.
    """
    for operator in graph.operators:
        name = operator.name
        activation = activation_of(operator)
        if name not in WEIGHTED | set(_OPERATORS) or activation not in _ACTIVATIONS:
            raise UnsupportedOperator(name)


def activation_of(operator: Operator) -> int:
    """Returns the fused activation, by the number of the schema; 0 for none."""
    fused = getattr(operator.options, "FusedActivationFunction", None)
    return int(fused()) if fused is not None else 0


def activate(operator: Operator, values: np.ndarray) -> np.ndarray:
    """Applies the fused activation of an operator; in place, where nothing else has the values."""
    apply = _ACTIVATIONS[activation_of(operator)]
    return apply(values, values if is_own(values) else None)


def is_own(values: np.ndarray) -> bool:
    """Whether an array can be written and is no view of another."""
    return values.base is None and values.flags.writeable


def compute(graph: LiteRTGraph, operator: Operator, inputs: list[np.ndarray]) -> np.ndarray:
    """Returns the float32 output of an operator, before its fused activation.

    Args:
        graph: The file.
        operator: One of its operators.
        inputs: Values of its inputs, constants included.
    """
    if operator.name in WEIGHTED:
        outputs = weighted(operator, inputs[0], inputs[1])
        if len(inputs) > 2:
            outputs += inputs[2]
        return outputs
    return np.asarray(_OPERATORS[operator.name](operator.options, *inputs), "float32")


def weighted(operator: Operator, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns a convolution or a matrix product, without bias and activation."""
    import tensorflow as tf

    options = operator.options
    if operator.name == "FULLY_CONNECTED":
        return x.reshape(-1, weights.shape[1]) @ weights.T
    strides = (options.StrideH(), options.StrideW())
    rates = (options.DilationHFactor(), options.DilationWFactor())
    padding = ("SAME", "VALID")[options.Padding()]
    if operator.name == "DEPTHWISE_CONV_2D":
        kernel = weights.transpose(1, 2, 3, 0)  # (1, h, w, channels)
        return tf.nn.depthwise_conv2d(x, kernel, (1, *strides, 1), padding, dilations=rates).numpy()
    kernel = weights.transpose(1, 2, 3, 0)
    groups = x.shape[-1] // kernel.shape[2]
    parts = [
        tf.nn.conv2d(part, one, strides, padding, dilations=rates).numpy()
        for part, one in zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    ]
    return parts[0] if groups == 1 else np.concatenate(parts, -1)


def _pool(function: str) -> Callable[..., Any]:
    def pool(options: Any, x: np.ndarray) -> Any:
        import tensorflow as tf

        size = (options.FilterHeight(), options.FilterWidth())
        strides = (options.StrideH(), options.StrideW())
        return getattr(tf.nn, function)(x, size, strides, ("SAME", "VALID")[options.Padding()])

    return pool


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _mean(options: Any, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    return x.mean(tuple(axes.reshape(-1)), keepdims=bool(options.KeepDims()))


def _reshape(_options: Any, x: np.ndarray, shape: np.ndarray | None = None) -> np.ndarray:
    if shape is None:
        raise UnsupportedOperator("RESHAPE without a shape")
    return x.reshape(len(x), *[int(n) for n in shape.reshape(-1)[1:]])


def _slice(
    options: Any, x: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray
) -> Any:
    import tensorflow as tf

    return tf.strided_slice(
        x,
        begin,
        end,
        strides,
        begin_mask=options.BeginMask() | 1,  # all images
        end_mask=options.EndMask() | 1,
        shrink_axis_mask=options.ShrinkAxisMask(),
    )


_OPERATORS: dict[str, Callable[..., Any]] = {
    "ADD": lambda _, x, y: x + y,
    "SUB": lambda _, x, y: x - y,
    "MUL": lambda _, x, y: x * y,
    "PAD": lambda _, x, widths: np.pad(x, widths),
    "AVERAGE_POOL_2D": _pool("avg_pool2d"),
    "MAX_POOL_2D": _pool("max_pool2d"),
    "MEAN": _mean,
    "RESHAPE": _reshape,
    "STRIDED_SLICE": _slice,
    "RELU": lambda _, x: np.maximum(x, 0),
    "SOFTMAX": lambda _, x: _softmax(x),
    "LOGISTIC": lambda _, x: 1 / (1 + np.exp(-x)),
}
