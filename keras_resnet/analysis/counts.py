"""Parameters, multiply-adds and activation memory of a model, counted layer by layer."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_resnet.nets.catalog import get_spec
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.network import build
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.stacked import StackedUnits

_WEIGHTED = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.Dense)
# Layers beside the path that the papers count.
_BESIDE = re.compile(r"_shortcut_|_se_|_gate_")


@dataclasses.dataclass(frozen=True)
class Counts:
    """What one forward pass of one image costs.

    Attributes:
        parameters: Trainable parameters.
        state: Parameters that training updates without a gradient (moving statistics).
        multiply_adds: Multiply-adds of convolutions and dense layers, as in He et al. 2015,
            Table 1; norms, activations and pools are not counted.
        activations: Values that leave the convolutions and dense layers.
        layers: Convolutions and dense layers of the branches, the stem and the head, as the papers
            count them: projections, gates and squeeze-and-excitation are not counted.
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
    return _count(model, {})


def count_spec(spec: str | ResNetSpec, **form: Any) -> Counts:
    """Counts a net as `count(build(spec, **form))` does, and fast at any depth.

    Units of a stage from the second to the last but one are the same: a net with three units a
    stage is built, and the second of them counted as often as it stands in the whole net.

    Args:
        spec: A `ResNetSpec`, or the name of one.
        **form: Of `build`: `classes`, `input_shape`, `dims` and so on.

    Raises:
        ValueError: As `build` and `count`.
    """
    spec = get_spec(spec)
    short = spec.replace(depths=tuple(min(depth, 3) for depth in spec.depths))
    repeats = {
        f"stage{stage}_unit2_": depth - 2
        for stage, depth in enumerate(spec.depths, start=1)
        if depth > 3
    }
    return _count(build(short, stacked=False, **form), repeats)


def _count(model: keras.Model, repeats: Mapping[str, int]) -> Counts:
    if any(size is None for size in model.inputs[0].shape[1:]):
        raise ValueError(
            "Multiply-adds depend on the input's size: build the model with a fixed one. "
            f"Received: input shape {model.inputs[0].shape[1:]}"
        )
    total: collections.Counter[str] = collections.Counter()
    for layer, own in _single(model):
        times = own * repeats.get(layer.name[: layer.name.find("_", 7) + 1], 1)
        total["parameters"] += times * _size(layer.trainable_variables)
        total["state"] += times * _size(layer.non_trainable_weights)
        if isinstance(layer, _WEIGHTED):
            outputs = math.prod(layer.output.shape[1:])
            # A grouped kernel's second last axis is that of one group.
            total["multiply_adds"] += times * outputs * math.prod(layer.kernel.shape[:-1])
            total["activations"] += times * outputs
            total["layers"] += times * _counts_as_layer(model, layer)
    return Counts(**{field.name: total[field.name] for field in dataclasses.fields(Counts)})


def _single(model: keras.Model) -> Iterator[tuple[Any, int]]:
    """Yields each layer and how often it stands in the net: those of stacked units once."""
    for layer in model.layers:
        if isinstance(layer, StackedUnits):
            shape = layer.output.shape
            space = shape[2:] if channel_axis() == 1 else shape[1:-1]
            yield from ((each, len(layer.members)) for each in layer.make_unit(space).layers)
        else:
            yield layer, 1


def _counts_as_layer(model: keras.Model, layer: Any) -> bool:
    # RepVGG's 1x1 stands beside the 3x3, not behind it.
    repvgg = isinstance(model, ResNet) and model.spec.branch == "repvgg"
    parallel = repvgg and layer.name.endswith("_conv2")
    return not parallel and _BESIDE.search(layer.name) is None


def _size(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
