"""Folding batch norm into the convolutions before it: the same net with fewer layers."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet.model import ResNet, deep_graph


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a copy of a model whose convolutions have absorbed the batch norms behind them.

    In inference a batch norm is one product and one sum a channel, which the convolution before
    it can do by itself: kernel times `gamma / sqrt(variance + eps)`, bias moved likewise. That is
    done wherever the norm's only input is a linear Conv2D, called once, that nothing else reads;
    other norms (those of pre-activation nets that stand behind a merge) stay as they are.

    Works on every functional or sequential model, nested ones and rewired nets included, and on
    every backend. The copy is for inference: trained further, it would train without the norms.

    Args:
        model: A built functional or sequential model; left as it is.

    Returns:
        An uncompiled model with the same inputs, outputs and layer names, less the folded norms.

    Raises:
        TypeError: If the model is of a subclass that keeps no layer graph.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3.2, equation 14.
    """
    with deep_graph():
        model = _plain(model)
        folds = _find_folds(model)
        absorbed = {fold.norm.name for fold in folds.values()}

        def clone(layer: Any) -> Any:
            if isinstance(layer, keras.Model):
                return fold_batch_norm(layer)
            config = layer.get_config()
            if layer.name in folds:
                config["use_bias"] = True
            return layer.__class__.from_config(config)

        def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
            if layer.name in absorbed:
                # What else the norm's node carries (`mask`, `training`) goes with it.
                return args[0] if args else kwargs["inputs"]
            return layer(*args, **kwargs)

        folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
        for layer in folded.layers:
            if isinstance(layer, keras.Model):
                continue  # copied by its own fold
            if layer.name in folds:
                layer.set_weights(folds[layer.name].weights())
            elif layer.weights:
                layer.set_weights(model.get_layer(layer.name).get_weights())
    return folded


@dataclasses.dataclass(frozen=True)
class _Fold:
    """A convolution and the norm that it absorbs."""

    conv: keras.layers.Conv2D
    norm: keras.layers.BatchNormalization

    def weights(self) -> list[np.ndarray]:
        """Returns kernel `(height, width, in, out)` and bias `(out,)` of the folded convolution."""
        conv, norm = self.conv, self.norm
        # In float64, so that only the last rounding is ours.
        kernel, *bias = (np.asarray(value, "float64") for value in conv.get_weights())
        values = iter(np.asarray(value, "float64") for value in norm.get_weights())
        gamma = next(values) if norm.scale else 1.0
        beta = next(values) if norm.center else 0.0
        mean, variance = values
        factor = gamma / np.sqrt(variance + norm.epsilon)
        shift = beta + ((bias[0] if bias else 0.0) - mean) * factor
        return [(kernel * factor).astype("float32"), shift.astype("float32")]


def _plain(model: keras.Model) -> keras.Model:
    """Returns the model as a functional one that is not compiled; it shares the layers."""
    sequential = isinstance(model, keras.Sequential)
    if not sequential and "input_layers" not in model.get_config():
        raise TypeError(
            "Batch norm can be folded in functional and sequential models, whose layer graph is "
            f"known. Received: {type(model).__name__} {model.name!r}"
        )
    if sequential:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not model.compiled:
        return model
    # Cloning would compile the clone, with an optimizer of a size of its own.
    kind = ResNet if isinstance(model, ResNet) else keras.Model
    return kind(model.input, model.output, name=model.name)


def _find_folds(model: keras.Model) -> dict[str, _Fold]:
    """Returns what can be folded, by the convolution's name.

    The graph is read from `get_config()`, the one public description of it that says which call
    of a layer belongs to this model: `layer.output` fails where a user has called it elsewhere.
    """
    config = model.get_config()
    nodes = {layer["name"]: layer["inbound_nodes"] for layer in config["layers"]}
    readers = collections.Counter(
        name for calls in nodes.values() for node in calls for name in _producers(node)
    )
    readers.update(_output_names(config["output_layers"]))
    layers = {layer.name: layer for layer in model.layers}
    folds = {}
    for name, calls in nodes.items():
        norm = layers.get(name)
        if type(norm) is not keras.layers.BatchNormalization or len(calls) != 1:
            continue
        if calls[0]["kwargs"].get("training"):
            continue  # always norms with the batch's own statistics
        source = next(_producers(calls[0]), "")
        conv = layers.get(source)
        once = readers[source] == 1 and len(nodes.get(source, ())) == 1
        if once and _absorbs(conv, norm):
            folds[source] = _Fold(conv, norm)
    return folds


def _absorbs(conv: Any, norm: keras.layers.BatchNormalization) -> bool:
    """Whether `conv` computes what a norm can be folded into, over the same channels."""
    # Not `isinstance`: a subclass may do more with its kernel.
    if type(conv) is not keras.layers.Conv2D or conv.activation is not keras.activations.linear:
        return False
    if conv.dtype_policy.name != "float32" or len(conv.get_weights()) != 1 + conv.use_bias:
        return False  # quantised, or with low-rank weights beside the kernel
    channels = 1 if conv.data_format == "channels_first" else 3
    return norm.axis % 4 == channels


def _producers(value: Any) -> Iterator[str]:
    """Yields the names of the layers whose outputs a serialised call reads, in order."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"][0]
            return
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _producers(item)


def _output_names(value: Any) -> Iterator[str]:
    """Yields the names of the layers that a model returns: `[name, node, tensor]`, nested."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) == 3 and isinstance(value[0], str):
            yield value[0]
            return
        for item in value:
            yield from _output_names(item)
