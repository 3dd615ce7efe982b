"""Axis `merge`: how shortcut and branch become one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.spec import ResNetSpec
from keras_resnet.units import Unit


def merge(
    shortcut: Callable[[], Any], branch: Callable[[], Any], spec: ResNetSpec, unit: Unit
) -> Any:
    """Joins a unit's two paths.

    Both come as functions, so that a merge without a shortcut (the plain net) makes none.
    """
    if spec.merge == "none":
        return branch()
    return keras.layers.Add(name=f"{unit.name}_merge")([shortcut(), branch()])
