"""Comparison of an artifact, under its own runtime, with its Keras model."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import time
from pathlib import Path

import numpy as np

from keras_resnet.comparison import EXACT, largest, ratio, spread_of
from keras_resnet.export.artifacts import size_and_sha256
from keras_resnet.export.checks import Precision, check_choice
from keras_resnet.export.comparison import changed_labels, changed_margins, signal_to_noise
from keras_resnet.export.output_comparison import OutputDifference, compare_outputs
from keras_resnet.export.reference import ACTIVATIONS, Reference, run_images
from keras_resnet.export.runtimes import Runtime, format_of, load
from keras_resnet.export.verification import Verification

_LATENCY_RUNS, _LEAST_RUNS = 30, 5
_LATENCY_SECONDS = 0.5


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
    runtime = load(path, features=tuple(reference.sections))
    images, expected = reference.images, reference.logits
    if tuple(runtime.input.shape[1:]) not in (
        (None,) * (images.ndim - 1),
        images.shape[1:],
    ):
        raise ValueError(
            f"{path.name} takes images of shape {runtime.input.shape[1:]}. "
            f"Received: images of shape {images.shape[1:]}"
        )
    logits = run_images(runtime, images, reference.preprocess)
    if logits.shape != expected.shape:
        raise ValueError(
            f"{path.name} returns logits {logits.shape}, the Keras model {expected.shape}"
        )
    rounded = None
    if precision == "float16":
        rounded = reference.rounded_outputs(runtime.input.mode, runtime.activation)
    spread = spread_of(expected)
    if runtime.activation != "none":
        squash, back = ACTIVATIONS[runtime.activation]
        expected = squash(expected)
        if runtime.integer:
            # Steps of 1/256 say nothing about the logits of unlikely classes.
            spread = spread_of(expected)
        else:
            logits, expected = back(logits), back(expected)
            rounded = None if rounded is None else back(rounded)
    with np.errstate(invalid="ignore"):  # of infinity minus infinity
        difference = np.abs(logits.astype("float64") - expected)
    if reference.several_labels:
        least = 0.5 if runtime.integer and runtime.activation != "none" else 0.0
        agreement, margins, decisions = changed_labels(logits, expected, least)
    else:
        agreement = float(np.mean(logits.argmax(1) == expected.argmax(1)))
        margins, decisions = changed_margins(logits, expected), len(images)
    relative, exact = ratio(float(difference.max()), spread), precision == "float32"
    ours, theirs = logits.argmax(1), expected.argmax(1)
    labels = reference.labels
    right, kept = (None, None) if labels is None else (ours == labels, theirs == labels)
    lost, gained = 0, 0
    if right is not None and kept is not None:
        lost, gained = int(np.sum(kept & ~right)), int(np.sum(right & ~kept))
    size, digest = size_and_sha256(path)
    verification = Verification(
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
        spread=spread,
        relative_difference=relative,
        conversion_difference=(
            None if rounded is None else ratio(largest(logits[: len(rounded)], rounded), spread)
        ),
        sensitivity=reference.sensitivity if relative > EXACT and exact else 0.0,
        signal_to_noise=signal_to_noise(logits, expected),
        agreement=agreement,
        changed_margins=tuple(ratio(float(margin), spread) for margin in margins),
        decisions=decisions,
        keras_accuracy=None if kept is None else float(kept.mean()),
        accuracy=None if right is None else float(right.mean()),
        lost=lost,
        gained=gained,
        operators=runtime.operators,
        latency_ms=_latency_ms(runtime, runtime.prepare(images[:1], reference.preprocess)),
        input=runtime.input,
        output_type=runtime.output_type,
        activation=runtime.activation,
    )
    if not reference.sections:
        return verification
    found = compare_outputs(logits, expected, rounded, reference.sections)
    return _of_outputs(verification, found, reference)


def _of_outputs(
    verification: Verification, found: tuple[OutputDifference, ...], reference: Reference
) -> Verification:
    """Returns a verification of outputs that are not logits: no classes, and the worst output."""
    worst = max(found, key=lambda each: each.relative_difference)
    exact = verification.precision == "float32" and worst.relative_difference > EXACT
    return dataclasses.replace(
        verification,
        max_difference=worst.max_difference,
        spread=worst.spread,
        relative_difference=worst.relative_difference,
        conversion_difference=max(
            (
                each.conversion_difference
                for each in found
                if each.conversion_difference is not None
            ),
            default=None,
        ),
        sensitivity=reference.sensitivity if exact else 0.0,
        signal_to_noise=min(each.signal_to_noise for each in found),
        agreement=math.nan,
        changed_margins=(),
        outputs=found,
    )


def _latency_ms(runtime: Runtime, image: np.ndarray) -> float:
    """Returns the median time for one image after three warm-up runs, milliseconds."""
    for _ in range(3):
        runtime.run(image)
    seconds: list[float] = []
    while len(seconds) < _LATENCY_RUNS and (
        len(seconds) < _LEAST_RUNS or sum(seconds) < _LATENCY_SECONDS
    ):
        start = time.perf_counter()
        runtime.run(image)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000
