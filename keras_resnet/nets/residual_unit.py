"""The residual unit, one function for each figure of the papers, read from top to bottom.

`x` is the unit's input and `y` the branch, `(batch, height, width, channels)`. The names of the
layers are the unit's name and the role given here: `stage2_unit1_conv1`.
"""

from __future__ import annotations

from collections.abc import Callable

from keras_resnet.nets import comparison_units
from keras_resnet.nets.branches import basic, bottleneck, end_branch
from keras_resnet.nets.fixup import fixup_unit
from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.merges import add_shortcut
from keras_resnet.nets.primitives import Primitives
from keras_resnet.nets.repvgg import fused_repvgg_unit, repvgg_unit
from keras_resnet.nets.shortcuts import subsamples
from keras_resnet.nets.spec import ResNetSpec
from keras_resnet.nets.tensor import Tensor

UnitFunction = Callable[[Tensor, Primitives, Unit], Tensor]


def residual_unit(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Applies the unit that the spec describes.

    Args:
        x: Images, `(batch, height, width, channels)`.
        nn: Layers of the net.
        unit: Place of the unit in the net.
    """
    return unit_function(nn.spec)(x, nn.scoped(unit.name), unit)


def unit_function(spec: ResNetSpec) -> UnitFunction:
    """Returns the function that applies the units of a net."""
    if spec.norm == "fixup":
        return fixup_unit
    if spec.branch == "repvgg":
        return repvgg_unit
    if spec.branch == "single":
        return fused_repvgg_unit
    if spec.order in comparison_units.BY_ORDER:
        return comparison_units.BY_ORDER[spec.order]
    if spec.order == "pre":
        return preactivation_basic if spec.branch == "basic" else preactivation_bottleneck
    return postactivation_basic if spec.branch == "basic" else postactivation_bottleneck


def postactivation_basic(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Two 3x3 convolutions, each before its norm (He et al. 2015, Figure 5, left)."""
    conv1, conv2 = basic(nn.spec, unit)
    y = nn.conv(x, "conv1", conv1)
    y = nn.norm(y, "norm1")
    y = nn.relu(y, "act1")
    y = nn.blur(y, "blur", conv1.blur_stride)
    y = nn.conv(y, "conv2", conv2, ends_branch=True)
    y = nn.norm(y, "norm2", ends_branch=True)
    y = end_branch(y, nn, unit)
    y = add_shortcut(x, y, nn, unit)
    return nn.relu(y, "out")


def postactivation_bottleneck(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """1x1, 3x3 and 1x1, each before its norm (He et al. 2015, Figure 5, right)."""
    conv1, conv2, conv3 = bottleneck(nn.spec, unit)
    y = nn.conv(x, "conv1", conv1)
    y = nn.norm(y, "norm1")
    y = nn.relu(y, "act1")
    y = nn.blur(y, "blur", conv1.blur_stride)
    y = nn.conv(y, "conv2", conv2)
    y = nn.norm(y, "norm2")
    y = nn.relu(y, "act2")
    y = nn.blur(y, "blur", conv2.blur_stride)
    y = nn.conv(y, "conv3", conv3, ends_branch=True)
    y = nn.norm(y, "norm3", ends_branch=True)
    y = end_branch(y, nn, unit)
    y = add_shortcut(x, y, nn, unit)
    return nn.relu(y, "out")


def preactivation_basic(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Norm and ReLU before each of two 3x3 convolutions (He et al. 2016, Figure 4e)."""
    conv1, conv2 = basic(nn.spec, unit)
    preact = first_activation(x, nn, unit)
    y = nn.conv(preact, "conv1", conv1)
    y = nn.norm(y, "norm2")
    y = nn.relu(y, "act2")
    y = nn.blur(y, "blur", conv1.blur_stride)
    y = nn.conv(y, "conv2", conv2, normed=False, ends_branch=True)
    y = end_branch(y, nn, unit)
    return add_shortcut(shortcut_input(x, preact, nn, unit), y, nn, unit)


def preactivation_bottleneck(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Norm and ReLU before each of 1x1, 3x3 and 1x1 (He et al. 2016, Figure 4e)."""
    conv1, conv2, conv3 = bottleneck(nn.spec, unit)
    preact = first_activation(x, nn, unit)
    y = nn.conv(preact, "conv1", conv1)
    y = nn.norm(y, "norm2")
    y = nn.relu(y, "act2")
    y = nn.blur(y, "blur", conv1.blur_stride)
    y = nn.conv(y, "conv2", conv2)
    y = nn.norm(y, "norm3")
    y = nn.relu(y, "act3")
    y = nn.blur(y, "blur", conv2.blur_stride)
    y = nn.conv(y, "conv3", conv3, normed=False, ends_branch=True)
    y = end_branch(y, nn, unit)
    return add_shortcut(shortcut_input(x, preact, nn, unit), y, nn, unit)


def first_activation(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Applies the norm and ReLU that a pre-activation unit begins with.

    The first unit has none where the stem ends in its own (He et al. 2016, appendix).
    """
    if unit.first and nn.spec.stem_activation:
        return x
    return nn.relu(nn.norm(x, "norm1"), "act1")


def shortcut_input(x: Tensor, preact: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Returns the tensor that the shortcut of a pre-activation unit starts from.

    Where the unit changes the shape that is the activated input, as in the authors' code; in the
    other units, and where the shortcut only subsamples, the input itself.
    """
    return preact if unit.changes_shape and not subsamples(nn.spec, unit) else x
