"""Rebuilding a net with some properties changed, and copying its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.nets import named_weights
from keras_resnet.nets.aliases import LayerNames
from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.named_weights import (
    CLASSIFIER,
    assign,
    classifier_of,
    names_of_applications,
    own_layers,
    read_weights,
)
from keras_resnet.nets.network import Head, assemble
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.tensor import Tensor
from keras_resnet.weights.layer_settings import keep_settings

# Layers with weights that belong to the head.
HEAD = (CLASSIFIER, "logits_bias")


def rebuild(
    model: ResNet,
    *,
    spec: ResNetSpec | None = None,
    head: Head | None = None,
    classes: int | None = None,
    shape: Sequence[int | None] | None = None,
    stacked: bool | None = None,
    seed: int | None = None,
    dtype: str | None = None,
    layer_names: LayerNames | None = None,
) -> ResNet:
    """Builds a net like the model, with new weights.

    Layers before the net (with their weights), input, head, feature outputs, number of spatial
    axes, precision, name and preprocessing are those of the model unless an argument changes them.
    Layers of the same name keep their `trainable` flags, regularizers and constraints. Whatever
    else cannot be kept is refused.

    Args:
        model: A net made by `build`.
        spec: Spec of the new net.
        head: What follows the last stage of the new net.
        classes: Number of outputs of the classifier; a net without one gets one, after its pool.
        shape: Shape of one image, for nets without layers before them.
        stacked: Whether the new net is stacked, as in `build`.
        seed: Seed of the initial weights.
        dtype: Name of the dtype policy. Keras's global policy has no effect.
        layer_names: Whose names the layers have, as in `build`; None keeps those of the model.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If the model has layers that `build` does not create, layers of several
            precisions, or layers before the net that fix its `shape`.

    Warns:
        UserWarning: If a stacked net cannot keep flags or regularizers of single units; states
            how many layers had them.
    """
    check_net(model)
    head = head_of(model) if head is None else head
    if classes is not None:
        pooling = head.pooling or "avg"
        head = dataclasses.replace(head, classes=classes, pooling=pooling, levels=())
    with dtype_policy(_policy_of(model) if dtype is None else dtype):
        twin = assemble(
            model.spec if spec is None else spec,
            _start(model, shape, dtype),
            head,
            stacked=model.stacked if stacked is None else stacked,
            seed=seed,
            name=model.name,
            layer_names=layer_names or _layer_names(model),
        )
    _check_layers(model, twin)
    keep_settings(model, twin)
    twin.preprocess = model.preprocess or None
    return twin


def _layer_names(model: ResNet) -> LayerNames:
    return "keras.applications" if names_of_applications(model) else "own"


def head_of(model: ResNet) -> Head:
    """Returns what follows the last stage of a net made by `build`."""
    if isinstance(model.output, dict):
        return Head(levels=tuple(model.output))
    layers = dict(own_layers(model))
    pool = layers.get("pool")
    if pool is None:
        return Head()
    pooling: Any = "max" if "Max" in type(pool).__name__ else "avg"
    classifier = layers.get(CLASSIFIER)
    if classifier is None:
        return Head(pooling=pooling)
    # Earlier versions applied the activation in a layer after the classifier.
    last: Any = layers.get("predictions", classifier)
    activation = None if last.activation is keras.activations.linear else last.activation
    return Head(classifier.units, pooling, activation, last.name)


def without_activation(model: ResNet) -> ResNet:
    """Returns the net that gives logits, with its weights; the model if it gives them.

    Raises:
        ValueError: If the model has no classifier, or cannot be rebuilt.
    """
    head = head_of(model)
    if head.classes is None:
        raise ValueError(
            f"{model.name!r} has no classifier ('logits' or 'predictions'): build it with "
            "include_top=True"
        )
    if head.activation is None:
        return model
    twin = rebuild(model, head=dataclasses.replace(head, activation=None))
    copy_weights(model, twin)
    return twin


def _start(model: ResNet, shape: Sequence[int | None] | None, dtype: str | None) -> Tensor:
    """Returns a new tensor for the net to start from: an input, after copies of what precedes it.

    Raises:
        ValueError: If layers before the net fix its input and `shape` is given.
    """
    if not model.front:
        return _like(model.inputs[0], shape)
    if shape is not None:
        raise ValueError(
            f"{model.name!r} has layers before the net, which fix its input: "
            f"{', '.join(model.front[:4])}. Change the net without them, then put them before it "
            "with `input_tensor=`"
        )

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if dtype is not None and "dtype" in config:
            config["dtype"] = dtype
        return layer.__class__.from_config(config)

    front = keras.Model(model.inputs, model.front_output)
    inputs = keras.tree.map_structure(_like, front.input)
    copy = keras.models.clone_model(front, inputs, clone_function=copied)
    copy.set_weights(front.get_weights())
    return copy.outputs[0]


def _like(old: Tensor, shape: Sequence[int | None] | None = None) -> Tensor:
    """Returns an input of the name, precision and shape of another."""
    new = tuple(old.shape[1:] if shape is None else shape)
    name = old._keras_history.operation.name
    return keras.Input(batch_shape=(old.shape[0], *new), dtype=old.dtype, name=name)


def _check_layers(model: ResNet, twin: ResNet) -> None:
    """Checks that a net has no layers that `build` does not create for its spec.

    Raises:
        ValueError: If it has; names the first.
    """
    inputs = {layer.name for layer in model.layers if isinstance(layer, keras.layers.InputLayer)}
    others = (
        {*named_weights.layer_names(model)} - inputs - {*HEAD, "predictions", "pool", "head_drop"}
    )
    lost = others - {*named_weights.layer_names(twin)}
    if lost and twin.spec != model.spec:  # the new spec may have other layers
        start = keras.Input(tuple(model.front_output.shape[1:]))
        lost = others - {
            *named_weights.layer_names(assemble(model.spec, start, Head(), stacked=False, seed=0))
        }
    if lost:
        raise ValueError(
            f"{model.name!r} has layers that `build` does not create and that would be lost: "
            f"{', '.join(sorted(lost)[:4])}"
        )


def _policy_of(model: ResNet) -> keras.DTypePolicy:
    """Returns the dtype policy of the layers before the head, whose precision may differ.

    Raises:
        ValueError: If they have several.
    """
    policies = {
        layer.dtype_policy.name: layer.dtype_policy
        for name, layer in own_layers(model)
        if layer.weights and name not in HEAD
    }
    if len(policies) > 1:
        raise ValueError(
            f"The layers of {model.name!r} have several dtype policies, of which a rebuilt net "
            f"keeps one: {', '.join(sorted(policies))}"
        )
    return next(iter(policies.values()))


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
    if classifier_of(model) is None:
        raise ValueError(f"{model.name!r} has no layer 'logits': build it with include_top=True")
    spec = model.spec.replace(norm_sync=False)
    twin = rebuild(model, spec=spec, stacked=stacked, dtype="float32", layer_names="own")
    copy_weights(model, twin)
    return twin
