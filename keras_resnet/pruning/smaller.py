"""`prune`: a smaller network from a trained one, until it has a share of the multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np

from keras_resnet.analysis.counts import count_spec
from keras_resnet.nets.geometry import inner_widths
from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.named_weights import Arrays, assign, read_weights
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.pruning.channels import Criterion, channel_importance, check_channels, narrowed
from keras_resnet.pruning.units import removable_units, unit_importance, without_units
from keras_resnet.weights.rebuild import head_of, rebuild

Method = Literal["depth", "channels", "both"]


def prune(
    model: ResNet,
    macs: float = 0.5,
    *,
    method: Method = "channels",
    images: Any = None,
    labels: Any = None,
    criterion: Criterion = "norm",
    importance: Mapping[str, float] | None = None,
) -> ResNet:
    """Returns a smaller network with the most important weights of a trained one.

    It is an ordinary network of this package, described by its spec: `depths` or `inner_widths`
    differ. Its accuracy is that of the trained one only after fine-tuning.

    Args:
        model: A trained network made by `build`, with its classifier. It does not change.
        macs: Share of the multiply-adds that the new network may have, above 0 and below 1.
        method: `"depth"` removes the units that matter least (`unit_importance`);
            `"channels"` removes channels inside units, the same share in each stage (to one
            channel), so that the shortcuts keep their width; `"both"` removes units until the
            square root of `macs` or until none can be removed, then channels.
        images: Normalised images that units are judged on; by their norms where None.
        labels: Class numbers of the images.
        criterion: How channels are judged; see `channel_importance`.
        importance: Importance of the units by name, in place of `images`.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If an argument does not fit, or the share cannot be reached.

    Source: Li et al. 2017 (arXiv:1608.08710); Liu et al. 2017 (arXiv:1708.06519); Veit et al. 2016
    (arXiv:1605.06431).

    Example:
        >>> small = keras_resnet.prune(model, 0.5)
        >>> small.spec.inner_widths
        (8, 16, 32)
    """
    check_net(model)
    if method not in get_args(Method):
        raise ValueError(
            f"`method` must be one of {', '.join(map(repr, get_args(Method)))}. "
            f"Received: method={method!r}"
        )
    if isinstance(macs, bool) or not 0 < macs < 1:
        raise ValueError(
            f"`macs` must be above 0 and below 1, a share of the multiply-adds. Received: {macs!r}"
        )
    if head_of(model).classes is None:
        raise ValueError(f"{model.name!r} has no classifier: build it with include_top=True")
    if model.spec.norm != "none" and not any("norm" in name for name in read_weights(model)):
        raise ValueError(
            f"{model.name!r} has no normalisation layers, as it was folded or made "
            "quantise-aware: prune the net that it was made from"
        )
    cost = _cost_of(model)
    limit = macs * cost(model.spec)
    if method != "depth":
        check_channels(model.spec, criterion)
    if method == "depth":
        return _fewer_units(model, limit, cost, images, labels, importance)
    if method == "both":
        names, whole = removable_units(model.spec), cost(model.spec)
        least = cost(without_units(model.spec, read_weights(model), names)[0])
        first = max(float(np.sqrt(macs)) * whole, least)
        if first < whole:
            model = _fewer_units(model, first, cost, images, labels, importance)
    return prune_to(model, _inner_within(model.spec, limit, cost), criterion=criterion)


def prune_to(model: ResNet, inner: tuple[int, ...], *, criterion: Criterion = "norm") -> ResNet:
    """Returns a network with given numbers of channels inside the units of each stage.

    Args:
        model: A trained network made by `build`. It does not change.
        inner: Channels inside the units of each stage, at most those of the network.
        criterion: How channels are judged; see `channel_importance`.

    Raises:
        ValueError: If the network's channels cannot be pruned, or `inner` has more than it has.

    Example:
        >>> keras_resnet.pruning.prune_to(model, (12, 24, 48)).spec.inner_widths
        (12, 24, 48)
    """
    check_net(model)
    have = inner_widths(model.spec)
    if len(inner) != len(have) or any(not 1 <= n <= m for n, m in zip(inner, have, strict=False)):
        raise ValueError(
            f"`inner` needs one number per stage, of at least 1 and at most {have}. "
            f"Received: inner={inner}"
        )
    scores = channel_importance(model, criterion)
    stored = narrowed(model.spec, read_weights(model), inner, scores)
    return _with(model, model.spec.replace(inner_widths=tuple(map(int, inner))), stored)


def _fewer_units(
    model: ResNet,
    limit: float,
    cost: Callable[[ResNetSpec], int],
    images: Any,
    labels: Any,
    importance: Mapping[str, float] | None,
) -> ResNet:
    names = removable_units(model.spec)
    stored = read_weights(model)
    least = cost(without_units(model.spec, stored, names)[0])
    if least > limit:
        whole = cost(model.spec)
        raise ValueError(
            f"Without all of the {len(names)} units of {model.spec.name} that can be removed, "
            f"{least / whole:.3f} of the multiply-adds are left; channels can be pruned too "
            f"(method='both'). Received: macs={limit / whole:.3g}"
        )
    if importance is None:
        importance = unit_importance(model, images, labels)
    missing = [name for name in names if name not in importance]
    if missing:
        raise ValueError(
            f"`importance` needs a value for each of {', '.join(names)}. Missing: {missing[0]}"
        )
    scores = importance
    removed: list[str] = []
    spec, kept = model.spec, dict(stored)
    for name in sorted(names, key=lambda each: scores[each]):
        if cost(spec) <= limit:
            break
        removed.append(name)
        spec, kept = without_units(model.spec, stored, removed)
    return _with(model, spec, kept)


def _inner_within(
    spec: ResNetSpec, limit: float, cost: Callable[[ResNetSpec], int]
) -> tuple[int, ...]:
    """Returns the most channels inside units within a limit, about the same share in each stage."""
    have = inner_widths(spec)

    def at(share: float) -> tuple[int, ...]:
        return tuple(max(1, int(share * width)) for width in have)

    if cost(spec.replace(inner_widths=at(0.0))) > limit:
        least = cost(spec.replace(inner_widths=at(0.0)))
        raise ValueError(
            f"With one channel inside each unit {spec.name} still has {least:,} multiply-adds. "
            f"Received: a limit of {limit:,.0f}"
        )
    # Each share at which the channels of a stage change, in ascending order.
    shares = sorted({count / width for width in have for count in range(1, width + 1)})
    low, high = 0, len(shares)
    while low < high:
        middle = (low + high) // 2
        fits = cost(spec.replace(inner_widths=at(shares[middle] + 1e-9))) <= limit
        low, high = (middle + 1, high) if fits else (low, middle)
    inner = list(at(shares[low - 1] + 1e-9) if low else at(0.0))
    # What is left goes to single stages, later ones first, up to their next share.
    more = at(shares[low] + 1e-9) if low < len(shares) else have
    for stage in reversed(range(len(have))):
        while inner[stage] < more[stage]:
            inner[stage] += 1
            if cost(spec.replace(inner_widths=tuple(inner))) > limit:
                inner[stage] -= 1
                break
    return tuple(inner)


def _cost_of(model: ResNet) -> Callable[[ResNetSpec], int]:
    """Returns the function that counts the multiply-adds of a spec with the model's input."""
    shape = tuple(model.front_output.shape[1:])
    if None in shape:
        # The ratio hardly depends on the size: the spec's own stands for an open one.
        size = (model.spec.input_size,) * (len(shape) - 1)
        shape = (*size, shape[-1])
    form = {"classes": head_of(model).classes, "input_shape": shape, "dims": len(shape) - 1}
    known: dict[ResNetSpec, int] = {}

    def cost(spec: ResNetSpec) -> int:
        if spec not in known:
            known[spec] = count_spec(spec, **form).multiply_adds
        return known[spec]

    return cost


def _with(model: ResNet, spec: ResNetSpec, stored: Mapping[str, Arrays]) -> ResNet:
    """Returns a network like the model with another spec, and its weights."""
    twin = rebuild(model, spec=spec, seed=0)
    assign(stored, twin, source=model.name)
    return twin
