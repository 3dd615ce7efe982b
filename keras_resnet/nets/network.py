"""`build(spec)`: from stem and units to a Keras model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import keras

from keras_resnet.nets.aliases import LayerNames
from keras_resnet.nets.budget import check_parameters
from keras_resnet.nets.catalog import get_spec
from keras_resnet.nets.fixup import bias
from keras_resnet.nets.geometry import Unit, runs
from keras_resnet.nets.model import ResNet
from keras_resnet.nets.named_weights import CLASSIFIER
from keras_resnet.nets.primitives import Primitives, channel_axis, kernel_initializer
from keras_resnet.nets.residual_unit import residual_unit
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.stacked import StackedUnits
from keras_resnet.nets.stem import stem
from keras_resnet.nets.tensor import Tensor

Pooling = Literal["avg", "max"]
Dims = Literal[1, 2, 3]
# Nets of this many weighted layers and more are stacked by default; docs/performance.md, "Depth".
STACKED_FROM = 300


@dataclasses.dataclass(frozen=True)
class Head:
    """What follows the last stage: feature maps by level, or a pool, or a pool and a classifier.

    Attributes:
        classes: Outputs of the classifier; None without one.
        pooling: Kind of the global pool; None returns the feature map.
        activation: Activation of the classifier.
        name: Name of the classifier.
        levels: Stages that are returned, in place of the rest.
    """

    classes: int | None = None
    pooling: Pooling | None = None
    activation: str | Callable[..., Any] | None = None
    name: str = CLASSIFIER
    levels: tuple[str, ...] = ()


def build(
    spec: str | ResNetSpec,
    *,
    classes: int | None = None,
    input_shape: Sequence[int | None] | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_tensor: Tensor | None = None,
    classifier_activation: str | Callable[..., Any] | None = None,
    features: Sequence[str] | bool = False,
    dims: Dims = 2,
    stacked: bool | None = None,
    seed: int | None = None,
    name: str | None = None,
    layer_names: LayerNames = "own",
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
            are numerically best, from a layer `logits`. With an activation, `"linear"` too, the
            layer is named `predictions`, as in the functions named as in keras.applications.
        features: True, or names among `"C2"` (the first stage), `"C3"` and so on: the model then
            returns a dict of these stages' outputs, without the top, in place of one tensor.
            Of pre-activation nets the last stage's is normed and rectified, the others are sums.
        dims: Space axes: 1 for signals, `(batch, steps, channels)`, 2 for images, 3 for volumes,
            `(batch, depth, height, width, channels)`.
        stacked: Whether units of a stage that are alike become one layer, `StackedUnits`, whose
            body is traced once: the same function, built and started in seconds at any depth,
            with less memory, at a somewhat higher cost per step. True for nets of 300 layers and
            more where None. Files of either form load into the other.
        seed: Seed of the initial weights, each layer's a function of it and the layer's name;
            None draws from Keras's global seed.
        name: Name of the model; the spec's where None.
        layer_names: `"own"`, such as `"stage4_unit3_out"`, or `"keras.applications"`, such as
            `"conv5_block3_out"`, as the functions named as in keras.applications have them. Layers
            that hold several units have names of their own. Weights, files and initial weights do
            not depend on it, and `get_layer` takes both.

    Returns:
        The model. It takes `(batch, height, width, channels)` and returns `(batch, classes)`
        where the top is included.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that the net cannot take, such as an input smaller
            than its output stride.

    Source: He et al. 2015 (arXiv:1512.03385), Table 1 and section 4.2.

    Example:
        >>> model = keras_resnet.build("resnet50", classes=10, input_shape=(128, 128, 3))
        >>> model.output_shape
        (None, 10)
        >>> encoder = keras_resnet.build("resnet18", features=["C3", "C4"], input_shape=(64, 64, 3))
        >>> encoder.output_shape
        [(None, 8, 8, 128), (None, 4, 4, 256)]
    """
    spec = get_spec(spec)
    if dims not in get_args(Dims):
        raise ValueError(f"`dims` must be 1, 2 or 3. Received: dims={dims!r}")
    if not isinstance(stacked, bool | None):
        raise TypeError(f"`stacked` must be True, False or None. Received: stacked={stacked!r}")
    if layer_names not in get_args(LayerNames):
        raise ValueError(
            "`layer_names` must be 'own' or 'keras.applications'. "
            f"Received: layer_names={layer_names!r}"
        )
    levels = _check_features(spec, features)
    if levels:
        include_top = False
    classes = _check_head(spec, classes, include_top=include_top, pooling=pooling)
    if levels and pooling is not None:
        raise ValueError(
            "`features` returns maps, which `pooling` would not apply to. "
            f"Received: features={features!r}, pooling={pooling!r}"
        )
    head = Head(pooling=pooling, levels=levels)
    if include_top:
        top = CLASSIFIER if classifier_activation is None else "predictions"
        head = Head(classes, "avg", classifier_activation, top)
    name = name or spec.name
    start = _input(spec, dims, input_shape, input_tensor, name)
    check_parameters(spec, head.classes or 0, int(start.shape[channel_axis()]), dims)
    return assemble(
        spec, start, head, stacked=stacked, seed=seed, name=name, layer_names=layer_names
    )


def assemble(
    spec: ResNetSpec,
    start: Tensor,
    head: Head,
    *,
    stacked: bool | None = None,
    seed: int | None = None,
    name: str | None = None,
    layer_names: LayerNames = "own",
) -> ResNet:
    """Builds a net on a Keras tensor; see `build`, which checks the arguments.

    Args:
        spec: The net.
        start: Images, an input or the output of other layers, `(batch, height, width, channels)`.
        head: What follows the last stage.
        stacked: As for `build`.
        seed: As for `build`.
        name: As for `build`.
        layer_names: As for `build`.
    """
    nn = Primitives(spec, len(start.shape) - 2, seed, names=layer_names)
    if stacked is None:
        stacked = spec.layers >= STACKED_FROM

    x = stem(start, nn)
    stages: dict[str, Tensor] = {}
    for run in runs(spec):
        x = _units(x, nn, run, stacked=stacked)
        stages[f"C{run[0].stage + 1}"] = x
    if spec.activates_first:
        x = _final_activation(x, nn)
        stages[f"C{len(spec.depths) + 1}"] = x
    x = _head(x, nn, head)

    sources = keras.utils.get_source_inputs(start)
    source = sources[0] if len(sources) == 1 else sources
    outputs = {level: stages[level] for level in head.levels} if head.levels else x
    model = ResNet(source, outputs, name=name or spec.name)
    ends = ((level, end._keras_history.operation.name) for level, end in stages.items())
    before = keras.Model(source, start).layers
    front = [each.name for each in before if not isinstance(each, keras.layers.InputLayer)]
    model._describe(spec, ends, front)
    return model


def _units(x: Tensor, nn: Primitives, run: Sequence[Unit], *, stacked: bool) -> Tensor:
    """Applies units that are alike, one by one or as a stack."""
    if stacked and len(run) > 1:
        stack = StackedUnits(nn.spec, run[0].stage, run[0].index, dims=nn.dims, seed=nn.seed)
        return stack(x)
    for unit in run:
        x = residual_unit(x, nn, unit)
    return x


def _final_activation(x: Tensor, nn: Primitives) -> Tensor:
    """Applies the activation that a pre-activation net ends with (He et al. 2016, appendix)."""
    return nn.norm_relu(x, "final_norm") if nn.spec.order == "pre" else nn.relu(x, "final_act")


def _head(x: Tensor, nn: Primitives, head: Head) -> Tensor:
    """Applies the global pool and the classifier."""
    if head.pooling is None:
        return x
    kind = {"avg": "GlobalAveragePooling", "max": "GlobalMaxPooling"}[head.pooling]
    x = nn.layer(kind)(name=nn.name("pool").replace("avg", head.pooling))(x)
    if head.classes is None:
        return x
    if nn.spec.head_dropout:
        x = nn.dropout(x, "head_drop", nn.spec.head_dropout)
    initializer: Any = kernel_initializer(CLASSIFIER, nn.seed)
    if nn.spec.norm == "fixup":
        x = bias(x, nn, "logits_bias")
        initializer = "zeros"
    classifier = keras.layers.Dense(
        head.classes,
        activation=head.activation,
        kernel_initializer=initializer,
        # Logits and probabilities keep the precision of the weights when the net computes in 16
        # bits.
        dtype=keras.config.dtype_policy().variable_dtype,
        name=head.name,
    )
    return classifier(x)


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


def _check_features(spec: ResNetSpec, features: Sequence[str] | bool) -> tuple[str, ...]:
    known = tuple(f"C{stage + 1}" for stage in range(1, len(spec.depths) + 1))
    if features is True:
        return known
    if features is False:
        return ()
    levels = (features,) if isinstance(features, str) else tuple(features)
    if not levels or len(set(levels)) < len(levels) or not set(levels) <= set(known):
        raise ValueError(
            f"`features` must be True or names of stage outputs, each once: {', '.join(known)}. "
            f"Received: features={features!r}"
        )
    return levels


def _input(
    spec: ResNetSpec,
    dims: int,
    input_shape: Sequence[int | None] | None,
    input_tensor: Any,
    name: str,
) -> Tensor:
    """Returns the tensor to start from."""
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
        _check_shape(spec, dims, shape)
        return input_tensor
    space, channels = (spec.input_size,) * dims, spec.input_channels
    default = (channels, *space) if channel_axis() == 1 else (*space, channels)
    shape = default if input_shape is None else tuple(input_shape)
    _check_shape(spec, dims, shape)
    # Two nets in one model need inputs of different names.
    return keras.Input(shape, name=f"{name}_images")


def _check_shape(spec: ResNetSpec, dims: int, shape: tuple[int | None, ...]) -> None:
    first = channel_axis() == 1
    axes = {1: ("steps",), 2: ("height", "width"), 3: ("depth", "height", "width")}[dims]
    names = f"({', '.join(('channels', *axes) if first else (*axes, 'channels'))})"
    if len(shape) != dims + 1:
        raise ValueError(f"`input_shape` must be {names}. Received: input_shape={shape}")
    channels = shape[0] if first else shape[-1]
    space = shape[1:] if first else shape[:-1]
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(
            f"The channels of `input_shape` {names} must be a positive integer. "
            f"Received: input_shape={shape}"
        )
    smallest = spec.smallest_input
    if any(size is not None and size < smallest for size in space):
        raise ValueError(
            f"{spec.name} needs inputs of at least {' x '.join([str(smallest)] * dims)}, the "
            f"product of its strides. Received: input_shape={shape} as {names}"
        )
