"""Weights by the names of the layers that the unrolled net has, whatever form a net is in.

A stacked net keeps the weights of many units in one layer, along a first axis. Everything that
maps, copies, saves or reads weights by layer name goes through here and never sees that.
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
    """A layer that holds several units; see `stacked.StackedUnits`."""

    def unit_names(self) -> list[str]:
        """Returns the names of all layers of all its units, those without weights too."""

    def unit_layers(self) -> Iterator[tuple[str, Any]]:
        """Yields names of the units' layers with weights, and a layer of the same form."""

    def read_units(self) -> dict[str, Arrays]:
        """Returns the units' weights by layer name."""

    def write_units(self, stored: Mapping[str, Arrays]) -> None:
        """Sets the weights of those of the units' layers that are named."""


def layer_names(model: keras.Model) -> list[str]:
    """Returns the names of a net's layers as the unrolled net has them."""
    names: list[str] = []
    for layer in model.layers:
        names += layer.unit_names() if isinstance(layer, HoldsUnits) else [layer.name]
    return names


def weighted_layers(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yields the name of each layer with weights, and a layer of its kind and shapes.

    The second is the layer itself but for units in a stack: their values are read and written by
    the functions below alone.
    """
    for layer in model.layers:
        if isinstance(layer, HoldsUnits):
            yield from layer.unit_layers()
        elif layer.weights:
            yield layer.name, layer


def read_weights(model: keras.Model) -> dict[str, Arrays]:
    """Returns a net's weights by layer name."""
    stored: dict[str, Arrays] = {}
    for layer in model.layers:
        if isinstance(layer, HoldsUnits):
            stored |= layer.read_units()
        elif layer.weights:
            stored[layer.name] = layer.get_weights()
    return stored


def write_weights(model: keras.Model, stored: Mapping[str, Arrays]) -> None:
    """Sets the weights of the layers that are named; names that the net has not are passed over.

    Raises:
        ValueError: If an array has another shape than the weight.
    """
    for layer in model.layers:
        if isinstance(layer, HoldsUnits):
            layer.write_units(stored)
        elif layer.weights and layer.name in stored:
            layer.set_weights(stored[layer.name])


def assign(
    stored: Mapping[str, Arrays], target: keras.Model, *, source: str, skip: Sequence[str] = ()
) -> None:
    """Sets a model's weights, layer by layer, by name; all of them or none.

    Raises:
        ValueError: If the two do not fit; names the first differences.
    """
    ours = {name: layer for name, layer in weighted_layers(target) if name not in skip}
    problems = [f"no {name!r} in the source" for name in ours if name not in stored]
    problems += [f"no {name!r} in the target" for name in stored if name not in ours]
    for name, layer in ours.items():
        had = [array.shape for array in stored.get(name, [])]
        wanted = [tuple(weight.shape) for weight in layer.weights]
        if name in stored and had != wanted:
            problems.append(f"{name!r} has shapes {had}, not {wanted}")
    if problems:
        raise ValueError(
            f"Weights of {source} do not fit {target.name}: {'; '.join(problems[:4])}"
            + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")
        )
    write_weights(target, {name: stored[name] for name in ours})


# A stack of units is named after the first and the last of them; its variables in a file after
# their place, the role of their layer and their own name: `03.norm1.gamma`.
_STACK = re.compile(r"(stage\d+)_units(\d+)to(\d+)")
_VARIABLE = re.compile(r"\d+\.(\w+)\.(\w+)")


def stack_name(stage: str, first: int, last: int) -> str:
    """Returns the name of the layer that holds the units `first` to `last` of a stage."""
    return f"{stage}_units{first}to{last}"


def variable_key(place: int, role: str, name: str) -> str:
    """Returns what a variable of such a layer is called in a file."""
    return f"{place:02d}.{role}.{name}"


def read_h5(path: str | os.PathLike[str]) -> dict[str, Arrays]:
    """Returns the weights of a `.weights.h5` file of Keras by layer name.

    `Model.load_weights` numbers layers of a kind in their order and leaves the names aside, so it
    takes the weights of a post-activation net for a pre-activation one where the shapes agree.

    Raises:
        ValueError: If the file is no such file.
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
        raise ValueError(f"{str(path)!r} is no readable `.weights.h5` file: {line[0]}") from error
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
    """Says whether a `.weights.h5` file is of a stacked net; None if it cannot be read."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            groups = [group["vars"].attrs for group in file["layers"].values() if "vars" in group]
            return any(_STACK.fullmatch(str(each.get("name", ""))) for each in groups)
    except (OSError, KeyError):
        return None
