"""A net to evaluate, with its preprocessing and classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec, ResNetSpec

from ..data import Listing
from ..data.decoding import Decoding
from ..rundir import Run

LogProbabilities = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """A net to evaluate, with its preprocessing and classes.

    Attributes:
        name: Name that the user gave.
        spec: Its spec.
        preprocess: Its preprocessing.
        model: Returns logits, `(batch, classes)`.
        weights: Description of its weights.
        class_names: Names of its outputs, in order; None if unknown.
        run: The run that it comes from, or None.
        notes: What was assumed, for the user.
    """

    name: str
    spec: ResNetSpec
    preprocess: PreprocessSpec
    model: Any
    weights: str
    class_names: tuple[str, ...] | None = None
    run: Run | None = None
    notes: tuple[str, ...] = ()

    @property
    def decoding(self) -> Decoding:
        """How image files become pixels: as in the run's training."""
        if self.run is None:
            return Decoding(scaled=True)
        return Decoding.of(self.run.config.data)

    @property
    def listing(self) -> Listing | None:
        """The files of each split of the run that it comes from; None if unknown."""
        return None if self.run is None else self.run.directory.listing

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels: each output is then a label of its own."""
        return self.run is not None and self.run.config.data.task == "multilabel"

    @property
    def thresholds(self) -> np.ndarray:
        """Probability of each output above which an image has that label.

        They were chosen on the run's validation images; 1/2 where there were none.
        """
        metrics = {} if self.run is None else self.run.directory.metrics
        for split in ("validation", "test"):
            stored = metrics.get(split, {}).get("thresholds")
            if stored is not None and len(stored) == self.classes:
                return np.asarray(stored, "float64")
        return np.full(self.classes, 0.5)

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return int(self.model.inputs[0].shape[-1])

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return int(self.model.outputs[0].shape[-1])

    @property
    def input_size(self) -> tuple[int | None, int | None]:
        """Height and width of the input, pixels; None where any is taken."""
        height, width = self.model.inputs[0].shape[1:3]
        return height, width

    def compiled(self) -> LogProbabilities:
        """Returns the function that computes predictions.

        It takes uint8 images `(batch, height, width, channels)` and returns float64 logarithms of
        probabilities, `(batch, classes)`.
        """
        import tensorflow as tf

        def log_probabilities(images: Any) -> Any:
            logits = self.model(self.preprocess.normalize(images), training=False)
            logits = tf.cast(logits, tf.float64)
            return tf.math.log_sigmoid(logits) if self.multilabel else tf.nn.log_softmax(logits)

        shape = (None, *self.input_size, self.channels)
        run = tf.function(log_probabilities, input_signature=[tf.TensorSpec(shape, tf.uint8)])
        return lambda images: run(images).numpy()

    def __str__(self) -> str:
        """Returns a description of the net and its weights."""
        return f"{self.spec.name} ({self.weights})"
