"""ResNet-50V2, 101V2 and 152V2 under the names of `keras.applications.resnet_v2`.

`preprocess_input` is that of their `"imagenet"` weights.


Example:
    >>> from keras_resnet.resnet_v2 import ResNet50V2, decode_predictions, preprocess_input
    >>> model = ResNet50V2(weights="imagenet")
    >>> chances = model.predict(preprocess_input(images))  # RGB, 0..255, (batch, 224, 224, 3)
    >>> decode_predictions(chances, top=3)
"""

from keras_resnet.applications import ResNet50V2 as ResNet50V2
from keras_resnet.applications import ResNet101V2 as ResNet101V2
from keras_resnet.applications import ResNet152V2 as ResNet152V2
from keras_resnet.imagenet_utils import decode_predictions as decode_predictions
from keras_resnet.imagenet_utils import preprocess_tf as preprocess_input

__all__ = ["ResNet50V2", "ResNet101V2", "ResNet152V2", "decode_predictions", "preprocess_input"]
