"""RepVGG's parallel branches fused into one convolution per unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from keras_resnet.nets.geometry import units
from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.named_weights import own_layers
from keras_resnet.reparam.folding import (
    CONVOLUTIONS,
    fold_batch_norm,
    folded_weights,
    scale_and_shift,
)
from keras_resnet.weights.rebuild import rebuild, restack


def deploy(model: keras.Model) -> keras.Model:
    """Returns the inference form of a model: `fuse` for RepVGG, `fold_batch_norm` for others.

    A RepVGG with `padding="same"`, whose strided branches cannot be fused, is folded too.

    Args:
        model: A built functional or sequential model. It is not changed.

    Returns:
        An uncompiled model that computes the same function in inference.

    Raises:
        TypeError: If the model is a subclassed model without a layer graph.

    Example:
        ```python
        deployed = keras_resnet.reparam.deploy(model)
        logits = deployed(images, training=False)
        ```
    """
    spec = model._spec if isinstance(model, ResNet) else None
    # A rewired ResNet has no spec: only its graph is known.
    if spec is not None and (spec.branch, spec.padding) == ("repvgg", "symmetric"):
        return fuse(model)
    return fold_batch_norm(model)


def fuse(model: keras.Model) -> ResNet:
    """Returns the plain network of 3x3 convolutions and ReLUs that equals a RepVGG in inference.

    The 3x3 convolution, the 1x1 convolution and the identity of a unit, each with its norm, are
    linear in the same input. Their sum is one 3x3 convolution, with the 1x1 kernel and the identity
    at the centre of its kernel. Trained further, the plain network is not a RepVGG.

    Args:
        model: A RepVGG made by `build`, with or without its classifier. It is not changed.

    Returns:
        A network of the same form with its own spec (`branch="single"`).

    Raises:
        TypeError: If `model` was not made by `build`.
        ValueError: If `model` is not a RepVGG, or its branches stride over different pixels.

    Source: Ding et al. 2021 (arXiv:2101.03697), section 3.3, Figure 4.

    Example:
        ```python
        model = keras_resnet.build("repvgg_a0")
        plain = keras_resnet.reparam.fuse(model)
        ```
    """
    check_net(model)
    spec = model.spec
    if spec.branch != "repvgg":
        raise ValueError(
            "Only the units of RepVGG (branch='repvgg') can be fused into one convolution; use "
            f"`fold_batch_norm` for other networks. Received: {spec.name} with "
            f"branch={spec.branch!r}"
        )
    if spec.padding != "symmetric":
        raise ValueError(
            "A strided 3x3 and 1x1 convolution are centred on the same pixels at every size only "
            f"with padding='symmetric'. Received: {spec.name} with padding={spec.padding!r}"
        )
    model = restack(model, stacked=False)
    plain = spec.replace(
        name=f"{spec.name}_fused",
        branch="single",
        merge="none",
        norm="none",
        conv_bias=True,
        zero_init_residual=False,
        stochastic_depth=0.0,
    )
    fused = rebuild(model, spec=plain)
    layers = dict(own_layers(model))
    unit_names = {unit.name for unit in units(spec)} | ({"stem"} if spec.stem == "unit" else set())
    for name, layer in own_layers(fused):
        if not layer.weights:
            continue
        unit, _, role = name.rpartition("_")
        values: Sequence[np.ndarray]
        if unit in unit_names and role == "conv1":
            values = _fused_weights(layers, unit)
        elif type(layer) in CONVOLUTIONS:  # of a stem that is not a unit
            norm = layers[name.replace("conv", "norm")]
            values = folded_weights(layers[name], norm)
        else:
            values = layers[name].get_weights()
        layer.set_weights([value.astype("float32") for value in values])
    return fused


def _fused_weights(layers: Mapping[str, keras.Layer], unit: str) -> Sequence[np.ndarray]:
    """Returns kernel and bias, in float64, of the 3x3 convolution that equals a unit."""
    kernel, bias = folded_weights(layers[f"{unit}_conv1"], layers[f"{unit}_norm1"])
    kernel_1x1, bias_1x1 = folded_weights(layers[f"{unit}_conv2"], layers[f"{unit}_norm2"])
    centre = tuple(size // 2 for size in kernel.shape[:-2])
    kernel[centre] += kernel_1x1.reshape(kernel_1x1.shape[-2:])
    bias = bias + bias_1x1
    identity = layers.get(f"{unit}_shortcut_norm")
    if identity is not None:
        scale, shift = scale_and_shift(identity)
        kernel[centre] += np.diag(np.broadcast_to(scale, bias.shape))
        bias = bias + shift
    return kernel, bias
