"""How strongly each layer of a network responds, which shows how much each unit changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import without_gradients
from keras_resnet.analysis.chain import Segment, as_images, cut_at_units, float32_twin
from keras_resnet.nets.model import ResNet

# Layers beside the path whose layers the paper counts.
_BESIDE = ("_shortcut_", "_se_", "_gate_")


@dataclasses.dataclass(frozen=True)
class LayerResponse:
    """The response of one 3x3 convolution.

    Attributes:
        name: Name of the convolution.
        stage: Number of its stage, from 1; 0 in the stem.
        std: Standard deviation of the response over images, positions and channels.
        mean: Mean of the response.
        normed: Whether the response is the output of the norm that follows the convolution. False
            if it is the output of the convolution itself, because no norm stands between the
            convolution and the addition (pre-activation networks, networks without norms).

    Example:
        ```python
        responses = keras_resnet.analysis.layer_responses(model, images)
        stds = {response.name: response.std for response in responses}
        ```
    """

    name: str
    stage: int
    std: float
    mean: float
    normed: bool


def layer_responses(model: ResNet, images: Any, *, batch_size: int = 128) -> list[LayerResponse]:
    """Measures the response of each 3x3 convolution of a network.

    A response is the output of a layer after batch norm and before the non-linearity and the
    addition. In pre-activation order, where a norm belongs to the convolution after it, the
    response is the convolution's output in all layers, so that the layers of one network can be
    compared.

    Norms use their moving statistics, so the network should be a trained one. The moments are
    computed per image in float32 and combined in float64: the result does not depend on
    `batch_size`. The responses of one unit at a time are held in memory.

    Args:
        model: A network made by `build`, with its classifier. It is not changed.
        images: Network inputs, `(images, height, width, channels)`, normalised.
        batch_size: Number of images per forward pass.

    Returns:
        One response per convolution, in the order of the network.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If `model` has no classifier, `images` does not fit it, or `batch_size` is not
            a positive integer.

    Source: He et al. 2015, section 4.2, "Analysis of Layer Responses", Figure 7.

    Example:
        ```python
        for response in keras_resnet.analysis.layer_responses(model, images):
            print(response.name, response.std)
        ```
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}"
        )
    twin = float32_twin(model)
    convolutions = _response_layers(twin)
    images = as_images(twin, images)
    segments = cut_at_units(twin, convolutions)
    moments = np.concatenate(
        [
            _moments(segments, images[start : start + batch_size])
            for start in range(0, len(images), batch_size)
        ],
        axis=-1,
    )
    taps = [(segment.stage, tap) for segment in segments for tap in segment.taps]
    responses = []
    for (stage, tap), (means, variances) in zip(taps, moments, strict=True):
        # The images have one size: the total variance is that within images plus that between.
        std = float(np.sqrt(variances.mean() + means.var()))
        name = convolutions[tap]
        responses.append(LayerResponse(name, stage, std, float(means.mean()), tap != name))
    return responses


def _response_layers(twin: ResNet) -> dict[str, str]:
    """Returns the 3x3 convolutions by the name of the layer whose output is their response."""
    layers = {layer.name: layer for layer in twin.layers}
    convolutions = {}
    for name, layer in layers.items():
        sizes = set(getattr(layer, "kernel_size", ()))
        if sizes != {3} or any(part in name for part in _BESIDE):
            continue
        norm = layers.get(name.replace("conv", "norm"))
        if norm is not None and norm.input is layer.output:
            convolutions[norm.name] = name
        else:
            convolutions[name] = name
    return convolutions


def _moments(segments: Sequence[Segment], images: np.ndarray) -> np.ndarray:
    """Returns mean and variance per response and image, `(responses, 2, images)` in float64."""
    moments, x = [], images
    with without_gradients():
        for segment in segments:
            x, *responses = segment(x, training=False)
            for response in responses:
                pair = ops.moments(response, axes=list(range(1, len(response.shape))))
                moments.append([ops.convert_to_numpy(each) for each in pair])
    return np.asarray(moments, "float64")
