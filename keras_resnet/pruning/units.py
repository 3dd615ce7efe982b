"""Depth pruning: which units can be removed, and how much each one matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.analysis.lesion import Lesions
from keras_resnet.nets.geometry import units
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import Arrays, read_weights
from keras_resnet.nets.spec import ResNetSpec


def removable_units(spec: ResNetSpec) -> tuple[str, ...]:
    """Returns the names of the units that can be removed, in order.

    They keep the shape of their input, their shortcut is the identity, and they are not the first
    of their stage, so that `depths` describes what remains.

    Args:
        spec: The network.

    Raises:
        ValueError: If the network has no shortcuts, or projects in every unit.

    Example:
        >>> keras_resnet.pruning.removable_units(keras_resnet.get_spec("cifar_resnet8"))
        ()
    """
    if spec.merge == "none" or spec.branch == "single":
        raise ValueError(
            "Units are removed from residual networks, in which a shortcut is left in their place. "
            f"Received: {spec.name}, with merge={spec.merge!r}"
        )
    if spec.shortcut == "C":
        raise ValueError(
            "Units are removed where their shortcut is the identity. Received: "
            f"{spec.name}, with shortcut='C', which projects in every unit"
        )
    return tuple(unit.name for unit in units(spec) if unit.index > 1 and not unit.changes_shape)


def unit_importance(
    model: ResNet, images: Any = None, labels: Any = None, *, batch_size: int = 256
) -> dict[str, float]:
    """Returns how much each unit that can be removed matters.

    With images it is the increase of the loss without the unit (Veit et al. 2016,
    arXiv:1605.06431, section 4.1, measure the error in this way). Without images it is the mean
    absolute factor of the norm that ends the branch, as in the criterion of network slimming (Liu
    et al. 2017, arXiv:1708.06519, section 3), which needs such a norm.

    Args:
        model: A trained network made by `build`, with its classifier.
        images: Normalised images, `(images, height, width, channels)`.
        labels: Class numbers, `(images,)`.
        batch_size: Images that are computed at once.

    Raises:
        ValueError: If the network has no such units, or there is neither an image nor a norm.

    Example:
        >>> scores = keras_resnet.pruning.unit_importance(model, images, labels)
        >>> min(scores, key=scores.get)
        'stage3_unit5'
    """
    names = removable_units(model.spec)
    if images is None:
        return _by_norm(model, names)
    lesions = Lesions(model, images, labels, batch_size=batch_size)
    whole = lesions.measure().loss
    places = {name: place for place, name in enumerate(lesions.names)}
    return {name: lesions.without([places[name]]).loss - whole for name in names}


def _by_norm(model: ResNet, names: Sequence[str]) -> dict[str, float]:
    stored = read_weights(model)
    if model.spec.norm not in ("batch", "group") or not model.spec.norms_branch_end:
        raise ValueError(
            "Without images a unit is judged by the norm at the end of its branch, which this "
            f"network does not have: give `images` and `labels`. Received: {model.spec.name}, "
            f"with order={model.spec.order!r} and norm={model.spec.norm!r}"
        )
    last = 3 if model.spec.branch == "bottleneck" else 2
    if model.spec.branch == "repvgg":
        raise ValueError("RepVGG's units end in three norms: give `images` and `labels`")
    return {name: float(np.abs(stored[f"{name}_norm{last}"][0]).mean()) for name in names}


def without_units(
    spec: ResNetSpec, stored: Mapping[str, Arrays], removed: Sequence[str]
) -> tuple[ResNetSpec, dict[str, Arrays]]:
    """Returns spec and weights of a network without some units; the others are renumbered.

    Args:
        spec: The network.
        stored: Its weights by layer name.
        removed: Names of units.
    """
    depths, renamed = [0] * len(spec.depths), {}
    for unit in units(spec):
        if unit.name not in removed:
            depths[unit.stage - 1] += 1
            renamed[unit.name] = f"stage{unit.stage}_unit{depths[unit.stage - 1]}"
    kept = {}
    for layer, arrays in stored.items():
        prefix = "_".join(layer.split("_")[:2])
        if prefix in renamed:
            kept[renamed[prefix] + layer.removeprefix(prefix)] = arrays
        elif prefix not in removed:
            kept[layer] = arrays
    return spec.replace(depths=tuple(depths)), kept
