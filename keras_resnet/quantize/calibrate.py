"""Ranges of a quantise-aware net, measured on images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_resnet.quantize.ranges import ActivationRange

_BATCH = 64


def calibrate(model: keras.Model, images: Any, *, batch_size: int = _BATCH) -> int:
    """Sets the ranges of all activations of a quantise-aware net, in place.

    Each end is the mean over the batches of its smallest, or largest, value: a single image with
    an extreme value does not widen the steps of all others. Weights are rounded while the ranges
    are measured, activations are not.

    Args:
        model: A net made by `quantize_aware`.
        images: Normalised training images, `(images, height, width, channels)`, or an iterable of
            such batches.
        batch_size: Images per batch, where `images` is an array.

    Returns:
        The number of images.

    Raises:
        ValueError: If the net is not quantise-aware, or there are no images.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3.1 (ranges smoothed over batches).

    Example:
        ```python
        net = keras_resnet.quantize_aware(model)
        keras_resnet.quantize.calibrate(net, images[:512])
        ```
    """
    ranges = [
        layer
        for layer in model.layers
        if isinstance(layer, ActivationRange) and layer.fixed is None
    ]
    if not ranges:
        raise ValueError(f"{model.name!r} has no ranges: it was not made by `quantize_aware`")
    batches = _batches(images, batch_size) if hasattr(images, "shape") else images
    totals, count, total = np.zeros((len(ranges), 2)), 0, 0
    try:
        for batch in batches:
            for layer in model.layers:
                if isinstance(layer, ActivationRange):
                    layer.found = []
            model(batch, training=False)
            # A range that an average pool shares has the values of its first call.
            totals += [layer.found[0] for layer in ranges if layer.found]
            count, total = count + 1, total + len(batch)
    finally:
        for layer in model.layers:
            if isinstance(layer, ActivationRange):
                layer.found = None
    if not count:
        raise ValueError("Ranges are calibrated on images. Received: none")
    for layer, (low, high) in zip(ranges, totals / count, strict=True):
        layer.calibrate(low, high)
    return total


def _batches(images: Any, size: int) -> Iterable[Any]:
    for start in range(0, len(images), size):
        yield np.asarray(images[start : start + size], "float32")
