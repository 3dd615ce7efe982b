"""What a file takes and returns: mode, types, batch size and activation."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import keras

from keras_resnet.export.checks import Format, Inputs, Precision, check_choice
from keras_resnet.export.net_outputs import named_outputs, outputs_of
from keras_resnet.nets.tensor import Tensor
from keras_resnet.preprocessing import PreprocessSpec

NumberType = Literal["float32", "uint8", "int8"]
Activation = Literal["none", "softmax", "sigmoid"]
Batch = int | Literal["open"]

# The name of a file's input says what to feed, and that of its output what comes out.
_RAW = "images_"
# By number of spatial axes.
_NORMALIZED = {1: "signals_normalized", 2: "images_normalized", 3: "volumes_normalized"}
OUTPUT_NAMES: dict[Activation, str] = {
    "none": "logits",
    "softmax": "probabilities",
    "sigmoid": "label_probabilities",
}


@dataclasses.dataclass(frozen=True)
class Interface:
    """What a file takes and returns.

    Attributes:
        inputs: `"raw"` pixels, normalised inside, or `"normalized"` values.
        batch: Batch size, or `"open"`.
        input_type: Type of the input. Raw: `"uint8"` pixels, `"int8"` (pixel - 128) or `"float32"`
            (0..255). Normalised: `"float32"`, or the quantised integers of an int8 file.
        output_type: Type of the output; other types than `"float32"` need an int8 LiteRT file.
        activation: `"softmax"` to return probabilities in place of logits; `"sigmoid"` those of
            labels that do not exclude one another.
        dims: Number of spatial axes of the input: 2 for images.
    """

    inputs: Inputs
    batch: Batch
    input_type: NumberType
    output_type: NumberType
    activation: Activation
    dims: int = 2

    @property
    def input_name(self) -> str:
        """Name of the input in the file's signature."""
        if self.inputs == "normalized":
            return _NORMALIZED[self.dims]
        return _RAW + self.input_type

    @property
    def output_name(self) -> str:
        """Name of the output in the file's signature."""
        return OUTPUT_NAMES[self.activation]

    @property
    def batch_size(self) -> int | None:
        """The batch size; None if it is open."""
        return None if self.batch == "open" else self.batch

    @property
    def graph_type(self) -> str:
        """Type of the input of the float graph that a file is converted from."""
        return "float32" if self.inputs == "normalized" else self.input_type


def make_interface(
    format: Format,
    precision: Precision,
    *,
    inputs: Inputs = "raw",
    batch: Batch | None = None,
    input_type: NumberType | None = None,
    output_type: NumberType | None = None,
    activation: Activation = "none",
    dims: int = 2,
) -> Interface:
    """Returns what a file takes and returns, with the format's usual values for None.

    Raises:
        ValueError: If a value is unknown, or the format cannot have it.
    """
    check_choice("inputs", inputs, Inputs)
    check_choice("activation", activation, Activation)
    if batch is None:
        batch = 1 if format == "tflite" else "open"
    if batch != "open" and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise ValueError(f"`batch` must be 'open' or at least 1. Received: batch={batch!r}")
    integer = format == "tflite" and precision == "int8"
    if input_type is None:
        # TensorFlow 2.21 converts no CAST to 16 bits.
        input_type = "float32" if precision == "int16x8" else "uint8"
        if inputs == "normalized":
            input_type = "int8" if integer else "float32"
    if output_type is None:
        output_type = "int8" if integer else "float32"
    for name, value in (("input_type", input_type), ("output_type", output_type)):
        if value not in get_args(NumberType):
            raise ValueError(
                f"`{name}` must be one of {', '.join(map(repr, get_args(NumberType)))}. "
                f"Received: {name}={value!r}"
            )
    if precision == "int16x8" and input_type != "float32":
        raise ValueError(
            "int16x8 files take float32, pixels 0..255 or normalised values. "
            f"Received: input_type={input_type!r}"
        )
    if not integer and inputs == "normalized" and input_type != "float32":
        raise ValueError(
            f"`input_type={input_type!r}` for normalised values needs an int8 LiteRT file. "
            f"Received: {format}, {precision}"
        )
    if not integer and output_type != "float32":
        raise ValueError(
            f"`output_type={output_type!r}` needs an int8 LiteRT file. "
            f"Received: {format}, {precision}"
        )
    return Interface(inputs, batch, input_type, output_type, activation, dims)


def mode_of(name: str) -> Inputs:
    """Returns the mode that the name of an input stands for.

    Raises:
        ValueError: If no file of this package has an input of that name.
    """
    if name in _NORMALIZED.values():
        return "normalized"
    if name in {_RAW + kind for kind in get_args(NumberType)}:
        return "raw"
    names = [_RAW + kind for kind in get_args(NumberType)]
    raise ValueError(
        f"The input of an artifact must be named {', '.join(names)} or "
        f"{', '.join(_NORMALIZED.values())}. "
        f"Received: {name!r}"
    )


def network_input(
    images: Tensor, preprocess: PreprocessSpec | None, interface: Interface
) -> Tensor:
    """Returns a file's input as the network takes it: normalised by the graph if raw.

    The result equals `preprocess.normalize(pixels)`. The channels are reversed by a slice, which
    converts to an exact STRIDED_SLICE. The LiteRT 2.3 converter turns `ops.flip` into a REVERSE_V2
    that returned wrong values in int8 files (the logits were off by their own size).
    """
    if interface.inputs == "normalized" or preprocess is None:
        return images
    if interface.input_type == "int8":
        images = keras.ops.cast(images, "float32") + 128.0
    if preprocess.channel_order == "bgr":
        images = images[..., ::-1]
        preprocess = dataclasses.replace(preprocess, channel_order="rgb")
    return preprocess.normalize(images)


def activated(logits: Tensor, interface: Interface) -> Tensor:
    """Returns a file's output for the network's logits."""
    if interface.activation == "none":
        return logits
    return getattr(keras.ops, interface.activation)(logits)


def served_outputs(model: keras.Model, result: Tensor, interface: Interface) -> dict[str, Tensor]:
    """Returns a file's outputs for the result of a call of its net."""
    if outputs_of(model).logits:
        return {interface.output_name: activated(result, interface)}
    return named_outputs(model, result)
