"""What every unit of a net returns for a batch of images."""

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
    """Returns every unit's output, stacked or not, by the unit's name.

    Args:
        model: A net made by `build`; its moving statistics stay as they are.
        images: A batch as the net takes it, `(batch, height, width, channels)`, normalised.
        training: Whether the net runs as in training: norms with this batch's statistics.

    Returns:
        `{"stage1_unit1": (batch, height, width, channels), ...}` in the order of the net.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If the images do not fit it.
    """
    check_net(model)
    images = as_images(model, images)
    stacks = [layer for layer in model.layers if isinstance(layer, StackedUnits)]
    tensors = unit_ends(model) | {stack.name: stack.input for stack in stacks}
    with deep_graph():
        probe = keras.Model(model.inputs[0], tensors)
    # In a stateless scope what the layers assign stays there.
    with without_gradients(), keras.StatelessScope():
        found = dict(probe(images, training=training))
    with without_gradients():
        for stack in stacks:
            every = stack.outputs(found.pop(stack.name), training=training)
            found |= {unit.name: y for unit, y in zip(stack.members, every, strict=True)}
    return {unit.name: ops.convert_to_numpy(found[unit.name]) for unit in units(model.spec)}
