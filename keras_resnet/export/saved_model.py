"""SavedModel: what TensorFlow Serving and `tf.saved_model.load` read."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.export.checks import (
    INPUT_NAMES,
    Inputs,
    check_backend,
    check_choice,
    check_class_names,
    check_model,
    image_shape,
)
from keras_resnet.preprocessing import PreprocessSpec


def export_saved_model(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    preprocess: PreprocessSpec,
    inputs: Inputs = "raw",
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes a SavedModel whose one signature, `serving_default`, says what it takes.

    | `inputs` | input tensor | values |
    | --- | --- | --- |
    | `"raw"` | `images_uint8`, uint8 `(batch, height, width, channels)` | RGB pixels 0..255 |
    | `"normalized"` | `images_normalized`, float32, same shape | `preprocess.normalize(pixels)` |

    Outputs: `logits` and `probabilities`, float32 `(batch, classes)`. Resizing and cropping are
    the caller's in both modes. Nothing is compared here: see `verify` and `export`.

    Args:
        model: Float32 model that maps normalised images to logits.
        path: Directory to write.
        preprocess: Size and normalisation.
        inputs: Whether the normalisation is part of the artefact.
        class_names: Written to `assets.extra/labels.txt`, where TensorFlow Serving looks for
            files that are no part of the graph.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        ValueError: If model, preprocessing or names do not fit together.
    """
    check_backend()
    check_choice("inputs", inputs, Inputs)
    check_model(model)
    check_class_names(class_names, model.outputs[0].shape[-1])
    shape = image_shape(model, preprocess)

    def serve(images: Any) -> dict[str, Any]:
        x = normalize_in_graph(images, preprocess) if inputs == "raw" else images
        logits = model(x, training=False)
        return {"logits": logits, "probabilities": keras.ops.softmax(logits)}

    dtype = "uint8" if inputs == "raw" else "float32"
    write_signature(serve, path, name=INPUT_NAMES[inputs], shape=shape, dtype=dtype)
    if class_names is not None:
        extra = Path(path, "assets.extra")
        extra.mkdir()
        (extra / "labels.txt").write_text("".join(f"{name}\n" for name in class_names))


def normalize_in_graph(images: Any, preprocess: PreprocessSpec) -> Any:
    """Returns `preprocess.normalize(images)` of TensorFlow tensors, in operators that convert well.

    The channels are reversed by a slice, not by `ops.flip`: of that the LiteRT 2.3 converter
    makes a REVERSE_V2 which in int8 files returned wrong values (measured: logits off by their
    own size), while STRIDED_SLICE is exact.
    """
    if preprocess.channel_order == "bgr":
        images = images[..., ::-1]
        preprocess = dataclasses.replace(preprocess, channel_order="rgb")
    return preprocess.normalize(images)


def write_signature(
    function: Callable[[Any], dict[str, Any]],
    path: str | os.PathLike[str],
    *,
    name: str,
    shape: tuple[int, int, int],
    dtype: str,
) -> None:
    """Writes a function of images as the `serving_default` signature of a SavedModel.

    Args:
        function: From images to named outputs.
        path: Directory to write.
        name: Name of the input in the signature.
        shape: `(height, width, channels)`; the batch stays open.
        dtype: Of the input.
    """
    import tensorflow as tf

    # `keras.export.ExportArchive`, not `tf.saved_model.save` on the model: it saves the forward
    # pass and the variables that this uses, and nothing of Keras's own object graph.
    archive = keras.export.ExportArchive()
    archive.add_endpoint(
        "serving_default", function, [tf.TensorSpec((None, *shape), dtype, name=name)]
    )
    archive.write_out(os.fspath(path), verbose=False)
