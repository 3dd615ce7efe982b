"""Learning rates of single variables: by stage or unit, and of the classifier."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from keras_resnet.nets.named_weights import classifier_of

# The factor of a variable; of a stack of units one per unit, in the shape of a column.
Factor = float | np.ndarray

_STAGE = re.compile(r"stage(\d+)_units?(\d+)(?:to(\d+))?")


def rate_factors(
    model: Any,
    layer_decay: float = 1.0,
    head_factor: float = 1.0,
    per: Literal["stage", "unit"] = "stage",
) -> list[Factor]:
    """Returns the factor of the learning rate of each trainable variable of a net.

    The classifier has `head_factor`. The last stage, or unit, has `layer_decay`, the one before it
    `layer_decay` squared, and so on to the stem. The norm after the last stage belongs to it.
    Layers that are no part of a net have 1. Frozen stages count, so that freezing one does not
    change the rates of the others.

    Source: Howard and Ruder 2018 (arXiv:1801.06146), section 3.2 (discriminative fine-tuning);
    Bao et al. 2022 (arXiv:2106.08254), appendix (layer-wise decay).

    Args:
        model: The net; its layers are named as this package names them.
        layer_decay: Factor from one stage or unit to the one before it, in (0, 1].
        head_factor: Factor of the classifier.
        per: Whether `layer_decay` counts stages or residual units.

    Returns:
        One factor for each of `model.trainable_variables`; for the variables of stacked units an
        array with one factor per row where the units' rates differ.

    Example:
        >>> factors = rate_factors(keras_resnet.build("resnet18"), layer_decay=0.5)
        >>> factors[0]  # the stem's: four stages before the classifier
        0.03125
    """
    places = _places(model, per)
    head = classifier_of(model)
    found: dict[int, Factor] = {}
    for layer in model.layers:
        factor: float | list[float]
        if layer is head:
            factor = head_factor
        else:
            powers = _powers(layer.name, places, per)
            factor = [layer_decay**power for power in powers] if powers else 1.0
        for variable in layer.trainable_variables:
            found[id(variable)] = _shaped(factor, variable)
    return [found.get(id(variable), 1.0) for variable in model.trainable_variables]


def _places(model: Any, per: str) -> list[tuple[int, ...]]:
    """Returns the stages, or the stages and units, of a net in order; the stem is stage 0."""
    places: set[tuple[int, ...]] = set()
    for layer in model.layers:
        places.update(_own_places(layer.name, per))
    return sorted(places)


def _own_places(name: str, per: str) -> list[tuple[int, ...]]:
    """Returns the places that a layer belongs to: none, one, or those of stacked units."""
    if name.startswith("stem_"):
        return [(0,)] if per == "stage" else [(0, 0)]
    match = _STAGE.match(name)
    if match is None:
        return []
    stage, first, last = int(match[1]), int(match[2]), int(match[3] or match[2])
    if per == "stage":
        return [(stage,)]
    return [(stage, unit) for unit in range(first, last + 1)]


def _powers(name: str, places: Sequence[tuple[int, ...]], per: str) -> list[int]:
    """Returns how many times the decay acts on a layer, for each of its units."""
    own = _own_places(name, per)
    if not own and name.startswith("final_"):
        own = list(places[-1:])
    return [len(places) - places.index(place) for place in own]


def _shaped(factor: float | list[float], variable: Any) -> Factor:
    if isinstance(factor, list) and len(set(factor)) == 1:
        return factor[0]
    if not isinstance(factor, list):
        return factor
    return np.reshape(np.array(factor, "float32"), (-1,) + (1,) * (len(variable.shape) - 1))
