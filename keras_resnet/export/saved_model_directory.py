"""SavedModels for TensorFlow Serving and `tf.saved_model.load`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from keras_resnet.export.checks import Inputs, check_class_names, check_export
from keras_resnet.export.interface import (
    Batch,
    Interface,
    NumberType,
    make_interface,
    network_input,
)
from keras_resnet.export.quiet import quiet_python
from keras_resnet.nets.tensor import Tensor
from keras_resnet.preprocessing import PreprocessSpec


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    preprocess: PreprocessSpec,
    inputs: Inputs = "raw",
    batch: Batch = "open",
    input_type: NumberType | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a SavedModel with one signature, `serving_default`.

    | `inputs` | input tensor | values |
    | --- | --- | --- |
    | `"raw"` | `images_uint8`, uint8 `(batch, height, width, channels)` | RGB pixels 0..255 |
    | `"raw"`, `input_type="float32"` | `images_float32`, float32, same shape | the same |
    | `"normalized"` | `images_normalized`, float32, same shape | `preprocess.normalize(pixels)` |

    Outputs: `logits` and `probabilities`, float32 `(batch, classes)`. In both modes the caller
    resizes and crops. This function does not compare the file with the model: see `verify` and
    `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: Directory to write.
        preprocess: Size and normalisation.
        inputs: `"raw"` to include the normalisation in the artifact, or `"normalized"`.
        batch: Batch size, or `"open"`.
        input_type: Type of the input; None for uint8 pixels or float32 values.
        class_names: Names to write to `assets.extra/labels.txt`, where TensorFlow Serving looks
            for files that are not part of the graph.

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
        "saved_model", "float32", inputs=inputs, batch=batch, input_type=input_type
    )
    shape = check_export(model, preprocess)
    check_class_names(class_names, model.outputs[0].shape[-1])
    import tensorflow as tf

    def serve(images: Tensor) -> dict[str, Tensor]:
        # A loaded signature does not check the rank, and a convolution aborts the process for an
        # image without a batch axis. This makes it an error that can be caught.
        images = tf.ensure_shape(images, (interface.batch_size, *shape))
        logits = model(network_input(images, preprocess, interface), training=False)
        return {"logits": logits, "probabilities": keras.ops.softmax(logits)}

    write_signature(serve, path, interface, shape)
    if class_names is not None:
        extra = Path(path, "assets.extra")
        extra.mkdir()
        labels = "".join(f"{name}\n" for name in class_names)
        (extra / "labels.txt").write_text(labels, encoding="utf-8", newline="\n")


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
    import tensorflow as tf

    # `keras.export.ExportArchive` saves the forward pass and its variables. `tf.saved_model.save`
    # would save Keras's object graph too.
    archive = keras.export.ExportArchive()
    images = tf.TensorSpec(
        (interface.batch_size, *shape), dtype or interface.graph_type, name=interface.input_name
    )
    archive.add_endpoint("serving_default", function, [images])
    with quiet_python():
        archive.write_out(os.fspath(path), verbose=False)
