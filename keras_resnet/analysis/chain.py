"""A net as a chain of its units, so that what happens between them can be seen and measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from keras_resnet.nets.geometry import units
from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.nets.segments import HEAD, cut, place_of, unit_ends
from keras_resnet.weights.rebuild import copy_weights, rebuild


@dataclasses.dataclass(frozen=True)
class Segment:
    """One link of a chain.

    Attributes:
        name: `"stem"`, the prefix of a unit's layer names, or `"head"`.
        stage: Number of the stage, from 1; 0 for the stem, one more than the last for the head.
        index: Number of the unit in its stage, from 1; 0 for stem and head.
        changes_shape: Whether what goes out has another shape than what comes in.
        model: From the tensor that comes in to the one that goes out, and to those that were
            asked for on the way.
        inner: Names of the layers whose outputs the model returns behind its own.
    """

    name: str
    stage: int
    index: int
    changes_shape: bool
    model: keras.Model
    inner: tuple[str, ...]

    def __call__(self, x: Any, *, training: bool) -> list[Any]:
        """Returns what goes out, and the outputs of the inner layers behind it."""
        # Keras unwraps a list of one output.
        return list(keras.tree.flatten(self.model(x, training=training)))


class Chain:
    """A twin of a net, cut between its units.

    Every path through a residual net passes through the output of each unit, so the net is the
    composition of stem, units and head. The twin computes in float32 and has its own layers: the
    model that it was made from keeps its statistics, its random state and its layer graph.

    Args:
        model: A net with its classifier, made by `build`.
        taps: Called with the twin; returns names of layers whose outputs the segments are to
            return too.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If it has no classifier or was rewired since.
    """

    def __init__(
        self, model: ResNet, taps: Callable[[ResNet], Iterable[str]] | None = None
    ) -> None:
        self.source = model
        with dtype_policy("float32"):
            self.twin = _twin(model)
            self.segments = _cut(self.twin, set(taps(self.twin) if taps else ()))

    def refresh(self) -> None:
        """Takes the weights that the model has now."""
        copy_weights(self.source, self.twin)

    @property
    def units(self) -> tuple[Segment, ...]:
        """The segments without stem and head."""
        return self.segments[1:-1]


def as_images(model: keras.Model, images: Any) -> np.ndarray:
    """Returns a batch of images as float32, checked against the model's input.

    Raises:
        ValueError: If their shape is not the input's.
    """
    images = np.asarray(images, "float32")
    expected = tuple(model.inputs[0].shape[1:])
    fits = images.ndim == len(expected) + 1 and all(
        want in (None, have) for want, have in zip(expected, images.shape[1:], strict=True)
    )
    if not fits or not len(images):
        raise ValueError(
            f"`images` must be a batch of the net's inputs, (batch, "
            f"{', '.join(map(str, expected))}). Received: shape {images.shape}"
        )
    return images


def _twin(model: Any) -> ResNet:
    check_net(model)
    if "logits" not in {layer.name for layer in model.layers}:
        raise ValueError(f"{model.name!r} has no layer 'logits': build it with include_top=True")
    # Seeded, so that nothing is drawn from the random state of whoever measures, and so that
    # stochastic depth drops the same branches each time.
    spec = model.spec.replace(norm_sync=False) if model.spec.norm_sync else None
    twin = rebuild(model, spec=spec, stacked=False, seed=0, dtype="float32")
    copy_weights(model, twin)
    return twin


def _cut(twin: ResNet, taps: set[str]) -> tuple[Segment, ...]:
    ends = unit_ends(twin) | {HEAD: twin.get_layer("logits").output}
    inner: dict[str, list[str]] = {name: [] for name in ends}
    for layer in twin.layers:
        if layer.name in taps:
            inner[place_of(layer.name)].append(layer.name)
    outputs = {
        name: [end, *(twin.get_layer(tap).output for tap in inner[name])]
        for name, end in ends.items()
    }
    places = [("stem", 0, 0, True)]
    places += [(unit.name, unit.stage, unit.index, unit.changes_shape) for unit in units(twin.spec)]
    places += [(HEAD, len(twin.spec.depths) + 1, 0, True)]
    return tuple(
        Segment(*place, model, tuple(inner[place[0]]))
        for place, model in zip(places, cut(twin, outputs), strict=True)
    )
