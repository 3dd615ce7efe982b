"""The clients that files are made for: what each takes, and why.

A client is a table row. `settle` applies it to an export: a value that the client cannot take is
refused, and one that it can take but that differs from the usual wins, with a line that says so.
Nothing is imported from the clients here; `client_runtimes.py` runs them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from keras_resnet.export.checks import Format
from keras_resnet.export.request import ExportRequest

# A field that may have any value.
ANY = None


@dataclasses.dataclass(frozen=True)
class ClientSetting:
    """What a client takes for one option.

    Attributes:
        value: The usual value.
        why: Why.
        also: Other values that it takes; `ANY` for all.

    Example:
        >>> keras_resnet.export.CLIENTS["mediapipe"].batch
        ClientSetting(value=1, why='it runs one image at a time', also=())
    """

    value: Any
    why: str
    also: tuple[Any, ...] | None = ()

    def takes(self, value: Any) -> bool:
        """Whether the client takes a value."""
        return self.also is ANY or value == self.value or value in self.also


@dataclasses.dataclass(frozen=True)
class Client:
    """A program that takes files.

    Attributes:
        name: Name of `--client`.
        title: Its name in words.
        format: Format of its file.
        precision: Precision of the file.
        inputs: Raw pixels, or normalised values.
        batch: Batch size.
        input_type: Type of the input.
        output_type: Type of the output of int8 files.
        activation: Logits or probabilities.
        channels: Numbers of image channels that it takes; `ANY` for all.
        converted: Whether its SavedModel is made for a converter.
        files: What is written, in words.
        package: Package that runs it here; "" if none does.
        install: How to get it.
        source: Where its rules were read or measured.

    Example:
        >>> keras_resnet.export.CLIENTS["tflite-micro"].precision.value
        'int8'
    """

    name: str
    title: str
    format: Format
    precision: ClientSetting
    inputs: ClientSetting
    batch: ClientSetting
    input_type: ClientSetting
    output_type: ClientSetting
    activation: ClientSetting
    files: str
    package: str
    install: str
    source: str
    channels: tuple[int, ...] | None = ANY
    converted: bool = False


_NORMALIZED_INSIDE = ClientSetting(
    "raw", "the normalisation is in the file, so the app gives pixels", ("normalized",)
)
_FLOAT32 = ClientSetting("float32", "the reference precision", ANY)
_LOGITS = ClientSetting("none", "the app takes the softmax if it needs one", ("softmax",))
_OPEN = ClientSetting("open", "batches of any size, set by each call", ANY)
_PIXELS = ClientSetting("uint8", "pixels as decoders give them", ("float32",))
_PIXELS_INT8_TOO = ClientSetting("uint8", "pixels as decoders give them", ("float32", "int8"))
_ONE = "its examples run one image"

_MEDIAPIPE = Client(
    name="mediapipe",
    title="MediaPipe ImageClassifier",
    format="tflite",
    precision=_FLOAT32,
    inputs=ClientSetting(
        "raw",
        "it normalises floats by ONE mean and deviation for all channels, so the file normalises",
    ),
    batch=ClientSetting(1, "it runs one image at a time"),
    input_type=ClientSetting("uint8", "it refuses int8 inputs", ("float32",)),
    output_type=ClientSetting("uint8", "it refuses int8 outputs", ("float32",)),
    activation=ClientSetting("softmax", "its scores are what the graph returns", ("none",)),
    channels=(3, 4),
    files="model.tflite with labels inside, labels.txt",
    package="mediapipe",
    install="pip install mediapipe",
    source="MediaPipe 1.2.3, image classifier, run with files of this package",
)

CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (
        _MEDIAPIPE,
        dataclasses.replace(
            _MEDIAPIPE,
            name="android",
            title="Android: MediaPipe tasks and the LiteRT interpreter",
            source="MediaPipe's Android task reads the same metadata as its Python task, which "
            "runs the file here",
        ),
        Client(
            name="litert-js",
            title="LiteRT.js in browsers",
            format="tflite",
            precision=_FLOAT32,
            inputs=_NORMALIZED_INSIDE,
            batch=ClientSetting(1, "it refuses an open batch in files with a signature"),
            input_type=ClientSetting(
                "float32",
                "its tensors are float32, int32 and uint8; WebGPU's float32",
                ("uint8",),
            ),
            output_type=ClientSetting("float32", "it refuses int8 at the borders", ("uint8",)),
            activation=ClientSetting("softmax", "pages show probabilities", ("none",)),
            files="model.tflite, labels.txt",
            package="@litertjs/core",
            install="it needs Chromium and @litertjs/core, which keras-resnet demo FILE fetches",
            source="@litertjs/core 2.5.3: DataTypeMapping in index.d.ts, and files run in Chromium",
        ),
        Client(
            name="tflite-micro",
            title="TensorFlow Lite Micro",
            format="tflite",
            precision=ClientSetting("int8", "raw float32 and float16 files do not run on it"),
            inputs=_NORMALIZED_INSIDE,
            batch=ClientSetting(1, "its memory is planned for fixed shapes"),
            input_type=ClientSetting("int8", "its kernels take int8: pixel - 128"),
            output_type=ClientSetting("int8", "its kernels return int8"),
            activation=ClientSetting("none", "the largest logit is the class", ("softmax",)),
            files="model_int8.tflite, model_data.h and .cc, model_resolver.h, labels.txt",
            package="tflite-micro",
            install="pip install --pre tflite-micro",
            source="tflite-micro of 2026-10 run with files of this package; person_detection "
            "example, main_functions.cc (pixel - 128)",
        ),
        Client(
            name="tf-serving",
            title="TensorFlow Serving",
            format="saved_model",
            precision=ClientSetting("float32", "SavedModels are float32"),
            inputs=_NORMALIZED_INSIDE,
            batch=_OPEN,
            input_type=_PIXELS,
            output_type=ClientSetting(None, "SavedModels return float32"),
            activation=ClientSetting("none", "it returns logits and probabilities"),
            files="<N>/ with the signatures serving_default, serve_bytes and features",
            package="tensorflow_model_server",
            install="install tensorflow_model_server (a program, not a Python package)",
            source="TensorFlow Serving, g3doc/api_rest.md and serving_basic.md",
        ),
        Client(
            name="onnxruntime",
            title="ONNX Runtime",
            format="onnx",
            precision=_FLOAT32,
            inputs=_NORMALIZED_INSIDE,
            batch=_OPEN,
            input_type=_PIXELS_INT8_TOO,
            output_type=ClientSetting(None, "ONNX files return float32"),
            activation=_LOGITS,
            files="model.onnx, labels.txt",
            package="onnxruntime",
            install="pip install onnxruntime",
            source="ONNX Runtime 1.32, run with files of this package",
        ),
        Client(
            name="openvino",
            title="OpenVINO",
            format="onnx",
            precision=_FLOAT32,
            inputs=_NORMALIZED_INSIDE,
            batch=_OPEN,
            input_type=_PIXELS_INT8_TOO,
            output_type=ClientSetting(None, "ONNX files return float32"),
            activation=_LOGITS,
            files="model.onnx, labels.txt",
            package="openvino",
            install="pip install openvino",
            source="OpenVINO 2026.4, run with files of this package; it computes in bfloat16 "
            "unless INFERENCE_PRECISION_HINT is f32",
        ),
        Client(
            name="coreml",
            title="Core ML",
            format="saved_model",
            precision=ClientSetting(
                "float32", "SavedModels are float32; Core ML sets its own precision"
            ),
            inputs=_NORMALIZED_INSIDE,
            batch=ClientSetting(1, f"{_ONE}, and fixed shapes run on the Neural Engine", ANY),
            input_type=ClientSetting(
                "float32", "Core ML has no uint8 arrays: float32 pixels, 0..255"
            ),
            output_type=ClientSetting(None, "SavedModels return float32"),
            activation=ClientSetting("none", "it returns logits and probabilities"),
            files="saved_model/, model.mlpackage if coremltools is installed",
            package="coremltools",
            install="pip install coremltools",
            converted=True,
            source="coremltools 9.0, run with files of this package; predictions need macOS",
        ),
        Client(
            name="tfjs",
            title="TensorFlow.js",
            format="saved_model",
            precision=ClientSetting("float32", "SavedModels are float32"),
            inputs=_NORMALIZED_INSIDE,
            batch=_OPEN,
            input_type=ClientSetting(
                "float32",
                "tf.browser.fromPixels(x).toFloat(): WebGL has floats only",
                ("uint8",),
            ),
            output_type=ClientSetting(None, "SavedModels return float32"),
            activation=ClientSetting("none", "it returns logits and probabilities"),
            files="saved_model/, tfjs/model.json and weights if tensorflowjs is installed",
            package="tensorflowjs",
            install="pip install tensorflowjs",
            converted=True,
            source="tensorflowjs 4.22 and @tensorflow/tfjs-converter 4.22, run with files of this "
            "package",
        ),
    )
}
# Fields of a request that a client sets, and the options of the command.
_FIELDS = {
    "inputs": "--inputs",
    "batch": "--batch",
    "input_type": "--input-type",
    "output_type": "--output-type",
    "activation": "--activation",
}


_SETTABLE = ("formats", "precisions", *_FIELDS)


def find_client(name: str) -> Client:
    """Returns a client by its name.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in CLIENTS:
        raise ValueError(f"`client` must be one of {', '.join(CLIENTS)}. Received: {name!r}")
    return CLIENTS[name]


def settle(
    request: ExportRequest, client: Client, explicit: Collection[str] | None = None
) -> tuple[ExportRequest, list[str]]:
    """Returns a request as a client takes it, and what the caller chose otherwise, one line each.

    Args:
        request: Images, limits and options.
        client: The client.
        explicit: Names of the fields that the caller set. None: those that differ from their
            defaults.

    Raises:
        ValueError: If the caller set a value that the client does not take.
    """
    given = _changed(request) if explicit is None else set(explicit)
    lines = []
    if "formats" in given and client.format not in request.formats:
        raise ValueError(
            f"client {client.name!r} takes the format {client.format}. "
            f"Received: formats={list(request.formats)}"
        )
    precisions: Sequence[Any] = (client.precision.value,)
    if "precisions" in given:
        precisions = request.precisions
        lines += [
            line
            for value in precisions
            if (line := _compare(client, "precision", client.precision, value))
        ]
    values = {}
    for field in _FIELDS:
        choice: ClientSetting = getattr(client, field)
        values[field] = choice.value
        if field in given and getattr(request, field) is not None:
            values[field] = getattr(request, field)
            line = _compare(client, field, choice, values[field])
            lines += [line] if line else []
    if values["inputs"] == "normalized" and "input_type" not in given:
        values["input_type"] = None  # as the format has it
    if client.format != "tflite" or "int8" not in precisions:
        values["output_type"] = None
    values["for_converters"] = client.converted
    settled = dataclasses.replace(
        request, formats=(client.format,), precisions=tuple(precisions), **values
    )
    return settled, lines


def _compare(client: Client, field: str, choice: ClientSetting, value: Any) -> str:
    """Returns a line if a value is not the usual one.

    Raises:
        ValueError: If the client does not take it.
    """
    if not choice.takes(value):
        raise ValueError(
            f"client {client.name!r} does not take {field}={value!r}: {choice.why}. "
            f"Leave it out for {choice.value!r}"
        )
    if value == choice.value:
        return ""
    return f"{client.name}: {field} {value!r} as asked, not {choice.value!r} ({choice.why})"


def _changed(request: ExportRequest) -> set[str]:
    """Returns the fields of a request that differ from their defaults."""
    return {
        field.name
        for field in dataclasses.fields(request)
        if field.name in _SETTABLE and getattr(request, field.name) != field.default
    }
