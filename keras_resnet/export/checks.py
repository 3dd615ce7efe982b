"""Checks of models, images and options before anything is exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import keras
import numpy as np

from keras_resnet.export.net_outputs import input_kind, last_layer, outputs_of
from keras_resnet.preprocessing import PreprocessSpec

Inputs = Literal["raw", "normalized"]
Precision = Literal["float32", "float16", "dynamic", "int8", "int16x8", "mixed"]
Format = Literal["saved_model", "tflite", "onnx"]
# What each format can have; the first is written where a format has none of those asked for.
PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "saved_model": ("float32",),
    "tflite": ("float32", "float16", "dynamic", "int8", "int16x8", "mixed"),
    "onnx": ("float32", "int8"),
}
# Precisions whose ranges are measured on training images.
CALIBRATED: tuple[Precision, ...] = ("int8", "int16x8", "mixed")
# Precisions that quantise, and are judged by signal-to-noise ratio, agreement and accuracy.
QUANTIZED: tuple[Precision, ...] = ("dynamic", *CALIBRATED)


def check_choice(argument: str, value: object, choices: Any) -> None:
    """Checks that `value` is one of the values of a `Literal`.

    Raises:
        ValueError: If it is not.
    """
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(
            f"`{argument}` must be one of {', '.join(map(repr, allowed))}. "
            f"Received: {argument}={value!r}"
        )


def check_backend() -> None:
    """Checks that Keras runs on TensorFlow.

    Raises:
        RuntimeError: If it does not.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Exports need TensorFlow. Save the model as `.keras`, restart Python with "
            f"KERAS_BACKEND=tensorflow and load it there. Backend: {keras.backend.backend()!r}"
        )


def check_export(
    model: keras.Model, preprocess: PreprocessSpec | None, inputs: Inputs
) -> tuple[int, ...]:
    """Checks everything that all formats need.

    Returns:
        The shape of one input, such as `(height, width, channels)`.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        ValueError: If the model cannot be exported, or `preprocess` or `inputs` do not fit it.
    """
    check_backend()
    _check_model(model)
    shape = image_shape(model, preprocess)
    if preprocess is None and inputs != "normalized":
        raise ValueError(
            "Raw pixels are images, (height, width, channels), that `preprocess` normalises. "
            "Without it, and for signals and volumes, files take values as the net does: "
            f"`inputs='normalized'`. Received: inputs={inputs!r}, a model of {input_kind(model)}"
        )
    return shape


def image_shape(model: keras.Model, preprocess: PreprocessSpec | None) -> tuple[int, ...]:
    """Returns the shape of one input of the exported model, such as `(height, width, channels)`.

    `preprocess.size` gives the height and the width that the model leaves open.

    Raises:
        ValueError: If the model does not have exactly one input of 1, 2 or 3 spatial axes, or
            `preprocess` does not fit it.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) not in (3, 4, 5):
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
        raise ValueError(
            "An exported model takes one input: signals (batch, length, channels), images (batch, "
            "height, width, channels) or volumes (batch, depth, height, width, channels). "
            f"Received: model with inputs {shapes}"
        )
    given = model.inputs[0].shape[1:]
    if preprocess is None:
        if None in given:
            raise ValueError(
                "Without `preprocess` the model must state the size of its input: build it with "
                f"`input_shape`. Received: model with the input {tuple(given)}"
            )
        return tuple(given)
    if len(given) != 3:
        raise ValueError(
            f"`preprocess` must be None for {input_kind(model)}, as a PreprocessSpec prepares "
            f"images. Received: preprocess={preprocess!r}"
        )
    height, width, channels = given
    size = preprocess.size
    if height not in (None, size[0]) or width not in (None, size[1]):
        raise ValueError(
            f"`preprocess.size` must be the model's input size ({height}, {width}). "
            f"Received: preprocess.size={size}"
        )
    if len(preprocess.mean) not in (1, channels):
        raise ValueError(
            f"`preprocess.mean` and `.std` need 1 or {channels} values, the model's channels. "
            f"Received: preprocess.mean={preprocess.mean}"
        )
    return size[0], size[1], int(channels)


def _check_model(model: keras.Model) -> None:
    """Checks that a model is float32 and channels-last, and that classes come as logits."""
    for layer in _flat_layers(model):
        policy = layer.dtype_policy
        if {policy.compute_dtype, policy.variable_dtype} != {"float32"} or policy.quantization_mode:
            raise ValueError(
                "An exported model must be float32: rebuild it with "
                "`keras_resnet.weights.rebuild.clone_as_float32`. "
                f"Received: layer {layer.name!r} with dtype policy {policy.name!r}"
            )
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                "An exported model takes channels-last images. "
                f"Received: layer {layer.name!r} with data_format='channels_first'"
            )
    if not outputs_of(model).logits:
        return
    last = last_layer(model)
    activation = getattr(last, "activation", None)
    squashing = (keras.activations.softmax, keras.activations.sigmoid)
    if activation in squashing or isinstance(last, keras.layers.Softmax):
        raise ValueError(
            "An exported model must return logits: build it with `classifier_activation=None` "
            "(SavedModels return the probabilities too). "
            f"Received: model that ends in {last.name!r}"
        )


def check_images(
    argument: str, images: Any, shape: tuple[int, ...], *, pixels: bool = True
) -> None:
    """Checks that `images` is a non-empty array of inputs.

    Args:
        argument: Its name.
        images: The array.
        shape: Shape of one input.
        pixels: Whether it must hold uint8 pixels; otherwise float32 values, as the net takes them.

    Raises:
        TypeError: If it is not an array of that type.
        ValueError: If it has another shape.
    """
    wanted, words = ("uint8", "uint8 pixels") if pixels else ("float32", "float32 values")
    if not isinstance(images, np.ndarray) or images.dtype != wanted:
        kind = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"`{argument}` must be a NumPy array of {words}. Received: {kind}")
    if images.shape[1:] != shape or not len(images):
        raise ValueError(
            f"`{argument}` must have shape (images, {', '.join(map(str, shape))}), with at least "
            f"one image. Received: shape {images.shape}"
        )


def check_labels(labels: Any, count: int, classes: int) -> None:
    """Checks that `labels` holds one class number for each of `count` images.

    Raises:
        TypeError: If it is not an integer array.
        ValueError: If its shape or its values do not fit.
    """
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu":
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise TypeError(f"`labels` must be a NumPy array of integers. Received: {kind}")
    if labels.shape != (count,):
        raise ValueError(
            f"`labels` must have shape ({count},), one label per image. "
            f"Received: shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"`labels` must lie in 0..{classes - 1}, the model's classes. "
            f"Received: values {labels.min()}..{labels.max()}"
        )


def check_class_names(class_names: Sequence[str] | None, classes: int) -> None:
    """Checks that there is one single-line name per class.

    Raises:
        TypeError: If a name is not a string.
        ValueError: If there is another number of names, or a name is empty or has several lines.
    """
    if class_names is None:
        return
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise TypeError(f"`class_names` must be strings. Received: class_names={class_names!r}")
    if len(class_names) != classes:
        raise ValueError(
            f"`class_names` needs one name per class ({classes}). "
            f"Received: {len(class_names)} names"
        )
    broken = [name for name in class_names if not name.strip() or len(name.splitlines()) != 1]
    if broken:
        raise ValueError(f"`class_names` must have one line each. Received: {broken[0]!r}")


def check_classes(model: keras.Model, **arguments: Any) -> None:
    """Checks that a model returns the logits of classes, or that no argument concerns classes.

    Args:
        model: The model.
        **arguments: Arguments of classes; those that are false, None or `"none"` ask for nothing.

    Raises:
        ValueError: If an argument is set and the model has no classes.
    """
    outputs = outputs_of(model)
    for name, value in arguments.items():
        if value is None or value is False or (isinstance(value, str) and value == "none"):
            continue
        if not outputs.logits:
            raise ValueError(
                f"`{name}` applies to nets that return the logits of classes. Received: "
                f"{model.name!r}, which returns {', '.join(outputs.names)}"
            )


def _flat_layers(model: keras.Model) -> Iterator[Any]:
    """Yields the layers of a model and of the models nested in it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat_layers(layer)
        else:
            yield layer
