"""The functions of `keras.applications.imagenet_utils` for ImageNet images and predictions."""

from __future__ import annotations

from typing import Any, Literal

import keras

from keras_resnet.nets.tensor import Tensor

__all__ = ["decode_predictions", "preprocess_input"]

# "caffe" is the mode of keras.applications' ResNet50, "tf" of ResNet50V2, "torch" of torchvision.
Mode = Literal["caffe", "tf", "torch"]


def preprocess_input(x: Tensor, data_format: str | None = None, mode: Mode = "caffe") -> Any:
    """Normalises images of the net's size as keras.applications does.

    Args:
        x: RGB images, `(..., height, width, channels)`, pixel values 0..255.
        data_format: Data format of `x`; None means Keras's.
        mode: `"caffe"` for `weights="imagenet"` of post-activation nets (to BGR, minus ImageNet's
            means), `"tf"` for the V2 nets (-1..1), `"torch"` for torchvision's (0..1, then mean
            and standard deviation).

    Returns:
        Float images of the same shape.

    Raises:
        ValueError: If `mode` or `data_format` is unknown.

    Example:
        >>> x = keras_resnet.preprocess_input(np.full((1, 224, 224, 3), 255.0), mode="tf")
        >>> float(x.max())
        1.0
    """
    return keras.applications.imagenet_utils.preprocess_input(x, data_format=data_format, mode=mode)


def preprocess_caffe(x: Tensor, data_format: str | None = None) -> Any:
    """Normalises images as `keras.applications.resnet.preprocess_input`: BGR, minus the means.

    Args:
        x: RGB images, `(..., height, width, channels)`, pixel values 0..255.
        data_format: Data format of `x`; None means Keras's.

    Returns:
        Float images of the same shape.
    """
    return preprocess_input(x, data_format, mode="caffe")


def preprocess_tf(x: Tensor, data_format: str | None = None) -> Any:
    """Normalises images as `keras.applications.resnet_v2.preprocess_input`: to -1..1.

    Args:
        x: RGB images, `(..., height, width, channels)`, pixel values 0..255.
        data_format: Data format of `x`; None means Keras's.

    Returns:
        Float images of the same shape.
    """
    return preprocess_input(x, data_format, mode="tf")


def decode_predictions(predictions: Tensor, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """Returns the names of the most likely ImageNet classes, as keras.applications does.

    The names are downloaded once, into Keras's cache.

    Args:
        predictions: Probabilities, `(batch, 1000)`.
        top: Number of classes per image.

    Returns:
        For each image, a list of `(WordNet ID, name, probability)`, the most likely first.

    Raises:
        ValueError: If there are not 1,000 classes.

    Example:
        >>> model = keras_resnet.ResNet50(weights="imagenet")
        >>> keras_resnet.decode_predictions(model.predict(x), top=1)
        [[('n02504458', 'African_elephant', 0.87)]]
    """
    return keras.applications.imagenet_utils.decode_predictions(predictions, top=top)
