"""Which operators of an int8 file are computed in float: those whose rounding costs most.

The noise of each operator is measured alone: its output is rounded to 8 bits, the rest of the net
computes in float, and the logits are compared. A tensor is rounded wherever an integer operator
writes or reads it, so the operators that read a noisy tensor become float with the one that writes
it. TensorFlow's quantisation debugger recommends the same choice by the error of each layer
(`denylisted_nodes`), without the effect on the output.
"""

from __future__ import annotations

import dataclasses
import math
import os

import numpy as np

from keras_resnet.export.comparison import signal_to_noise
from keras_resnet.export.float_operators import activate, compute
from keras_resnet.export.integer_ranges import check_operators_of, rounded_to_8_bits
from keras_resnet.export.litert_graph import LiteRTGraph, Operator

_IMAGES = 32
_VALUES = 1 << 27  # of all tensors of all images, which bounds the memory
# Images by which a file is compared.
COMPARED = 128


@dataclasses.dataclass(frozen=True)
class Noise:
    """What rounding the output of one operator costs.

    Attributes:
        operator: The operator.
        signal_to_noise: Signal-to-noise ratio of the logits, dB.
    """

    operator: Operator
    signal_to_noise: float


def operator_noise(content: bytes, images: np.ndarray) -> list[Noise]:
    """Returns the noise of each operator of a float file, the largest first.

    Args:
        content: The file.
        images: Calibration images as it takes them.

    Raises:
        UnsupportedOperator: If an operator is not known here.
    """
    graph = LiteRTGraph(content)
    check_operators_of(graph)
    sizes = (math.prod(graph.shape(each.outputs[0])) for each in graph.operators)
    x = images[: max(1, min(_IMAGES, _VALUES // abs(sum(map(abs, sizes)))))].astype("float32")
    values = {graph.operators[0].inputs[0]: x}
    _run(graph, values, graph.operators)
    expected = values[graph.operators[-1].outputs[0]]
    found = []
    for index, operator in enumerate(graph.operators):
        tensor = operator.outputs[0]
        changed = {tensor: rounded_to_8_bits(values[tensor])}
        for later in graph.operators[index + 1 :]:
            if changed.keys() & set(later.inputs):
                _run(graph, changed, [later], values)
        last = changed.get(graph.operators[-1].outputs[0], expected)
        found.append(Noise(operator, signal_to_noise(last, expected)))
    return sorted(found, key=lambda noise: noise.signal_to_noise)


def float_nodes(content: bytes, noises: list[Noise], count: int) -> list[str]:
    """Returns the names of the operators that are float if the `count` noisiest tensors are.

    Args:
        content: The float file.
        noises: From `operator_noise`.
        count: Number of tensors that must not be rounded.
    """
    graph = LiteRTGraph(content)
    tensors = {each.operator.outputs[0] for each in noises[:count]}
    return [
        graph.name(each.outputs[0])
        for each in graph.operators
        if tensors & {*each.inputs, *each.outputs}
    ]


def file_signal_to_noise(content: bytes, exact: bytes, images: np.ndarray) -> float:
    """Returns the signal-to-noise ratio of a file's output, dB, on up to 128 images.

    Args:
        content: The file, which takes the images quantised if its input is.
        exact: The float file.
        images: Images as the float file takes them.
    """
    x = images[:COMPARED].astype("float32")
    return signal_to_noise(_outputs(content, x), _outputs(exact, x))


def _run(
    graph: LiteRTGraph,
    values: dict[int, np.ndarray],
    operators: list[Operator],
    others: dict[int, np.ndarray] | None = None,
) -> None:
    """Computes operators, from `values` or else `others`, into `values`."""
    for operator in operators:
        inputs = []
        for tensor in operator.inputs:
            value = values.get(tensor, (others or {}).get(tensor))
            if value is None and tensor >= 0:
                value = graph.constant(tensor)
            if value is not None:
                inputs.append(value)
        values[operator.outputs[0]] = activate(operator, compute(graph, operator, inputs))


def _outputs(content: bytes, images: np.ndarray) -> np.ndarray:
    """Returns a file's dequantised output for images, one at a time."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    size = len(np.zeros(source["shape"]))
    scale, zero_point = source["quantization"]
    if scale:
        limits = np.iinfo(source["dtype"])
        images = np.clip(np.round(images / scale) + zero_point, limits.min, limits.max)
    outputs = []
    for start in range(0, len(images) - size + 1, size):
        batch = images[start : start + size].astype(source["dtype"])
        interpreter.set_tensor(source["index"], batch)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target["index"]).astype("float32"))
    scale, zero_point = target["quantization"]
    result = np.concatenate(outputs)
    return (result - zero_point) * scale if scale else result
