"""What is done to images before a net sees them, and what its outputs mean.

`PreprocessSpec` is the data, `for_weights` finds that of published weights, and
`preprocess_input` and `decode_predictions` mean what keras.applications' mean.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal

import keras

from keras_resnet.preprocessing import Interpolation as Interpolation
from keras_resnet.preprocessing import PreprocessSpec as PreprocessSpec
from keras_resnet.weights.sources import find_source

__all__ = ["PreprocessSpec", "decode_predictions", "for_weights", "preprocess_input"]

# "caffe" is that of keras.applications' ResNet50, "tf" of its ResNet50V2, "torch" torchvision's.
Mode = Literal["caffe", "tf", "torch"]


def for_weights(name: str, net: str | None = None) -> PreprocessSpec:
    """Returns the preprocessing that published weights were evaluated with.

    Args:
        name: As `weights=` takes it: `"imagenet"`, `"torchvision/v2"`, `"akamaster"` ...; for a
            repository of the hub, `hf://owner/repository`, its config is downloaded.
        net: The net, where sources of that name differ: `"imagenet"` is caffe's for
            `"resnet50"` and -1..1 for `"resnet50v2"`.

    Raises:
        ValueError: If there are no such weights, or their publisher does not say it.
    """
    if name.startswith("hf://"):
        # The hub's part brings the downloader with it.
        found = importlib.import_module("keras_resnet.weights.pretrained").hub_preprocess(name)
        if found is None:
            raise ValueError(f"{name} does not say how it was evaluated")
        return found
    return find_source(name, net).preprocess


def preprocess_input(x: Any, data_format: str | None = None, mode: Mode = "caffe") -> Any:
    """Normalises images at the net's size as keras.applications does.

    Args:
        x: RGB images, `(..., height, width, channels)`, of 0..255.
        data_format: Of `x`; Keras's where None.
        mode: `"caffe"` for `weights="imagenet"` of the post-activation nets (to BGR, minus the
            means of ImageNet), `"tf"` for that of the V2 nets (-1..1), `"torch"` for torchvision's
            (0..1, then mean and standard deviation).

    Returns:
        Float images of the same shape.

    Raises:
        ValueError: If `mode` or `data_format` is unknown.
    """
    return keras.applications.imagenet_utils.preprocess_input(x, data_format=data_format, mode=mode)


def decode_predictions(predictions: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Names the likeliest of ImageNet's classes, as keras.applications does.

    The names are downloaded once, into Keras's cache.

    Args:
        predictions: Probabilities, `(batch, 1000)`.
        top: How many classes an image.

    Returns:
        For each image `(WordNet number, name, probability)` of each class, the likeliest first.

    Raises:
        ValueError: If there are not 1,000 classes.
    """
    return keras.applications.imagenet_utils.decode_predictions(predictions, top=top)
