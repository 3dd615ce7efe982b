"""What a net returns, and what it takes: classes of images, or other arrays."""

from __future__ import annotations

import dataclasses
import math

import keras

from keras_resnet.nets.model import ResNet
from keras_resnet.nets.tensor import Tensor
from keras_resnet.weights.rebuild import clone_as_float32, copy_weights, rebuild, without_activation

_POOLINGS = tuple(
    getattr(keras.layers, f"Global{kind}Pooling{dims}D")
    for kind in ("Average", "Max")
    for dims in (1, 2, 3)
)
# What an input of each number of spatial axes holds.
KINDS = {1: "signals", 2: "images", 3: "volumes"}


@dataclasses.dataclass(frozen=True)
class NetOutputs:
    """The outputs of a net.

    Attributes:
        names: Their names: the keys of a dictionary of outputs, otherwise those of the layers.
        logits: Whether the only output are logits of classes.
    """

    names: tuple[str, ...]
    logits: bool

    @property
    def features(self) -> tuple[str, ...]:
        """The names of outputs that are not logits."""
        return () if self.logits else self.names


def outputs_of(model: keras.Model) -> NetOutputs:
    """Returns what a net returns.

    One vector per input is taken for the logits of classes, unless a global pooling returns it.

    Raises:
        ValueError: If two outputs have the same name.
    """
    structure = getattr(model, "output", None)
    names = tuple(structure) if isinstance(structure, dict) else tuple(model.output_names)
    tensors = [structure[name] for name in names] if isinstance(structure, dict) else model.outputs
    if len({*names}) != len(names):
        raise ValueError(
            f"The outputs of {model.name!r} need different names, which files keep: build it with "
            f"a dictionary of outputs. Received: {', '.join(names)}"
        )
    pooled = isinstance(last_layer(model), _POOLINGS)
    logits = len(tensors) == 1 and len(tensors[0].shape) == 2 and not pooled
    return NetOutputs(names, logits and not isinstance(structure, dict))


def last_layer(model: keras.Model) -> keras.layers.Layer:
    """Returns the last layer of a model, or of the model that it ends in."""
    last = model
    while isinstance(last, keras.Model):
        last = last.layers[-1]
    return last


def named_outputs(model: keras.Model, result: Tensor) -> dict[str, Tensor]:
    """Returns the result of a call of a net by the names of its outputs."""
    if isinstance(result, dict):
        return dict(result)
    results = result if isinstance(result, list | tuple) else [result]
    return dict(zip(outputs_of(model).names, results, strict=True))


def is_image_classifier(model: keras.Model) -> bool:
    """Whether a net maps images to the logits of classes."""
    return len(model.inputs[0].shape) == 4 and outputs_of(model).logits


def input_kind(model: keras.Model) -> str:
    """Returns what a net takes: `"signals"`, `"images"` or `"volumes"`."""
    return KINDS.get(len(model.inputs[0].shape) - 2, "arrays")


def check_image_classifier(model: keras.Model, option: str, reason: str) -> None:
    """Checks that a net classifies images.

    Args:
        model: The net.
        option: What is asked for.
        reason: Why it takes image classifiers only.

    Raises:
        ValueError: If it does not.
    """
    if not is_image_classifier(model):
        outputs = outputs_of(model)
        returns = "logits" if outputs.logits else ", ".join(outputs.names)
        raise ValueError(
            f"{option} applies to classifiers of images, as {reason}. Received: {model.name!r}, "
            f"which takes {input_kind(model)} and returns {returns}"
        )


def sections(outputs: NetOutputs, shapes: list[tuple[int, ...]]) -> dict[str, slice]:
    """Returns where the values of each output are in a row of all of them."""
    found, start = {}, 0
    for name, shape in zip(outputs.names, shapes, strict=True):
        found[name] = slice(start, start + math.prod(shape))
        start += math.prod(shape)
    return found


def as_float32(model: keras.Model) -> keras.Model:
    """Returns a net as files are made of: in float32, and a classifier without its activation."""
    if not isinstance(model, ResNet):
        return model
    if outputs_of(model).logits:
        return clone_as_float32(without_activation(model))
    policies = {layer.dtype_policy.name for layer in model.layers}
    if policies == {"float32"}:
        return model
    twin = rebuild(
        model, spec=model.spec.replace(norm_sync=False), dtype="float32", layer_names="own"
    )
    copy_weights(model, twin)
    return twin
