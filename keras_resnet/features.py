"""Features: outputs inside a model, for retrieval, nearest neighbours and linear probes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_resnet.analysis.autodiff import without_gradients
from keras_resnet.analysis.chain import as_images
from keras_resnet.nets.catalog import nearest
from keras_resnet.nets.model import ResNet, deep_graph
from keras_resnet.nets.primitives import channel_axis


def features(
    model: keras.Model, images: Any, level: str = "pool", *, batch_size: int = 32
) -> np.ndarray:
    """Computes the outputs of a layer for images, in inference mode.

    Args:
        model: A net of this package, or a functional or sequential model with one inside.
        images: Inputs of the model, `(images, height, width, channels)`, preprocessed as the model
            needs them.
        level: `"pool"`, the vector before the classifier: the output of the net's pooling layer,
            or the average over all positions if the net has none. `"C2"` to `"C5"`, the output of
            a stage. Or the name of a layer, also inside a nested model or as keras.applications
            names it (`"conv5_block3_out"`).
        batch_size: Images per forward pass.

    Returns:
        float32 `(images, channels)` for `"pool"`, `(images, height, width, channels)` for a stage
        (channels first if that is Keras's data format).

    Raises:
        ValueError: If `images` does not fit the model, or it has no such level or layer.

    Example:
        >>> model = keras_resnet.ResNet50(weights="torchvision/v2")
        >>> keras_resnet.features(model, model.preprocess(pixels)).shape
        (2, 2048)
        >>> keras_resnet.features(model, model.preprocess(pixels), "C4").shape
        (2, 14, 14, 1024)
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}"
        )
    images = as_images(model, images)
    layer = level_layer(model, level)
    run = _runner(model, layer)
    starts = range(0, len(images), batch_size)
    outputs = np.concatenate([run(images[start : start + batch_size]) for start in starts])
    outputs = outputs.astype("float32")
    if level == "pool" and outputs.ndim > 2:
        axes = range(2, outputs.ndim) if channel_axis() == 1 else range(1, outputs.ndim - 1)
        outputs = outputs.mean(tuple(axes))
    return outputs


def _runner(model: keras.Model, layer: keras.Layer) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from a batch of images to the outputs of a layer."""
    if layer not in model.layers or isinstance(model, keras.Sequential):
        return lambda batch: capture(model, batch, layer)[0]
    with deep_graph():
        part = keras.Model(model.inputs[0], layer.output)
    return lambda batch: np.asarray(part.predict_on_batch(batch))


def level_layer(model: keras.Model, level: str) -> keras.Layer:
    """Returns the layer whose output a level is.

    Args:
        model: A functional or sequential model.
        level: `"pool"`, `"C2"` to `"C5"`, or the name of a layer, at any depth of nesting.

    Raises:
        ValueError: If there is no such level or layer; or several.
    """
    layers = list(leaf_layers(model))
    named = [layer for layer in layers if layer.name == level]
    nets = list(_nets(model))
    if not named and len(nets) == 1:
        ends = dict(nets[0]._taps)
        own = list(leaf_layers(nets[0]))
        if level == "pool":
            pools = [layer for layer in own if type(layer).__name__.startswith("Global")]
            named = pools[-1:] or own[-1:]
        elif level in ends:
            named = [nets[0].get_layer(ends[level])]
        else:
            with contextlib.suppress(ValueError):  # a name of keras.applications
                named = [nets[0].get_layer(level)]
    if len(named) == 1:
        return named[0]
    if named:
        raise ValueError(f"{model.name!r} has {len(named)} layers of the name {level!r}")
    levels = ["pool", *dict(nets[0]._taps)] if len(nets) == 1 else []
    names = [*levels, *(layer.name for layer in layers)]
    held = f"It holds {len(nets) or 'no'} nets of this package: give a layer's name. "
    raise ValueError(
        f"{model.name!r} has no level or layer {level!r}. {'' if len(nets) == 1 else held}"
        f"{nearest(level, names)}"
    )


def _nets(model: keras.Model) -> Iterator[ResNet]:
    """Yields the nets of this package in a model, outermost first."""
    if isinstance(model, ResNet) and model._taps:
        yield model
        return
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _nets(layer)


def leaf_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """Yields the layers of a model and of the models nested in it, in the order of the graph."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaf_layers(layer)
        else:
            yield layer


def capture(
    model: keras.Model, images: np.ndarray, layer: keras.Layer
) -> tuple[np.ndarray, np.ndarray]:
    """Runs a model on a batch of images, in inference mode.

    Returns:
        The outputs of the layer and of the model.

    Raises:
        ValueError: If the model does not call the layer exactly once, or its output is not one
            tensor.
    """
    outputs: list[Any] = []

    def record(call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            outputs.append(call(*args, **kwargs))
            return outputs[-1]

        return recorded

    with without_gradients(), replaced_call(layer, record):
        results = model(ops.convert_to_tensor(images), training=False)
    if len(outputs) != 1 or not hasattr(outputs[0], "shape"):
        raise ValueError(
            f"Layer {layer.name!r} must be called once, and return one tensor. It was called "
            f"{len(outputs)} times"
        )
    return ops.convert_to_numpy(outputs[0]), ops.convert_to_numpy(results)


@contextlib.contextmanager
def replaced_call(
    layer: keras.Layer, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Replaces `layer.call` by a function of it while the block runs.

    This reaches layers in nested models on every backend, without changes of the layer graph.
    """
    call = layer.call
    object.__setattr__(layer, "call", wrap(call))
    try:
        yield
    finally:
        object.__delattr__(layer, "call")
