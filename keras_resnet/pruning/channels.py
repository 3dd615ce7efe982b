"""Channel pruning: the channels inside units, between their convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from keras_resnet.nets.geometry import Unit, units
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import Arrays, read_weights
from keras_resnet.nets.spec import ResNetSpec

Criterion = Literal["norm", "l1"]


def check_channels(spec: ResNetSpec, criterion: str) -> None:
    """Checks that the channels inside a network's units can be pruned.

    Raises:
        ValueError: If they cannot.
    """
    if criterion not in get_args(Criterion):
        raise ValueError(f"`criterion` must be 'norm' or 'l1'. Received: criterion={criterion!r}")
    needs = (
        ("branch", spec.branch, ("basic", "bottleneck"), "the others have no channels inside"),
        ("groups", spec.groups, (1,), "the channels of a group belong together"),
        ("order", spec.order, ("post", "pre"), "the others exist for comparison"),
        ("norm", spec.norm, ("batch", "none", "fixup"), "32 groups need multiples of 32"),
        ("init", spec.init, ("he",), "an orthogonal matrix maps all channels"),
    )
    for field, value, allowed, why in needs:
        if value not in allowed:
            raise ValueError(
                f"Channels inside units are pruned where {field} is "
                f"{' or '.join(map(repr, allowed))}: {why}. Received: {spec.name}, with "
                f"{field}={value!r}"
            )
    if criterion == "norm" and spec.norm != "batch":
        raise ValueError(
            "`criterion='norm'` needs batch norm: give criterion='l1'. Received: "
            f"{spec.name}, with norm={spec.norm!r}"
        )


def channel_importance(model: ResNet, criterion: Criterion = "norm") -> dict[str, np.ndarray]:
    """Returns the importance of the channels behind each convolution inside a unit.

    Args:
        model: A trained network made by `build`.
        criterion: `"norm"`: absolute factor of the batch norm behind the convolution (Liu et al.
            2017, arXiv:1708.06519, section 3); `"l1"`: sum of the absolute weights of its filter
            (Li et al. 2017, arXiv:1608.08710, section 3.1).

    Returns:
        By the convolution's layer name, `(channels,)`.

    Raises:
        ValueError: If the network's channels cannot be pruned.

    Example:
        >>> keras_resnet.pruning.channel_importance(model)["stage1_unit1_conv1"].shape
        (16,)
    """
    check_channels(model.spec, criterion)
    stored = read_weights(model)
    return {
        f"{unit.name}_conv{number}": _importance(stored, model.spec, unit, number, criterion)
        for unit in units(model.spec)
        for number in range(1, _inner_convolutions(model.spec) + 1)
    }


def narrowed(
    spec: ResNetSpec,
    stored: Mapping[str, Arrays],
    inner: Sequence[int],
    importance: Mapping[str, np.ndarray],
) -> dict[str, Arrays]:
    """Returns the weights of a network with fewer channels inside its units.

    Args:
        spec: The network.
        stored: Its weights by layer name.
        inner: Channels inside the units of each stage.
        importance: As `channel_importance` returns it; the most important ones stay, in order.
    """
    kept = dict(stored)
    for unit in units(spec):
        for number in range(1, _inner_convolutions(spec) + 1):
            scores = importance[f"{unit.name}_conv{number}"]
            best = np.argsort(-scores, kind="stable")[: inner[unit.stage - 1]]
            _keep(kept, spec, unit, number, np.sort(best))
    return kept


def _keep(
    kept: dict[str, Arrays], spec: ResNetSpec, unit: Unit, number: int, channels: np.ndarray
) -> None:
    """Keeps some of the channels between a convolution and the next."""
    own, following = f"{unit.name}_conv{number}", f"{unit.name}_conv{number + 1}"
    kept[own] = [array[..., channels] for array in kept[own]]
    norm = _norm_behind(spec, unit, number)
    if norm in kept and spec.norm == "batch":
        kept[norm] = [array[channels] for array in kept[norm]]
    kernel, *rest = kept[following]
    kept[following] = [kernel[..., channels, :], *rest]


def _importance(
    stored: Mapping[str, Arrays], spec: ResNetSpec, unit: Unit, number: int, criterion: Criterion
) -> np.ndarray:
    if criterion == "norm":
        return np.abs(stored[_norm_behind(spec, unit, number)][0])
    kernel = stored[f"{unit.name}_conv{number}"][0]
    return np.abs(kernel).sum(axis=tuple(range(kernel.ndim - 1)))


def _norm_behind(spec: ResNetSpec, unit: Unit, number: int) -> str:
    """Returns the name of the norm behind a convolution; the first of a pre unit precedes all."""
    return f"{unit.name}_norm{number + (spec.order == 'pre')}"


def _inner_convolutions(spec: ResNetSpec) -> int:
    return 2 if spec.branch == "bottleneck" else 1
