"""`quantize_aware`: a trained net with its norms folded and every tensor on an int8 grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnet.nets.layers import Dropout, Scalar, StochasticDepth
from keras_resnet.nets.model import ResNet, deep_graph
from keras_resnet.nets.tensor import Tensor
from keras_resnet.quantize.calibrate import calibrate
from keras_resnet.quantize.grid import mean_shift
from keras_resnet.quantize.layers import LARGEST, ChannelScale, QuantizedConv2D, QuantizedDense
from keras_resnet.quantize.operators import (
    FACTORS,
    KEEPS,
    SIGMOID,
    activation_of,
    before_relu,
    check_layers,
    is_relu,
)
from keras_resnet.quantize.ranges import ActivationRange, ProductRange, SumRange, is_quantize_aware
from keras_resnet.reparam import deploy
from keras_resnet.reparam.folding import scale_and_shift


def quantize_aware(
    model: keras.Model,
    *,
    bits: int = 8,
    calibration: Any = None,
    momentum: float = 0.99,
    observe_steps: int = 0,
) -> keras.Model:
    """Returns a trained net that computes as its LiteRT int8 file will, to be trained further.

    Batch norms are folded into the convolutions first, as for every export: what is trained is what
    is deployed, and a norm of batch statistics has no part in it. Kernels are rounded per channel
    to integers of -127..127, or -7..7 with 4 bits, times a learned scale. Activations are rounded
    to int8 in ranges that are calibrated, then averaged for `observe_steps` training steps and
    frozen. Rounding passes gradients through. Norms that no convolution can absorb (pre-activation
    nets) become a factor and a sum per channel.

    `keras_resnet.export` writes it as an int8 file with these ranges, without calibration images;
    its logits equal the model's to one step of the output.

    Args:
        model: A trained, built functional model for images, channels last. It is not changed.
        bits: Bits of the kernels, 8 or 4. Activations have 8. The file of 4 bits holds int8
            numbers of -7..7.
        calibration: Normalised training images to set the ranges by, `(images, height, width,
            channels)`, or an iterable of such batches; None leaves all ranges empty, for
            `calibrate` or a file of weights to set.
        momentum: Decay of the ranges' moving average.
        observe_steps: Training steps in which ranges move; 0 keeps the calibrated ones.

    Returns:
        The net. A `ResNet` keeps spec and preprocessing. Layers keep their names; ranges are named
        after the layer before them.

    Raises:
        TypeError: If the model is a subclassed model without a layer graph.
        ValueError: If it has layers without an int8 operator of which the result is known; lists
            them.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3; Krishnamoorthi 2018
    (arXiv:1806.08342), "Training best practices": start from a trained net, and use the norms'
    statistics of inference.

    Example:
        ```python
        net = keras_resnet.quantize_aware(model, bits=4, calibration=images[:512])
        net.compile(keras.optimizers.SGD(1e-3, 0.9), loss)
        net.fit(images, labels, epochs=5)
        ```
    """
    if bits not in LARGEST:
        raise ValueError(f"`bits` must be 8 or 4. Received: bits={bits!r}")
    if is_quantize_aware(model):
        raise ValueError(f"{model.name!r} is quantise-aware already: train it further as it is")
    folded = deploy(model)
    check_layers(folded)
    with deep_graph():
        pixels = _of_input(model)
        net = _Converter(folded, bits, pixels, momentum=momentum, steps=observe_steps).convert()
    _copy_weights(folded, net)
    if isinstance(model, ResNet) and isinstance(net, ResNet):
        net._spec, net._taps = model._spec, model._taps
        net.preprocess = model.preprocess or None
    if calibration is not None:
        calibrate(net, calibration)
    return net


class _Converter:
    """Clones a folded model with quantised layers, and a range after each that computes.

    Args:
        model: The folded model.
        bits: Bits of the kernels.
        pixels: Range and shift of the input, where they are known.
        **settings: Momentum and steps of the ranges.
    """

    def __init__(
        self,
        model: keras.Model,
        bits: int,
        pixels: Mapping[str, Any],
        **settings: Any,
    ) -> None:
        self._model = model
        self._bits = bits
        self._pixels = pixels
        self._settings = settings
        self._before_relu = before_relu(model)
        self._inputs: dict[int, Tensor] = {}
        # By tensor: the layer whose grid its values lie on, and the step of that grid.
        self._grids: dict[int, _Grid] = {}
        # By tensor: what its range needs to round it as the file's integers.
        self._exact: dict[int, _Exact] = {}

    def convert(self) -> keras.Model:
        """Returns the clone, with new weights."""
        return keras.models.clone_model(
            self._model, clone_function=self._clone, call_function=self._call
        )

    def _clone(self, layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            kind = QuantizedDense if isinstance(layer, keras.layers.Dense) else QuantizedConv2D
            # The activation becomes a layer of its own, behind which the range stands.
            return kind.from_config({**config, "activation": "linear", "bits": self._bits})
        if isinstance(layer, FACTORS):
            return ChannelScale(name=layer.name)
        return layer.__class__.from_config(config)

    def _call(self, layer: keras.Layer, *args: Any, **kwargs: Any) -> Tensor:
        source = self._model.get_layer(layer.name)
        args = keras.tree.map_structure(self._rounded_input, args)
        if isinstance(layer, QuantizedConv2D | QuantizedDense | ChannelScale):
            y, unit = layer(args[0], step=self._step(args[0]))
            self._exact[id(y)] = _Exact(ProductRange, {"unit": unit}, y)
        else:
            y = layer(*args, **kwargs)
        if type(source) is keras.layers.Add and len(args[0]) == 2:
            first, second = args[0]
            steps = {"first_step": self._step(first), "second_step": self._step(second)}
            self._exact[id(y)] = _Exact(SumRange, {"first": first, "second": second, **steps}, y)
        if is_relu(source) and id(args[0]) in self._exact:
            self._exact[id(y)] = self._exact[id(args[0])]._replace(tensor=y)
        if isinstance(source, keras.layers.AveragePooling2D):
            # AVERAGE_POOL_2D rounds the means to the grid of the pixels.
            return self._on_grid(y, self._grids[id(args[0])].layer, observe=False)
        if isinstance(source, KEEPS):
            return self._noted(y, self._grids[id(args[0])])
        name = activation_of(source)
        if isinstance(source, keras.layers.Activation | keras.layers.ReLU):
            return self._ranged(y, layer.name, fixed=SIGMOID if name == "sigmoid" else None)
        if name == "linear":
            return y if layer.name in self._before_relu else self._ranged(y, layer.name)
        # LiteRT fuses a ReLU with its operator; a sigmoid is an operator with an input of its own.
        y = self._ranged(y, layer.name) if name == "sigmoid" else y
        own = f"{layer.name}_{name}"
        x, y = y, keras.layers.Activation(name, name=own)(y)
        if name == "relu" and id(x) in self._exact:
            self._exact[id(y)] = self._exact[id(x)]._replace(tensor=y)
        return self._ranged(y, own, fixed=SIGMOID if name == "sigmoid" else None)

    def _rounded_input(self, x: Any) -> Any:
        """Returns a tensor; the input of the net is rounded to int8 first, once."""
        if not isinstance(x, keras.KerasTensor):
            return x
        operation = x._keras_history.operation
        if not isinstance(operation, keras.layers.InputLayer):
            return x
        if id(x) not in self._inputs:
            self._inputs[id(x)] = self._ranged(x, operation.name, **self._pixels)
        return self._inputs[id(x)]

    def _ranged(self, x: Tensor, name: str, **own: Any) -> Tensor:
        settings = {"name": f"{name}_range", **self._settings, **own}
        if id(x) not in self._exact:
            return self._on_grid(x, ActivationRange(**settings))
        exact = self._exact[id(x)]
        return self._on_grid(x, exact.kind(**settings), **exact.arguments)

    def _step(self, x: Tensor) -> Tensor:
        return self._grids[id(x)].step

    def _on_grid(self, x: Tensor, layer: ActivationRange, **arguments: Any) -> Tensor:
        y, step = layer(x, **arguments)
        return self._noted(y, _Grid(layer, step, y))

    def _noted(self, y: Tensor, grid: _Grid) -> Tensor:
        self._grids[id(y)] = grid._replace(tensor=y)
        return y


def _of_input(model: keras.Model) -> dict[str, Any]:
    """Returns range and shift of normalised pixels; nothing for a net without preprocessing."""
    preprocess = model.preprocess if isinstance(model, ResNet) else None
    if not preprocess:
        return {}
    mean, std = (np.asarray(each, "float64") for each in (preprocess.mean, preprocess.std))
    ends = float(min(0.0, (-mean / std).min())), float(((255 - mean) / std).max())
    return {"fixed": ends, "shift": mean_shift(preprocess.mean, preprocess.std)}


class _Exact(NamedTuple):
    """How a range rounds a tensor as the file's integers.

    Attributes:
        kind: Class of the range.
        arguments: What it takes beside the tensor.
        tensor: The tensor, held so that its id stays its own.
    """

    kind: type[ActivationRange]
    arguments: Mapping[str, Tensor]
    tensor: Tensor


class _Grid(NamedTuple):
    """The grid of a tensor's values.

    Attributes:
        layer: The layer that rounded them.
        step: Its step.
        tensor: The tensor, held so that its id stays its own.
    """

    layer: ActivationRange
    step: Tensor
    tensor: Tensor


def _copy_weights(folded: keras.Model, net: keras.Model) -> None:
    """Copies the weights of a folded model to its quantised clone."""
    for layer in folded.layers:
        if isinstance(layer, FACTORS):
            net.get_layer(layer.name).set_float_weights(*_factor_and_sum(layer, net))
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            kernel, *bias = layer.get_weights()
            net.get_layer(layer.name).set_float_weights(kernel, bias[0] if bias else None)
        elif isinstance(layer, StochasticDepth | Dropout | keras.layers.Dropout):
            net.get_layer(layer.name).set_weights(layer.get_weights())


def _factor_and_sum(layer: keras.Layer, net: keras.Model) -> tuple[np.ndarray, np.ndarray]:
    """Returns by what a layer multiplies each channel, and what it adds."""
    shape = net.get_layer(layer.name).kernel.shape
    factor: Any = 1.0
    added: Any = 0.0
    if isinstance(layer, keras.layers.Rescaling):
        factor, added = layer.scale, layer.offset
    elif isinstance(layer, Scalar):
        value = layer.get_weights()[0]
        factor, added = (value, 0.0) if layer.operation == "multiply" else (1.0, value)
    else:
        factor, added = scale_and_shift(layer)
    factors, sums = (
        np.broadcast_to(np.asarray(each, "float32"), shape) for each in (factor, added)
    )
    return factors, sums
