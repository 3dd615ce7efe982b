"""Axis `merge`: how shortcut and branch become one.

Each merge keeps the shape and knows nothing of images, so that `keras_resnet.residual` offers the
same ones to any functional model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.nets.layers import GatedSum, Scalar
from keras_resnet.nets.spec import Merge, ResNetSpec

# Makes a gate's convolution or dense layer: called with the tensor, its name and its bias.
Pointwise = Callable[[Any, str, float], Any]


def merge(
    kind: Merge,
    shortcut: Callable[[], Any | None],
    branch: Callable[[], Any],
    name: str,
    pointwise: Pointwise,
    *,
    gate_bias: float = ResNetSpec.gate_bias,
) -> Any:
    """Joins a unit's two paths.

    Both come as functions, so that a merge without a shortcut (the plain net) makes none.

    Args:
        kind: What to do with them.
        shortcut: Makes the shortcut; may return None for a unit that has none.
        branch: Makes the branch.
        name: Prefix of the layers' names.
        pointwise: Makes the sigmoid layer, over the channels, of a gate.
        gate_bias: What a gate's bias starts from.
    """
    if kind == "none":
        return branch()
    carried, added = shortcut(), branch()
    if carried is None:
        return added
    if kind in ("highway", "shortcut_gate"):
        gate = pointwise(carried, f"{name}_gate_conv", gate_bias)
        gates_branch = kind == "highway"
        return GatedSum(gates_branch, name=f"{name}_merge")([carried, added, gate])
    if kind in ("rezero", "skipinit"):
        added = Scalar("multiply", 0.0, name=f"{name}_scale")(added)
    return keras.layers.Add(name=f"{name}_merge")([carried, added])
