"""Grad-CAM: the regions of an image that a classifier's score for a class depends on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import gradients
from keras_resnet.analysis.chain import as_images
from keras_resnet.features import capture, leaf_layers, level_layer, replaced_call
from keras_resnet.nets.primitives import channel_axis
from keras_resnet.nets.tensor import Tensor

_SQUASHING = ("softmax", "sigmoid", "log_softmax")


def gradcam(
    model: keras.Model,
    images: Any,
    layer: str | None = None,
    *,
    classes: int | Sequence[int] | None = None,
) -> np.ndarray:
    """Computes a heat map of each image for a class: Grad-CAM.

    The gradient of the class's score with respect to each channel of a feature map is averaged
    over the positions. The map is the sum of the channels with these weights; negative values
    become zero. It is resized to the image (linear interpolation) and divided by its maximum.

    The score is the logit: a softmax or sigmoid at the end of the model is left out.

    Args:
        model: A functional or sequential classifier; the net may be nested in it. TensorFlow, JAX
            and PyTorch.
        images: Inputs of the model, `(batch, height, width, channels)`, preprocessed as the model
            needs them. Signals and volumes too: `(batch, *space, channels)`.
        layer: Name of a layer whose output has channels and positions, also inside a nested
            model; or `"C2"` to `"C5"`, the end of a stage of a net of this package. None takes
            the last such layer.
        classes: Index of the class, one for all images or one for each. None takes the class with
            the highest score.

    Returns:
        float32 `(batch, height, width)`, 0..1. A map is zero everywhere where no channel speaks
        for the class.

    Raises:
        TypeError: If `model` is neither functional nor sequential.
        ValueError: If `images`, `layer` or `classes` does not fit the model, or the backend has no
            derivatives.

    Source: Selvaraju et al. 2017 (arXiv:1610.02391), section 3, equations 1 and 2.

    Example:
        >>> model = keras_resnet.ResNet50(weights="torchvision/v2")
        >>> maps = keras_resnet.gradcam(model, model.preprocess(pixels))
        >>> maps.shape
        (2, 224, 224)
    """
    last = _output_layer(model)
    images = as_images(model, images)
    target = _last_map(model) if layer is None else level_layer(model, layer)
    with _without_squashing(last):
        maps, scores = capture(model, images, target)
        _check_map(target, maps, images)
        chosen = _chosen_classes(classes, scores)

        def score(tensors: list[Tensor]) -> Tensor:
            with replaced_call(target, lambda call: lambda *args, **kwargs: tensors[0]):
                outputs = model(ops.convert_to_tensor(images), training=False)
            return ops.sum(ops.cast(outputs, "float32") * ops.one_hot(chosen, scores.shape[-1]))

        _, (slopes,), _ = gradients(score, [maps], [])
    if channel_axis() == 1:
        maps, slopes = np.moveaxis(maps, 1, -1), np.moveaxis(slopes, 1, -1)
        images = np.moveaxis(images, 1, -1)
    space = tuple(range(1, images.ndim - 1))
    maps, slopes = maps.astype("float64"), slopes.astype("float64")
    heat = np.maximum((maps * slopes.mean(space, keepdims=True)).sum(-1), 0)
    heat = _resize(heat, images.shape[1:-1])
    peak = heat.max(space, keepdims=True)
    return (heat / np.where(peak > 0, peak, 1)).astype("float32")


def gradcam_overlay(
    model: keras.Model,
    pixels: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    inputs: Any = None,
    layer: str | None = None,
    classes: int | Sequence[int] | None = None,
    opacity: float = 0.5,
) -> np.ndarray:
    """Lays the heat maps of `gradcam` over the images, from blue (0) to red (1).

    Args:
        model: As in `gradcam`.
        pixels: RGB or gray images, `(batch, height, width, channels)`, channels last, values
            0..255.
        path: File of the picture, such as `"cam.png"`: the images side by side. Needs Pillow. None
            writes no file.
        inputs: What the model gets: the same images, preprocessed. None preprocesses the pixels by
            `model.preprocess`, which resizes and crops them too. Pass `inputs=pixels` for a model
            that preprocesses inside.
        layer: As in `gradcam`.
        classes: As in `gradcam`.
        opacity: Share of the heat map in the mixture, 0..1.

    Returns:
        uint8 `(batch, height, width, 3)`, at the size of the model's input; at the size of
        `pixels` if `inputs` is given.

    Raises:
        ImportError: If `path` is given and Pillow is not installed.
        TypeError: As `gradcam`.
        ValueError: As `gradcam`; if there is no preprocessing and no `inputs`; if `opacity` is
            outside 0..1.

    Source: Selvaraju et al. 2017 (arXiv:1610.02391), Figure 1.

    Example:
        >>> model = keras_resnet.ResNet50(weights="torchvision/v2")
        >>> pictures = keras_resnet.gradcam_overlay(model, pixels, "cam.png")
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"`opacity` must lie in 0..1. Received: opacity={opacity}")
    pixels = np.asarray(pixels)
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3):
        raise ValueError(
            "`pixels` must be gray or RGB images, (batch, height, width, 1 or 3). "
            f"Received: shape {pixels.shape}"
        )
    if inputs is None:
        preprocess = getattr(model, "preprocess", None)
        if not preprocess:
            raise ValueError(
                f"{model.name!r} has no `preprocess`: pass the preprocessed images as `inputs`, or "
                "`inputs=pixels` if the model preprocesses inside"
            )
        inputs, pixels = preprocess(pixels), preprocess.fit(pixels)
    heat = gradcam(model, inputs, layer, classes=classes)
    if len(heat) != len(pixels):
        raise ValueError(
            "`inputs` and `pixels` must be the same images. "
            f"Received: {len(heat)} inputs and {len(pixels)} images"
        )
    heat = _resize(heat.astype("float64"), pixels.shape[1:3])
    mixed = (1 - opacity) * pixels.astype("float64") + opacity * _colours(heat)
    pictures = np.clip(np.round(mixed), 0, 255).astype("uint8")
    if path is not None:
        row = np.concatenate(list(pictures), axis=1)
        keras.utils.save_img(os.fspath(path), row, data_format="channels_last", scale=False)
    return pictures


def _output_layer(model: keras.Model) -> keras.Layer:
    """Returns the layer that computes the model's output; that of the inner model if nested."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        raise TypeError(
            "`model` must be a functional model, or a sequential model that is built. "
            f"Received: {type(model).__name__}"
        )
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise ValueError(
            "`model` must have one output, (batch, classes). Received: outputs of shape "
            f"{', '.join(str(tuple(output.shape)) for output in outputs)}"
        )
    last = model.layers[-1]
    while isinstance(last, keras.Model) and last.layers:
        last = last.layers[-1]
    return last


def _last_map(model: keras.Model) -> keras.Layer:
    """Returns the last layer whose output has channels and positions."""
    rank = len(model.inputs[0].shape)
    maps = []
    for layer in leaf_layers(model):
        try:
            shape = layer.output.shape
        except (AttributeError, ValueError):  # it has no output, or several
            continue
        if len(shape) == rank and not type(layer).__name__.startswith("Global"):
            maps.append(layer)
    if len(maps) < 2:  # the input alone
        raise ValueError(f"{model.name!r} has no layer with channels and positions")
    return maps[-1]


def _check_map(layer: keras.Layer, maps: np.ndarray, images: np.ndarray) -> None:
    if maps.ndim != images.ndim:
        raise ValueError(
            "`layer` must name a layer whose output has channels and positions. "
            f"Received: {layer.name!r}, with outputs of shape {maps.shape}"
        )


def _chosen_classes(classes: int | Sequence[int] | None, scores: np.ndarray) -> np.ndarray:
    if classes is None:
        return scores.argmax(-1)
    chosen = np.asarray(classes)
    fits = chosen.ndim == 0 or chosen.shape == (len(scores),)
    if not fits or chosen.dtype.kind not in "iu":
        raise ValueError(
            f"`classes` must be an integer, or one per image ({len(scores)}). "
            f"Received: classes={classes!r}"
        )
    if chosen.min() < 0 or chosen.max() >= scores.shape[-1]:
        raise ValueError(
            f"`classes` must lie in 0..{scores.shape[-1] - 1}. Received: classes={classes!r}"
        )
    return np.broadcast_to(chosen, len(scores))


@contextlib.contextmanager
def _without_squashing(layer: keras.Layer) -> Iterator[None]:
    """Makes the last layer return logits while the block runs."""
    if isinstance(layer, keras.layers.Softmax):
        with replaced_call(layer, lambda call: lambda inputs, *args, **kwargs: inputs):
            yield
        return
    activation = getattr(layer, "activation", None)
    if getattr(activation, "__name__", None) not in _SQUASHING:
        yield
        return
    layer.activation = keras.activations.linear
    try:
        yield
    finally:
        layer.activation = activation


def _resize(heat: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resizes maps `(batch, *space)` by linear interpolation between the centres of cells."""
    for axis, new in enumerate(size, start=1):
        old = heat.shape[axis]
        places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, old - 1)
        shape = [1] * heat.ndim
        shape[axis] = new
        share = (places - low).reshape(shape)
        heat = (1 - share) * heat.take(low, axis) + share * heat.take(high, axis)
    return heat


def _colours(heat: np.ndarray) -> np.ndarray:
    """Returns RGB colours, 0..255, from blue over green to red, of values 0..1."""
    centres = np.array([3.0, 2.0, 1.0])  # of red, green and blue, in quarters
    return 255 * np.clip(1.5 - np.abs(4 * heat[..., None] - centres), 0, 1)
