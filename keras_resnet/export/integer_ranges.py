"""Ranges and biases of an int8 file, fitted to calibration images.

The converter takes the smallest and the largest value of each tensor, so one outlier makes the
steps of all values larger. Here the range of each tensor is the one with the smallest mean squared
error (Banner et al. 2019, "Post training 4-bit quantization of convolutional networks", section
3), and the error is measured where it acts: for a branch that is added and rectified, after the
ReLU. Each layer's bias then takes the mean difference between the float net and the file up to
there (Nagel et al. 2019, "Data-free quantization", section 4.2; here measured on images, in the
order of the layers, so that later layers see what earlier ones do). Only numbers change: operators
and size of the file stay.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from keras_resnet.export.float_operators import (
    SAME_SCALE,
    WEIGHTED,
    UnsupportedOperator,
    activate,
    check_operators,
    compute,
    is_own,
    weighted,
)
from keras_resnet.export.litert_graph import LiteRTGraph, Operator

# Operators at the ends of a file that change the type only.
_ENDS = frozenset(("CAST", "QUANTIZE", "DEQUANTIZE"))
# Operators whose int8 output has a scale that their kernel prescribes.
_FIXED_SCALE = frozenset(("LOGISTIC", "SOFTMAX", "TANH"))
_LOWEST, _HIGHEST = -128, 127
_SHARES = np.linspace(0.3, 1.0, 15)  # of the largest value, tried as the end of a range
_SAMPLE = 1 << 17  # values of a tensor by which a range is chosen
_LARGEST_TENSOR = 1 << 25  # values of the largest tensor, which bounds the images and the memory


@dataclasses.dataclass
class _Value:
    """A tensor of the float file, and of the int8 file after dequantisation.

    `waiting` is whether its range is chosen later, by the operator that takes it.
    """

    exact: np.ndarray
    rounded: np.ndarray
    waiting: bool = False


def fit_ranges(int8: bytes, float32: bytes, images: np.ndarray, ends: tuple[float, float]) -> bytes:
    """Returns an int8 file with fitted ranges and biases.

    Args:
        int8: The file of the converter, integers from end to end.
        float32: The float file of the same graph, which takes the same images as float32.
        images: Calibration images as the float file takes them, at most `fitted_images(float32)`.
        ends: Smallest and largest value of all calibration images.

    Raises:
        UnsupportedOperator: If the graph has an operator that is not known here, or the two
            files do not have the same operators. The converter's ranges are right then too.

    Example:
        >>> content = fit_ranges(int8, float32, pixels.astype("float32"), (0.0, 255.0))
    """
    return _Fit(int8, float32).run(images, ends)


def fitted_images(float32: bytes) -> int:
    """Returns the number of images whose tensors fit into memory side by side.

    The largest tensor has at most 2^25 values: 2,048 images of ResNet-20, 40 of ResNet-50.
    """
    graph = LiteRTGraph(float32)
    sizes = [abs(math.prod(graph.shape(each.outputs[0]))) for each in graph.operators]
    return max(1, _LARGEST_TENSOR // max(sizes))


class _Fit:
    def __init__(self, int8: bytes, float32: bytes) -> None:
        self.exact, self.rounded = LiteRTGraph(float32), LiteRTGraph(int8)
        check_operators_of(self.exact)
        if len(self.exact.outputs) > 1:
            raise UnsupportedOperator("a net of several outputs")
        self.pairs = _pairs(self.exact, self.rounded)
        self.values: dict[int, _Value] = {}
        self.twin: dict[int, int] = {}  # the int8 tensor of each float tensor
        self.uses: dict[int, list[Operator]] = {}
        for operator, other in self.pairs:
            for tensor, its in zip(operator.inputs, other.inputs, strict=True):
                self.uses.setdefault(tensor, []).append(operator)
                self.twin.setdefault(tensor, its)
            self.twin[operator.outputs[0]] = other.outputs[0]

    def run(self, images: np.ndarray, ends: tuple[float, float]) -> bytes:
        first = self.pairs[0][0].inputs[0]
        exact = images.astype("float32")
        if self.rounded.scales(self.twin[first])[0] != 1:  # pixels keep their own steps
            self._set_range(first, _scale_and_zero_point(*ends))
            self._follow(self.rounded.inputs[0], self.twin[first])
        self.values[first] = _Value(exact, self._round(first, exact))
        for index, (operator, other) in enumerate(self.pairs):
            self._apply(operator, other)
            later = {tensor for pair in self.pairs[index + 1 :] for tensor in pair[0].inputs}
            self.values = {key: value for key, value in self.values.items() if key in later}
        self._follow(self.rounded.outputs[0], self.pairs[-1][1].outputs[0])
        return bytes(self.rounded.content)

    def _apply(self, operator: Operator, other: Operator) -> None:
        """Computes an operator on both sides and chooses the range of its output."""
        output = operator.outputs[0]
        added = operator.name == "ADD" and all(t in self.values for t in operator.inputs)
        if added:
            self._choose_operands(operator)
        exact = compute(self.exact, operator, self._inputs(operator, exact=True))
        if operator.name in WEIGHTED:
            rounded = self._weighted(operator, other, exact)
        else:
            rounded = compute(self.exact, operator, self._inputs(operator, exact=False))
        value = _Value(activate(operator, exact), activate(operator, rounded))
        self.values[output] = value
        if operator.name in SAME_SCALE:
            self.rounded.scales(self.twin[output])[:] = self.rounded.scales(other.inputs[0])
            self.rounded.zero_points(self.twin[output])[:] = self.rounded.zero_points(
                other.inputs[0]
            )
        elif operator.name not in _FIXED_SCALE:
            uses = self.uses.get(output, [])
            if operator.name in WEIGHTED and len(uses) == 1 and self._sums(uses[0]):
                value.waiting = True
                return
            self._set_range(output, _best_range(_sampled(value.rounded)[0]))
        value.rounded = self._round(output, value.rounded, in_place=True)

    def _sums(self, operator: Operator) -> bool:
        """Whether an operator adds two tensors of one shape that are not constants."""
        shapes = {self.exact.shape(tensor) for tensor in operator.inputs}
        constants = [tensor for tensor in operator.inputs if self.exact.is_constant(tensor)]
        return operator.name == "ADD" and len(shapes) == 1 and not constants

    def _choose_operands(self, operator: Operator) -> None:
        """Chooses the ranges of operands by the error that they cause after the sum."""
        for tensor, other in (operator.inputs, operator.inputs[::-1]):
            value = self.values[tensor]
            if not value.waiting:
                continue
            sample, beside = _sampled(value.rounded, self.values[other].rounded)
            self._set_range(tensor, _best_range(sample, beside, operator))
            value.rounded = self._round(tensor, value.rounded, in_place=True)
            value.waiting = False

    def _weighted(self, operator: Operator, other: Operator, exact: np.ndarray) -> np.ndarray:
        """Writes weights and bias of a layer, and returns what the int8 file computes."""
        weights = self.exact.constant(operator.inputs[1])
        axis = weights.ndim - 1 if operator.name == "DEPTHWISE_CONV_2D" else 0
        scales = self.rounded.scales(other.inputs[1])
        shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
        stored = self.rounded.constant(other.inputs[1]) * scales.reshape(shape)
        x = self.values[operator.inputs[0]].rounded
        rounded = weighted(operator, x, stored.astype("float32"))
        if len(other.inputs) < 3 or other.inputs[2] < 0:
            return rounded  # the converter leaves out a bias of zeros
        axes = tuple(range(exact.ndim - 1))
        bias = exact.mean(axes, dtype="float64") - rounded.mean(axes, dtype="float64")
        steps = self.rounded.scales(other.inputs[0]).astype("float64") * scales
        self.rounded.scales(other.inputs[2])[:] = steps
        whole = np.clip(np.round(bias / steps), -(2**31), 2**31 - 1)
        self.rounded.constant(other.inputs[2])[:] = whole
        rounded += (whole * steps).astype("float32")
        return rounded

    def _inputs(self, operator: Operator, *, exact: bool) -> list[np.ndarray]:
        found = []
        for tensor in operator.inputs:
            if tensor in self.values:
                value = self.values[tensor]
                found.append(value.exact if exact else value.rounded)
            elif tensor >= 0:
                values = self.exact.constant(tensor)
                if not exact and values.dtype == np.float32:
                    values = self._round(tensor, values)
                found.append(values)
        return found

    def _set_range(self, tensor: int, chosen: tuple[float, int]) -> None:
        self.rounded.scales(self.twin[tensor])[:] = chosen[0]
        self.rounded.zero_points(self.twin[tensor])[:] = chosen[1]

    def _follow(self, end: int, twin: int) -> None:
        """Gives an end of the file, if it is another integer tensor, the range of its twin."""
        if end == twin or not self.rounded.is_quantized(end):
            return
        self.rounded.scales(end)[:] = self.rounded.scales(twin)
        shift = 128 if self.rounded.dtype(end) == np.uint8 else 0
        self.rounded.zero_points(end)[:] = self.rounded.zero_points(twin) + shift

    def _round(self, tensor: int, values: np.ndarray, *, in_place: bool = False) -> np.ndarray:
        twin = self.twin[tensor]
        if not self.rounded.is_quantized(twin):
            return values
        zero_point = int(self.rounded.zero_points(twin)[0])
        out = values if in_place and is_own(values) else None
        return _rounded(values, self.rounded.scales(twin)[0], zero_point, out)


def check_operators_of(graph: LiteRTGraph) -> None:
    """Checks the operators of a float file, and drops changes of type at its ends.

    Raises:
        UnsupportedOperator: If one is not known, or values are quantised inside the file, as by
            quantisation-aware training, whose ranges must stay.
    """
    if any(each.name in _ENDS for each in graph.operators[1:-1]):
        raise UnsupportedOperator("QUANTIZE inside the file")
    graph.operators[:] = [each for each in graph.operators if each.name not in _ENDS]
    check_operators(graph)


def _pairs(exact: LiteRTGraph, rounded: LiteRTGraph) -> list[tuple[Operator, Operator]]:
    """Returns the operators of both files side by side.

    Raises:
        UnsupportedOperator: If the files do not have the same operators.
    """
    others = [each for each in rounded.operators if each.name not in _ENDS]
    names = [each.name for each in exact.operators]
    inner = sum(each.name in _ENDS for each in rounded.operators[1:-1])
    if names != [each.name for each in others] or inner:
        raise UnsupportedOperator("a change of type inside the file")
    if any(rounded.dtype(each.outputs[0]) != np.int8 for each in others):
        raise UnsupportedOperator("a layer in float")
    return list(zip(exact.operators, others, strict=True))


def _rounded(
    values: np.ndarray, scale: float, zero_point: int, out: np.ndarray | None = None
) -> np.ndarray:
    """Returns values on the grid of a quantised tensor."""
    steps = np.divide(values, np.float32(scale), dtype="float32", out=out)
    np.rint(steps, out=steps)
    np.clip(steps, _LOWEST - zero_point, _HIGHEST - zero_point, out=steps)
    return np.multiply(steps, np.float32(scale), out=steps)


def rounded_to_8_bits(values: np.ndarray) -> np.ndarray:
    """Returns values rounded to the 256 steps between the smallest and the largest."""
    return _rounded(values, *_scale_and_zero_point(float(values.min()), float(values.max())))


def _scale_and_zero_point(low: float, high: float) -> tuple[float, int]:
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / (_HIGHEST - _LOWEST), 1e-9)))
    return scale, int(np.clip(round(_LOWEST - low / scale), _LOWEST, _HIGHEST))


def _sampled(*tensors: np.ndarray) -> list[np.ndarray]:
    """Returns the values of tensors of one shape at the same random places."""
    size = tensors[0].size
    if size <= _SAMPLE:
        return [tensor.reshape(-1) for tensor in tensors]
    places = np.random.default_rng(0).integers(0, size, _SAMPLE)
    return [tensor.reshape(-1)[places] for tensor in tensors]


def _best_range(
    values: np.ndarray, beside: np.ndarray | None = None, operator: Operator | None = None
) -> tuple[float, int]:
    """Returns the scale and zero point with the smallest mean squared error.

    Args:
        values: Values of the tensor.
        beside: Values that they are added to, or None.
        operator: The operator that adds them, whose activation hides a part of the error.
    """

    def after(x: np.ndarray) -> np.ndarray:
        return x if operator is None else activate(operator, x + beside)

    wanted = after(values)
    lowest, highest = float(values.min()), float(values.max())

    def error(low: float, high: float) -> float:
        return float(
            np.mean((after(_rounded(values, *_scale_and_zero_point(low, high))) - wanted) ** 2)
        )

    low = lowest
    high = min((highest * share for share in _SHARES), key=lambda end: error(low, end))
    if lowest < 0:
        low = min((lowest * share for share in _SHARES), key=lambda end: error(end, high))
        high = min((highest * share for share in _SHARES), key=lambda end: error(low, end))
    return _scale_and_zero_point(low, high)
