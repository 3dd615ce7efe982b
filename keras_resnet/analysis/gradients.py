"""How large the gradient is at each unit of a net: whether it vanishes or explodes on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import gradients, without_gradients
from keras_resnet.analysis.chain import Chain, as_images
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.segments import HEAD


@dataclasses.dataclass(frozen=True)
class UnitGradient:
    """The gradient of the loss at one unit.

    Attributes:
        name: Prefix of the unit's layer names; `"stem"` and `"head"` for what is no unit.
        stage: Number of the stage, from 1; 0 for the stem, one more than the last for the head.
        index: Number of the unit in its stage, from 1; 0 for stem and head.
        output_norm: Euclidean norm of the gradient with respect to the unit's output, over the
            whole batch; the head's output are the logits.
        weight_norm: The same with respect to the unit's weights, frozen ones too; moving
            statistics are none.
        weights: Euclidean norm of these weights themselves.
    """

    name: str
    stage: int
    index: int
    output_norm: float
    weight_norm: float
    weights: float


@dataclasses.dataclass(frozen=True)
class Gradients:
    """The gradient of the loss all along a net.

    Attributes:
        loss: Mean cross-entropy of the batch, nats.
        parts: The stem, the units in order, the head.
    """

    loss: float
    parts: tuple[UnitGradient, ...]

    @property
    def units(self) -> tuple[UnitGradient, ...]:
        """The parts without stem and head."""
        return tuple(part for part in self.parts if part.name not in ("stem", HEAD))

    @property
    def growth(self) -> float:
        """How many times the gradient at the last unit's output that at the first one's is.

        1 where the gradient arrives as it left; far above 1 where it explodes on its way back, far
        below where it vanishes.
        """
        last = self.units[-1].output_norm
        return self.units[0].output_norm / last if last else float("nan")


def gradient_flow(model: ResNet | Chain, images: Any, labels: Any) -> Gradients:
    """Measures the gradient of the mean cross-entropy at each unit of a net.

    The net runs as in training, norms with the statistics of this batch, and is left as it was:
    weights, moving statistics and random states. What is measured computes in float32 whatever
    the net's precision. A net of 1,202 layers takes about a minute to cut into units and half a
    minute a batch of 8 on two CPU cores: measure one net often through a `Chain` of it.

    Args:
        model: A net made by `build`, with its classifier, or a `Chain` of one, made once and
            measured often.
        images: A batch as the net takes it, `(batch, height, width, channels)`, normalised.
        labels: Classes, integers `(batch,)`.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If the net has no classifier, or images or labels do not fit it.

    Source: Glorot and Bengio 2010, section 4.2 (back-propagated gradients, layer by layer); He et
    al. 2015, section 4.1 ("healthy norms with BN" in plain nets); Yang et al. 2019
    (arXiv:1902.08129): at the start those explode with depth, and batch norm is why.
    """
    chain = model if isinstance(model, Chain) else Chain(model)
    chain.refresh()
    images = as_images(chain.twin, images)
    labels = _as_labels(labels, len(images), chain.twin.get_layer("logits").units)
    variables = [list(segment.model.trainable_variables) for segment in chain.segments]

    def loss(probes: list[Any]) -> Any:
        x = images
        for segment, probe in zip(chain.segments, probes, strict=True):
            # The gradient at a zero that is added to an output is the gradient at the output.
            x = segment(x, training=True)[0] + probe
        return ops.mean(keras.losses.sparse_categorical_crossentropy(labels, x, from_logits=True))

    probes = [np.zeros(shape, "float32") for shape in _shapes(chain, images)]
    value, at_outputs, at_weights = gradients(loss, probes, [v for own in variables for v in own])
    parts, rest = [], iter(at_weights)
    for segment, own, at_output in zip(chain.segments, variables, at_outputs, strict=True):
        parts.append(
            UnitGradient(
                segment.name,
                segment.stage,
                segment.index,
                _norm([at_output]),
                _norm([next(rest) for _ in own]),
                _norm([ops.convert_to_numpy(v) for v in own]),
            )
        )
    return Gradients(value, tuple(parts))


def _as_labels(labels: Any, count: int, classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    integers = np.issubdtype(labels.dtype, np.integer)
    if labels.shape != (count,) or not integers or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"`labels` must be {count} integers, one an image, from 0 to {classes - 1}. "
            f"Received: {labels.dtype} of shape {labels.shape}"
            + (f", {labels.min()} to {labels.max()}" if integers and labels.size else "")
        )
    return labels.astype("int32")


def _shapes(chain: Chain, images: np.ndarray) -> list[tuple[int, ...]]:
    """Returns the shape of each segment's output for a batch."""
    shapes = [tuple(keras.tree.flatten(s.model.outputs)[0].shape[1:]) for s in chain.segments]
    if not any(None in shape for shape in shapes):
        return [(len(images), *shape) for shape in shapes]
    found, x = [], images
    with without_gradients():
        for segment in chain.segments:
            x = segment(x, training=True)[0]
            found.append(tuple(x.shape))
    return found


def _norm(arrays: Sequence[np.ndarray]) -> float:
    """Returns the Euclidean norm over all arrays; float64, because squares leave float32."""
    return float(np.sqrt(sum(np.sum(np.square(array.astype("float64"))) for array in arrays)))
