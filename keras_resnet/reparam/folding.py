"""Batch norms folded into the convolutions before them, in any functional model."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet.nets.batch_norm import BatchNormalization
from keras_resnet.nets.model import ResNet, deep_graph
from keras_resnet.weights.rebuild import restack

# Convolutions by their number of space axes. Subclasses may use their kernels differently.
CONVOLUTIONS = {keras.layers.Conv1D: 1, keras.layers.Conv2D: 2, keras.layers.Conv3D: 3}
_NORMS = (keras.layers.BatchNormalization, BatchNormalization)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a copy of a model whose convolutions have absorbed the batch norms after them.

    In inference a batch norm multiplies each channel by a number and adds another. The convolution
    before it can do both: its kernel is multiplied by `gamma / sqrt(variance + eps)`, and its bias
    changes likewise. A norm is folded where its only input is a linear Conv1D, Conv2D or Conv3D
    (grouped and dilated ones too) that is called once and has no other reader. Other norms, such
    as those after an addition in pre-activation networks, stay.

    Works on every functional or sequential model, nested and rewired ones included, and on every
    backend. The copy is for inference: trained further, it would train without the norms.

    Args:
        model: A built functional or sequential model. It is not changed.

    Returns:
        An uncompiled model with the same inputs, outputs and layer names, without the folded norms.
        The copy of a `ResNet` is a `ResNet` with its preprocessing and without its spec.

    Raises:
        TypeError: If the model is a subclassed model without a layer graph.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3.2, equation 14.

    Example:
        ```python
        folded = keras_resnet.fold_batch_norm(model)
        logits = folded(images, training=False)  # the same logits, with fewer layers
        ```
    """
    preprocess = model.preprocess or None if isinstance(model, ResNet) else None
    if isinstance(model, ResNet) and model._spec is not None:
        model = restack(model, stacked=False)  # the graph of a stack shows no norms
    with deep_graph():
        model = _uncompiled_functional(model)
        folds = _foldable_norms(model)
        folded = _clone_without_norms(model, folds)
    for layer in folded.layers:
        if isinstance(layer, keras.Model) or not layer.weights:
            continue  # a nested model got its weights when it was folded
        source = model.get_layer(layer.name)
        if layer.name in folds:
            exact = folded_weights(source, folds[layer.name])
            layer.set_weights([value.astype("float32") for value in exact])
        else:
            layer.set_weights(source.get_weights())
    if isinstance(folded, ResNet):
        folded.preprocess = preprocess
    return folded


def _clone_without_norms(
    model: keras.Model, folds: Mapping[str, keras.layers.BatchNormalization]
) -> keras.Model:
    """Clones a model without the norms in `folds`; their convolutions get a bias."""
    absorbed = {norm.name for norm in folds.values()}

    def clone(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.Model):
            return fold_batch_norm(layer)
        config = layer.get_config()
        if layer.name in folds:
            config["use_bias"] = True
        return layer.__class__.from_config(config)

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if layer.name in absorbed:
            # The norm's other arguments (`mask`, `training`) are dropped with it.
            return args[0] if args else kwargs["inputs"]
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, clone_function=clone, call_function=call)


def folded_weights(
    conv: keras.Layer, norm: keras.layers.BatchNormalization
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a convolution's kernel `(*space, in, out)` and bias `(out,)` with a norm folded in.

    In float64, so that the caller rounds once.
    """
    kernel, *bias = (np.asarray(value, "float64") for value in conv.get_weights())
    scale, shift = scale_and_shift(norm)
    # The scale multiplies the kernel's last axis: the output channels, in the order of the groups.
    return kernel * scale, shift + (bias[0] if bias else 0.0) * scale


def scale_and_shift(
    norm: keras.layers.BatchNormalization,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the factor and the summand of each channel in inference, in float64."""
    values = iter(np.asarray(value, "float64") for value in norm.get_weights())
    gamma = next(values) if norm.scale else 1.0
    beta = next(values) if norm.center else 0.0
    mean, variance = values
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale


def _uncompiled_functional(model: keras.Model) -> keras.Model:
    """Returns an uncompiled functional model with the layers of `model`."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if "input_layers" not in model.get_config():
        raise TypeError(
            "Batch norm can be folded in functional and sequential models, which have a layer "
            f"graph. Received: {type(model).__name__} {model.name!r}"
        )
    if not model.compiled:
        return model
    # The clone of a compiled model would be compiled, with an optimizer of the wrong size.
    kind = ResNet if isinstance(model, ResNet) else keras.Model
    return kind(model.input, model.output, name=model.name)


def _foldable_norms(model: keras.Model) -> dict[str, keras.layers.BatchNormalization]:
    """Returns the norms that can be folded, by the name of their convolution.

    The graph is read from `get_config()`: it is the only public description that says which call
    of a layer belongs to this model. `layer.output` fails if the layer was called elsewhere too.
    """
    config = model.get_config()
    nodes = {layer["name"]: layer["inbound_nodes"] for layer in config["layers"]}
    readers = collections.Counter(
        name for calls in nodes.values() for node in calls for name in producers(node)
    )
    readers.update(_output_names(config["output_layers"]))
    layers = {layer.name: layer for layer in model.layers}
    folds = {}
    for name, calls in nodes.items():
        norm = layers.get(name)
        if type(norm) not in _NORMS or len(calls) != 1:
            continue
        if calls[0]["kwargs"].get("training"):
            continue  # always uses the batch's statistics
        source = next(producers(calls[0]), "")
        once = readers[source] == 1 and len(nodes.get(source, ())) == 1
        if once and _can_absorb(layers[source], norm):
            folds[source] = norm
    return folds


def _can_absorb(conv: keras.Layer, norm: keras.layers.BatchNormalization) -> bool:
    """Whether a layer is a linear float32 convolution with the norm's channels."""
    dims = CONVOLUTIONS.get(type(conv))
    if dims is None or conv.activation is not keras.activations.linear:
        return False
    if conv.dtype_policy.name != "float32" or len(conv.get_weights()) != 1 + conv.use_bias:
        return False  # quantised, or with low-rank weights beside the kernel
    channels = 1 if conv.data_format == "channels_first" else dims + 1
    return norm.axis % (dims + 2) == channels


def producers(value: Any) -> Iterator[str]:
    """Yields the names of the layers whose outputs a serialised call reads, in order."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            yield value["config"]["keras_history"][0]
            return
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from producers(item)


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
