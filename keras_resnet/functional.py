"""`residual`: the residual unit for any functional Keras model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import keras

from keras_resnet.nets.layers import StochasticDepth
from keras_resnet.nets.merges import merge as join
from keras_resnet.nets.primitives import channel_axis, own_seed

Path = Callable[[Any], Any]
# The spec's merges but Fixup, which rescales weights inside the branch.
OpenMerge = Literal["add", "none", "rezero", "skipinit", "highway", "shortcut_gate"]


def residual(
    x: Any,
    branch: Path,
    shortcut: Literal["identity", "projection"] | Path = "identity",
    merge: OpenMerge = "add",
    *,
    stochastic_depth: float = 0.0,
    seed: int | None = None,
    name: str | None = None,
) -> Any:
    """Applies a residual unit, `merge(shortcut(x), branch(x))`, to a tensor of any rank.

    Half a block of a Transformer that needs no layer norm, for example, is
    `x = residual(x, feed_forward, merge="rezero")`.

    Args:
        x: A Keras tensor, `(batch, ..., channels)`. Channels are the last axis; in tensors with
            two or three space axes, the one that Keras's image data format says.
        branch: A layer, a model, or a function of a Keras tensor that returns one.
        shortcut: `"identity"`; `"projection"`, a linear map over the channels where the branch
            changes their number, and the identity elsewhere; or a layer or a function for what a
            map over the channels cannot do, such as striding.
        merge: `"add"` (He et al. 2015); `"rezero"` (Bachlechner et al. 2020, arXiv:2003.04887)
            or `"skipinit"` (De and Smith 2020, arXiv:2002.10444), the branch times a learned
            number that starts at 0, so that the unit starts as its shortcut; `"highway"`, a
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
        TypeError: If `x`, or what a path returns, is no Keras tensor, or a path no callable.
        ValueError: If an argument has a value outside its range, or the paths' shapes differ.

    Source: He et al. 2015 (arXiv:1512.03385), equations 1 and 2.
    """
    _check(x, branch, shortcut, merge, stochastic_depth)
    name = _unique_name() if name is None else name
    added = _apply("branch", branch, x)

    def carry() -> Any:
        if callable(shortcut):
            carried = _apply("shortcut", shortcut, x)
        elif shortcut == "projection" and _maps_channels(x, added):
            # No ReLU precedes, so fan-in alone keeps the variance; no bias: equation 2.
            filters = added.shape[_channels(added)]
            carried = _pointwise(x, filters, f"{name}_shortcut", seed, use_bias=False)
        else:
            carried = x
        if not _fits(carried.shape, added.shape):
            raise ValueError(_misfit(carried, added, shortcut))
        return carried

    def maybe_drop() -> Any:
        if not stochastic_depth:
            return added
        own = own_seed(f"{name}_drop", seed)
        return StochasticDepth(stochastic_depth, seed=own, name=f"{name}_drop")(added)

    def gate(x: Any, name: str, bias: float) -> Any:
        return _pointwise(x, x.shape[_channels(x)], name, seed, activation="sigmoid", bias=bias)

    return join(merge, carry, maybe_drop, name, gate)


def _check(x: Any, branch: Any, shortcut: Any, merge: Any, stochastic_depth: float) -> None:
    if not isinstance(x, keras.KerasTensor):
        raise TypeError(
            "`x` must be a Keras tensor, such as `keras.Input(...)` or a layer returns. "
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
            "merge='fixup' rescales weights inside the branch, which `residual` cannot see: "
            "build a net with ResNetSpec(merge='fixup', ...), or take merge='skipinit', whose "
            "units start as their shortcut too"
        )
    if merge not in get_args(OpenMerge):
        known = ", ".join(map(repr, get_args(OpenMerge)))
        raise ValueError(f"`merge` must be one of {known}. Received: merge={merge!r}")
    if not 0 <= stochastic_depth < 1:
        raise ValueError(
            f"`stochastic_depth` must lie in [0, 1). Received: stochastic_depth={stochastic_depth}"
        )
    if stochastic_depth and merge == "none":
        raise ValueError(
            "`stochastic_depth` needs a shortcut: merge='none' without a branch passes nothing "
            f"on. Received: stochastic_depth={stochastic_depth}"
        )


def _unique_name() -> str:
    """Returns the name that Keras would give to the next layer of a class `Residual`."""

    class Residual(keras.Operation):
        pass

    return Residual().name


def _apply(argument: str, path: Path, x: Any) -> Any:
    """Returns a path's output, which is one Keras tensor."""
    y = path(x)
    if not isinstance(y, keras.KerasTensor):
        raise TypeError(f"`{argument}` must return one Keras tensor. Received: {type(y).__name__}")
    return y


def _channels(x: Any) -> int:
    """Returns the axis of a tensor's channels.

    Sequences, `(batch, steps, channels)`, have them last in all of Keras but its 1D convolutions.
    """
    rank = len(x.shape)
    return channel_axis() % rank if rank in (4, 5) else rank - 1


def _maps_channels(x: Any, y: Any) -> bool:
    """Whether the two differ in their channels."""
    return len(x.shape) == len(y.shape) and x.shape[_channels(x)] != y.shape[_channels(y)]


def _pointwise(
    x: Any,
    filters: int,
    name: str,
    seed: int | None,
    *,
    activation: str | None = None,
    use_bias: bool = True,
    bias: float = 0.0,
) -> Any:
    """Applies a dense layer over the channels, wherever they stand."""
    rank = len(x.shape)
    last = _channels(x) == rank - 1
    layer = keras.layers.Dense if last else getattr(keras.layers, f"Conv{rank - 2}D")
    return layer(
        filters,
        *(() if last else (1,)),
        activation=activation,
        use_bias=use_bias,
        kernel_initializer=keras.initializers.LecunNormal(own_seed(name, seed)),
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
    )(x)


def _fits(one: tuple[int | None, ...], other: tuple[int | None, ...]) -> bool:
    """Whether two shapes agree; unlike Keras's `Add`, a size of 1 agrees with 1 alone."""
    return len(one) == len(other) and all(
        a == b or None in (a, b) for a, b in zip(one, other, strict=True)
    )


def _misfit(carried: Any, added: Any, shortcut: Any) -> str:
    """Returns the message for paths that cannot be merged."""
    if callable(shortcut):
        remedy = "What `shortcut` returns must have the branch's shape"
    elif shortcut == "identity" and _fits(
        *(
            tuple(size for axis, size in enumerate(y.shape) if axis != _channels(y))
            for y in (carried, added)
        )
    ):
        remedy = "They differ in their channels: take shortcut='projection'"
    else:
        remedy = (
            "A projection maps channels alone: pass a layer or a function as `shortcut` that "
            "brings `x` to the branch's shape, such as a strided convolution"
        )
    return (
        f"The shortcut has shape {tuple(carried.shape)}, the branch {tuple(added.shape)}. {remedy}"
    )
