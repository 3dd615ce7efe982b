"""Images and the logits of a Keras model for them, by which its files are verified."""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

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
from keras_resnet.export.checks import (
    Inputs,
    check_backend,
    check_classes,
    check_images,
    check_labels,
    image_shape,
)
from keras_resnet.export.comparison import log_odds, log_probabilities, sigmoid, softmax
from keras_resnet.export.interface import Activation
from keras_resnet.export.litert_file import export_tflite
from keras_resnet.export.net_outputs import named_outputs, outputs_of, sections
from keras_resnet.export.output_comparison import largest_relative
from keras_resnet.export.rounding import rounded_constants
from keras_resnet.export.runtime import joined
from keras_resnet.export.runtimes import Runtime, load
from keras_resnet.export.verification import Verification
from keras_resnet.preprocessing import PreprocessSpec
from keras_resnet.reparam import deploy

# Largest number of input values of one batch, which bounds the memory.
_BATCH_VALUES = 1_500_000
_SENSITIVITY_IMAGES = 32
# Images by which float16 files are held to float32 files with rounded constants: the two compute
# the same, so a few images show whether they are equal.
_ROUNDED_IMAGES = 32

# What an activation does to logits, and from there to numbers that compare as logits do.
ACTIVATIONS = {"softmax": (softmax, log_probabilities), "sigmoid": (sigmoid, log_odds)}


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
        several_labels: Whether an image may have several labels; then `labels` is None.

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
    several_labels: bool = False
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
        *,
        several_labels: bool = False,
    ) -> Reference:
        """Runs a model in inference on uint8 images.

        Args:
            model: Float32 model that maps normalised images to logits.
            images: uint8 RGB pixels, `(images, height, width, channels)`; without `preprocess`
                float32 values as the model takes them.
            labels: Class numbers, `(images,)`, or None to verify the agreement only.
            preprocess: Normalisation of the model's input; None if `images` are normalised.
            several_labels: Whether an image may have several labels. Files are then compared by
                the labels that they give, and `labels` must be None.

        Raises:
            RuntimeError: If Keras does not run on TensorFlow.
            TypeError: If images or labels have the wrong type.
            ValueError: If images, labels, preprocessing and model do not fit together.
        """
        check_backend()
        shape = image_shape(model, preprocess)
        check_images("images", images, shape, pixels=preprocess is not None)
        check_classes(model, labels=labels, several_labels=several_labels)
        if several_labels and labels is not None:
            raise ValueError(
                "`labels` are class numbers of nets of one label per image: give None with "
                f"`several_labels`. Received: labels of shape {np.shape(labels)}"
            )
        if labels is not None:
            check_labels(labels, len(images), model.outputs[0].shape[-1])
        forward = _forward(model)
        logits = in_batches(lambda batch: forward(_normalized(batch, preprocess)), images)
        outputs = outputs_of(model)
        parts = {} if outputs.logits else sections(outputs, _shapes(model, shape))
        return cls(images, labels, logits, preprocess, model, parts, several_labels)

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
            squash, back = ACTIVATIONS[activation]
            outputs, expected = back(outputs), back(squash(expected))
        difference = ratio(largest(outputs, expected), spread_of(self.logits))
        if self.sections:
            difference = largest_relative(outputs, self.logits, self.sections)
        if not difference <= max(EXACT, permitted_by(self.sensitivity)):
            raise ValueError(
                "The float32 file of the same model, by which float16 files are verified, "
                f"differs from the Keras model: {difference:.3g} of the spread of the logits. "
                "Rounding the input otherwise, by 2^-22 of each value, changes the model's own "
                f"logits by {self.sensitivity:.2g}"
            )

    def _first_outputs(self, path: Path) -> np.ndarray:
        runtime = load(path, features=tuple(self.sections))
        return run_images(runtime, self.images[:_ROUNDED_IMAGES], self.preprocess)


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


def run_images(
    runtime: Runtime, images: np.ndarray, preprocess: PreprocessSpec | None
) -> np.ndarray:
    """Returns an artifact's outputs for uint8 images."""
    return in_batches(lambda batch: runtime.run(runtime.prepare(batch, preprocess)), images)


def in_batches(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """Applies a function to images in batches of bounded size and concatenates the results."""
    size = max(1, min(128, _BATCH_VALUES // math.prod(images.shape[1:])))
    return np.concatenate(
        [function(images[start : start + size]) for start in range(0, len(images), size)]
    )
