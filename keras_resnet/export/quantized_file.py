"""LiteRT int8 files of quantise-aware nets: their own ranges and weights, without calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet.export.interface import Interface, activated
from keras_resnet.nets.model import deep_graph
from keras_resnet.nets.tensor import Tensor
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.quantize.grid import LEVELS, exact_range
from keras_resnet.quantize.layers import LARGEST, ChannelScale, QuantizedConv2D, QuantizedDense
from keras_resnet.quantize.ranges import ActivationRange

# The file's integers: 4-bit kernels are those of -7..7 among them.
_LARGEST = LARGEST[8]
_PIXELS = (0.0, 255.0)
# What LiteRT's SOFTMAX returns: steps of 1/256 from 0.
_PROBABILITIES = (0.0, 255 / 256)


class _Range(keras.layers.Layer):
    """A range as the operation that the converter reads scale and zero point from."""

    def __init__(self, source: ActivationRange, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        low, high = (float(each) for each in (source.minimum, source.maximum))
        self.ends = exact_range(low, high)
        self.step = (self.ends[1] - self.ends[0]) / LEVELS

    def call(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the rounded activations and the step."""
        return _rounded(x, self.ends), keras.ops.convert_to_tensor(self.step, "float32")


class _Fixed(keras.layers.Layer):
    """A layer with rounded weights, as an operation of TensorFlow on constants."""

    def __init__(self, source: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.weights_on_grid: tuple[np.ndarray, ...] = ()

    def fix(self, step: float) -> None:
        """Takes the weights, rounded for an input of a step."""
        rounded = self.source.quantized(keras.ops.convert_to_tensor(step, "float32"))
        kernel, scales = (keras.ops.convert_to_numpy(each) for each in (rounded[0], rounded[2]))
        bias = np.zeros(scales.shape, "float32")
        if rounded[1] is not None:
            bias = keras.ops.convert_to_numpy(rounded[1])
        self.weights_on_grid = (kernel, bias, scales)

    def call(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the layer's result, and the scales in the place of its units."""
        return self._result(x), keras.ops.convert_to_tensor(self.weights_on_grid[2])

    def _result(self, x: Tensor) -> Tensor:
        import tensorflow as tf

        kernel, bias, scales = self.weights_on_grid
        if isinstance(self.source, ChannelScale):
            return _channel_scale(x, kernel, bias, scales)
        if isinstance(self.source, QuantizedDense):
            # The converter refuses the transposed kernel of a product whose scales are per output.
            x = tf.reshape(x, (-1, 1, 1, kernel.shape[0]))
            y = tf.nn.conv2d(x, _constant(kernel[None, None], scales), 1, "VALID")
            return tf.reshape(tf.nn.bias_add(y, bias), (-1, kernel.shape[1]))
        y = tf.nn.conv2d(
            x,
            _constant(kernel, scales),
            self.source.strides,
            self.source.padding.upper(),
            dilations=self.source.dilation_rate,
        )
        return tf.nn.bias_add(y, bias)


def serve_quantized(
    model: keras.Model, preprocess: PreprocessSpec | None, interface: Interface
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Returns the function of a quantise-aware net from which the converter makes an int8 file.

    All of its tensors carry their ranges, so that the converter needs no images.

    Args:
        model: A net made by `quantize_aware`.
        preprocess: Normalisation of the pixels.
        interface: The file's input and output. The function takes float32 pixels, 0..255, or
            normalised values; the converter changes the types at both ends.

    Raises:
        ValueError: If a range of the net is empty.
    """
    check_ranges(model)
    net = _deployed(model)

    def serve(images: Tensor) -> dict[str, Tensor]:
        x = images
        if interface.inputs == "raw" and preprocess is not None:
            x = _normalized(_rounded(x, _PIXELS), preprocess, int(model.inputs[0].shape[-1]))
        y = net(x, training=False)
        if interface.activation != "none":
            y = _rounded(activated(y, interface), _PROBABILITIES)
        return {interface.output_name: y}

    return serve


def check_quantized_files(
    model: keras.Model, formats: Sequence[str], precisions: Sequence[str]
) -> None:
    """Checks that a quantise-aware net is asked for the one file that it was trained for.

    Raises:
        ValueError: If it is not: float files come from the net before it was quantised.
    """
    if set(formats) != {"tflite"} or set(precisions) != {"int8"}:
        raise ValueError(
            f"{model.name!r} is quantise-aware: it is exported as a LiteRT int8 file (format "
            "'tflite', precision 'int8'). Export float files from the net that it was trained "
            f"from. Received: formats {', '.join(formats)}, precisions {', '.join(precisions)}"
        )


def check_ranges(model: keras.Model) -> None:
    """Checks that the ranges of a quantise-aware net are set.

    Raises:
        ValueError: If all of them are empty, as before a calibration.
    """
    ranges = [layer for layer in model.layers if isinstance(layer, ActivationRange)]
    if not any(float(each.maximum) > 0 for each in ranges if each.fixed is None):
        raise ValueError(
            f"The {len(ranges)} ranges of {model.name!r} are empty: calibrate them by "
            "`keras_resnet.quantize.calibrate(model, images)` or train the net"
        )


def converted(folder: str, interface: Interface) -> bytes:
    """Converts the SavedModel of `serve_quantized` and returns the flatbuffer."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.as_dtype(interface.input_type)
    converter.inference_output_type = tf.as_dtype(interface.output_type)
    return converter.convert()


def _deployed(model: keras.Model) -> keras.Model:
    """Returns a copy whose layers are operations on constants that the converter understands."""

    def clone(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, ActivationRange):
            return _Range(layer, name=layer.name)
        if isinstance(layer, QuantizedConv2D | QuantizedDense | ChannelScale):
            return _Fixed(layer, name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    def call(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, _Fixed):
            layer.fix(kwargs["step"]._keras_history.operation.step)
        if isinstance(layer, _Fixed | _Range):
            return layer(args[0])
        return layer(*args, **kwargs)

    with deep_graph():
        return keras.models.clone_model(model, clone_function=clone, call_function=call)


def _rounded(x: Tensor, ends: tuple[float, float]) -> Tensor:
    import tensorflow as tf

    return tf.quantization.fake_quant_with_min_max_args(x, *ends)


def _constant(kernel: np.ndarray, scales: np.ndarray) -> Tensor:
    """Returns a rounded kernel, output channels last, as a constant with its scales."""
    import tensorflow as tf

    limits = scales * np.float32(_LARGEST)
    return tf.quantization.fake_quant_with_min_max_vars_per_channel(
        kernel, -limits, limits, narrow_range=True
    )


def _channel_scale(x: Tensor, factor: np.ndarray, bias: np.ndarray, scales: np.ndarray) -> Tensor:
    """Returns `x * factor + bias` as a depthwise 1x1 convolution."""
    import tensorflow as tf

    # The scales belong to the last axis, which in a depthwise kernel has one element.
    kernel = tf.reshape(_constant(factor.reshape(1, 1, 1, -1), scales), (1, 1, -1, 1))
    return tf.nn.bias_add(tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "VALID"), bias)


def _normalized(pixels: Tensor, preprocess: PreprocessSpec, channels: int) -> Tensor:
    """Returns normalised pixels, by one integer operator; the net's input range rounds them."""
    if preprocess.channel_order == "bgr":
        pixels = pixels[..., ::-1]
    rgb = dataclasses.replace(preprocess, channel_order="rgb")
    if not any(rgb.mean) and all(value == 1 for value in rgb.std):
        return pixels
    factor = np.broadcast_to(1 / np.asarray(rgb.std, "float64"), (channels,))
    bias = -np.asarray(rgb.mean, "float64") * factor
    scales = (factor / _LARGEST).astype("float32")
    return _channel_scale(pixels, factor.astype("float32"), bias.astype("float32"), scales)
