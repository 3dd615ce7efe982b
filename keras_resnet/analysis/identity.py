"""How far a unit is from the identity: with its branch at zero, and in a new net."""

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
from keras_resnet.analysis.chain import Chain, as_images
from keras_resnet.nets.geometry import Unit, inner_width
from keras_resnet.nets.layers import Scalar
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.nets.primitives import Primitives, channel_axis
from keras_resnet.nets.residual_unit import residual_unit
from keras_resnet.nets.spec import Branch, Merge, Order, ResNetSpec


@dataclasses.dataclass(frozen=True)
class IdentityReport:
    """One unit against the identity.

    Attributes:
        spec: The unit's net.
        claims: Whether, with its branch at zero, it is the identity on rectified input.
        reason: Why, or why not.
        error: Largest absolute difference of output and input, its branch at zero, in training
            and in inference; 0.0 is the identity to the last bit.
        distance: Of the new unit, as in training: the norm of output minus input, over the norm
            of the input.
    """

    spec: ResNetSpec
    claims: bool
    reason: str
    error: float
    distance: float


@dataclasses.dataclass(frozen=True)
class UnitDistance:
    """How much a unit of a net changes what it is given.

    Attributes:
        name: Prefix of the unit's layer names.
        stage: Number of the stage, from 1.
        index: Number of the unit in its stage, from 1.
        distance: Norm of output minus input, over the norm of the input.
    """

    name: str
    stage: int
    index: int
    distance: float


def claims_identity(spec: ResNetSpec) -> tuple[bool, str]:
    """Whether a unit that keeps the shape is the identity once its branch is zero, and why.

    The identity is meant on rectified input, such as units give to one another in post-activation
    order, and to the last bit.

    Source: He et al. 2015, section 3.1 ("if identity mappings are optimal, the solvers may simply
    drive the weights ... toward zero"); He et al. 2016 (arXiv:1603.05027), section 2 and Table 1.
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
    for stands, reason in obstacles:
        if stands:
            return False, reason
    if spec.order == "post":
        return True, "what is added is zero, and the last ReLU passes rectified input"
    return True, "what is added is zero, and nothing follows the addition"


def identity_report(
    spec: ResNetSpec, *, size: int = 8, batch_size: int = 8, seed: int = 0
) -> IdentityReport:
    """Measures a unit of a net that keeps the shape: the second of the first stage.

    Args:
        spec: The net.
        size: Height and width of the unit's input, pixels.
        batch_size: Examples; the input is normal noise, rectified.
        seed: Of the noise and of the weights.
    """
    channels = spec.widths[0] * spec.expansion
    unit = Unit(1, 2, channels, inner_width(spec, spec.widths[0]), channels, 1)
    space = (size, size)
    shape = (channels, *space) if channel_axis() == 1 else (*space, channels)
    make = Primitives(spec.replace(norm_sync=False), seed=seed)
    with dtype_policy("float32"):
        inputs = keras.Input(shape)
        model = keras.Model(inputs, residual_unit(inputs, make, unit), name=unit.name)
    noise = np.random.default_rng(seed).normal(size=(batch_size, *shape))
    x = np.maximum(noise, 0).astype("float32")
    distance = _distance(x, _call(model, x, training=True))
    _zero_branch(model, spec, unit)
    error = max(
        float(np.abs(_call(model, x, training=training) - x).max()) for training in (True, False)
    )
    return IdentityReport(spec, *claims_identity(spec), error, distance)


def accepted_specs() -> Iterator[ResNetSpec]:
    """Yields a small net for each branch, order and merge that `ResNetSpec` takes together.

    With batch norm where the merge has one. Named `branch/order/merge`.
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


def unit_distances(model: ResNet | Chain, images: Any) -> list[UnitDistance]:
    """Measures how much each unit of a net that keeps the shape changes what it is given.

    The net runs as in training, norms with the statistics of this batch, and is left as it was.

    Args:
        model: A net made by `build`, with its classifier, or a `Chain` of one.
        images: A batch as the net takes it, `(batch, height, width, channels)`, normalised.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If it has no classifier, or the images do not fit it.
    """
    chain = model if isinstance(model, Chain) else Chain(model)
    chain.refresh()
    found = []
    with without_gradients():
        x = chain.segments[0](as_images(chain.twin, images), training=True)[0]
        for segment in chain.units:
            y = segment(x, training=True)[0]
            if not segment.changes_shape:
                before, after = ops.convert_to_numpy(x), ops.convert_to_numpy(y)
                found.append(
                    UnitDistance(
                        segment.name, segment.stage, segment.index, _distance(before, after)
                    )
                )
            x = y
    return found


def _call(model: keras.Model, x: np.ndarray, *, training: bool) -> np.ndarray:
    with without_gradients():
        return np.asarray(ops.convert_to_numpy(model(x, training=training)))


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    before, after = x.astype("float64"), y.astype("float64")
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


def _zero_branch(model: keras.Model, spec: ResNetSpec, unit: Unit) -> None:
    """Sets what ends the branch to zero: its last convolution, the norm behind it, biases."""
    layers = {layer.name: layer for layer in model.layers}
    # RepVGG's convolutions stand side by side; of the others only the last ends the branch.
    convs = [layers[n] for n in layers if re.fullmatch(rf"{unit.name}_conv\d", n)]
    for conv in convs if spec.branch == "repvgg" else convs[-1:]:
        name = conv.name
        conv.set_weights([np.zeros_like(value) for value in conv.get_weights()])
        norm = layers.get(name.replace("conv", "norm"))
        if norm is not None and norm.input is conv.output:  # else it stands before
            gamma, beta, *moving = norm.get_weights()
            norm.set_weights([0 * gamma, 0 * beta, *moving])
    for layer in layers.values():
        if isinstance(layer, Scalar) and layer.operation == "add":
            layer.set_weights([np.zeros_like(value) for value in layer.get_weights()])
