"""RepVGG: units of three normed paths in training, of one convolution after fusion.

Source: Ding et al. 2021 (arXiv:2101.03697), section 3.2, Figure 2 (b) and Figure 4.
"""

from __future__ import annotations

import keras

from keras_resnet.nets.branches import end_branch
from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.primitives import Convolution, Primitives
from keras_resnet.nets.tensor import Tensor


def repvgg_unit(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Sums a 3x3 convolution, a 1x1 convolution and, where the shape stays, the identity."""
    conv3x3 = Convolution(unit.out_channels, 3, unit.stride, unit.first_dilation)
    conv1x1 = Convolution(unit.out_channels, 1, unit.stride)
    y3x3 = nn.norm(nn.conv(x, "conv1", conv3x3), "norm1")
    y1x1 = nn.norm(nn.conv(x, "conv2", conv1x1), "norm2")
    y = keras.layers.Add(name=nn.name("sum"))([y3x3, y1x1])
    y = end_branch(y, nn, unit)
    if not unit.changes_shape:
        identity = nn.norm(x, "shortcut_norm")
        y = keras.layers.Add(name=nn.name("merge"))([identity, y])
    return nn.relu(y, "out")


def fused_repvgg_unit(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Applies one 3x3 convolution: the result of `keras_resnet.reparam.fuse`."""
    conv = Convolution(unit.out_channels, 3, unit.stride, unit.first_dilation)
    y = nn.conv(x, "conv1", conv)
    y = nn.norm(y, "norm1")
    return nn.relu(y, "out")
