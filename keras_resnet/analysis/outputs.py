"""The outputs of all units of a network for a batch of images."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import without_gradients
from keras_resnet.analysis.chain import as_images
from keras_resnet.nets.geometry import units
from keras_resnet.nets.model import ResNet, check_net, deep_graph
from keras_resnet.nets.segments import unit_ends
from keras_resnet.nets.stacked import StackedUnits


def unit_outputs(model: ResNet, images: Any, *, training: bool = False) -> dict[str, np.ndarray]:
    """Returns the output of every unit, whether the network is stacked or not.

    Args:
        model: A network made by `build`. Its moving statistics are not changed.
        images: Network inputs, `(batch, height, width, channels)`, normalised.
        training: Whether to run as in training: norms use the statistics of this batch.

    Returns:
        `{"stage1_unit1": (batch, height, width, channels), ...}` in the order of the network.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If `images` does not fit it.

    Example:
        ```python
        outputs = keras_resnet.analysis.unit_outputs(model, images)
        outputs["stage1_unit2"].mean()
        ```
    """
    check_net(model)
    images = as_images(model, images)
    stacks = [layer for layer in model.layers if isinstance(layer, StackedUnits)]
    tensors = unit_ends(model) | {stack.name: stack.input for stack in stacks}
    with deep_graph():
        probe = keras.Model(model.inputs[0], tensors)
    with without_gradients():
        outputs = dict(probe(images, training=training))
    # A scope of its own: the stacks draw the random numbers that they drew for the probe.
    with without_gradients():
        for stack in stacks:
            members = stack.outputs(outputs.pop(stack.name), training=training)
            outputs |= {unit.name: y for unit, y in zip(stack.members, members, strict=True)}
    return {unit.name: ops.convert_to_numpy(outputs[unit.name]) for unit in units(model.spec)}
