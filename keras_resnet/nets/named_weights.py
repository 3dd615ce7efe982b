"""Weights by the layer names of the unrolled network, for all forms of a network alike.

A stacked network keeps the weights of many units in one layer, along a first axis. A classifier
with an activation is called `predictions`, one without `logits`. Layers may have the names of
keras.applications. Layers before the network belong to the user. Code that maps, copies, saves or
reads weights by layer name uses this module and does not see the differences: layers have our
names, the classifier is `logits`, and layers before the network are left out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np

from keras_resnet.nets.aliases import own_names

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


CLASSIFIER = "logits"


def classifier_of(model: keras.Model) -> keras.layers.Dense | None:
    """Returns the classifier, a layer named `logits` or `predictions`; None without the top.

    Nets saved by earlier versions have `logits` and, after it, an `Activation` `predictions`.
    """
    dense = {each.name: each for each in model.layers if isinstance(each, keras.layers.Dense)}
    return dense.get(CLASSIFIER) or dense.get("predictions")


def own_layers(model: keras.Model) -> list[tuple[str, Any]]:
    """Returns the network's layers by name, without those that come before it."""
    head = classifier_of(model)
    layers = [each for each in model.layers if each.name not in getattr(model, "front", ())]
    names = own_names((each.name for each in layers), preactivated=_preactivated(model))
    return [(CLASSIFIER if each is head else names[each.name], each) for each in layers]


def _preactivated(model: keras.Model) -> bool | None:
    spec = getattr(model, "_spec", None)  # `model.spec` raises where there is none
    return None if spec is None else bool(spec.activates_first)


def names_of_applications(model: keras.Model) -> bool:
    """Whether the layers have the names of keras.applications."""
    return any(name != layer.name and name != CLASSIFIER for name, layer in own_layers(model))


def layer_names(model: keras.Model) -> list[str]:
    """Returns the names of the layers that the unrolled network has."""
    names: list[str] = []
    for name, layer in own_layers(model):
        names += layer.unit_names() if isinstance(layer, HoldsUnits) else [name]
    return names


def weighted_layers(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yields the name of each layer with weights, and a layer of the same kind and shapes.

    The second is the layer itself, except for units in a stack: read and write their values with
    `read_weights` and `write_weights`.
    """
    for name, layer in own_layers(model):
        if isinstance(layer, HoldsUnits):
            yield from layer.unit_layers()
        elif layer.weights:
            yield name, layer


def read_weights(model: keras.Model) -> dict[str, Arrays]:
    """Returns the weights by layer name."""
    stored: dict[str, Arrays] = {}
    for name, layer in own_layers(model):
        if isinstance(layer, HoldsUnits):
            stored |= layer.read_units()
        elif layer.weights:
            stored[name] = layer.get_weights()
    return stored


def write_weights(model: keras.Model, stored: Mapping[str, Arrays]) -> None:
    """Sets the weights of the layers that are named; names of other networks are ignored.

    Raises:
        ValueError: If the shapes of an array and of its weight differ.
    """
    for name, layer in own_layers(model):
        if isinstance(layer, HoldsUnits):
            layer.write_units(stored)
        elif layer.weights and name in stored:
            layer.set_weights(stored[name])


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
    problems = _misfits(stored, target, skip)
    if problems:
        raise ValueError(f"Weights of {source} do not fit {target.name}: {_listed(problems)}")
    write_weights(target, {name: stored[name] for name in stored if name not in skip})


def assign_fitting(stored: Mapping[str, Arrays], target: keras.Model, *, source: str) -> None:
    """Sets the weights of the layers whose names and shapes fit; warns once of the others."""
    problems = _misfits(stored, target)
    write_weights(target, {name: stored[name] for name in stored if name not in problems})
    if problems:
        total = len({*stored, *(name for name, _ in weighted_layers(target))})
        warnings.warn(
            f"{len(problems)} of {total} layers with weights were skipped when {source} was "
            f"loaded into {target.name}: {_listed(problems)}",
            stacklevel=3,
        )


def _misfits(
    stored: Mapping[str, Arrays], target: keras.Model, skip: Sequence[str] = ()
) -> dict[str, str]:
    """Returns by layer name what differs between arrays and a model."""
    layers = {name: layer for name, layer in weighted_layers(target) if name not in skip}
    problems = {name: f"no {name!r} in the source" for name in layers if name not in stored}
    problems |= {name: f"no {name!r} in the target" for name in stored if name not in layers}
    for name in (name for name in layers if name in stored):
        shapes = [array.shape for array in stored[name]]
        expected = [tuple(weight.shape) for weight in layers[name].weights]
        if shapes != expected:
            problems[name] = f"{name!r} has shapes {shapes}, not {expected}"
    return problems


def _listed(problems: Mapping[str, str]) -> str:
    more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
    return "; ".join(list(problems.values())[:4]) + more


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


# All layers with weights of a net that `build` makes.
_OWN = re.compile(r"stem_\w+|stage\d+_\w+|final_norm|logits(_bias)?")


def is_own_name(name: str) -> bool:
    """Whether a layer of this name belongs to the net, not to what stands around it."""
    return _OWN.fullmatch(name) is not None


def _unrolled_name(layer: str) -> str:
    """Returns the name under which the weights of a file's layer are known here."""
    return CLASSIFIER if layer == "predictions" else layer


def group_by_layer(tensors: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    """Returns arrays by layer name, from arrays named `layer/variable` in the layers' order."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        layer, _, variable = name.rpartition("/")
        layer = _unrolled_name(layer)
        groups.setdefault(layer, {})[variable] = array
    stored: dict[str, Arrays] = {}
    for layer, values in groups.items():
        stack = _STACK.fullmatch(layer)
        stored |= {layer: list(values.values())} if stack is None else _unstack(stack, values)
    names = own_names(stored)
    return {names[name]: arrays for name, arrays in stored.items()}


def _unstack(stack: re.Match[str], values: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    stage, first, last = stack[1], int(stack[2]), int(stack[3])
    stored: dict[str, Arrays] = {}
    for key in sorted(values):
        variable = _VARIABLE.fullmatch(key)
        if variable is None or len(np.atleast_1d(values[key])) != last - first + 1:
            raise ValueError(f"The layer {stack[0]!r} does not hold its units: {key[:80]!r}")
        role = variable[1]
        for index in range(first, last + 1):
            row = values[key][index - first]
            stored.setdefault(f"{stage}_unit{index}_{role}", []).append(row)
    return stored


def holds_stack(tensors: Iterable[str]) -> bool:
    """Whether arrays named `layer/variable` are those of a stacked network."""
    return any(_STACK.fullmatch(name.rpartition("/")[0]) for name in tensors)


def check_finite(stored: Mapping[str, Arrays], source: str) -> None:
    """Checks that all values are finite.

    Raises:
        ValueError: If some are not; names the first layer and counts the layers.
    """
    bad = [name for name, arrays in stored.items() if not all(np.isfinite(a).all() for a in arrays)]
    if bad:
        raise ValueError(
            f"{len(bad)} of {len(stored)} layers of {source} have weights that are not finite, "
            f"first {bad[0]!r}; `allow_nonfinite=True` loads them"
        )
