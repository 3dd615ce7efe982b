"""A net cut into models of its own layers, where its units end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_resnet.nets.model import deep_graph

HEAD = "head"


def unit_ends(model: keras.Model) -> dict[str, Any]:
    """Returns the Keras tensors that stem and units end with, by name, in order.

    The names are `"stem"` and the units' prefixes of layer names, such as `"stage2_unit1"`.
    Every path through a residual net passes through each of them.
    """
    ends = {}
    for layer in model.layers:  # in the order of the graph: the last of a unit ends it
        place = place_of(layer.name)
        if place != HEAD:
            ends[place] = layer.output
    return ends


def place_of(layer: str) -> str:
    """Returns the name of the stem, the unit or the head that a layer of this name belongs to."""
    parts = layer.split("_")
    if parts[0] == "stem":
        return "stem"
    return "_".join(parts[:2]) if parts[0].startswith("stage") else HEAD


def cut(model: keras.Model, outputs: Mapping[str, Sequence[Any]]) -> list[keras.Model]:
    """Returns models in a row, whose composition computes what the net does.

    They share the net's layers; its own graph, weights and files stay as they are.

    Args:
        model: A functional model with one input.
        outputs: By the segment's name, in order: the Keras tensors that the segment returns. The
            next one starts from the first of them, so every path must pass through it.
    """
    x, segments = model.inputs[0], []
    with deep_graph():
        for name, tensors in outputs.items():
            segments.append(keras.Model(x, list(tensors), name=name))
            x = tensors[0]
    return segments
