"""Layers by their int8 operators: which are supported, and which LiteRT fuses with a ReLU."""

from __future__ import annotations

import collections

import keras

from keras_resnet.nets.batch_norm import BatchNormalization
from keras_resnet.nets.layers import Dropout, PadChannels, PadEdges, Scalar, StochasticDepth
from keras_resnet.reparam.folding import producers

_NORMS = (keras.layers.BatchNormalization, BatchNormalization)
FACTORS = (Scalar, keras.layers.Rescaling, *_NORMS)
# Operators that compute new values, which get a range.
_COMPUTES = (
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.GlobalAveragePooling2D,
    *FACTORS,
)
# Operators that only choose among the values of their input, or do nothing in inference.
KEEPS = (
    keras.layers.MaxPooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.Dropout,
    Dropout,
    StochasticDepth,
    PadChannels,
    PadEdges,
)
# What an int8 LOGISTIC returns: steps of 1/256 from 0.
SIGMOID = (0.0, 255 / 256)
_ACTIVATIONS = ("linear", "relu", "sigmoid")


def check_layers(model: keras.Model) -> None:
    """Checks that every layer has an int8 operator whose result `quantize_aware` reproduces."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError("Quantise-aware nets need channels_last images, as LiteRT has them")
    if not isinstance(model, keras.Model) or not model.inputs:
        raise TypeError(f"A functional model is needed. Received: {type(model).__name__}")
    problems = [f"{layer.name} ({why})" for layer in model.layers if (why := _refusal(layer))]
    if problems:
        raise ValueError(
            f"{model.name!r} has {len(problems)} layer(s) that quantise-aware training does not "
            f"support: {', '.join(problems[:4])}{', ...' if len(problems) > 4 else ''}"
        )


def _refusal(layer: keras.Layer) -> str:
    """Returns why a layer is not supported; empty if it is."""
    kind = type(layer).__name__
    if isinstance(layer, keras.layers.InputLayer):
        return ""
    if layer.dtype_policy.name != "float32":
        return f"{layer.dtype_policy.name} in place of float32"
    exact = (keras.layers.Conv2D, keras.layers.Dense)
    if isinstance(layer, exact) and type(layer) not in exact:
        return kind
    if isinstance(layer, _NORMS) and layer.axis not in (-1, 3):
        return f"{kind} over axis {layer.axis}"
    known = (*_COMPUTES, *KEEPS, keras.layers.AveragePooling2D, keras.layers.ReLU)
    if not isinstance(layer, (*known, keras.layers.Activation)):
        return kind
    activation = activation_of(layer)
    if activation not in _ACTIVATIONS:
        return f"activation {activation}"
    if isinstance(layer, keras.layers.ReLU):
        settings = (layer.max_value, layer.negative_slope, layer.threshold)
        return (
            "" if settings in ((None, 0, 0), (None, 0.0, 0.0)) else "a ReLU with a limit or slope"
        )
    return ""


def activation_of(layer: keras.Layer) -> str:
    """Returns the name of a layer's activation; `relu` for a ReLU layer."""
    if isinstance(layer, keras.layers.ReLU):
        return "relu"
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else getattr(activation, "__name__", repr(activation))


def is_relu(layer: keras.Layer) -> bool:
    """Returns whether a layer is a ReLU."""
    kinds = (keras.layers.Activation, keras.layers.ReLU)
    return isinstance(layer, kinds) and activation_of(layer) == "relu"


def before_relu(model: keras.Model) -> set[str]:
    """Returns the names of layers whose only reader is a ReLU, which LiteRT fuses with them.

    Their own values exist nowhere, so they have no range.
    """
    config = model.get_config()
    layers = {layer.name: layer for layer in model.layers}
    readers = collections.defaultdict(list)
    for each in config["layers"]:
        for node in each["inbound_nodes"]:
            for name in producers(node):
                readers[name].append(each["name"])
    outputs = {tensor._keras_history.operation.name for tensor in keras.tree.flatten(model.outputs)}
    fused = (keras.layers.Conv2D, keras.layers.Dense, keras.layers.Add, *FACTORS)
    return {
        name
        for name, found in readers.items()
        if len(found) == 1
        and name not in outputs
        and isinstance(layers[name], fused)
        and is_relu(layers[found[0]])
    }
