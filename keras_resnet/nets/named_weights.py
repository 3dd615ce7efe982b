"""Weights by the layer names of the unrolled network, for unrolled and stacked networks alike.

A stacked network keeps the weights of many units in one layer, along a first axis. Code that maps,
copies, saves or reads weights by layer name uses this module and does not see the difference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np

Arrays = list[np.ndarray]


@runtime_checkable
class HoldsUnits(Protocol):
    """A layer that holds several units: `stacked.StackedUnits`."""

    def unit_names(self) -> list[str]:
        """Returns the names of all layers of all its units, including those without weights."""

    def unit_layers(self) -> Iterator[tuple[str, Any]]:
        """Yields the name of each layer with weights, and a layer of the same shapes."""

    def read_units(self) -> dict[str, Arrays]:
        """Returns the units' weights by layer name."""

    def write_units(self, stored: Mapping[str, Arrays]) -> None:
        """Sets the weights of those of the units' layers that are named."""


def layer_names(model: keras.Model) -> list[str]:
    """Returns the names of the layers that the unrolled network has."""
    names: list[str] = []
    for layer in model.layers:
        names += layer.unit_names() if isinstance(layer, HoldsUnits) else [layer.name]
    return names


def weighted_layers(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yields the name of each layer with weights, and a layer of the same kind and shapes.

    The second is the layer itself, except for units in a stack: read and write their values with
    `read_weights` and `write_weights`.
    """
    for layer in model.layers:
        if isinstance(layer, HoldsUnits):
            yield from layer.unit_layers()
        elif layer.weights:
            yield layer.name, layer


def read_weights(model: keras.Model) -> dict[str, Arrays]:
    """Returns the weights by layer name."""
    stored: dict[str, Arrays] = {}
    for layer in model.layers:
        if isinstance(layer, HoldsUnits):
            stored |= layer.read_units()
        elif layer.weights:
            stored[layer.name] = layer.get_weights()
    return stored


def write_weights(model: keras.Model, stored: Mapping[str, Arrays]) -> None:
    """Sets the weights of the layers that are named; names of other networks are ignored.

    Raises:
        ValueError: If the shapes of an array and of its weight differ.
    """
    for layer in model.layers:
        if isinstance(layer, HoldsUnits):
            layer.write_units(stored)
        elif layer.weights and layer.name in stored:
            layer.set_weights(stored[layer.name])


def assign(
    stored: Mapping[str, Arrays], target: keras.Model, *, source: str, skip: Sequence[str] = ()
) -> None:
    """Sets all weights of a model by layer name, or raises and sets none.

    Args:
        stored: Arrays by layer name.
        target: The model to change.
        source: Name of the source, for the error message.
        skip: Layers of the target that keep their weights.

    Raises:
        ValueError: If names or shapes differ; lists the first differences.
    """
    layers = {name: layer for name, layer in weighted_layers(target) if name not in skip}
    problems = [f"no {name!r} in the source" for name in layers if name not in stored]
    problems += [f"no {name!r} in the target" for name in stored if name not in layers]
    for name, layer in layers.items():
        shapes = [array.shape for array in stored.get(name, ())]
        expected = [tuple(weight.shape) for weight in layer.weights]
        if name in stored and shapes != expected:
            problems.append(f"{name!r} has shapes {shapes}, not {expected}")
    if problems:
        raise ValueError(
            f"Weights of {source} do not fit {target.name}: {'; '.join(problems[:4])}"
            + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        )
    write_weights(target, {name: stored[name] for name in layers})


# A stack is named after its first and last unit: `stage2_units2to18`. The key of a variable in a
# file states its place, the role of its layer and its name: `03.norm1.gamma`.
_STACK = re.compile(r"(stage\d+)_units(\d+)to(\d+)")
_VARIABLE = re.compile(r"\d+\.(\w+)\.(\w+)")


def stack_name(stage: str, first: int, last: int) -> str:
    """Returns the name of the layer that holds the units `first` to `last` of a stage."""
    return f"{stage}_units{first}to{last}"


def variable_key(place: int, role: str, name: str) -> str:
    """Returns the key of a stack's variable in a file."""
    return f"{place:02d}.{role}.{name}"


def read_h5(path: str | os.PathLike[str]) -> dict[str, Arrays]:
    """Returns the weights of a `.weights.h5` file of Keras by layer name.

    `Model.load_weights` matches layers by kind and order and ignores their names, so it loads a
    post-activation network into a pre-activation one if the shapes agree.

    Raises:
        ValueError: If the file cannot be read as a `.weights.h5` file.
    """
    import h5py

    stored: dict[str, Arrays] = {}
    try:
        with h5py.File(path, "r") as file:
            for group in file["layers"].values():
                values = group.get("vars", ())
                if not len(values):
                    continue
                name = str(values.attrs["name"])
                stack = _STACK.fullmatch(name)
                if stack is None:
                    stored[name] = [np.asarray(values[str(n)]) for n in range(len(values))]
                else:
                    stored |= _unstack(stack, {key: np.asarray(values[key]) for key in values})
    except (OSError, KeyError) as error:
        line = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{str(path)!r} is not a readable `.weights.h5` file: {line[0]}"
        ) from error
    return stored


def _unstack(stack: re.Match[str], values: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    stage, first, last = stack[1], int(stack[2]), int(stack[3])
    stored: dict[str, Arrays] = {}
    for key in sorted(values):
        role = _VARIABLE.fullmatch(key)[1]  # type: ignore[index]
        for index in range(first, last + 1):
            row = values[key][index - first]
            stored.setdefault(f"{stage}_unit{index}_{role}", []).append(row)
    return stored


def is_stacked(path: str | os.PathLike[str]) -> bool | None:
    """Returns whether a `.weights.h5` file is that of a stacked network; None if unreadable."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            groups = [group["vars"].attrs for group in file["layers"].values() if "vars" in group]
            return any(_STACK.fullmatch(str(each.get("name", ""))) for each in groups)
    except (OSError, KeyError):
        return None
