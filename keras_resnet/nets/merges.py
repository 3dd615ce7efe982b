"""Merges: how shortcut and branch become one tensor."""

from __future__ import annotations

from collections.abc import Callable

import keras

from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.hampered_shortcuts import hamper
from keras_resnet.nets.layers import GatedSum, Scalar
from keras_resnet.nets.primitives import Primitives
from keras_resnet.nets.shortcuts import shortcut
from keras_resnet.nets.spec import Merge
from keras_resnet.nets.tensor import Tensor

# Merges with a gate, and whether it acts on the branch too.
GATED = {"highway": True, "shortcut_gate": False}


def add_shortcut(x: Tensor, y: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Merges the branch `y` with the shortcut of `x`, as the spec's `merge` says.

    A plain net has no shortcut: `y` is returned.
    """
    merge_kind = nn.spec.merge
    if merge_kind == "none":
        return y
    gate = None
    if merge_kind in GATED:
        gate = nn.pointwise("gate_conv", unit.out_channels, "sigmoid", bias=nn.spec.gate_bias)
    return merge(merge_kind, hamper(shortcut(x, nn, unit), nn), y, name=nn.name, gate=gate)


def merge(
    kind: Merge,
    shortcut: Tensor,
    branch: Tensor,
    *,
    name: Callable[[str], str],
    gate: keras.layers.Layer | None = None,
) -> Tensor:
    """Merges two tensors of one shape; `keras_resnet.residual` merges tensors of any rank by it.

    Args:
        kind: A value of `ResNetSpec.merge`.
        shortcut: Output of the shortcut.
        branch: Output of the branch.
        name: Function from the role of a layer, `"merge"` or `"scale"`, to its name.
        gate: Layer that maps the shortcut to a gate in (0, 1), for the gated kinds.
    """
    if kind == "none":
        return branch
    if kind in GATED:
        assert gate is not None
        inputs = [shortcut, branch, gate(shortcut)]
        return GatedSum(GATED[kind], name=name("merge"))(inputs)
    if kind in ("rezero", "skipinit"):
        branch = Scalar("multiply", 0.0, name=name("scale"))(branch)
    return keras.layers.Add(name=name("merge"))([shortcut, branch])
