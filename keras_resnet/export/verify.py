"""Comparison of an artifact, under its own runtime, with its Keras model."""

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

# Largest number of input values of one batch, which bounds the memory.
_BATCH_VALUES = 4_000_000
_LATENCY_RUNS = 30
_LATENCY_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Images, their labels and the Keras model's logits, to verify any number of artifacts.

    Attributes:
        images: uint8 RGB pixels, `(images, height, width, channels)`.
        labels: Class numbers, `(images,)`.
        logits: Logits of the Keras model, float32 `(images, classes)`.
        preprocess: Normalisation of the model's input.

    Example:
        ```python
        reference = keras_resnet.export.Reference.of(model, pixels, labels, preprocess)
        keras_resnet.export.verify("model.tflite", reference)
        ```
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
        """Runs a model in inference on uint8 images.

        Args:
            model: Float32 model that maps normalised images to logits.
            images: uint8 RGB pixels, `(images, height, width, channels)`.
            labels: Class numbers, `(images,)`.
            preprocess: Normalisation of the model's input.

        Raises:
            RuntimeError: If Keras does not run on TensorFlow.
            TypeError: If images or labels have the wrong type.
            ValueError: If images, labels, preprocessing and model do not fit together.
        """
        check_backend()
        check_images("images", images, image_shape(model, preprocess))
        check_labels(labels, len(images), model.outputs[0].shape[-1])
        import tensorflow as tf

        # `predict` would use the settings that the model was compiled with, such as XLA.
        forward = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
        logits = in_batches(lambda batch: forward(preprocess.normalize(batch)).numpy(), images)
        return cls(images, labels, logits, preprocess)


@dataclasses.dataclass(frozen=True)
class Verification:
    """The comparison of an artifact with its Keras model on the same uint8 images.

    Attributes:
        format: `"saved_model"`, `"tflite"` or `"onnx"`.
        precision: `"float32"`, `"float16"` or `"int8"`.
        file: Name of the file or directory.
        bytes: Size of the file, or of all files of the directory.
        sha256: SHA-256 of the file; of a directory, of its files' relative paths and contents.
        images: Number of images compared.
        non_finite: Number of logits that are NaN or infinite, on either side.
        max_difference: Largest absolute difference of a (dequantised) logit; NaN if one is NaN.
        mean_difference: Mean absolute difference of the logits.
        max_logit: Largest absolute logit of the Keras model.
        agreement: Share of images with the same top-1 class; of equal logits the first counts.
        keras_accuracy: Top-1 accuracy of the Keras model, 0..1.
        accuracy: Top-1 accuracy of the artifact, 0..1.
        operators: Number of occurrences of each operator.
        latency_ms: Median time for one image at batch size 1 on this machine, milliseconds.
        input: The artifact's input.

    Example:
        ```python
        verification = keras_resnet.export.verify("model.tflite", reference)
        print(verification.agreement, verification.bytes, verification.latency_ms)
        ```
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
        """Returns values for JSON; NaN and infinity, which JSON does not have, become None."""
        values = dataclasses.asdict(self)
        values["input"]["shape"] = list(self.input.shape)
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in values.items()
        }


def verify(
    path: str | os.PathLike[str], reference: Reference, *, precision: Precision = "float32"
) -> Verification:
    """Runs an artifact under its own runtime and compares it with the Keras model.

    SavedModels run under `tf.saved_model.load`, LiteRT files under `ai_edge_litert`'s interpreter,
    ONNX files under ONNX Runtime. The artifact's signature says whether it takes pixels or
    normalised values.

    Args:
        path: A SavedModel directory, or a `.tflite` or `.onnx` file.
        reference: Images, labels and the Keras model's logits: `Reference.of(model, ...)`.
        precision: Precision of the artifact.

    Returns:
        The measurements. `Limits.failures` decides whether they are good enough.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If the artifact cannot be loaded, or its input or output shape differs from
            the Keras model's.

    Example:
        ```python
        reference = keras_resnet.export.Reference.of(model, pixels, labels, preprocess)
        verification = keras_resnet.export.verify("model.tflite", reference)
        print(verification.max_difference, keras_resnet.export.Limits().failures(verification))
        ```
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
    logits = in_batches(
        lambda batch: runtime.run(runtime.prepare(batch, reference.preprocess)), images
    )
    if logits.shape != expected.shape:
        raise ValueError(
            f"{path.name} returns logits {logits.shape}, the Keras model {expected.shape}"
        )
    with np.errstate(invalid="ignore"):  # of infinity minus infinity
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
        latency_ms=_latency_ms(runtime, runtime.prepare(images[:1], reference.preprocess)),
        input=runtime.input,
    )


def in_batches(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Applies a function to images in batches of bounded size and concatenates the results."""
    size = max(1, min(128, _BATCH_VALUES // math.prod(images.shape[1:])))
    return np.concatenate(
        [function(images[start : start + size]) for start in range(0, len(images), size)]
    )


def _latency_ms(runtime: Runtime, image: np.ndarray) -> float:
    """Returns the median time for one image after three warm-up runs, milliseconds."""
    for _ in range(3):
        runtime.run(image)
    seconds: list[float] = []
    while len(seconds) < _LATENCY_RUNS and sum(seconds) < _LATENCY_SECONDS:
        start = time.perf_counter()
        runtime.run(image)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000
