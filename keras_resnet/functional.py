"""`residual`: the residual unit for any functional Keras model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import keras

from keras_resnet.nets.layers import StochasticDepth
from keras_resnet.nets.merges import GATED
from keras_resnet.nets.merges import merge as merge_paths
from keras_resnet.nets.primitives import channel_axis, own_seed
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.tensor import Tensor

Path = Callable[[Tensor], Tensor]
Shortcut = Literal["identity", "projection"]
MergeKind = Literal["add", "none", "rezero", "skipinit", "highway", "shortcut_gate"]
# A gate starts nearly closed to the branch, so that a new unit passes its input on.
GATE_BIAS = ResNetSpec.gate_bias


def residual(
    x: Tensor,
    branch: Path,
    shortcut: Shortcut | Path = "identity",
    merge: MergeKind = "add",
    *,
    stochastic_depth: float = 0.0,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Applies a residual unit, `merge(shortcut(x), branch(x))`, to a tensor of any rank.

    Args:
        x: A Keras tensor, `(batch, ..., channels)`. Channels are the last axis; in tensors with
            two or three space axes, the one that Keras's image data format says.
        branch: A layer, a model, or a function from a Keras tensor to a Keras tensor.
        shortcut: `"identity"`; `"projection"`, a linear map over the channels where the branch
            changes their number, and the identity elsewhere; or a layer or a function for
            everything else, such as striding.
        merge: `"add"` (He et al. 2015); `"rezero"` (Bachlechner et al. 2020, arXiv:2003.04887)
            or `"skipinit"` (De and Smith 2020, arXiv:2002.10444), the branch times a learned
            scalar that starts at 0, so that the unit starts as its shortcut; `"highway"`, a
            learned gate between the two (Srivastava et al. 2015, arXiv:1505.00387);
            `"shortcut_gate"`, that gate on the shortcut alone (He et al. 2016,
            arXiv:1603.05027); or `"none"`, the branch alone: the plain net to compare with.
        stochastic_depth: Probability, in [0, 1), that an example's branch is dropped in training
            (Huang et al. 2016, arXiv:1603.09382).
        seed: Seed of the drops and of the initial weights that the unit itself adds, each
            layer's a function of it and the layer's name. None draws from Keras's global seed.
        name: Prefix of the names of the layers that the unit adds: `<name>_merge`,
            `<name>_scale`, `<name>_drop`, `<name>_shortcut`, `<name>_gate_conv`. `"residual"`,
            `"residual_1"` and so on where None.

    Returns:
        A Keras tensor of the shape of the branch's output.

    Raises:
        TypeError: If `x` or the output of a path is not a Keras tensor, or a path is not callable.
        ValueError: If an argument has a value outside its range, or the shapes of the two paths
            differ.

    Source: He et al. 2015 (arXiv:1512.03385), equations 1 and 2.

    Example:
        Half a Transformer block that needs no layer norm:

        ```python
        feed_forward = keras.Sequential(
            [keras.layers.Dense(256, "relu"), keras.layers.Dense(64)]
        )
        tokens = keras.Input((128, 64))
        y = keras_resnet.residual(tokens, feed_forward, merge="rezero")
        ```
    """
    _check(x, branch, shortcut, merge, stochastic_depth)
    name = _unique_name() if name is None else name
    y = _apply("branch", branch, x)
    if merge == "none":
        return y
    if callable(shortcut):
        carried = _apply("shortcut", shortcut, x)
    elif shortcut == "projection" and _differ_in_channels(x, y):
        # No ReLU precedes it, so fan-in alone keeps the variance; no bias: equation 2.
        channels = y.shape[_channel_axis(y)]
        carried = _pointwise(x, channels, f"{name}_shortcut", seed, use_bias=False)(x)
    else:
        carried = x
    if not _shapes_agree(carried.shape, y.shape):
        raise ValueError(_shape_error(carried, y, shortcut))
    if stochastic_depth:
        drop_seed = own_seed(f"{name}_drop", seed)
        y = StochasticDepth(stochastic_depth, seed=drop_seed, name=f"{name}_drop")(y)
    gate = None
    if merge in GATED:
        channels, bias = carried.shape[_channel_axis(carried)], GATE_BIAS
        gate = _pointwise(carried, channels, f"{name}_gate_conv", seed, "sigmoid", bias=bias)
    return merge_paths(merge, carried, y, name=lambda role: f"{name}_{role}", gate=gate)


def _check(x: Any, branch: Any, shortcut: Any, merge: Any, stochastic_depth: float) -> None:
    if not isinstance(x, keras.KerasTensor):
        raise TypeError(
            "`x` must be a Keras tensor, such as the output of `keras.Input(...)` or of a layer. "
            f"Received: {type(x).__name__}"
        )
    if not callable(branch):
        raise TypeError(f"`branch` must be a layer or a function. Received: branch={branch!r}")
    if shortcut not in ("identity", "projection") and not callable(shortcut):
        raise ValueError(
            "`shortcut` must be 'identity', 'projection', a layer or a function. "
            f"Received: shortcut={shortcut!r}"
        )
    if merge == "fixup":
        raise ValueError(
            "Fixup rescales weights inside the branch, which `residual` does not see: build a net "
            "with ResNetSpec(norm='fixup', ...), or use merge='skipinit', whose units start as "
            "their shortcut too"
        )
    if merge not in get_args(MergeKind):
        kinds = ", ".join(map(repr, get_args(MergeKind)))
        raise ValueError(f"`merge` must be one of {kinds}. Received: merge={merge!r}")
    if not 0 <= stochastic_depth < 1:
        raise ValueError(
            f"`stochastic_depth` must lie in [0, 1). Received: stochastic_depth={stochastic_depth}"
        )
    if stochastic_depth and merge == "none":
        raise ValueError(
            "`stochastic_depth` needs a shortcut: with merge='none' an example whose branch is "
            f"dropped would be zero. Received: stochastic_depth={stochastic_depth}"
        )


def _unique_name() -> str:
    """Returns the name that Keras would give to the next layer of a class called `Residual`."""

    class Residual(keras.Operation):
        pass

    return Residual().name


def _apply(argument: str, path: Path, x: Tensor) -> Tensor:
    """Returns the output of a path, checked to be one Keras tensor."""
    y = path(x)
    if not isinstance(y, keras.KerasTensor):
        raise TypeError(f"`{argument}` must return one Keras tensor. Received: {type(y).__name__}")
    return y


def _channel_axis(x: Tensor) -> int:
    """Returns the axis of a tensor's channels.

    In sequences, `(batch, steps, channels)`, they are last everywhere in Keras but in its 1D
    convolutions.
    """
    rank = len(x.shape)
    return channel_axis() % rank if rank in (4, 5) else rank - 1


def _differ_in_channels(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors of one rank have different numbers of channels."""
    same_rank = len(x.shape) == len(y.shape)
    return same_rank and x.shape[_channel_axis(x)] != y.shape[_channel_axis(y)]


def _pointwise(
    x: Tensor,
    filters: int,
    name: str,
    seed: int | None,
    activation: str | None = None,
    *,
    use_bias: bool = True,
    bias: float = 0.0,
) -> keras.layers.Layer:
    """Returns a dense layer over the channels of `x`, wherever they stand."""
    rank = len(x.shape)
    last = _channel_axis(x) == rank - 1
    layer = keras.layers.Dense if last else getattr(keras.layers, f"Conv{rank - 2}D")
    return layer(
        filters,
        *(() if last else (1,)),
        activation=activation,
        use_bias=use_bias,
        kernel_initializer=keras.initializers.LecunNormal(own_seed(name, seed)),
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
    )


def _shapes_agree(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    """Whether two shapes agree; unlike Keras's `Add`, a size of 1 agrees with 1 alone."""
    return len(one) == len(other) and all(
        a == b or None in (a, b) for a, b in zip(one, other, strict=True)
    )


def _without_channels(x: Tensor) -> tuple[int | None, ...]:
    return tuple(size for axis, size in enumerate(x.shape) if axis != _channel_axis(x))


def _shape_error(carried: Tensor, y: Tensor, shortcut: Shortcut | Path) -> str:
    """Returns the message for paths of different shapes."""
    if callable(shortcut):
        remedy = "The output of `shortcut` must have the branch's shape"
    elif shortcut == "identity" and _shapes_agree(_without_channels(carried), _without_channels(y)):
        remedy = "They differ in their channels: use shortcut='projection'"
    else:
        remedy = (
            "A projection maps channels alone: pass a layer or a function as `shortcut` that "
            "brings `x` to the branch's shape, such as a strided convolution"
        )
    return f"The shortcut has shape {tuple(carried.shape)}, the branch {tuple(y.shape)}. {remedy}"
