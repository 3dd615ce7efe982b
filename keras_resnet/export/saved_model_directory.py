"""SavedModels for TensorFlow Serving and `tf.saved_model.load`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.export.checks import (
    Inputs,
    check_class_names,
    check_classes,
    check_export,
)
from keras_resnet.export.encoded_images import decode_and_fit
from keras_resnet.export.interface import (
    Batch,
    Interface,
    NumberType,
    make_interface,
    network_input,
)
from keras_resnet.export.net_outputs import input_kind, named_outputs, outputs_of
from keras_resnet.export.quiet import quiet_python
from keras_resnet.nets.model import deep_graph
from keras_resnet.nets.tensor import Tensor
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.texts import label_text


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    preprocess: PreprocessSpec | None,
    inputs: Inputs = "raw",
    batch: Batch = "open",
    input_type: NumberType | None = None,
    class_names: Sequence[str] | None = None,
    for_converters: bool = False,
    several_labels: bool = False,
) -> None:
    """Writes a SavedModel with the signatures `serving_default`, `serve_bytes` and `features`.

    | `inputs` | input of `serving_default` | values |
    | --- | --- | --- |
    | `"raw"` | `images_uint8`, uint8 `(batch, height, width, channels)` | RGB pixels 0..255 |
    | `"raw"`, `input_type="float32"` | `images_float32`, float32, same shape | the same |
    | `"normalized"` | `images_normalized`, float32, same shape | `preprocess.normalize(pixels)` |

    | signature | input | outputs, float32 |
    | --- | --- | --- |
    | `serving_default` | images of the net's size | `logits`, `probabilities`: `(batch, classes)` |
    | `serve_bytes` | `image_bytes`, strings `(batch,)`: JPEG or PNG files | the same |
    | `features` | as `serving_default` | `features`: `(batch, channels)`, the classifier's input |

    `serve_bytes` decodes, turns as EXIF says, resizes and crops as `preprocess.fit` does; a pixel
    may differ from it by 1 of 255. It is left out of nets of other than 1 or 3 channels, and
    `features` of models that do not end in a dense layer. This function does not compare the
    file with the model: see `verify` and `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: Directory to write.
        preprocess: Size and normalisation; None for values as the model takes them.
        inputs: `"raw"` to include the normalisation in the artifact, or `"normalized"`.
        batch: Batch size, or `"open"`.
        input_type: Type of the input; None for uint8 pixels or float32 values.
        class_names: Names to write to `assets.extra/labels.txt`, where TensorFlow Serving looks
            for files that are not part of the graph.
        for_converters: Whether to write `serving_default` only, without the check of its input's
            shape: coremltools converts neither several signatures nor the check.
        several_labels: Whether an image may have several labels: `probabilities` are then sigmoids
            of the logits, otherwise their softmax.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If a class name is not a string.
        ValueError: If model, preprocessing or names do not fit together.

    Example:
        ```python
        keras_resnet.export.export_saved_model(
            model, "resnet/1", preprocess=keras_resnet.PreprocessSpec((224, 224))
        )
        ```
    """
    interface = make_interface(
        "saved_model",
        "float32",
        inputs=inputs,
        batch=batch,
        input_type=input_type,
        dims=len(model.inputs[0].shape) - 2,
    )
    shape = check_export(model, preprocess, inputs)
    check_classes(model, class_names=class_names)
    check_class_names(class_names, model.outputs[0].shape[-1])
    if for_converters:
        images = _image_input(interface, shape)

        def serve(pixels: Tensor) -> dict[str, Tensor]:
            result = model(network_input(pixels, preprocess, interface), training=False)
            return _outputs(model, result, several_labels)

        _write({"serving_default": (serve, images)}, path)
    else:
        _write(_signatures(model, preprocess, interface, shape, several_labels), path)
    if class_names is not None:
        extra = Path(path, "assets.extra")
        extra.mkdir()
        (extra / "labels.txt").write_text(label_text(class_names), encoding="utf-8", newline="\n")


_Signatures = dict[str, tuple[Callable[[Tensor], dict[str, Tensor]], Any]]


def _signatures(
    model: keras.Model,
    preprocess: PreprocessSpec | None,
    interface: Interface,
    shape: tuple[int, ...],
    several_labels: bool,
) -> _Signatures:
    """Returns the function and the input of each signature."""
    import tensorflow as tf

    # Traced once: the signatures call it.
    forward = tf.function(lambda x: _outputs(model, model(x, training=False), several_labels))
    images = _image_input(interface, shape)

    def checked(pixels: Tensor) -> Tensor:
        # A loaded signature does not check the rank, and a convolution aborts the process for an
        # image without a batch axis. This makes it an error that can be caught.
        pixels = tf.ensure_shape(pixels, images.shape)
        return network_input(pixels, preprocess, interface)

    signatures: _Signatures = {"serving_default": (lambda pixels: forward(checked(pixels)), images)}
    if preprocess is not None and shape[-1] in (1, 3):
        encoded = tf.TensorSpec((interface.batch_size,), tf.string, name="image_bytes")

        def serve_bytes(contents: Tensor) -> dict[str, Tensor]:
            contents = tf.ensure_shape(contents, encoded.shape)
            pixels = decode_and_fit(contents, preprocess, shape[-1])
            return forward(network_input(pixels, preprocess, _PIXELS))

        signatures["serve_bytes"] = serve_bytes, encoded
    head = classifier_input(model)
    if head is not None and outputs_of(model).logits:
        signatures["features"] = lambda pixels: {"features": head(checked(pixels))}, images
    return signatures


def left_out(model: keras.Model) -> list[str]:
    """Returns why a model's SavedModel lacks a signature, one line each."""
    lines = []
    shape = model.inputs[0].shape[1:]
    if len(shape) != 3:
        kind = input_kind(model)
        lines.append(f"saved_model: without the signature serve_bytes, as the model takes {kind}")
    elif shape[-1] not in (1, 3):
        lines.append(
            "saved_model: without the signature serve_bytes, as JPEG and PNG have 1 or 3 channels, "
            f"and the model {shape[-1]}"
        )
    if outputs_of(model).logits and classifier_input(model) is None:
        lines.append(
            "saved_model: without the signature features, as the model does not end in a dense "
            "layer"
        )
    return lines


# Pixels as `decode_and_fit` returns them.
_PIXELS = make_interface("saved_model", "float32")


def _outputs(model: keras.Model, result: Tensor, several_labels: bool) -> dict[str, Tensor]:
    if not outputs_of(model).logits:
        return named_outputs(model, result)
    squashed = keras.ops.sigmoid if several_labels else keras.ops.softmax
    return {"logits": result, "probabilities": squashed(result)}


def classifier_input(model: keras.Model) -> Callable[[Tensor], Tensor] | None:
    """Returns the function from normalised images to what a model's classifier takes.

    Returns:
        The function, in inference; None if the model does not end in a dense layer of one input.
    """
    layer = model.layers[-1]
    if not isinstance(layer, keras.layers.Dense) or not isinstance(layer.input, keras.KerasTensor):
        return None
    with deep_graph():
        part = keras.Model(model.inputs, layer.input)
    return lambda x: part(x, training=False)


def write_signature(
    function: Callable[[Tensor], dict[str, Tensor]],
    path: str | os.PathLike[str],
    interface: Interface,
    shape: tuple[int, ...],
    dtype: str | None = None,
) -> None:
    """Writes a function of images as the `serving_default` signature of a SavedModel.

    Args:
        function: Maps images to named outputs.
        path: Directory to write.
        interface: Name, type and batch size of the input.
        shape: `(height, width, channels)`.
        dtype: Type of the input, if it is not the interface's.
    """
    _write({"serving_default": (function, _image_input(interface, shape, dtype))}, path)


def _image_input(interface: Interface, shape: tuple[int, ...], dtype: str | None = None) -> Any:
    import tensorflow as tf

    size, name = interface.batch_size, interface.input_name
    return tf.TensorSpec((size, *shape), dtype or interface.graph_type, name=name)


def _write(signatures: _Signatures, path: str | os.PathLike[str]) -> None:
    # `keras.export.ExportArchive` saves the forward pass and its variables. `tf.saved_model.save`
    # would save Keras's object graph too.
    archive = keras.export.ExportArchive()
    for name, (function, source) in signatures.items():
        archive.add_endpoint(name, function, [source])
    with quiet_python():
        archive.write_out(os.fspath(path), verbose=False)
