"""A network cut into a chain of its units, so that the tensors between them can be measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from keras_resnet.finetune import unfreeze
from keras_resnet.nets.geometry import units
from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.nets.segments import HEAD, cut, place_of, unit_ends
from keras_resnet.nets.tensor import Tensor
from keras_resnet.weights.rebuild import copy_weights, head_of, rebuild


@dataclasses.dataclass(frozen=True)
class Segment:
    """One link of a chain: the stem, a unit or the head.

    Attributes:
        name: `"stem"`, the prefix of a unit's layer names, or `"head"`.
        stage: Number of the stage, from 1; 0 for the stem, one more than the last for the head.
        index: Number of the unit in its stage, from 1; 0 for stem and head.
        changes_shape: Whether the output has another shape than the input.
        model: Maps the segment's input to its output, followed by the outputs of `taps`.
        taps: Names of the inner layers whose outputs are returned too.
    """

    name: str
    stage: int
    index: int
    changes_shape: bool
    model: keras.Model
    taps: tuple[str, ...]

    def __call__(self, x: Tensor, *, training: bool) -> list[Tensor]:
        """Returns the segment's output, followed by the outputs of the tapped layers."""
        # Keras unwraps a list of one output.
        return list(keras.tree.flatten(self.model(x, training=training)))


class Chain:
    """A float32 copy of a network, cut between its units.

    Every path through a residual network passes through the output of each unit, so the network is
    the composition of stem, units and head. The copy has its own layers: measuring it does not
    change the model's weights, moving statistics, random states or layer graph. Build a chain once
    and pass it to `gradient_flow`, `unit_distances` and `jacobian_singular_values` in place of the
    model to measure the model often.

    Args:
        model: A network made by `build`, with its classifier.

    Attributes:
        source: The model.
        twin: The float32 copy.
        segments: Stem, units and head, in order.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If `model` has no classifier, or was modified after `build`.

    Example:
        ```python
        model = keras_resnet.build("cifar_resnet110")
        chain = keras_resnet.analysis.Chain(model)
        before = keras_resnet.analysis.gradient_flow(chain, images, labels)
        model.fit(train_images, train_labels)
        after = keras_resnet.analysis.gradient_flow(chain, images, labels)
        ```
    """

    def __init__(self, model: ResNet) -> None:
        self.source = model
        self.twin = float32_twin(model)
        self.segments = cut_at_units(self.twin)

    def refresh(self) -> None:
        """Copies the model's current weights to the twin."""
        copy_weights(self.source, self.twin)

    @property
    def units(self) -> tuple[Segment, ...]:
        """The segments without stem and head."""
        return self.segments[1:-1]


def as_chain(model: ResNet | Chain) -> Chain:
    """Returns a chain with the current weights of a model, or of the model of a chain."""
    if isinstance(model, Chain):
        model.refresh()
        return model
    return Chain(model)


def as_images(model: keras.Model, images: Any) -> np.ndarray:
    """Returns a batch of images as float32 after checking it against the model's input.

    Raises:
        ValueError: If the batch is empty, or its shape differs from the input's.
    """
    images = np.asarray(images, "float32")
    expected = tuple(model.inputs[0].shape[1:])
    fits = images.ndim == len(expected) + 1 and all(
        size in (None, received) for size, received in zip(expected, images.shape[1:], strict=True)
    )
    if not fits or not len(images):
        raise ValueError(
            f"`images` must be a batch of the model's inputs, (batch, "
            f"{', '.join(map(str, expected))}). Received: shape {images.shape}"
        )
    return images


def float32_twin(model: ResNet) -> ResNet:
    """Builds an unstacked float32 copy of a network, with its weights.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If `model` has no classifier, or was modified after `build`.
    """
    check_net(model)
    head = head_of(model)
    if head.classes is None:
        raise ValueError(f"{model.name!r} has no layer 'logits': build it with include_top=True")
    spec = model.spec.replace(norm_sync=False) if model.spec.norm_sync else None
    # The fixed seed leaves the caller's random state alone, and makes stochastic depth drop the
    # same branches in each measurement.
    logits = dataclasses.replace(head, activation=None)
    twin = rebuild(
        model,
        spec=spec,
        head=logits,
        stacked=False,
        seed=0,
        dtype="float32",
        layer_names="own",
    )
    copy_weights(model, twin)
    unfreeze(twin)  # a frozen layer has gradients too
    return twin


def cut_at_units(twin: ResNet, taps: Collection[str] = ()) -> tuple[Segment, ...]:
    """Cuts a network into stem, units and head, which share its layers.

    Args:
        twin: An unstacked float32 network with its classifier.
        taps: Names of inner layers whose outputs the segments return too.
    """
    places = [
        ("stem", 0, 0, True),
        *((unit.name, unit.stage, unit.index, unit.changes_shape) for unit in units(twin.spec)),
        (HEAD, len(twin.spec.depths) + 1, 0, True),
    ]
    tapped: dict[str, list[str]] = {name: [] for name, *_ in places}
    for layer in twin.layers:
        if layer.name in taps:
            tapped[place_of(layer.name)].append(layer.name)
    ends = unit_ends(twin) | {HEAD: twin.output}
    outputs = {
        name: [end, *(twin.get_layer(tap).output for tap in tapped[name])]
        for name, end in ends.items()
    }
    with dtype_policy("float32"):
        models = cut(twin, outputs)
    return tuple(
        Segment(*place, model, tuple(tapped[place[0]]))
        for place, model in zip(places, models, strict=True)
    )
