"""Stems: from images to the input of the first stage."""

from __future__ import annotations

from keras_resnet.nets import fixup
from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.primitives import Convolution, Primitives, channel_axis
from keras_resnet.nets.residual_unit import residual_unit
from keras_resnet.nets.tensor import Tensor


def stem(x: Tensor, nn: Primitives) -> Tensor:
    """Applies the first convolutions, their norm and ReLU, and the pool of the ImageNet nets.

    In the paper's pre-activation nets too, the first activation stands here, before the paths of
    the first unit split.

    Source: He et al. 2015, Table 1 and section 4.2; He et al. 2016, appendix, "Implementation
    Details": the first activation stands "right after conv1 and before splitting into two paths".
    """
    nn = nn.scoped("stem")
    if nn.spec.stem == "unit":
        width = nn.spec.stem_filters
        return residual_unit(x, nn, Unit(0, 1, int(x.shape[channel_axis()]), width, width, 2))
    if nn.spec.stem == "cifar":
        return conv_norm_relu(x, nn, Convolution(nn.spec.stem_filters, 3))
    if nn.spec.stem in ("deep", "tiered"):
        x = deep_convolutions(x, nn)
    else:
        x = conv_norm_relu(x, nn, Convolution(nn.spec.stem_filters, 7, stride=2))
    return pool(x, nn)


def conv_norm_relu(x: Tensor, nn: Primitives, conv: Convolution, number: str = "") -> Tensor:
    """Applies the last convolution of the stem and, unless a unit does it, its norm and ReLU."""
    activated = nn.spec.stem_activation
    x = nn.conv(x, f"conv{number}", conv, normed=activated)
    if nn.spec.norm == "fixup":
        x = fixup.bias(x, nn, "bias")
    return nn.norm_relu(x, f"norm{number}") if activated else x


def deep_convolutions(x: Tensor, nn: Primitives) -> Tensor:
    """Applies three 3x3 convolutions in place of the 7x7.

    Source: He et al. 2018 (arXiv:1812.01187), Figure 2b: 32, 32 and 64 filters; timm's tiered
    stems: 24, 32 and 64.
    """
    first, second, last = nn.spec.stem_convolutions
    x = nn.conv(x, "conv1", Convolution(first, 3, stride=2))
    x = nn.norm_relu(x, "norm1")
    x = nn.conv(x, "conv2", Convolution(second, 3))
    x = nn.norm_relu(x, "norm2")
    return conv_norm_relu(x, nn, Convolution(last, 3), number="3")


def pool(x: Tensor, nn: Primitives) -> Tensor:
    """Halves the size: by a 3x3 max pool, by a convolution (ResNet-RS) or by a mean (timm)."""
    if nn.spec.stem_pool == "conv":
        x = nn.conv(x, "pool_conv", Convolution(nn.spec.stem_filters, 3, stride=2))
        return nn.norm_relu(x, "pool_norm")
    if nn.spec.stem_pool == "avg":  # an odd last row is left out, as in PyTorch
        return nn.layer("AveragePooling")(2, name=nn.name("pool"))(x)
    return nn.max_pool(x, "pool", rectified=nn.spec.stem_activation)
