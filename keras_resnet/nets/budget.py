"""The number of weights that a spec asks for, before anything is built."""

from __future__ import annotations

import itertools

from keras_resnet.nets.geometry import Unit, squeezed_channels, units
from keras_resnet.nets.spec import ResNetSpec

MAX_PARAMETERS = 2**32
"""Weights of a net, 16 GiB in float32. The largest published residual nets have 10^9."""


def kernel_parameters(
    spec: ResNetSpec, classes: int | None = None, channels: int | None = None, dims: int = 2
) -> int:
    """Returns the number of weights in kernels: of convolutions, projections and the classifier.

    Norms, biases and gates are not counted; they are less than a tenth of any net.

    Args:
        spec: The net.
        classes: Outputs of the classifier; 0 for none, the spec's where None.
        channels: Channels of the input; the spec's where None.
        dims: Space axes.

    Example:
        >>> kernel_parameters(keras_resnet.get_spec("resnet18"))
        11678912
    """
    total = _stem(spec, spec.input_channels if channels is None else channels, dims)
    last = spec.stem_filters
    for unit in units(spec):
        total += _unit(spec, unit, dims)
        last = unit.out_channels
    return total + last * (spec.classes if classes is None else classes)


def check_parameters(
    spec: ResNetSpec, classes: int | None, channels: int | None, dims: int = 2
) -> None:
    """Checks that a net can be built; see `kernel_parameters` for the arguments.

    Raises:
        ValueError: If it has more than `MAX_PARAMETERS` weights.
    """
    needed = kernel_parameters(spec, classes, channels, dims)
    if needed > MAX_PARAMETERS:
        raise ValueError(
            f"`depths`, `widths` and the number of classes make a net of {needed:.2g} weights "
            f"({needed / 2**28:,.0f} GiB); at most {MAX_PARAMETERS:.2g} are built. "
            f"Received: {spec.name}, depths={spec.depths}, widths={spec.widths}, "
            f"stem_filters={spec.stem_filters}, classes={classes or 0}"
        )


def _stem(spec: ResNetSpec, channels: int, dims: int) -> int:
    if spec.stem == "unit":
        width = spec.stem_filters
        return _unit(spec, Unit(0, 1, channels, width, width, 2), dims)
    sizes = (channels, *spec.stem_convolutions)
    kernel = 7 if spec.stem == "imagenet" else 3
    return sum(kernel**dims * one * two for one, two in itertools.pairwise(sizes))


def _unit(spec: ResNetSpec, unit: Unit, dims: int) -> int:
    kernel, outer = 3**dims, unit.in_channels * unit.out_channels
    if spec.branch == "single":
        return kernel * outer
    if spec.branch == "repvgg":
        return (kernel + 1) * outer
    ends = (unit.in_channels + unit.out_channels) * unit.inner
    if spec.branch == "bottleneck":
        total = ends + kernel * unit.inner * (unit.inner // spec.groups)
    else:
        total = kernel * ends
    opens = spec.stage_projection and unit.opens
    changed = unit.in_channels != unit.out_channels and spec.shortcut != "A"
    if spec.merge != "none" and (changed or opens or spec.shortcut == "C"):
        total += outer
    if spec.se_reduction:
        total += 2 * unit.out_channels * squeezed_channels(spec, unit.out_channels)
    return total
