"""Parameters, multiply-adds and activation memory of a model, counted layer by layer."""

from __future__ import annotations

import dataclasses
import math

import keras


@dataclasses.dataclass(frozen=True)
class Counts:
    """What one forward pass of one image costs.

    Attributes:
        parameters: Trainable parameters.
        state: Parameters that training updates without a gradient (moving statistics).
        multiply_adds: Multiply-adds of convolutions and dense layers, as in He et al. 2015,
            Table 1; norms, activations and pools are not counted.
        activations: Values that leave the convolutions and dense layers.
        layers: Convolutions and dense layers on the longest path: projections are not counted.
    """

    parameters: int
    state: int
    multiply_adds: int
    activations: int
    layers: int


def count(model: keras.Model) -> Counts:
    """Counts a model whose input size is known.

    Raises:
        ValueError: If the model's input has a None size.
    """
    if any(size is None for size in model.inputs[0].shape[1:]):
        raise ValueError(
            "Multiply-adds depend on the input's size: build the model with a fixed one. "
            f"Received: input shape {model.inputs[0].shape[1:]}"
        )
    multiply_adds = activations = layers = 0
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            continue
        outputs = math.prod(layer.output.shape[1:])
        kernel = tuple(layer.kernel.shape)
        multiply_adds += outputs * math.prod(kernel[:-1])
        activations += outputs
        layers += "shortcut" not in layer.name
    return Counts(
        parameters=_size(model.trainable_variables),
        state=_size(model.non_trainable_variables),
        multiply_adds=multiply_adds,
        activations=activations,
        layers=layers,
    )


def _size(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
