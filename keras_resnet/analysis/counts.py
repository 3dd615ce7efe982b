"""Parameters, multiply-adds and activations of a model, counted layer by layer."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from keras_resnet.nets.aliases import own_names
from keras_resnet.nets.catalog import get_spec
from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.network import build
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.segments import HEAD, place_of
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
            them. Projections, gates and squeeze-and-excitation are not counted. Of Wide ResNets
            the projections are, and the classifier is not.

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


def stage_table(model: keras.Model) -> str:
    """Returns a table of a network's stages: units, output, parameters and multiply-adds.

    `model.summary(stages=True)` prints it. The row `head` has everything after the last unit,
    `before` layers with weights before the stem. Parameters include moving statistics, as in
    Keras's summary. Multiply-adds are those of convolutions and dense layers for one image; a dash
    stands where they depend on an open input size.

    Args:
        model: A network made by `build`.

    Raises:
        TypeError: If `model` was not made by `build`.

    Source: He et al. 2015, Table 1.

    Example:
        >>> print(keras_resnet.analysis.stage_table(keras_resnet.build("cifar_resnet20")))
        part    units  output        parameters  10^6 multiply-adds
        stem        -  (32, 32, 16)         496                0.44
        stage1      3  (32, 32, 16)      14,208               14.16
        stage2      3  (16, 16, 32)      51,456               12.98
        stage3      3  (8, 8, 64)       204,288               12.98
        head        -  (10,)                650                0.00
        total       9  (10,)            271,098               40.55
    """
    check_net(model)
    parts: dict[str, _Part] = {}
    for own, layer in _named(model):
        place = place_of(own)
        name = place.partition("_")[0]
        if name == HEAD and "stem" not in parts:
            if not layer.weights:
                continue
            name = "before"
        parts.setdefault(name, _Part()).add(layer, place)
    rows = [("part", "units", "output", "parameters", "10^6 multiply-adds")]
    rows += [(name, *part.cells()) for name, part in parts.items()]
    total = _Part()
    for part in parts.values():
        total.join(part)
    rows.append(("total", *total.cells()))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  "
        f"{row[3]:>{widths[3]}}  {row[4]:>{widths[4]}}".rstrip()
        for row in rows
    )


@dataclasses.dataclass
class _Part:
    """The sums of one row of `stage_table`."""

    units: set[str] = dataclasses.field(default_factory=set)
    output: tuple[int | None, ...] = ()
    parameters: int = 0
    multiply_adds: int | None = 0

    def add(self, layer: Any, place: str) -> None:
        """Adds a layer of the network, which belongs to a place (`segments.place_of`)."""
        stacked = isinstance(layer, StackedUnits)
        if stacked:
            self.units |= {unit.name for unit in layer.members}
        elif place not in ("stem", HEAD):
            self.units.add(place)
        self.output = tuple(layer.output.shape[1:])
        self.parameters += _size(layer.weights)
        for _, each, times in _occurrences(place, layer):
            shape = each.output.shape[1:]
            if not isinstance(each, _WEIGHTED):
                continue
            if None in shape or self.multiply_adds is None:
                self.multiply_adds = None
            else:
                self.multiply_adds += times * math.prod(shape) * math.prod(each.kernel.shape[:-1])

    def join(self, other: _Part) -> None:
        """Adds the sums of a later part."""
        self.units |= other.units
        self.output = other.output
        self.parameters += other.parameters
        if self.multiply_adds is None or other.multiply_adds is None:
            self.multiply_adds = None
        else:
            self.multiply_adds += other.multiply_adds

    def cells(self) -> tuple[str, str, str, str]:
        """Returns the cells of the row."""
        adds = "-" if self.multiply_adds is None else f"{self.multiply_adds / 1e6:,.2f}"
        return str(len(self.units) or "-"), str(self.output), f"{self.parameters:,}", adds


def _count(model: keras.Model, repeats: Mapping[str, int]) -> Counts:
    """Counts a model; `repeats` says how often the layers of a unit count, by the unit's name."""
    if any(size is None for size in model.inputs[0].shape[1:]):
        raise ValueError(
            "Multiply-adds depend on the input size: build the model with a fixed one. "
            f"Received: input shape {model.inputs[0].shape[1:]}"
        )
    total: collections.Counter[str] = collections.Counter()
    for name, layer, occurrences in _layers(model):
        times = occurrences * repeats.get(place_of(name), 1)
        total["parameters"] += times * _size(layer.trainable_variables)
        total["state"] += times * _size(layer.non_trainable_weights)
        if isinstance(layer, _WEIGHTED):
            outputs = math.prod(layer.output.shape[1:])
            # The second to last axis of a grouped kernel has the channels of one group.
            total["multiply_adds"] += times * outputs * math.prod(layer.kernel.shape[:-1])
            total["activations"] += times * outputs
            total["layers"] += times * _counts_as_layer(model, name)
    return Counts(**{field.name: total[field.name] for field in dataclasses.fields(Counts)})


def _named(model: keras.Model) -> list[tuple[str, Any]]:
    """Returns all layers of a model with our names, or with their own in other models."""
    names = own_names(layer.name for layer in model.layers)
    return [(names[layer.name], layer) for layer in model.layers]


def _layers(model: keras.Model) -> Iterator[tuple[str, Any, int]]:
    """Yields the name of each layer, the layer and how often it occurs.

    One unit stands for those of a stack.
    """
    for name, layer in _named(model):
        yield from _occurrences(name, layer)


def _occurrences(name: str, layer: Any) -> Iterator[tuple[str, Any, int]]:
    if isinstance(layer, StackedUnits):
        shape = layer.output.shape
        space = shape[2:] if channel_axis() == 1 else shape[1:-1]
        inside = layer.make_unit(space).layers
        yield from ((each.name, each, len(layer.members)) for each in inside)
    else:
        yield name, layer, 1


def _counts_as_layer(model: keras.Model, name: str) -> bool:
    # A net whose norms are folded has no spec.
    spec = model._spec if isinstance(model, ResNet) else None
    if spec is not None and spec.counts_projections:
        return name != "logits" and ("_shortcut_" in name or not _beside(name))
    # RepVGG's 1x1 stands beside the 3x3, not behind it.
    if spec is not None and spec.branch == "repvgg" and name.endswith("_conv2"):
        return False
    return not _beside(name)


def _beside(name: str) -> bool:
    return _BESIDE.search(name) is not None


def _size(variables: list[keras.Variable]) -> int:
    return sum(math.prod(variable.shape) for variable in variables)
