"""Fine-tuning of a trained net: freezing, another head, another number of input channels.

The usual order: `with_classes`, `freeze`, `compile`, `fit`; then `unfreeze` all but the norms,
`compile` with a smaller learning rate, `fit`.

Example:
    >>> model = keras_resnet.from_pretrained("torchvision/v2", "resnet50")
    >>> model = keras_resnet.finetune.with_classes(model, 10)
    >>> model = keras_resnet.finetune.freeze(model)
    >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> model.fit(model.preprocess(images), labels)
    >>> model = keras_resnet.finetune.unfreeze(model, norms=False)
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(keras.optimizers.Adam(1e-5), loss)
    >>> model.fit(model.preprocess(images), labels)
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_resnet.nets.model import ResNet, check_net
from keras_resnet.nets.named_weights import assign, own_layers, read_weights, weighted_layers
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.stacked import StackedUnits
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.weights.rebuild import HEAD, copy_weights, rebuild

ChannelMethod = Literal["repeat", "mean"]


def freeze(model: keras.Model, through: int | str = "all") -> keras.Model:
    """Freezes a net's stem and first stages, in place.

    Frozen batch norms run in inference mode, also with `training=True`: they normalise with their
    moving statistics and do not update them. Other layers are unchanged, so layers that an earlier
    call froze stay frozen. Stochastic depth still drops branches during training.

    Call it before `compile`, or call `compile` again: Keras determines the trained variables when
    a model is compiled, and ignores later changes without a warning.

    Args:
        model: A net made by `build`, or a model that has one net among its layers; a warning names
            the net that was frozen.
        through: Number of the last stage to freeze; 0 freezes the stem only, `"all"` the whole net
            except its classifier. Or the name of the last layer to freeze, ours or that of
            keras.applications: `"conv4_block6_out"` leaves trainable what follows it, stage 4.

    Returns:
        The same model. `trainable` is False for its frozen layers.

    Raises:
        TypeError: If the model is not a net made by `build` and has none among its layers.
        ValueError: If the stage or the layer does not exist, or the model has several nets.

    Example:
        >>> model = keras_resnet.build("resnet18")
        >>> model = keras_resnet.finetune.freeze(model, through=2)
        >>> [model.get_layer(f"stage{n}_unit1_conv1").trainable for n in (1, 2, 3)]
        [False, False, True]
    """
    net = _net_in(model)
    for layer in _layers_through(net, through):
        layer.trainable = False
    if net is not model:
        warnings.warn(f"Froze layers of the net {net.name!r} in {model.name!r}", stacklevel=2)
    return model


def _net_in(model: Any) -> ResNet:
    """Returns the net that a model is or has among its layers."""
    nets = [each for each in _layers(model) if isinstance(each, ResNet)] if _nests(model) else []
    if len(nets) > 1:
        raise ValueError(
            f"{model.name!r} has several nets: {', '.join(net.name for net in nets)}. Call this "
            "with one of them: `model.get_layer(name)`"
        )
    if nets:
        return nets[0]
    _spec_of(model)
    return model


def _nests(model: Any) -> bool:
    """Whether a model is not a net made by `build`, so that its layers may be."""
    return isinstance(model, keras.Model) and getattr(model, "_spec", None) is None


def _layers_through(net: ResNet, through: int | str) -> list[keras.layers.Layer]:
    """Returns the layers of a net up to a stage or a layer."""
    named: list[tuple[str, keras.layers.Layer]] = own_layers(net)
    layers = [layer for _, layer in named]
    if isinstance(through, str) and through != "all":
        return layers[: layers.index(net.get_layer(through)) + 1]
    stages = len(_spec_of(net).depths)
    last = stages if through == "all" else through
    if isinstance(last, bool) or not isinstance(last, int) or not 0 <= last <= stages:
        raise ValueError(
            f"`through` must be 'all', a layer or a stage of {net.name}, 0 (the stem) to {stages}. "
            f"Received: through={through!r}"
        )
    places = [(_stage(name, stages), layer) for name, layer in named]
    return [layer for stage, layer in places if stage is not None and stage <= last]


def unfreeze(model: keras.Model, *, norms: bool = True) -> keras.Model:
    """Makes every layer trainable again, in place; call `compile` after it.

    Args:
        model: Any Keras model.
        norms: Whether batch norms become trainable too. If False, they keep the statistics of the
            pre-training; the statistics of small batches would be worse.

    Returns:
        The same model.

    Example:
        >>> model = keras_resnet.finetune.unfreeze(model, norms=False)
        >>> model.compile(keras.optimizers.Adam(1e-5), loss)
    """
    # Layer by layer: Keras passes a model's flag on only when that flag itself changes.
    for layer in (model, *_layers(model)):
        layer.trainable = True
        if isinstance(layer, StackedUnits):
            layer.norms_trainable = True
    return model if norms else freeze_norms(model)


def freeze_norms(model: keras.Model) -> keras.Model:
    """Freezes every batch norm, in place: statistics, scales and shifts do not change.

    A frozen norm runs in inference mode, also with `training=True`. Call it before `compile`, like
    `freeze`.

    Args:
        model: Any Keras model. Norms of nested models are frozen too.

    Returns:
        The same model.

    Source: https://github.com/keras-team/keras/pull/9965. If a frozen norm used the statistics of
    the batch, the layers after it would be trained on other inputs than they get in inference.

    Example:
        >>> model = keras_resnet.finetune.freeze_norms(keras_resnet.build("resnet18"))
        >>> model.get_layer("stem_norm").trainable
        False
    """
    for layer in _layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
        elif isinstance(layer, StackedUnits):
            layer.norms_trainable = False
    return model


def with_classes(model: ResNet, classes: int, *, seed: int | None = None) -> ResNet:
    """Builds the net with a new classifier and copies all other weights.

    Layers before the net, the pool, the precision, the activation of the classifier and the
    preprocessing are kept. A net without the top gets a classifier that returns logits, after its
    own pool (`"max"` or `"avg"`) or, where it has none, an average. Regularizers are kept, and
    frozen layers stay frozen; the new classifier is trainable.

    Args:
        model: A net made by `build`; it is not changed.
        classes: Number of outputs of the new classifier.
        seed: Seed of its initial weights; None draws from Keras's global seed.

    Returns:
        A new net.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If `classes` is not a positive integer, or the model lacks stages or has layers
            that `build` does not create.

    Example:
        >>> model = keras_resnet.build("resnet18")
        >>> keras_resnet.finetune.with_classes(model, 10).output_shape
        (None, 10)
    """
    _spec_of(model)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be a positive integer. Received: classes={classes!r}")
    twin = rebuild(model, classes=classes, seed=seed)
    for name, layer in own_layers(twin):
        if name in HEAD:
            layer.trainable = True
    copy_weights(model, twin, skip=HEAD)
    return twin


def with_input_channels(
    model: ResNet, channels: int, *, method: ChannelMethod = "repeat"
) -> ResNet:
    """Builds the net for images with another number of channels and copies its weights.

    The kernels that read the image are adapted so that the net's response to images with equal
    channels does not change. This is exact for one channel, for multiples of the old number, and
    with `"mean"`; otherwise `"repeat"` keeps the scale. From three channels (RGB) to one (gray),
    both methods sum the kernels. Regularizers are kept, and frozen layers stay frozen.

    The new net takes channels in the order of the image: the kernels of a net that takes BGR are
    reversed, so that kernel i reads channel i. Means and standard deviations of the preprocessing
    are repeated as the kernels are, and averaged where kernels are summed or averaged. The latter
    is exact if they are equal in all channels. With ImageNet's values, the normalised gray image
    differs by at most 0.21 from its copy in three channels.

    Args:
        model: A net made by `build`; it is not changed.
        channels: Number of channels of the new net's images.
        method: `"repeat"` repeats the old kernels in order (timm's rule); `"mean"` gives each new
            channel their mean. Both multiply by old over new number of channels.

    Returns:
        A new net.

    Raises:
        TypeError: If the model was not made by `build`.
        ValueError: If `channels` is not a positive integer, `method` is unknown, or layers before
            the net fix its input.

    Source: https://github.com/huggingface/pytorch-image-models, `timm/models/_manipulate.py`.

    Example:
        >>> model = keras_resnet.from_pretrained("torchvision/v2", "resnet50")
        >>> gray = keras_resnet.finetune.with_input_channels(model, 1)
        >>> gray.input_shape
        (None, 224, 224, 1)
    """
    _spec_of(model)
    if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
        raise ValueError(f"`channels` must be a positive integer. Received: channels={channels!r}")
    if method not in get_args(ChannelMethod):
        raise ValueError(f"`method` must be 'repeat' or 'mean'. Received: method={method!r}")
    shape = list(model.inputs[0].shape[1:])
    axis = channel_axis() if channel_axis() < 0 else 0
    old = int(shape[axis])
    shape[axis] = channels
    twin = rebuild(model, shape=shape)
    stored = read_weights(model)
    if channels != old:
        mixing = _mixing_matrix(old, channels, method)
        if model.preprocess and model.preprocess.channel_order == "bgr":
            mixing = mixing[::-1]
        for name, layer in weighted_layers(twin):
            # Only the shapes of kernels that read the image depend on its channels.
            if stored[name][0].shape != tuple(layer.weights[0].shape):
                kernel, *rest = stored[name]
                adapted = np.einsum("...io,in->...no", kernel.astype("float64"), mixing)
                stored[name] = [(adapted * old / channels).astype(kernel.dtype), *rest]
        if model.preprocess:
            twin.preprocess = _mix_preprocess(model.preprocess, mixing)
    assign(stored, twin, source=model.name)
    return twin


def _mixing_matrix(old: int, new: int, method: ChannelMethod) -> np.ndarray:
    """Returns the weights of old channels in new ones, `(old, new)`; columns sum to 1."""
    if method == "mean" or new == 1:
        return np.full((old, new), 1 / old)
    return np.eye(old)[:, np.arange(new) % old]


def _mix_preprocess(preprocess: PreprocessSpec, mixing: np.ndarray) -> PreprocessSpec:
    """Returns the preprocessing with the mean and standard deviation of each new channel."""
    mean, std = preprocess.mean, preprocess.std
    if len(mean) > 1:
        mean, std = (tuple((np.asarray(values) @ mixing).tolist()) for values in (mean, std))
    return dataclasses.replace(preprocess, mean=mean, std=std, channel_order="rgb")


def _spec_of(model: Any) -> ResNetSpec:
    check_net(model)
    return model.spec


def _stage(name: str, stages: int) -> int | None:
    """Returns the stage of a layer: 0 for the stem, None for the input and the head."""
    prefix = name.partition("_")[0]
    if prefix in ("stem", "final"):
        return 0 if prefix == "stem" else stages
    return int(prefix[5:]) if prefix.startswith("stage") and prefix[5:].isdigit() else None


def _layers(model: keras.Model) -> Iterator[Any]:
    """Yields the layers of a model and of its nested models."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
