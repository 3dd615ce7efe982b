"""Comparison of an artifact, under its own runtime, with its Keras model."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet.comparison import (
    EXACT,
    largest,
    permitted_by,
    ratio,
    rounded_anew,
    spread_of,
)
from keras_resnet.export.artifacts import size_and_sha256
from keras_resnet.export.checks import (
    Format,
    Inputs,
    Precision,
    check_backend,
    check_choice,
    check_classes,
    check_images,
    check_labels,
    image_shape,
)
from keras_resnet.export.comparison import (
    changed_margins,
    log_odds,
    log_probabilities,
    sigmoid,
    signal_to_noise,
    softmax,
)
from keras_resnet.export.interface import Activation
from keras_resnet.export.litert_file import export_tflite
from keras_resnet.export.net_outputs import named_outputs, outputs_of, sections
from keras_resnet.export.output_comparison import (
    OutputDifference,
    compare_outputs,
    largest_relative,
)
from keras_resnet.export.rounding import rounded_constants
from keras_resnet.export.runtime import joined
from keras_resnet.export.runtimes import InputDescription, Runtime, format_of, load
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.reparam import deploy

# Largest number of input values of one batch, which bounds the memory.
_BATCH_VALUES = 4_000_000
_SENSITIVITY_IMAGES = 32
# Images by which float16 files are held to float32 files with rounded constants: the two compute
# the same, so a few images show whether they are equal.
_ROUNDED_IMAGES = 32
_LATENCY_RUNS = 30
_LATENCY_SECONDS = 2.0

_Kind = tuple[Inputs, Activation]


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Images, their labels and the Keras model's logits, to verify any number of artifacts.

    Attributes:
        images: uint8 RGB pixels, `(images, height, width, channels)`; without `preprocess` float32
            values as the model takes them, also signals and volumes.
        labels: Class numbers, `(images,)`; None where they are unknown.
        logits: Logits of the Keras model, float32 `(images, classes)`; of other outputs, all values
            of an image in a row.
        preprocess: Normalisation of the model's input; or None.
        model: The Keras model, by which float16 files are verified; or None.
        sections: Where the values of each output are in a row of `logits`; empty for logits.

    Example:
        ```python
        reference = keras_resnet.export.Reference.of(model, pixels, labels, preprocess)
        keras_resnet.export.verify("model.tflite", reference)
        ```
    """

    images: np.ndarray
    labels: np.ndarray | None
    logits: np.ndarray
    preprocess: PreprocessSpec | None
    model: keras.Model | None = None
    sections: Mapping[str, slice] = dataclasses.field(default_factory=dict)
    _exact: dict[_Kind, Path] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _rounded: dict[_Kind, np.ndarray] = dataclasses.field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def of(
        cls,
        model: keras.Model,
        images: np.ndarray,
        labels: np.ndarray | None,
        preprocess: PreprocessSpec | None,
    ) -> Reference:
        """Runs a model in inference on uint8 images.

        Args:
            model: Float32 model that maps normalised images to logits.
            images: uint8 RGB pixels, `(images, height, width, channels)`; without `preprocess`
                float32 values as the model takes them.
            labels: Class numbers, `(images,)`, or None to verify the agreement only.
            preprocess: Normalisation of the model's input; None if `images` are normalised.

        Raises:
            RuntimeError: If Keras does not run on TensorFlow.
            TypeError: If images or labels have the wrong type.
            ValueError: If images, labels, preprocessing and model do not fit together.
        """
        check_backend()
        shape = image_shape(model, preprocess)
        check_images("images", images, shape, pixels=preprocess is not None)
        check_classes(model, labels=labels)
        if labels is not None:
            check_labels(labels, len(images), model.outputs[0].shape[-1])
        forward = _forward(model)
        logits = in_batches(lambda batch: forward(_normalized(batch, preprocess)), images)
        outputs = outputs_of(model)
        parts = {} if outputs.logits else sections(outputs, _shapes(model, shape))
        return cls(images, labels, logits, preprocess, model, parts)

    @functools.cached_property
    def sensitivity(self) -> float:
        """Largest change of a logit when the input is rounded otherwise, relative to the spread.

        Nets that amplify rounding (fresh nets with squeeze-and-excitation, by 1e-4 of the spread)
        have logits that no two float32 computations agree on. At most 32 images are used.
        """
        if self.model is None:
            return 0.0
        inputs = _normalized(self.images[:_SENSITIVITY_IMAGES], self.preprocess)
        logits = _forward(self.model)(rounded_anew(inputs))
        return largest_relative(logits, self.logits, self.sections)

    def keep_exact(self, path: Path, verification: Verification) -> None:
        """Keeps the place of a right float32 LiteRT file, by which float16 files are verified."""
        if verification.format == "tflite" and verification.precision == "float32":
            self._exact[verification.input.mode, verification.activation] = path

    def rounded_outputs(self, inputs: Inputs, activation: Activation) -> np.ndarray | None:
        """Returns the outputs of the model's float32 LiteRT file with constants as float16.

        The float32 file is a right one that `keep_exact` was told of, or is written anew and held
        to the model, so the outputs are the model's but for the rounding.

        Args:
            inputs: What the file takes: pixels, with the normalisation's constants rounded too, or
                normalised values.
            activation: Whether it returns logits or probabilities.

        Returns:
            The outputs for the first 32 images; None without a model.

        Raises:
            ValueError: If the float32 file differs from the model.
        """
        if self.model is None:
            return None
        kind = (inputs, activation)
        if kind not in self._rounded:
            exact = self._exact.get(kind)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "float32.tflite")
                if exact is None:
                    self._write_exact(self.model, path, inputs, activation)
                path.write_bytes(rounded_constants((exact or path).read_bytes()))
                self._rounded[kind] = self._first_outputs(path)
        return self._rounded[kind]

    def _write_exact(
        self, model: keras.Model, path: Path, inputs: Inputs, activation: Activation
    ) -> None:
        """Writes a float32 file of the model and checks that it is right."""
        export_tflite(
            deploy(model),
            path,
            precision="float32",
            preprocess=self.preprocess,
            inputs=inputs,
            activation=activation,
        )
        outputs = self._first_outputs(path)
        expected = self.logits[: len(outputs)]
        if activation != "none":
            squash, back = _ACTIVATIONS[activation]
            outputs, expected = back(outputs), back(squash(expected))
        difference = ratio(largest(outputs, expected), spread_of(self.logits))
        if self.sections:
            difference = largest_relative(outputs, self.logits, self.sections)
        if not difference <= max(EXACT, permitted_by(self.sensitivity)):
            raise ValueError(
                "The float32 file of the same model, by which float16 files are verified, "
                f"differs from the Keras model: {difference:.3g} of the spread of the logits"
            )

    def _first_outputs(self, path: Path) -> np.ndarray:
        runtime = load(path, features=tuple(self.sections))
        return _run(runtime, self.images[:_ROUNDED_IMAGES], self.preprocess)


@dataclasses.dataclass(frozen=True)
class Verification:
    """The comparison of an artifact with its Keras model on the same uint8 images.

    Attributes:
        format: `"saved_model"`, `"tflite"` or `"onnx"`.
        precision: One of `keras_resnet.export.checks.Precision`.
        file: Name of the file or directory.
        bytes: Size of the file, or of all files of the directory.
        sha256: SHA-256 of the file; of a directory, of its files' relative paths and contents.
        images: Number of images compared.
        non_finite: Number of logits that are NaN or infinite, on either side.
        max_difference: Largest absolute difference of a (dequantised) logit; NaN if one is NaN.
            Where the file returns probabilities: of their logarithms or log odds, above 1e-6; of
            int8 files, of the probabilities.
        mean_difference: Mean absolute difference of the logits.
        max_logit: Largest absolute logit of the Keras model.
        spread: Standard deviation of the Keras model's logits over the classes, or 1/16 of
            `max_logit` if that is more.
        relative_difference: `max_difference / spread`.
        conversion_difference: For float16: largest difference from the same model with constants
            rounded to float16, relative to `spread`, on the first 32 images; otherwise None.
        sensitivity: Change of the Keras model's logits when its input is rounded otherwise,
            relative to `spread`; 0 where `relative_difference` is too small for it to matter.
        signal_to_noise: Signal-to-noise ratio of the logits, dB; infinite where they are equal.
        agreement: Share of images with the same top-1 class; of equal logits the first counts. NaN
            if the outputs are not logits.
        changed_margins: Margins of the Keras model between its class and the artifact's, for the
            images where they differ, relative to `spread`, largest first.
        keras_accuracy: Top-1 accuracy of the Keras model, 0..1; None without labels.
        accuracy: Top-1 accuracy of the artifact, 0..1; None without labels.
        lost: Number of images that only the Keras model classifies correctly.
        gained: Number of images that only the artifact classifies correctly.
        operators: Number of occurrences of each operator.
        latency_ms: Median time for one image at batch size 1 on this machine, milliseconds.
        input: The artifact's input.
        output_type: Type of the artifact's output.
        activation: `"none"` for logits, `"softmax"` or `"sigmoid"` for probabilities.
        outputs: The difference of each output that does not hold logits. Those of the fields above
            that concern logits are then the worst output's.

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
    spread: float
    relative_difference: float
    conversion_difference: float | None
    sensitivity: float
    signal_to_noise: float
    agreement: float
    changed_margins: tuple[float, ...]
    keras_accuracy: float | None
    accuracy: float | None
    lost: int
    gained: int
    operators: dict[str, int]
    latency_ms: float
    input: InputDescription
    output_type: str = "float32"
    activation: Activation = "none"
    outputs: tuple[OutputDifference, ...] = ()

    @property
    def accuracy_drop(self) -> float | None:
        """Loss of top-1 accuracy, 0..1; None without labels."""
        if self.accuracy is None or self.keras_accuracy is None:
            return None
        return self.keras_accuracy - self.accuracy

    @property
    def largest_changed_margin(self) -> float:
        """Largest of `changed_margins`; 0 if no class changed."""
        return max(self.changed_margins, default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Returns values for JSON; NaN and infinity, which JSON does not have, become None."""
        values = dataclasses.asdict(self)
        values["changed"] = len(values.pop("changed_margins"))
        values["largest_changed_margin"] = self.largest_changed_margin
        values["input"]["shape"] = list(self.input.shape)
        values["outputs"] = [_finite(each) for each in values["outputs"]]
        if not values["outputs"]:
            del values["outputs"]
        return _finite(values)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


# What an activation does to logits, and from there to numbers that compare as logits do.
_ACTIVATIONS = {"softmax": (softmax, log_probabilities), "sigmoid": (sigmoid, log_odds)}


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
    logits = _run(runtime, images, reference.preprocess)
    if logits.shape != expected.shape:
        raise ValueError(
            f"{path.name} returns logits {logits.shape}, the Keras model {expected.shape}"
        )
    rounded = None
    if precision == "float16":
        rounded = reference.rounded_outputs(runtime.input.mode, runtime.activation)
    spread = spread_of(expected)
    if runtime.activation != "none":
        squash, back = _ACTIVATIONS[runtime.activation]
        expected = squash(expected)
        if runtime.integer:
            # Steps of 1/256 say nothing about the logits of unlikely classes.
            spread = spread_of(expected)
        else:
            logits, expected = back(logits), back(expected)
            rounded = None if rounded is None else back(rounded)
    with np.errstate(invalid="ignore"):  # of infinity minus infinity
        difference = np.abs(logits.astype("float64") - expected)
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
        agreement=float(np.mean(ours == theirs)),
        changed_margins=tuple(
            ratio(float(margin), spread) for margin in changed_margins(logits, expected)
        ),
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


def _normalized(images: np.ndarray, preprocess: PreprocessSpec | None) -> np.ndarray:
    return images if preprocess is None else preprocess.normalize(images)


def _shapes(model: keras.Model, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Returns the shapes of a model's outputs for one input of a shape, without the batch."""
    result = model.compute_output_spec(keras.KerasTensor((1, *shape)))
    return [tuple(each.shape[1:]) for each in named_outputs(model, result).values()]


def _forward(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function from normalised images to a model's logits."""
    import tensorflow as tf

    # `predict` would use the settings that the model was compiled with, such as XLA.
    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), "float32")
    graph = tf.function(lambda x: model(x, training=False), input_signature=[spec])
    features = outputs_of(model).features
    if not features:
        return lambda inputs: np.asarray(graph(inputs))

    def values(inputs: np.ndarray) -> np.ndarray:
        named = named_outputs(model, graph(inputs))
        return joined([np.asarray(named[name]) for name in features], features)

    return values


def _run(runtime: Runtime, images: np.ndarray, preprocess: PreprocessSpec | None) -> np.ndarray:
    """Returns an artifact's outputs for uint8 images."""
    return in_batches(lambda batch: runtime.run(runtime.prepare(batch, preprocess)), images)


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
