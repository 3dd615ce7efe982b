"""Building a net anew as it is, but for what is to change, and copying its weights."""

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

# Layers with weights that belong to the head; the others are the net's.
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
    """Builds a net of the same form with new weights.

    Input, head, feature outputs, number of space axes, precision, name and preprocessing are read
    off the model.

    Args:
        model: A net made by `build`.
        spec: The new net; the model's where None.
        classes: Outputs of the classifier; the model's where None.
        channels: Channels of the input; the model's where None.
        stacked: Whether it is stacked, as `build` takes it; as the model where None.
        seed: Seed of the initial weights.
        dtype: Name of the dtype policy; the model's own where None, whatever Keras's global one is.

    Raises:
        ValueError: If the model carries no spec, or has layers that `build` does not make.
    """
    layers = {layer.name: layer for layer in model.layers}
    shape = list(model.inputs[0].shape[1:])
    if channels is not None:
        shape[channel_axis() if channel_axis() < 0 else 0] = channels
    form: dict[str, Any] = {"include_top": False}
    if isinstance(model.output, dict):
        form["features"] = tuple(model.output)
    elif "logits" in layers:
        top = layers.get("predictions")
        form = {
            "classes": layers["logits"].units if classes is None else classes,
            "classifier_activation": None if top is None else top.activation,
        }
    elif "pool" in layers:
        form["pooling"] = "max" if "Max" in type(layers["pool"]).__name__ else "avg"
    with dtype_policy(_policy_of(model) if dtype is None else dtype):
        twin = build(
            model.spec if spec is None else spec,
            input_shape=shape,
            dims=len(shape) - 1,  # type: ignore[arg-type]
            stacked=model.stacked if stacked is None else stacked,
            seed=seed,
            name=model.name,
            **form,
        )
    inputs = {layer.name for layer in model.layers if isinstance(layer, keras.layers.InputLayer)}
    spare = {*layer_names(model)} - inputs
    spare -= {*layer_names(twin), *HEAD, "predictions", "pool"}
    if spec is None and spare:
        raise ValueError(
            f"{model.name!r} has layers that `build` does not make, which would be lost: "
            f"{', '.join(sorted(spare)[:4])}"
        )
    twin.preprocess = model.preprocess
    return twin


def _policy_of(model: ResNet) -> keras.DTypePolicy:
    """Returns the policy of the net's layers; the head keeps the precision of its weights."""
    return next(
        layer.dtype_policy for layer in model.layers if layer.weights and layer.name not in HEAD
    )


def copy_weights(source: keras.Model, target: keras.Model, *, skip: Sequence[str] = ()) -> None:
    """Copies weights from one model to another, layer by layer, by name.

    Args:
        source: Where they are taken from.
        target: Where they are put.
        skip: Names of layers that are left as they are, on both sides.

    Raises:
        ValueError: If a layer with weights is missing on either side or differs in shape; names
            the first of each.
    """
    stored = {name: arrays for name, arrays in read_weights(source).items() if name not in skip}
    assign(stored, target, source=source.name, skip=skip)


def restack(model: ResNet, *, stacked: bool) -> ResNet:
    """Returns the net in the other form, with its weights; the same model if it has it already.

    Args:
        model: A net made by `build`.
        stacked: Whether units that are alike become one layer.

    Raises:
        ValueError: If the model carries no spec, or has layers that `build` does not make.
    """
    if model.stacked is stacked:
        return model
    twin = rebuild(model, stacked=stacked)
    copy_weights(model, twin)
    return twin


def clone_as_float32(model: ResNet, *, stacked: bool | None = None) -> ResNet:
    """Builds the same net anew in float32 and copies the weights: what exports start from.

    Args:
        model: A net with its classifier, made by `build` under any dtype policy.
        stacked: Whether the new net is stacked; as the model where None.

    Raises:
        ValueError: If the model has no classifier or carries no spec.
    """
    if "logits" not in {layer.name for layer in model.layers}:
        raise ValueError(f"{model.name!r} has no layer 'logits': build it with include_top=True")
    spec = model.spec.replace(norm_sync=False)
    twin = rebuild(model, spec=spec, stacked=stacked, dtype="float32")
    copy_weights(model, twin)
    return twin
