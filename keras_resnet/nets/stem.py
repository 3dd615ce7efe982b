"""Axis `stem`: from images to the first stage."""

from __future__ import annotations

from typing import Any

from keras_resnet.nets.layers import Scalar
from keras_resnet.nets.primitives import Primitives


def stem(x: Any, make: Primitives) -> Any:
    """Applies the first convolutions, their norm and ReLU and, for ImageNet, the pool.

    Pre-activation nets of the paper too have their first activation here, before the first unit's
    paths split. A stem of kind `"unit"` is the assembler's.

    Source: He et al. 2015, Table 1 and section 4.2; He et al. 2016, appendix, "Implementation
    Details": the first activation stands "right after conv1 and before splitting into two paths";
    He et al. 2018 (arXiv:1812.01187), Figure 2b, the deep stem: 32, 32 and 64 filters.
    """
    spec, width = make.spec, make.spec.stem_filters
    if spec.stem == "deep":
        for number, stride in ((1, 2), (2, 1)):
            x = make.conv(x, f"stem_conv{number}", filters=width // 2, size=3, stride=stride)
            x = make.norm_relu(x, f"stem_norm{number}")
        x = make.conv(x, "stem_conv3", filters=width, size=3, normed=spec.stem_activation)
        last = "stem_norm3"
    else:
        size, stride = (7, 2) if spec.stem == "imagenet" else (3, 1)
        x = make.conv(
            x, "stem_conv", filters=width, size=size, stride=stride, normed=spec.stem_activation
        )
        last = "stem_norm"
    if spec.merge == "fixup":
        x = Scalar("add", 0.0, name="stem_bias")(x)
    if spec.stem_activation:
        x = make.norm_relu(x, last)
    if spec.stem == "cifar":
        return x
    if spec.stem_pool == "conv":
        x = make.conv(x, "stem_pool_conv", filters=width, size=3, stride=2)
        return make.norm_relu(x, "stem_pool_norm")
    return make.max_pool(x, "stem_pool", rectified=spec.stem_activation)
