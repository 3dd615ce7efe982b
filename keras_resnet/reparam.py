"""The same function with fewer layers: batch norms folded away, RepVGG's paths made one."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet.nets.batch_norm import BatchNormalization
from keras_resnet.nets.geometry import units
from keras_resnet.nets.model import ResNet, check_net, deep_graph
from keras_resnet.weights.rebuild import rebuild, restack

# Not their subclasses: those may do more with their kernels. With their number of space axes.
_CONVOLUTIONS = {keras.layers.Conv1D: 1, keras.layers.Conv2D: 2, keras.layers.Conv3D: 3}
_NORMS = (keras.layers.BatchNormalization, BatchNormalization)


def deploy(model: keras.Model) -> keras.Model:
    """Returns what a model is when it is put to work: `fuse` of RepVGG, else `fold_batch_norm`.

    A RepVGG with padding `"same"`, whose strided paths do not fuse, is folded too.

    Args:
        model: A built functional or sequential model; left as it is.

    Raises:
        TypeError: If the model is of a subclass that keeps no layer graph.
    """
    spec = model._spec if isinstance(model, ResNet) else None  # None: rewired, only a graph
    if spec is not None and (spec.branch, spec.padding) == ("repvgg", "symmetric"):
        return fuse(model)
    return fold_batch_norm(model)


def fuse(model: keras.Model) -> ResNet:
    """Returns the plain net, a stack of 3x3 convolutions and ReLU, that a RepVGG is in inference.

    In each unit the 3x3 with its norm, the 1x1 with its norm, and the norm of the identity are
    linear in the same input, so they are one 3x3 convolution: the 1x1 and the identity stand in
    the centre of its kernel. The plain net is for inference: trained from there, it is no RepVGG.

    Args:
        model: A RepVGG made by `build`, with or without its classifier; left as it is.

    Returns:
        A net of the same form, with a spec of its own (`branch="single"`).

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If it is no RepVGG, or strides its paths over different pixels.

    Source: Ding et al. 2021 (arXiv:2101.03697), section 3.3, Figure 4.
    """
    check_net(model)
    spec = model.spec
    if spec.branch != "repvgg":
        raise ValueError(
            "Only the units of RepVGG (branch='repvgg') become one convolution; the norms of "
            f"other nets are folded by `fold_batch_norm`. Received: {spec.name} with "
            f"branch={spec.branch!r}"
        )
    if spec.padding != "symmetric":
        raise ValueError(
            "A strided 3x3 and 1x1 are centred on the same pixels at every size only where "
            f"padding='symmetric'. Received: {spec.name} with padding={spec.padding!r}"
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
    layers = {layer.name: layer for layer in model.layers}
    prefixes = {unit.name for unit in units(spec)} | ({"stem"} if spec.stem == "unit" else set())
    for layer in fused.layers:
        prefix, _, role = layer.name.rpartition("_")
        if prefix in prefixes and role == "conv1":
            values = _one_convolution(layers, prefix)
        elif layer.weights and type(layer) in _CONVOLUTIONS:  # of a stem that is no unit
            norm = layers[layer.name.replace("conv", "norm")]
            values = _Fold(layers[layer.name], norm).exact()
        else:
            values = layers[layer.name].get_weights() if layer.weights else []
        layer.set_weights([value.astype("float32") for value in values])
    return fused


def _one_convolution(layers: Mapping[str, Any], prefix: str) -> list[np.ndarray]:
    """Returns kernel and bias, in float64, of the 3x3 that a unit of RepVGG is."""
    (kernel, bias), (small, small_bias) = (
        _Fold(layers[f"{prefix}_conv{number}"], layers[f"{prefix}_norm{number}"]).exact()
        for number in (1, 2)
    )
    centre = tuple(size // 2 for size in kernel.shape[:-2])
    kernel[centre] += small.reshape(small.shape[-2:])
    bias = bias + small_bias
    identity = layers.get(f"{prefix}_shortcut_norm")
    if identity is not None:
        factor, shift = _affine(identity)
        kernel[centre] += np.diag(np.broadcast_to(factor, bias.shape))
        bias = bias + shift
    return [kernel, bias]


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Returns a copy of a model whose convolutions have absorbed the batch norms behind them.

    In inference a batch norm is one product and one sum a channel, which the convolution before
    it can do by itself: kernel times `gamma / sqrt(variance + eps)`, bias moved likewise. That is
    done wherever the norm's only input is a linear Conv1D, Conv2D or Conv3D, grouped or dilated
    too, called once, that nothing else reads; other norms (those of pre-activation nets that
    stand behind a merge) stay as they are.

    Works on every functional or sequential model, nested ones and rewired nets included, and on
    every backend. The copy is for inference: trained further, it would train without the norms.

    Args:
        model: A built functional or sequential model; left as it is.

    Returns:
        An uncompiled model with the same inputs, outputs and layer names, less the folded norms.
        Of a `ResNet` it keeps class and preprocessing; its spec no longer says what it is.

    Raises:
        TypeError: If the model is of a subclass that keeps no layer graph.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3.2, equation 14.
    """
    preprocess = model.preprocess if isinstance(model, ResNet) else None
    if isinstance(model, ResNet) and model._spec is not None:
        model = restack(model, stacked=False)  # in a loop the graph shows no norms
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
                exact = folds[layer.name].exact()
                layer.set_weights([value.astype("float32") for value in exact])
            elif layer.weights:
                layer.set_weights(model.get_layer(layer.name).get_weights())
    if isinstance(folded, ResNet):
        folded.preprocess = preprocess
    return folded


@dataclasses.dataclass(frozen=True)
class _Fold:
    """A convolution and the norm that it absorbs."""

    conv: Any
    norm: keras.layers.BatchNormalization

    def exact(self) -> list[np.ndarray]:
        """Returns the folded kernel `(*space, in, out)` and bias `(out,)`, in float64."""
        # So that only the last rounding is ours. The factor meets the last axis, the outputs',
        # which are in the order of their groups.
        kernel, *bias = (np.asarray(value, "float64") for value in self.conv.get_weights())
        factor, shift = _affine(self.norm)
        return [kernel * factor, shift + (bias[0] if bias else 0.0) * factor]


def _affine(norm: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a norm multiplies each channel by and then adds to it, in float64."""
    values = iter(np.asarray(value, "float64") for value in norm.get_weights())
    gamma = next(values) if norm.scale else 1.0
    beta = next(values) if norm.center else 0.0
    mean, variance = values
    factor = gamma / np.sqrt(variance + norm.epsilon)
    return factor, beta - mean * factor


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
        if type(norm) not in _NORMS or len(calls) != 1:
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
    dims = _CONVOLUTIONS.get(type(conv))
    if dims is None or conv.activation is not keras.activations.linear:
        return False
    if conv.dtype_policy.name != "float32" or len(conv.get_weights()) != 1 + conv.use_bias:
        return False  # quantised, or with low-rank weights beside the kernel
    channels = 1 if conv.data_format == "channels_first" else dims + 1
    return norm.axis % (dims + 2) == channels


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
