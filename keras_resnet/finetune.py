"""Taking a trained net to a task of its own: freezing, other classes, other input channels.

A usual order: `with_classes`, then `freeze`, `compile` and `fit`; then `unfreeze` all but the
norms, `compile` anew with a smaller learning rate, and `fit` again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.named_weights import assign, read_weights, weighted_layers
from keras_resnet.nets.network import build
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.stacked import StackedUnits
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights.rebuild import HEAD, copy_weights, rebuild

ChannelMethod = Literal["repeat", "mean"]


def freeze(model: ResNet, through: int | Literal["all"] = "all") -> ResNet:
    """Freezes a net's stem and first stages.

    Frozen batch norms run in inference mode, also under `training=True`: their statistics stay as
    they are, and they normalise with them. Other layers are left as they are, so a call adds to
    what an earlier one froze. Stochastic depth goes on dropping branches in training.

    Do it before `compile`, or call `compile` again: Keras settles what is trained when a model is
    compiled and first trained, and says nothing when that changes later.

    Args:
        model: A net made by `build`; changed in place.
        through: Number of the last stage to freeze; 0 is the stem alone, `"all"` the whole net
            but its classifier.

    Returns:
        The same model. What is frozen are its layers whose `trainable` is False.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If there is no such stage.
    """
    stages = len(_spec_of(model).depths)
    last = stages if through == "all" else through
    if isinstance(last, bool) or not isinstance(last, int) or not 0 <= last <= stages:
        raise ValueError(
            f"`through` must be 'all' or a stage of {model.name}, 0 (the stem) to {stages}. "
            f"Received: through={through!r}"
        )
    for layer in model.layers:
        stage = _stage(layer.name, stages)
        if stage is not None and stage <= last:
            layer.trainable = False
    return model


def unfreeze(model: keras.Model, *, norms: bool = True) -> keras.Model:
    """Makes every layer trainable again; follow it by `compile`.

    Args:
        model: Any model; changed in place.
        norms: Whether batch norms too. Without, they keep the statistics of the pre-training,
            which small batches would replace by poorer ones.

    Returns:
        The same model.
    """
    # One by one: Keras hands a model's flag on only when that flag itself changes.
    for layer in (model, *_layers(model)):
        layer.trainable = True
        if isinstance(layer, StackedUnits):
            layer.norms_trainable = True
    return model if norms else freeze_norms(model)


def freeze_norms(model: keras.Model) -> keras.Model:
    """Freezes every batch norm: statistics, scales and shifts stay as they are.

    Such a norm runs in inference mode, also under `training=True`. Do it before `compile`, as
    `freeze`.

    Args:
        model: Any model; norms of models nested in it are frozen too. Changed in place.

    Returns:
        The same model.

    Source: https://github.com/keras-team/keras/pull/9965: a frozen norm that used the statistics
    of the batch in training fed the trained layers what they never met in inference.
    """
    for layer in _layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
        elif isinstance(layer, StackedUnits):
            layer.norms_trainable = False
    return model


def with_classes(model: ResNet, classes: int, *, seed: int | None = None) -> ResNet:
    """Builds the net with a new classifier and copies all other weights.

    Activation of the classifier and preprocessing are kept. A net without the top gets one, which
    returns logits. All layers of the new net are trainable.

    Args:
        model: A net made by `build`; left as it is.
        classes: Outputs of the new classifier.
        seed: Seed of its initial weights; None draws from Keras's global seed.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If `classes` is no positive integer, or the model holds only some stages.
    """
    spec = _spec_of(model)
    if "logits" in {layer.name for layer in model.layers}:
        twin = rebuild(model, classes=classes, seed=seed)
    else:
        shape = tuple(model.inputs[0].shape[1:])
        dims: Any = len(shape) - 1
        twin = build(
            spec,
            classes=classes,
            input_shape=shape,
            dims=dims,
            stacked=model.stacked,
            seed=seed,
            name=model.name,
        )
        twin.preprocess = model.preprocess
    copy_weights(model, twin, skip=HEAD)
    return twin


def with_input_channels(
    model: ResNet, channels: int, *, method: ChannelMethod = "repeat"
) -> ResNet:
    """Builds the net for images of another number of channels and copies its weights.

    The kernels that read the image are adapted so that the response to an image whose channels
    are all alike stays what it was: exactly for one channel, for multiples of the old number and
    with `"mean"`; in others `"repeat"` keeps the scale. From three channels (RGB) to one
    (gray), both methods sum them. All layers of the new net are trainable.

    The new net takes channels in the image's order: a net that took BGR gets its kernels turned
    round, and kernel i reads the image's channel i. Its preprocessing repeats means and
    deviations as the kernels are; where kernels are summed or averaged, they are averaged too.
    That is exact where they are equal in all channels; else a gray image gives nearly what its
    threefold copy gave: with ImageNet's means and deviations, channels are within 0.21 of it.

    Args:
        model: A net made by `build`; left as it is.
        channels: Channels of the new net's images.
        method: `"repeat"` takes the old channels' kernels in turn, times old over new number
            (timm's rule); `"mean"` gives each new channel their mean, times the same.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If `channels` is no positive integer, or there is no such method.

    Source: https://github.com/huggingface/pytorch-image-models, `timm/models/_manipulate.py`.
    """
    _spec_of(model)
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise ValueError(f"`channels` must be a positive integer. Received: channels={channels!r}")
    if method not in get_args(ChannelMethod):
        raise ValueError(f"`method` must be 'repeat' or 'mean'. Received: method={method!r}")
    old = int(model.inputs[0].shape[channel_axis()])
    twin = rebuild(model, channels=channels)
    stored = read_weights(model)
    if channels != old:
        turned = model.preprocess is not None and model.preprocess.channel_order == "bgr"
        mixed = _mix(old, channels, method)[:: -1 if turned else 1]
        for name, layer in weighted_layers(twin):
            # Of all weights only the kernels that read the image depend on its channels.
            if stored[name][0].shape != tuple(layer.weights[0].shape):
                kernel, *rest = stored[name]
                adapted = np.einsum("...io,in->...no", kernel.astype("float64"), mixed)
                stored[name] = [(adapted * old / channels).astype(kernel.dtype), *rest]
        twin.preprocess = _preprocess_of(model.preprocess, mixed)
    assign(stored, twin, source=model.name)
    return twin


def _mix(old: int, new: int, method: ChannelMethod) -> np.ndarray:
    """Returns what each new channel, `(old, new)`, takes of the old ones; columns sum to 1."""
    if method == "mean" or new == 1:
        return np.full((old, new), 1 / old)
    return np.eye(old)[:, np.arange(new) % old]


def _preprocess_of(given: PreprocessSpec | None, mixed: np.ndarray) -> PreprocessSpec | None:
    """Returns the preprocessing with each new channel's mean and deviation."""
    if given is None or len(given.mean) == 1:
        return given and dataclasses.replace(given, channel_order="rgb")
    mean, std = (
        tuple(float(value) for value in np.asarray(values) @ mixed)
        for values in (given.mean, given.std)
    )
    return dataclasses.replace(given, mean=mean, std=std, channel_order="rgb")


def _spec_of(model: Any) -> ResNetSpec:
    check_net(model)
    return model.spec


def _stage(name: str, stages: int) -> int | None:
    """Returns the stage of a layer: 0 is the stem; None the input and the head."""
    prefix = name.partition("_")[0]
    if prefix in ("stem", "final"):
        return 0 if prefix == "stem" else stages
    return int(prefix[5:]) if prefix.startswith("stage") and prefix[5:].isdigit() else None


def _layers(model: keras.Model) -> Iterator[Any]:
    """Yields the layers of a model and of the models in it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
