"""Axis `stem`: from images to the first stage."""

from __future__ import annotations

from typing import Any

import keras

from keras_resnet.layers import conv, norm, relu
from keras_resnet.spec import ResNetSpec


def stem(x: Any, spec: ResNetSpec, *, seed: int | None) -> Any:
    """Applies the first convolution, its norm and ReLU and, for ImageNet, the max pool.

    Pre-activation nets too have their first activation here, before the first unit's paths split.

    Source: He et al. 2015, Table 1 and section 4.2; He et al. 2016, appendix, "Implementation
    Details": the first activation stands "right after conv1 and before splitting into two paths".
    """
    imagenet = spec.stem == "imagenet"
    x = conv(
        x, spec, "stem_conv",
        filters=spec.widths[0], size=7 if imagenet else 3, stride=2 if imagenet else 1, seed=seed,
    )  # fmt: skip
    x = relu(norm(x, spec, "stem_norm"), "stem_act")
    if not imagenet:
        return x
    if spec.padding == "same":
        return keras.layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    # The input is rectified, so zeros stand for the minus infinity that PyTorch pads with.
    x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
