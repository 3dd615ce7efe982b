"""Division of a network into models of its own layers, at the ends of its units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from keras_resnet.nets.model import deep_graph
from keras_resnet.nets.named_weights import own_layers
from keras_resnet.nets.tensor import Tensor

HEAD = "head"


def unit_ends(model: keras.Model) -> dict[str, Tensor]:
    """Returns the output tensors of the stem and of each unit, by name, in order.

    The names are `"stem"` and the prefixes of the units' layer names, such as `"stage2_unit1"`.
    Every path through the network passes through each of these tensors.
    """
    ends = {}
    for name, layer in own_layers(model):  # in order: the last layer of a unit is kept
        place = place_of(name)
        if place != HEAD:
            ends[place] = layer.output
    return ends


def place_of(layer: str) -> str:
    """Returns the part that the layer of our name belongs to: `"stem"`, a unit's name or `HEAD`."""
    parts = layer.split("_")
    if parts[0] == "stem":
        return "stem"
    return "_".join(parts[:2]) if parts[0].startswith("stage") else HEAD


def cut(model: keras.Model, outputs: Mapping[str, Sequence[Tensor]]) -> list[keras.Model]:
    """Divides a model into consecutive segments, which together compute the model's function.

    The segments share the model's layers. The model itself does not change.

    Args:
        model: A functional model with one input.
        outputs: The Keras tensors that each segment returns, by the segment's name, in order. The
            next segment starts from the first of them, so every path must pass through it.

    Returns:
        One model per segment.
    """
    x, segments = model.inputs[0], []
    with deep_graph():
        for name, tensors in outputs.items():
            segments.append(keras.Model(x, list(tensors), name=name))
            x = tensors[0]
    return segments
