"""The size of the gradient at each unit of a network: whether it vanishes or explodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import gradients, without_gradients
from keras_resnet.analysis.chain import Chain, as_chain, as_images
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.segments import HEAD
from keras_resnet.nets.tensor import Tensor


@dataclasses.dataclass(frozen=True)
class UnitGradient:
    """The gradient of the loss at one unit.

    Attributes:
        name: Prefix of the unit's layer names, or `"stem"` or `"head"`.
        stage: Number of the stage, from 1; 0 for the stem, one more than the last for the head.
        index: Number of the unit in its stage, from 1; 0 for stem and head.
        output_norm: Euclidean norm of the gradient with respect to the unit's output, over the
            whole batch. The head's output are the logits.
        weight_norm: Euclidean norm of the gradient with respect to the unit's weights, frozen ones
            included, moving statistics excluded.
        weights: Euclidean norm of these weights.

    Example:
        ```python
        flow = keras_resnet.analysis.gradient_flow(model, images, labels)
        relative = [part.weight_norm / part.weights for part in flow.parts]
        ```
    """

    name: str
    stage: int
    index: int
    output_norm: float
    weight_norm: float
    weights: float


@dataclasses.dataclass(frozen=True)
class Gradients:
    """The gradient of the loss along a network.

    Attributes:
        loss: Mean cross-entropy of the batch, in nats.
        parts: The stem, the units in order, and the head.

    Example:
        ```python
        flow = keras_resnet.analysis.gradient_flow(model, images, labels)
        print(flow.loss, flow.growth)
        ```
    """

    loss: float
    parts: tuple[UnitGradient, ...]

    @property
    def units(self) -> tuple[UnitGradient, ...]:
        """The parts without stem and head."""
        return tuple(part for part in self.parts if part.name not in ("stem", HEAD))

    @property
    def growth(self) -> float:
        """Ratio of the gradient's norm at the first unit's output to that at the last unit's.

        Far above 1 if the gradient explodes on its way back, far below 1 if it vanishes.
        """
        last = self.units[-1].output_norm
        return self.units[0].output_norm / last if last else float("nan")


def gradient_flow(model: ResNet | Chain, images: Any, labels: Any) -> Gradients:
    """Measures the gradient of the mean cross-entropy at each unit of a network.

    The network runs as in training: norms use the statistics of this batch. Weights, moving
    statistics and random states are not changed. The measurement computes in float32, whatever the
    network's precision.

    A network of 1,202 layers takes about a minute to cut into units, and then half a minute per
    batch of 8, on two CPU cores. To measure one network often, pass a `Chain` of it.

    Args:
        model: A network made by `build`, with its classifier, or a `Chain` of one.
        images: Network inputs, `(batch, height, width, channels)`, normalised.
        labels: Class numbers, integers `(batch,)`.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If `model` has no classifier, or `images` or `labels` do not fit it.

    Source: Glorot and Bengio 2010, section 4.2 (back-propagated gradients per layer); He et al.
    2015, section 4.1 ("healthy norms with BN" in plain networks); Yang et al. 2019
    (arXiv:1902.08129): at initialisation they explode with depth because of batch norm.

    Example:
        ```python
        flow = keras_resnet.analysis.gradient_flow(model, images, labels)
        print(flow.growth, [unit.output_norm for unit in flow.units])
        ```
    """
    chain = as_chain(model)
    images = as_images(chain.twin, images)
    labels = _as_labels(labels, len(images), chain.twin.output_shape[-1])

    def loss(probes: list[Tensor]) -> Tensor:
        x = images
        for segment, probe in zip(chain.segments, probes, strict=True):
            # The gradient with respect to a zero that is added to an output is the gradient with
            # respect to the output.
            x = segment(x, training=True)[0] + probe
        return ops.mean(keras.losses.sparse_categorical_crossentropy(labels, x, from_logits=True))

    probes = [np.zeros(shape, "float32") for shape in _output_shapes(chain, images)]
    weights = [list(segment.model.trainable_variables) for segment in chain.segments]
    value, at_outputs, at_weights = gradients(loss, probes, [v for own in weights for v in own])
    parts, remaining = [], iter(at_weights)
    for segment, own, at_output in zip(chain.segments, weights, at_outputs, strict=True):
        parts.append(
            UnitGradient(
                segment.name,
                segment.stage,
                segment.index,
                output_norm=_norm([at_output]),
                weight_norm=_norm([next(remaining) for _ in own]),
                weights=_norm([ops.convert_to_numpy(v) for v in own]),
            )
        )
    return Gradients(value, tuple(parts))


def _as_labels(labels: Any, count: int, classes: int) -> np.ndarray:
    """Returns labels as int32 after checking their shape, type and range."""
    labels = np.asarray(labels)
    integers = np.issubdtype(labels.dtype, np.integer)
    if labels.shape != (count,) or not integers or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"`labels` must be {count} integers, one per image, from 0 to {classes - 1}. "
            f"Received: {labels.dtype} of shape {labels.shape}"
            + (f", {labels.min()} to {labels.max()}" if integers and labels.size else "")
        )
    return labels.astype("int32")


def _output_shapes(chain: Chain, images: np.ndarray) -> list[tuple[int, ...]]:
    """Returns the shape of each segment's output for a batch."""
    shapes = [tuple(keras.tree.flatten(s.model.outputs)[0].shape[1:]) for s in chain.segments]
    if not any(None in shape for shape in shapes):
        return [(len(images), *shape) for shape in shapes]
    measured, x = [], images
    with without_gradients():
        for segment in chain.segments:
            x = segment(x, training=True)[0]
            measured.append(tuple(x.shape))
    return measured


def _norm(arrays: Sequence[np.ndarray]) -> float:
    """Returns the Euclidean norm over all arrays, in float64 because squares overflow float32."""
    return float(np.sqrt(sum(np.sum(np.square(array.astype("float64"))) for array in arrays)))
