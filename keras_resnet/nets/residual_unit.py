"""One residual unit, put together from the axes: `merge(shortcut(x), branch(x))`."""

from __future__ import annotations

from typing import Any

import keras

from keras_resnet.nets.branches import branch
from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.layers import Scalar, StochasticDepth
from keras_resnet.nets.merges import merge
from keras_resnet.nets.primitives import Primitives, own_seed
from keras_resnet.nets.shortcuts import shortcut, subsamples


def residual_unit(x: Any, make: Primitives, unit: Unit, *, drop_rate: Any = None) -> Any:
    """Applies one unit: `merge(shortcut(x), branch(x))`.

    In pre-activation order a unit that changes the shape activates before its paths split, so
    that its shortcut too starts from the activated input; the others carry their input unchanged.

    Args:
        x: Images, `(batch, height, width, channels)`.
        make: Makes the layers.
        unit: Where it stands.
        drop_rate: A scalar tensor in place of the unit's own rate of stochastic depth.

    Source: He et al. 2015, equation 1; He et al. 2016, equation 3, Figure 4 and appendix.
    """
    spec = make.spec
    start = carried = x
    if spec.activates_first and not (unit.first and spec.stem_activation):
        normed = spec.order == "pre"
        name = f"{unit.name}_{'norm1' if normed else 'act1'}"
        start = make.norm_relu(x, name) if normed else make.relu(x, name)
        carried = start if unit.changes_shape and not subsamples(spec, unit) else x
    if spec.merge == "fixup":
        # An identity carries its input as it is; a projection shares the branch's bias.
        start = Scalar("add", 0.0, name=f"{unit.name}_bias1a")(x)
        carried = start if unit.changes_shape else x

    def paths() -> Any:
        x = branch(start, make, unit)
        if spec.branch_scale != 1:
            x = keras.layers.Rescaling(spec.branch_scale, name=f"{unit.name}_branch_scale")(x)
        if not unit.drop_rate:
            return x
        name = f"{unit.name}_drop"
        drop = StochasticDepth(unit.drop_rate, seed=own_seed(name, make.seed), name=name)
        return drop(x) if drop_rate is None else drop(x, rate=drop_rate)

    def gate(x: Any, name: str, bias: float) -> Any:
        return make.layer("Conv")(
            unit.out_channels,
            1,
            activation="sigmoid",
            kernel_initializer=make.initializer(name),
            bias_initializer=keras.initializers.Constant(bias),
            name=name,
        )(x)

    def carry() -> Any:
        return _shorten(shortcut(carried, make, unit), make, unit)

    x = merge(spec.merge, carry, paths, unit.name, gate, gate_bias=spec.gate_bias)
    if spec.order == "norm_after_add":
        x = make.norm(x, f"{unit.name}_out_norm")
    return make.relu(x, f"{unit.name}_out") if spec.order in ("post", "norm_after_add") else x


def _shorten(x: Any, make: Primitives, unit: Unit) -> Any:
    """Applies what a shortcut is hampered with for comparison: a constant, dropout.

    Source: He et al. 2016, section 3.1, Figure 2 (b) and (f).
    """
    spec = make.spec
    if spec.shortcut_scale != 1:
        x = keras.layers.Rescaling(spec.shortcut_scale, name=f"{unit.name}_shortcut_scale")(x)
    if spec.shortcut_dropout:
        name = f"{unit.name}_shortcut_drop"
        seed = own_seed(name, make.seed)
        # On PyTorch the generator's state is an int32.
        seed = None if seed is None else seed % 2**31
        x = keras.layers.Dropout(spec.shortcut_dropout, seed=seed, name=name)(x)
    return x
