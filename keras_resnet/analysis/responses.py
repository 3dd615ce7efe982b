"""How strongly each layer of a net responds: whether units change little what they are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import without_gradients
from keras_resnet.analysis.chain import Chain, as_images
from keras_resnet.nets.model import ResNet

# Layers beside the path that the paper counts.
_BESIDE = ("_shortcut_", "_se_", "_gate_")


@dataclasses.dataclass(frozen=True)
class LayerResponse:
    """The response of one 3x3 layer.

    Attributes:
        name: Name of the convolution.
        stage: Number of its stage, from 1; 0 in the stem.
        std: Standard deviation of the response over images, positions and channels.
        mean: Its mean.
        normed: Whether the response is the output of the norm that follows the convolution; else
            it is that of the convolution itself, because no norm stands between the convolution
            and the addition (pre-activation nets, nets without norms).
    """

    name: str
    stage: int
    std: float
    mean: float
    normed: bool


def layer_responses(model: ResNet, images: Any, *, batch_size: int = 128) -> list[LayerResponse]:
    """Measures the response of each 3x3 layer of a net, in the order of the net.

    A response is what leaves the layer after batch norm, before the non-linearity and before the
    addition. In pre-activation order, where a norm belongs to the convolution behind it, it is the
    convolution's output throughout, so that the layers of one net can be compared. Norms use their
    moving statistics, so the net is to be a trained one: a new net's norm nothing yet. Moments are
    taken image by image in float32 and joined in float64, so the result does not depend on
    `batch_size`; of a net of any depth one unit's responses are in memory at a time.

    Args:
        model: A net made by `build`, with its classifier; left as it was.
        images: As the net takes them, `(images, height, width, channels)`, normalised.
        batch_size: Images that are run at a time.

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If it has no classifier, no 3x3 layer, or the images do not fit it.

    Source: He et al. 2015, section 4.2, "Analysis of Layer Responses", Figure 7.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}"
        )
    layers: dict[str, tuple[str, bool]] = {}

    def taps(twin: ResNet) -> list[str]:
        layers.update(_responses(twin))
        return list(layers)

    chain = Chain(model, taps)
    if not layers:
        raise ValueError(f"{model.name!r} has no 3x3 layer")
    images = as_images(chain.twin, images)
    parts = [
        _moments(chain, images[start : start + batch_size])
        for start in range(0, len(images), batch_size)
    ]
    found, row = [], 0
    for segment in chain.segments:
        for name in segment.inner:
            means, variances = np.concatenate([part[row] for part in parts], axis=1)
            row += 1
            conv, normed = layers[name]
            # Images are of one size: the variance of all is that within plus that between them.
            std = float(np.sqrt(variances.mean() + means.var()))
            found.append(LayerResponse(conv, segment.stage, std, float(means.mean()), normed))
    return found


def _responses(twin: ResNet) -> Iterator[tuple[str, tuple[str, bool]]]:
    """Yields the layer whose output a response is, the convolution, and whether the two differ."""
    layers = {layer.name: layer for layer in twin.layers}
    for name, layer in layers.items():
        sizes = set(getattr(layer, "kernel_size", ()))
        if sizes != {3} or any(part in name for part in _BESIDE):
            continue
        norm = layers.get(name.replace("conv", "norm"))
        if norm is not None and norm.input is layer.output:
            yield norm.name, (name, True)
        else:
            yield name, (name, False)


def _moments(chain: Chain, images: np.ndarray) -> list[np.ndarray]:
    """Returns, of each response, mean and variance of each image: `(2, images)` in float64."""
    found, x = [], images
    with without_gradients():
        for segment in chain.segments:
            x, *responses = segment(x, training=False)
            for response in responses:
                moments = ops.moments(response, axes=list(range(1, len(response.shape))))
                found.append(np.stack([ops.convert_to_numpy(m) for m in moments]).astype("float64"))
    return found
