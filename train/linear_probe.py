"""Training of the classifier alone on features that are computed once."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_resnet import PreprocessSpec
from keras_resnet.nets.named_weights import classifier_of

from .config import RunConfig
from .data import ImageData, Share, Source, evaluation_batches
from .data.images import normalize
from .data.sources import IN_MEMORY, ArraySource, StreamSource

# Fields of the augmentation, with the values that leave images as they are.
_INACTIVE = {
    "crop": ("none",),
    "flip": (False,),
    "policy": ("none",),
    "mixup": (0,),
    "cutmix": (0,),
    "erasing": (0,),
    "color_jitter": (0, None, ()),
    "pca_noise": (0,),
    "repeats": (1,),
    "start_size": (None,),
    "train_size": (None,),
}


def why_not_cached(config: RunConfig, data: ImageData, features: int) -> str:
    """Returns why features cannot be computed once, or "".

    Args:
        config: A run that trains the classifier only.
        data: Its images.
        features: Numbers in the features of an image.
    """
    changing = [
        f"augment.{name}={getattr(config.augment, name)}"
        for name, inactive in _INACTIVE.items()
        if getattr(config.augment, name, inactive[0]) not in inactive
    ]
    drops = [
        f"model.spec.{name}={value}"
        for name, value in config.model.spec.items()
        if name in ("stochastic_depth", "shortcut_dropout", "head_dropout") and value
    ]
    if changing or drops:
        return f"they differ from epoch to epoch ({', '.join(changing + drops)})"
    parts = [part for part in (data.train, data.validation, data.test) if part is not None]
    size = 4 * features * sum(len(part) for part in parts)
    if size > IN_MEMORY:
        return f"they take {size / 2**30:.1f} GiB, more than {IN_MEMORY / 2**30:.0f}"
    return ""


class LinearProbe:
    """The classifier of a net as a model of its own, which takes features as images of one pixel.

    It shares the classifier's variables with the net. Order, batches and evaluation are those of
    any other run.

    Args:
        model: The net, whose last layer but the classifier returns `(batch, features)`.

    Attributes:
        head: The model; its input is `(batch, 1, 1, features)`.
        preprocess: The preprocessing of features: none.
    """

    preprocess = PreprocessSpec((1, 1))

    def __init__(self, model: Any) -> None:
        layer = classifier_of(model)
        if layer is None or layer.output is not model.output:
            raise ValueError(f"{model.name!r} does not end in its classifier")
        self._body = keras.Model(model.inputs, layer.input)
        inputs = keras.Input((1, 1, self.features_of(model)), name="features")
        self.head = keras.Model(inputs, layer(keras.layers.Flatten()(inputs)))

    @staticmethod
    def features_of(model: Any) -> int:
        """Returns the number of features of an image."""
        layer: Any = classifier_of(model)
        return int(layer.input.shape[-1])

    def data_of(self, data: ImageData, preprocess: PreprocessSpec) -> ImageData:
        """Returns the data set with features in place of images."""
        return dataclasses.replace(
            data,
            channels=int(self.head.inputs[0].shape[-1]),
            train=self._features(data.train, preprocess, data.channels),
            validation=data.validation
            and self._features(data.validation, preprocess, data.channels),
            test=data.test and self._features(data.test, preprocess, data.channels),
        )

    def _features(self, source: Source, preprocess: PreprocessSpec, channels: int) -> ArraySource:
        import tensorflow as tf

        if not len(source):
            return ArraySource(np.zeros((0, 1, 1, 1), "float32"), np.zeros(0, "int64"))

        def run_body(images: Any) -> Any:
            images = normalize(images, preprocess)
            return tf.cast(self._body(images, training=False), tf.float32)

        run = tf.function(run_body)
        features, labels = [], []
        for images, label, weights in evaluation_batches(
            source, preprocess, channels, Share(min(256, len(source))), raw=True
        ):
            real = weights.numpy() > 0
            features.append(run(images).numpy()[real])
            labels.append(label.numpy()[real])
        return ArraySource(
            np.concatenate(features)[:, None, None, :],
            np.concatenate(labels),
            balanced=not isinstance(source, StreamSource) and source.balanced,
        )
