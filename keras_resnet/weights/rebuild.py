"""Rebuilding a net with some properties changed, and copying its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import assign, layer_names, read_weights
from keras_resnet.nets.network import build
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.spec import ResNetSpec

# Layers with weights that belong to the head.
HEAD = ("logits", "logits_bias")


def rebuild(
    model: ResNet,
    *,
    spec: ResNetSpec | None = None,
    classes: int | None = None,
    channels: int | None = None,
    stacked: bool | None = None,
    seed: int | None = None,
    dtype: str | None = None,
) -> ResNet:
    """Builds a net like the model, with new weights.

    Input shape, head, feature outputs, number of spatial axes, precision, name and preprocessing
    are those of the model unless an argument changes them.

    Args:
        model: A net made by `build`.
        spec: Spec of the new net.
        classes: Number of outputs of the classifier.
        channels: Number of input channels.
        stacked: Whether the new net is stacked, as in `build`.
        seed: Seed of the initial weights.
        dtype: Name of the dtype policy. Keras's global policy has no effect.

    Raises:
        ValueError: If the model has layers that `build` does not create.
    """
    layers = {layer.name: layer for layer in model.layers}
    shape = list(model.inputs[0].shape[1:])
    if channels is not None:
        shape[channel_axis() if channel_axis() < 0 else 0] = channels
    head: dict[str, Any] = {"include_top": False}
    if isinstance(model.output, dict):
        head["features"] = tuple(model.output)
    elif "logits" in layers:
        top = layers.get("predictions")
        head = {
            "classes": layers["logits"].units if classes is None else classes,
            "classifier_activation": None if top is None else top.activation,
        }
    elif "pool" in layers:
        head["pooling"] = "max" if "Max" in type(layers["pool"]).__name__ else "avg"
    with dtype_policy(_policy_of(model) if dtype is None else dtype):
        twin = build(
            model.spec if spec is None else spec,
            input_shape=shape,
            dims=len(shape) - 1,  # type: ignore[arg-type]
            stacked=model.stacked if stacked is None else stacked,
            seed=seed,
            name=model.name,
            **head,
        )
    inputs = {layer.name for layer in model.layers if isinstance(layer, keras.layers.InputLayer)}
    lost = {*layer_names(model)} - inputs
    lost -= {*layer_names(twin), *HEAD, "predictions", "pool"}
    if spec is None and lost:
        raise ValueError(
            f"{model.name!r} has layers that `build` does not create and that would be lost: "
            f"{', '.join(sorted(lost)[:4])}"
        )
    twin.preprocess = model.preprocess
    return twin


def _policy_of(model: ResNet) -> keras.DTypePolicy:
    """Returns the dtype policy of the layers before the head, whose precision may differ."""
    return next(
        layer.dtype_policy for layer in model.layers if layer.weights and layer.name not in HEAD
    )


def copy_weights(source: keras.Model, target: keras.Model, *, skip: Sequence[str] = ()) -> None:
    """Copies weights from one model to another, layer by layer, by name.

    Args:
        source: The model to copy from.
        target: The model to copy to.
        skip: Names of layers that are not copied.

    Raises:
        ValueError: If a layer with weights is missing on either side or differs in shape; names
            the first ones.
    """
    stored = {name: arrays for name, arrays in read_weights(source).items() if name not in skip}
    assign(stored, target, source=source.name, skip=skip)


def restack(model: ResNet, *, stacked: bool) -> ResNet:
    """Returns the net in stacked or unrolled form with its weights, or the model if it fits.

    Args:
        model: A net made by `build`.
        stacked: Whether equal units are one layer.

    Raises:
        ValueError: If the model has layers that `build` does not create.
    """
    if model.stacked is stacked:
        return model
    twin = rebuild(model, stacked=stacked)
    copy_weights(model, twin)
    return twin


def clone_as_float32(model: ResNet, *, stacked: bool | None = None) -> ResNet:
    """Returns a float32 copy of a net, from which exports start.

    Args:
        model: A net with its classifier, made by `build` under any dtype policy.
        stacked: Whether the copy is stacked; None keeps the form of the model.

    Raises:
        ValueError: If the model has no classifier.
    """
    if "logits" not in {layer.name for layer in model.layers}:
        raise ValueError(f"{model.name!r} has no layer 'logits': build it with include_top=True")
    spec = model.spec.replace(norm_sync=False)
    twin = rebuild(model, spec=spec, stacked=stacked, dtype="float32")
    copy_weights(model, twin)
    return twin
