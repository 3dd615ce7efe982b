"""Proof that an artefact computes what its Keras model computes, under the artefact's runtime."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.export.artifacts import size_and_sha256
from keras_resnet.export.checks import (
    Format,
    Precision,
    check_backend,
    check_choice,
    check_images,
    check_labels,
    image_shape,
)
from keras_resnet.export.runtimes import InputDescription, Runtime, format_of, load
from keras_resnet.preprocessing import PreprocessSpec

# Values of one batch of images: bounds the memory, whatever the images' size.
_BATCH_VALUES = 4_000_000
_LATENCY_RUNS = 30
_LATENCY_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Images, their labels and what the Keras model makes of them; serves several artefacts.

    Attributes:
        images: uint8 RGB pixels, `(images, height, width, channels)`.
        labels: Class numbers, `(images,)`.
        logits: The Keras model's, float32 `(images, classes)`.
        preprocess: The model's normalisation.
    """

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    preprocess: PreprocessSpec

    @classmethod
    def of(
        cls,
        model: keras.Model,
        images: np.ndarray,
        labels: np.ndarray,
        preprocess: PreprocessSpec,
    ) -> Reference:
        """Runs the model, in inference, on uint8 images.

        Raises:
            RuntimeError: If Keras does not run on TensorFlow.
            TypeError: If images or labels have the wrong type.
            ValueError: If images, labels, preprocessing and model do not fit together.
        """
        check_backend()
        check_images("images", images, image_shape(model, preprocess))
        check_labels(labels, len(images), model.outputs[0].shape[-1])
        import tensorflow as tf

        # Not `predict`: that goes by the model's compilation, XLA and replicas included.
        forward = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
        logits = in_batches(lambda batch: forward(preprocess.normalize(batch)).numpy(), images)
        return cls(images, labels, logits, preprocess)


@dataclasses.dataclass(frozen=True)
class Verification:
    """An artefact compared with its Keras model, both on the same uint8 images.

    Attributes:
        format: `"saved_model"`, `"tflite"` or `"onnx"`.
        precision: Of the artefact.
        file: Name of the file or directory.
        bytes: Its size; of a directory, that of all its files.
        sha256: Of the file; of a directory, of its files' relative paths and contents in order.
        images: Number of images compared.
        non_finite: Logits that are NaN or infinite, on either side.
        max_difference: Largest absolute difference of a logit (dequantised); NaN where one is.
        mean_difference: Mean absolute difference.
        max_logit: Largest absolute logit of the Keras model: what the differences compare to.
        agreement: Share of images on which both have the same largest logit, the first of equals.
        keras_accuracy: Share of images on which the Keras model's largest logit is the label's.
        accuracy: The same of the artefact.
        operators: How often each operator occurs.
        latency_ms: Median milliseconds for one image at batch 1, on this machine.
        input: What the artefact takes.
    """

    format: Format
    precision: Precision
    file: str
    bytes: int
    sha256: str
    images: int
    non_finite: int
    max_difference: float
    mean_difference: float
    max_logit: float
    agreement: float
    keras_accuracy: float
    accuracy: float
    operators: dict[str, int]
    latency_ms: float
    input: InputDescription

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values; NaN, which JSON lacks, becomes None."""
        values = dataclasses.asdict(self)
        values["input"]["shape"] = list(self.input.shape)
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in values.items()
        }


def verify(
    path: str | os.PathLike[str], reference: Reference, *, precision: Precision = "float32"
) -> Verification:
    """Runs an artefact under its own runtime and compares it with the Keras model.

    SavedModels run under `tf.saved_model.load`, LiteRT files under `ai_edge_litert`'s interpreter,
    ONNX files under ONNX Runtime.
    Whether the artefact takes pixels or normalised values is read from its signature.

    Args:
        path: A SavedModel directory, or a `.tflite` or `.onnx` file.
        reference: Images, labels and the Keras model's logits: `Reference.of(model, ...)`.
        precision: What the artefact was exported in.

    Returns:
        The comparison. It judges nothing: see `Limits.failures`.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If it does not run, or takes or returns other shapes than the Keras model.
    """
    check_choice("precision", precision, Precision)
    path = Path(path)
    runtime = load(path)
    images, expected = reference.images, reference.logits
    if tuple(runtime.input.shape[1:]) not in ((None,) * 3, images.shape[1:]):
        raise ValueError(
            f"{path.name} takes images of shape {runtime.input.shape[1:]}. "
            f"Received: images of shape {images.shape[1:]}"
        )
    logits = in_batches(lambda batch: runtime.run(_prepared(runtime, batch, reference)), images)
    if logits.shape != expected.shape:
        raise ValueError(
            f"{path.name} returns logits {logits.shape}, the Keras model {expected.shape}"
        )
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        difference = np.abs(logits.astype("float64") - expected)
    size, digest = size_and_sha256(path)
    return Verification(
        format=format_of(path),
        precision=precision,
        file=path.name,
        bytes=size,
        sha256=digest,
        images=len(images),
        non_finite=int(np.sum(~np.isfinite(logits)) + np.sum(~np.isfinite(expected))),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        max_logit=float(np.abs(expected).max()),
        agreement=float(np.mean(logits.argmax(1) == expected.argmax(1))),
        keras_accuracy=float(np.mean(expected.argmax(1) == reference.labels)),
        accuracy=float(np.mean(logits.argmax(1) == reference.labels)),
        operators=runtime.operators,
        latency_ms=_latency_ms(runtime, _prepared(runtime, images[:1], reference)),
        input=runtime.input,
    )


def in_batches(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Applies a function to images in batches of bounded memory and joins what it returns."""
    size = max(1, min(128, _BATCH_VALUES // math.prod(images.shape[1:])))
    return np.concatenate(
        [function(images[start : start + size]) for start in range(0, len(images), size)]
    )


def _prepared(runtime: Runtime, images: np.ndarray, reference: Reference) -> np.ndarray:
    return runtime.prepare(images, reference.preprocess)


def _latency_ms(runtime: Runtime, image: np.ndarray) -> float:
    """Returns the median time of one image, after three that warm up."""
    for _ in range(3):
        runtime.run(image)
    seconds: list[float] = []
    while len(seconds) < _LATENCY_RUNS and sum(seconds) < _LATENCY_SECONDS:
        start = time.perf_counter()
        runtime.run(image)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000
