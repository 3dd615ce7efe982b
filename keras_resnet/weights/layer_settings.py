"""Settings of single layers, `trainable` flags and regularizers, carried to a rebuilt net."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import keras

from keras_resnet.nets.named_weights import own_layers
from keras_resnet.nets.stacked import StackedUnits

_OF_WEIGHTS = ("regularizer", "constraint")


def keep_settings(source: keras.Model, target: keras.Model) -> None:
    """Gives the layers of a net the flags, regularizers and constraints of another's.

    Layers correspond by name, in stacked and unrolled nets alike. Layers that the target does not
    have are left out.

    Warns:
        UserWarning: If the target holds several units in one layer, which has one flag for them
            and no regularizers, and the source's layers differ or have some; with counts.
    """
    frozen = frozenset(_frozen(source))
    regularized = {name: layer for name, layer in own_layers(source) if _has_settings(layer)}
    lost = {"frozen": 0, "with a regularizer or constraint": 0}
    for name, layer in own_layers(target):
        if isinstance(layer, StackedUnits):
            lost["frozen"] += _freeze_units(layer, frozen)
            inside = {name for name, _ in layer.unit_layers()}
            lost["with a regularizer or constraint"] += len(inside & regularized.keys())
            continue
        if name in frozen:
            layer.trainable = False
        if name in regularized:
            _copy_settings(regularized[name], layer)
    counts = [f"{count} {kind}" for kind, count in lost.items() if count]
    if counts:
        warnings.warn(
            f"The stacked form of {source.name!r} has one layer for several units and cannot keep "
            f"the settings of single layers: {', '.join(counts)}. Use `stacked=False`",
            stacklevel=4,
        )


def _frozen(model: keras.Model) -> Iterator[str]:
    """Yields the names of the layers whose weights are not trained."""
    for name, layer in own_layers(model):
        if isinstance(layer, StackedUnits):
            for unit_name, each in layer.unit_layers():
                trained = layer.norms_trainable if _is_norm(each) else layer.trainable
                if not (layer.trainable and trained):
                    yield unit_name
        elif layer.weights and not layer.trainable:
            yield name


def _is_norm(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)


def _freeze_units(stack: StackedUnits, frozen: frozenset[str]) -> int:
    """Freezes all units of a stack, or all their norms; returns how many flags it cannot keep."""
    units = list(stack.unit_layers())
    names = {name for name, _ in units}
    norms = {name for name, layer in units if _is_norm(layer)}
    if names <= frozen:
        stack.trainable = False
    elif names & frozen and names & frozen == norms:
        stack.norms_trainable = False
    else:
        return len(names & frozen)
    return 0


def _has_settings(layer: Any) -> bool:
    names = [f"{weight.name}_{kind}" for weight in layer.weights for kind in _OF_WEIGHTS]
    values = [getattr(layer, name, None) for name in (*names, "activity_regularizer")]
    values += [getattr(weight, kind) for weight in layer.weights for kind in _OF_WEIGHTS]
    return any(value is not None for value in values)


def _copy_settings(source: Any, target: Any) -> None:
    """Sets what training reads, on the variables, and what files store, on the layer."""
    for old, new in zip(source.weights, target.weights, strict=False):
        for kind in _OF_WEIGHTS:
            setattr(new, kind, getattr(old, kind))
            name = f"{new.name}_{kind}"
            if hasattr(source, name) and hasattr(target, name):
                setattr(target, name, getattr(source, name))
    target.activity_regularizer = source.activity_regularizer
