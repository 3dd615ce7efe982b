"""Parameters, multiply-adds and activations of a model, counted layer by layer."""

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
from keras_resnet.nets.segments import place_of
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.stacked import StackedUnits

_WEIGHTED = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D, keras.layers.Dense)
# Layers beside the path whose layers the papers count.
_BESIDE = re.compile(r"_shortcut_|_se_|_gate_")


@dataclasses.dataclass(frozen=True)
class Counts:
    """The cost of one forward pass of one image.

    Attributes:
        parameters: Trainable parameters.
        state: Parameters that are not trained by gradients (moving statistics, frozen weights).
        multiply_adds: Multiply-adds of convolutions and dense layers, as in He et al. 2015,
            Table 1. Norms, activations and pooling are not counted.
        activations: Number of output values of the convolutions and dense layers.
        layers: Convolutions and dense layers of branches, stem and head, as the papers count
            them. Projections, gates and squeeze-and-excitation are not counted.

    Example:
        >>> keras_resnet.analysis.count_spec("resnet50").layers
        50
    """

    parameters: int
    state: int
    multiply_adds: int
    activations: int
    layers: int


def count(model: keras.Model) -> Counts:
    """Counts a model with a fixed input size.

    Args:
        model: A functional or sequential model.

    Raises:
        ValueError: If the model's input shape has a None size.

    Source: He et al. 2015, Table 1, "FLOPs" (multiply-adds).

    Example:
        >>> keras_resnet.analysis.count(keras_resnet.build("resnet50")).multiply_adds
        3857973248
    """
    return _count(model, {})


def count_spec(spec: str | ResNetSpec, **form: Any) -> Counts:
    """Counts a network as `count(build(spec, **form))` does, in a time independent of its depth.

    All units of a stage between the first and the last are alike: a network with up to three units
    per stage is built, and the second unit is counted as often as it occurs in the full network.

    Args:
        spec: A `ResNetSpec`, or the name of a variant.
        **form: Arguments of `build`: `classes`, `input_shape`, `dims` and so on.

    Raises:
        ValueError: If `spec` is unknown, an argument does not fit it, or `input_shape` has a None
            size.

    Example:
        >>> keras_resnet.analysis.count_spec("cifar_resnet1202").parameters
        19421274
    """
    spec = get_spec(spec)
    short = spec.replace(depths=tuple(min(depth, 3) for depth in spec.depths))
    repeats = {
        f"stage{stage}_unit2": depth - 2
        for stage, depth in enumerate(spec.depths, start=1)
        if depth > 3
    }
    return _count(build(short, stacked=False, **form), repeats)


def _count(model: keras.Model, repeats: Mapping[str, int]) -> Counts:
    """Counts a model; `repeats` says how often the layers of a unit count, by the unit's name."""
    if any(size is None for size in model.inputs[0].shape[1:]):
        raise ValueError(
            "Multiply-adds depend on the input size: build the model with a fixed one. "
            f"Received: input shape {model.inputs[0].shape[1:]}"
        )
    total: collections.Counter[str] = collections.Counter()
    for layer, occurrences in _layers(model):
        times = occurrences * repeats.get(place_of(layer.name), 1)
        total["parameters"] += times * _size(layer.trainable_variables)
        total["state"] += times * _size(layer.non_trainable_weights)
        if isinstance(layer, _WEIGHTED):
            outputs = math.prod(layer.output.shape[1:])
            # The second to last axis of a grouped kernel has the channels of one group.
            total["multiply_adds"] += times * outputs * math.prod(layer.kernel.shape[:-1])
            total["activations"] += times * outputs
            total["layers"] += times * _counts_as_layer(model, layer)
    return Counts(**{field.name: total[field.name] for field in dataclasses.fields(Counts)})


def _layers(model: keras.Model) -> Iterator[tuple[Any, int]]:
    """Yields each layer and its number of occurrences: one unit stands for those of a stack."""
    for layer in model.layers:
        if isinstance(layer, StackedUnits):
            shape = layer.output.shape
            space = shape[2:] if channel_axis() == 1 else shape[1:-1]
            yield from ((each, len(layer.members)) for each in layer.make_unit(space).layers)
        else:
            yield layer, 1


def _counts_as_layer(model: keras.Model, layer: keras.Layer) -> bool:
    # RepVGG's 1x1 stands beside the 3x3, not behind it.
    # A net whose norms are folded has no spec.
    spec = model._spec if isinstance(model, ResNet) else None
    repvgg = spec is not None and spec.branch == "repvgg"
    parallel = repvgg and layer.name.endswith("_conv2")
    return not parallel and _BESIDE.search(layer.name) is None


def _size(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
