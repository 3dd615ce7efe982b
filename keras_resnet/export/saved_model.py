"""SavedModels for TensorFlow Serving and `tf.saved_model.load`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from keras_resnet.export.checks import INPUT_NAMES, Inputs, check_class_names, check_export
from keras_resnet.export.quiet import quiet_python
from keras_resnet.nets.tensor import Tensor
from keras_resnet.preprocessing import PreprocessSpec


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    preprocess: PreprocessSpec,
    inputs: Inputs = "raw",
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a SavedModel with one signature, `serving_default`.

    | `inputs` | input tensor | values |
    | --- | --- | --- |
    | `"raw"` | `images_uint8`, uint8 `(batch, height, width, channels)` | RGB pixels 0..255 |
    | `"normalized"` | `images_normalized`, float32, same shape | `preprocess.normalize(pixels)` |

    Outputs: `logits` and `probabilities`, float32 `(batch, classes)`. In both modes the caller
    resizes and crops. This function does not compare the file with the model: see `verify` and
    `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: Directory to write.
        preprocess: Size and normalisation.
        inputs: `"raw"` to include the normalisation in the artifact, or `"normalized"`.
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
    shape = check_export(model, preprocess, inputs)
    check_class_names(class_names, model.outputs[0].shape[-1])

    def serve(images: Tensor) -> dict[str, Tensor]:
        logits = model(normalized_input(images, preprocess, inputs), training=False)
        return {"logits": logits, "probabilities": keras.ops.softmax(logits)}

    write_signature(serve, path, INPUT_NAMES[inputs], shape, input_dtype(inputs))
    if class_names is not None:
        extra = Path(path, "assets.extra")
        extra.mkdir()
        labels = "".join(f"{name}\n" for name in class_names)
        (extra / "labels.txt").write_text(labels, encoding="utf-8", newline="\n")


def input_dtype(inputs: Inputs) -> str:
    """Returns the dtype of the input of a float artifact."""
    return "uint8" if inputs == "raw" else "float32"


def normalized_input(images: Tensor, preprocess: PreprocessSpec, inputs: Inputs) -> Tensor:
    """Returns an artifact's input as the network takes it: normalised by the graph if raw.

    The result equals `preprocess.normalize(images)`. The channels are reversed by a slice, which
    converts to an exact STRIDED_SLICE. The LiteRT 2.3 converter turns `ops.flip` into a REVERSE_V2
    that returned wrong values in int8 files (the logits were off by their own size).
    """
    if inputs == "normalized":
        return images
    if preprocess.channel_order == "bgr":
        images = images[..., ::-1]
        preprocess = dataclasses.replace(preprocess, channel_order="rgb")
    return preprocess.normalize(images)


def write_signature(
    function: Callable[[Tensor], dict[str, Tensor]],
    path: str | os.PathLike[str],
    name: str,
    shape: tuple[int, int, int],
    dtype: str,
) -> None:
    """Writes a function of images as the `serving_default` signature of a SavedModel.

    Args:
        function: Maps images to named outputs.
        path: Directory to write.
        name: Name of the input in the signature.
        shape: `(height, width, channels)`; the batch size stays open.
        dtype: Dtype of the input.
    """
    import tensorflow as tf

    # `keras.export.ExportArchive` saves the forward pass and its variables. `tf.saved_model.save`
    # would save Keras's object graph too.
    archive = keras.export.ExportArchive()
    archive.add_endpoint(
        "serving_default", function, [tf.TensorSpec((None, *shape), dtype, name=name)]
    )
    with quiet_python():
        archive.write_out(os.fspath(path), verbose=False)
