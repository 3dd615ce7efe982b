"""The distance of residual units from the identity: with a zero branch, and at initialisation."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from typing import Any, get_args

import keras
import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import without_gradients
from keras_resnet.analysis.chain import Chain, as_chain, as_images
from keras_resnet.nets.geometry import Unit, inner_widths
from keras_resnet.nets.layers import Scalar
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.nets.primitives import Primitives, channel_axis
from keras_resnet.nets.residual_unit import residual_unit
from keras_resnet.nets.spec import Branch, Merge, Order, ResNetSpec


@dataclasses.dataclass(frozen=True)
class IdentityReport:
    """A comparison of one unit with the identity.

    Attributes:
        spec: The unit's network.
        claims: Whether `claims_identity` expects the unit to be the identity when its branch is
            zero.
        reason: Why, or why not.
        error: Largest absolute difference of output and input with a zero branch, in training and
            in inference; 0.0 is the identity to the last bit.
        distance: `norm(output - input) / norm(input)` of the new unit, as in training.

    Example:
        >>> report = keras_resnet.analysis.identity_report(keras_resnet.get_spec("cifar_plain20"))
        >>> report.reason
        'a plain unit has no shortcut'
    """

    spec: ResNetSpec
    claims: bool
    reason: str
    error: float
    distance: float


@dataclasses.dataclass(frozen=True)
class UnitDistance:
    """How much a unit of a network changes its input.

    Attributes:
        name: Prefix of the unit's layer names.
        stage: Number of the stage, from 1.
        index: Number of the unit in its stage, from 1.
        distance: `norm(output - input) / norm(input)`.

    Example:
        ```python
        first = keras_resnet.analysis.unit_distances(model, images)[0]
        print(first.name, first.distance)
        ```
    """

    name: str
    stage: int
    index: int
    distance: float


def claims_identity(spec: ResNetSpec) -> tuple[bool, str]:
    """Decides whether a unit that keeps the shape is the identity when its branch is zero.

    The identity is required to the last bit, on non-negative input, such as the output of the
    preceding unit in post-activation order.

    Args:
        spec: The network of the unit.

    Returns:
        The answer and its reason.

    Source: He et al. 2015, section 3.1 ("if identity mappings are optimal, the solvers may simply
    drive the weights ... toward zero"); He et al. 2016 (arXiv:1603.05027), section 2 and Table 1.

    Example:
        >>> keras_resnet.analysis.claims_identity(keras_resnet.get_spec("cifar_plain20"))
        (False, 'a plain unit has no shortcut')
    """
    obstacles = (
        (spec.merge == "none", "a plain unit has no shortcut"),
        (spec.branch == "repvgg", "its identity path is normed"),
        (spec.shortcut == "C", "its shortcut is a projection"),
        (spec.merge in ("highway", "shortcut_gate"), "a gate takes its share of the shortcut"),
        (spec.shortcut_scale != 1, f"its shortcut is multiplied by {spec.shortcut_scale:g}"),
        (spec.shortcut_dropout > 0, "its shortcut is dropped in training"),
        (spec.order == "norm_after_add", "a norm follows the addition"),
    )
    for applies, reason in obstacles:
        if applies:
            return False, reason
    if spec.order == "post":
        return True, "what is added is zero, and the last ReLU passes rectified input"
    return True, "what is added is zero, and nothing follows the addition"


def identity_report(
    spec: ResNetSpec, *, size: int = 8, batch_size: int = 8, seed: int = 0
) -> IdentityReport:
    """Compares a unit with the identity, on rectified normal noise.

    The unit is the second of the first stage, which keeps the shape.

    Args:
        spec: The network.
        size: Height and width of the unit's input, pixels.
        batch_size: Number of examples.
        seed: Seed of the noise and of the weights.

    Source: see `claims_identity`.

    Example:
        >>> keras_resnet.analysis.identity_report(keras_resnet.get_spec("cifar_resnet20")).error
        0.0
    """
    channels = spec.widths[0] * spec.expansion
    unit = Unit(1, 2, channels, inner_widths(spec)[0], channels, 1)
    space = (size, size)
    shape = (channels, *space) if channel_axis() == 1 else (*space, channels)
    primitives = Primitives(spec.replace(norm_sync=False), seed=seed)
    with dtype_policy("float32"):
        inputs = keras.Input(shape)
        model = keras.Model(inputs, residual_unit(inputs, primitives, unit), name=unit.name)
    noise = np.random.default_rng(seed).normal(size=(batch_size, *shape))
    x = np.maximum(noise, 0).astype("float32")
    distance = _distance(x, _call(model, x, training=True))
    _zero_branch(model, spec, unit)
    error = max(
        float(np.abs(_call(model, x, training=training) - x).max()) for training in (True, False)
    )
    return IdentityReport(spec, *claims_identity(spec), error, distance)


def accepted_specs() -> Iterator[ResNetSpec]:
    """Yields a small network for each valid combination of branch, order and merge, and Fixup's.

    The networks have batch norm where the merge allows it, and are named `branch/order/merge`;
    those with Fixup in place of norms `branch/order/fixup`.

    Example:
        >>> [spec.name for spec in keras_resnet.analysis.accepted_specs()][:2]
        ['basic/post/add', 'basic/post/none']
    """
    base = ResNetSpec("unit", (2,), (8,), stem="cifar", input_size=8, classes=10)
    kinds = itertools.product(get_args(Branch), get_args(Order), get_args(Merge))
    for branch, order, merge in kinds:
        for norm in ("batch", "none"):
            try:
                spec = base.replace(branch=branch, order=order, merge=merge, norm=norm)
            except ValueError:
                continue
            yield spec.replace(name=f"{branch}/{order}/{merge}")
            break
    for branch in ("basic", "bottleneck"):
        yield base.replace(name=f"{branch}/post/fixup", branch=branch, norm="fixup")


def unit_distances(model: ResNet | Chain, images: Any) -> list[UnitDistance]:
    """Measures how much each unit that keeps the shape changes its input.

    The network runs as in training: norms use the statistics of this batch. It is not changed.

    Args:
        model: A network made by `build`, with its classifier, or a `Chain` of one.
        images: Network inputs, `(batch, height, width, channels)`, normalised.

    Returns:
        One distance per unit that keeps the shape, in the order of the network.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If `model` has no classifier, or `images` does not fit it.

    Example:
        ```python
        for unit in keras_resnet.analysis.unit_distances(model, images):
            print(unit.name, unit.distance)
        ```
    """
    chain = as_chain(model)
    distances = []
    with without_gradients():
        x = chain.segments[0](as_images(chain.twin, images), training=True)[0]
        for segment in chain.units:
            y = segment(x, training=True)[0]
            if not segment.changes_shape:
                distance = _distance(ops.convert_to_numpy(x), ops.convert_to_numpy(y))
                distances.append(UnitDistance(segment.name, segment.stage, segment.index, distance))
            x = y
    return distances


def _call(model: keras.Model, x: np.ndarray, *, training: bool) -> np.ndarray:
    with without_gradients():
        return np.asarray(ops.convert_to_numpy(model(x, training=training)))


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    before, after = x.astype("float64"), y.astype("float64")
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


def _zero_branch(model: keras.Model, spec: ResNetSpec, unit: Unit) -> None:
    """Sets the end of the branch to zero: its last convolution, the norm after it, and biases."""
    layers = {layer.name: layer for layer in model.layers}
    convs = [layers[name] for name in layers if re.fullmatch(rf"{unit.name}_conv\d", name)]
    # RepVGG's convolutions are parallel; of the others only the last ends the branch.
    for conv in convs if spec.branch == "repvgg" else convs[-1:]:
        conv.set_weights([np.zeros_like(value) for value in conv.get_weights()])
        norm = layers.get(conv.name.replace("conv", "norm"))
        if norm is not None and norm.input is conv.output:  # else it stands before
            gamma, beta, *moving = norm.get_weights()
            norm.set_weights([0 * gamma, 0 * beta, *moving])
    for layer in layers.values():
        if isinstance(layer, Scalar) and layer.operation == "add":
            layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
