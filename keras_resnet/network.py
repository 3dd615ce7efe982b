"""The assembler: unit to stage to net. `build(spec)` makes the Keras model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras

from keras_resnet.branches import branch
from keras_resnet.catalog import get_spec
from keras_resnet.layers import channel_axis, kernel_initializer, norm, relu
from keras_resnet.merges import merge
from keras_resnet.model import ResNet
from keras_resnet.shortcuts import shortcut
from keras_resnet.spec import ResNetSpec
from keras_resnet.stem import stem
from keras_resnet.units import Unit, units

Pooling = Literal["avg", "max"]


def build(  # noqa: PLR0913
    spec: str | ResNetSpec,
    *,
    classes: int | None = None,
    input_shape: Sequence[int | None] | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_tensor: Any = None,
    classifier_activation: str | Callable[..., Any] | None = None,
    seed: int | None = None,
    name: str | None = None,
) -> ResNet:
    """Builds a net as a functional Keras model.

    Args:
        spec: A `ResNetSpec`, or the name of one (`list_variants()`).
        classes: Outputs of the classifier; the spec's default where None.
        input_shape: Shape of one image without the batch, `(height, width, channels)`; height and
            width may be None. The spec's default where None.
        include_top: Whether the net ends in global average pooling and the classifier.
        pooling: Without the top: `"avg"` or `"max"` over the last feature map, or None to return
            the map itself, `(batch, height / s, width / s, channels)` with s the output stride.
        input_tensor: A Keras tensor to use as the input, in place of a new one.
        classifier_activation: Activation of the classifier. None returns logits, on which losses
            are numerically best; the functions named as in keras.applications give `"softmax"`.
        seed: Seed of the initial weights, each layer's a function of it and the layer's name;
            None draws from Keras's global seed.
        name: Name of the model; the spec's where None.

    Returns:
        The model. It takes `(batch, height, width, channels)` and returns `(batch, classes)`
        where the top is included.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that the net cannot take, such as an input smaller
            than its output stride.
    """
    spec = get_spec(spec)
    classes = _check_head(spec, classes, include_top=include_top, pooling=pooling)
    inputs, source = _input(spec, input_shape, input_tensor)
    x = stem(inputs, spec, seed=seed)
    for unit in units(spec):
        x = residual_unit(x, spec, unit, seed=seed)
    if spec.order == "pre":
        x = relu(norm(x, spec, "final_norm"), "final_act")
    if include_top:
        x = _classifier(x, classes, classifier_activation, seed)
    elif pooling == "avg":
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    elif pooling == "max":
        x = keras.layers.GlobalMaxPooling2D(name="pool")(x)
    model = ResNet(source, x, name=name or spec.name)
    model._spec = spec
    return model


def residual_unit(x: Any, spec: ResNetSpec, unit: Unit, *, seed: int | None = None) -> Any:
    """Applies one unit: `merge(shortcut(x), branch(x))`.

    In pre-activation order a unit that changes the shape activates before its paths split, so
    that its shortcut too starts from the activated input; the others carry their input unchanged.

    Source: He et al. 2015, equation 1; He et al. 2016, equation 3 and appendix.
    """
    start = carried = x
    if spec.order == "pre" and not unit.first:  # the stem has activated the first unit's input
        start = relu(norm(x, spec, f"{unit.name}_norm1"), f"{unit.name}_act1")
        carried = start if unit.changes_shape else x
    x = merge(
        lambda: shortcut(carried, spec, unit, seed=seed),
        lambda: branch(start, spec, unit, seed=seed),
        spec,
        unit,
    )
    return relu(x, f"{unit.name}_out") if spec.order == "post" else x


def _classifier(
    x: Any, classes: int, activation: str | Callable[..., Any] | None, seed: int | None
) -> Any:
    # Logits and probabilities keep the precision of the weights when the net computes in 16 bits.
    dtype = keras.config.dtype_policy().variable_dtype
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(
        classes,
        kernel_initializer=kernel_initializer("logits", seed),
        dtype=dtype,
        name="logits",
    )(x)
    if activation in (None, "linear"):
        return x
    return keras.layers.Activation(activation, dtype=dtype, name="predictions")(x)


def _check_head(
    spec: ResNetSpec, classes: int | None, *, include_top: bool, pooling: str | None
) -> int:
    classes = spec.classes if classes is None else classes
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"`classes` must be a positive integer. Received: classes={classes!r}")
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"`pooling` must be None, 'avg' or 'max'. Received: pooling={pooling!r}")
    if include_top and pooling is not None:
        raise ValueError(
            "`pooling` applies only without the top, which pools by itself. "
            f"Received: include_top=True, pooling={pooling!r}"
        )
    return classes


def _input(
    spec: ResNetSpec, input_shape: Sequence[int | None] | None, input_tensor: Any
) -> tuple[Any, Any]:
    """Returns the tensor to start from and the model's input."""
    if input_tensor is not None:
        if not isinstance(input_tensor, keras.KerasTensor):
            raise TypeError(
                "`input_tensor` must be a Keras tensor, such as `keras.Input(...)` returns. "
                f"Received: {type(input_tensor).__name__}"
            )
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise ValueError(
                f"`input_shape` must match `input_tensor`, {shape}, or be left out. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        _check_shape(spec, shape)
        sources = keras.utils.get_source_inputs(input_tensor)
        return input_tensor, sources[0] if len(sources) == 1 else sources
    size, channels = spec.input_size, spec.input_channels
    default = (channels, size, size) if channel_axis() == 1 else (size, size, channels)
    shape = default if input_shape is None else tuple(input_shape)
    _check_shape(spec, shape)
    tensor = keras.Input(shape, name="images")
    return tensor, tensor


def _check_shape(spec: ResNetSpec, shape: tuple[int | None, ...]) -> None:
    first = channel_axis() == 1
    names = "(channels, height, width)" if first else "(height, width, channels)"
    if len(shape) != 3:
        raise ValueError(f"`input_shape` must be {names}. Received: input_shape={shape}")
    channels = shape[0] if first else shape[2]
    space = shape[1:] if first else shape[:2]
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(
            f"The channels of `input_shape` {names} must be a positive integer. "
            f"Received: input_shape={shape}"
        )
    if any(size is not None and size < spec.output_stride for size in space):
        raise ValueError(
            f"{spec.name} needs images of at least {spec.output_stride} x {spec.output_stride} "
            f"pixels, its output stride. Received: input_shape={shape} as {names}"
        )
