"""ResNet-50, 101 and 152 under the names of `keras.applications.resnet`.

`preprocess_input` is that of their `"imagenet"` weights.


Example:
    >>> from keras_resnet.resnet import ResNet50, decode_predictions, preprocess_input
    >>> model = ResNet50(weights="imagenet")
    >>> chances = model.predict(preprocess_input(images))  # RGB, 0..255, (batch, 224, 224, 3)
    >>> decode_predictions(chances, top=3)
"""

from keras_resnet.applications import ResNet50 as ResNet50
from keras_resnet.applications import ResNet101 as ResNet101
from keras_resnet.applications import ResNet152 as ResNet152
from keras_resnet.imagenet_utils import decode_predictions as decode_predictions
from keras_resnet.imagenet_utils import preprocess_caffe as preprocess_input

__all__ = ["ResNet50", "ResNet101", "ResNet152", "decode_predictions", "preprocess_input"]
