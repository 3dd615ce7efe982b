"""Axis `merge`: how shortcut and branch become one.

Each merge keeps the shape and knows nothing of images, so that `keras_resnet.residual` offers the
same ones to any functional model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.layers import GatedSum, Scalar
from keras_resnet.spec import Merge

# A highway's gates start nearly closed, so that a new net carries its input through: the bias of
# Srivastava et al. 2015 (arXiv:1505.00387), section 2.1, "between -1 and -3".
GATE_BIAS = -3.0

# Makes a gate's convolution or dense layer: called with the tensor, its name and its bias.
Pointwise = Callable[[Any, str, float], Any]


def merge(
    kind: Merge,
    shortcut: Callable[[], Any | None],
    branch: Callable[[], Any],
    name: str,
    pointwise: Pointwise,
) -> Any:
    """Joins a unit's two paths.

    Both come as functions, so that a merge without a shortcut (the plain net) makes none.

    Args:
        kind: What to do with them.
        shortcut: Makes the shortcut; may return None for a unit that has none.
        branch: Makes the branch.
        name: Prefix of the layers' names.
        pointwise: Makes the sigmoid layer, over the channels, of a highway's gate.
    """
    if kind == "none":
        return branch()
    carried, added = shortcut(), branch()
    if carried is None:
        return added
    if kind == "highway":
        gate = pointwise(carried, f"{name}_gate_conv", GATE_BIAS)
        return GatedSum(name=f"{name}_merge")([carried, added, gate])
    if kind in ("rezero", "skipinit"):
        added = Scalar("multiply", 0.0, name=f"{name}_scale")(added)
    return keras.layers.Add(name=f"{name}_merge")([carried, added])
