"""Units that exist to be compared with: other places of norm and ReLU.

Source: He et al. 2016 (arXiv:1603.05027), section 4.1, Figure 4 (b) to (d), Table 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from keras_resnet.nets.branches import convolutions, end_branch
from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.merges import add_shortcut
from keras_resnet.nets.primitives import Primitives
from keras_resnet.nets.tensor import Tensor


def norm_after_add(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """The last norm stands behind the addition (Figure 4b)."""
    *inner, last = convolutions(nn.spec, unit)
    y = x
    for number, conv in enumerate(inner, start=1):
        y = nn.conv(y, f"conv{number}", conv)
        y = nn.norm(y, f"norm{number}")
        y = nn.relu(y, f"act{number}")
        y = nn.blur(y, "blur", conv.blur_stride)
    y = nn.conv(y, f"conv{len(inner) + 1}", last, normed=False, ends_branch=True)
    y = end_branch(y, nn, unit)
    y = add_shortcut(x, y, nn, unit)
    y = nn.norm(y, "out_norm")
    return nn.relu(y, "out")


def relu_before_add(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """The last ReLU stands in the branch, before the addition (Figure 4c)."""
    y = x
    for number, conv in enumerate(convolutions(nn.spec, unit), start=1):
        y = nn.conv(y, f"conv{number}", conv)
        y = nn.norm(y, f"norm{number}")
        y = nn.relu(y, f"act{number}")
        y = nn.blur(y, "blur", conv.blur_stride)
    y = end_branch(y, nn, unit)
    return add_shortcut(x, y, nn, unit)


def relu_only_preactivation(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """ReLU before each convolution, norm behind it (Figure 4d)."""
    *inner, last = convolutions(nn.spec, unit)
    # The first unit has no ReLU of its own where the stem ends in one.
    preact = x if unit.first and nn.spec.stem_activation else nn.relu(x, "act1")
    y = preact
    for number, conv in enumerate(inner, start=1):
        y = nn.conv(y, f"conv{number}", conv)
        y = nn.norm(y, f"norm{number}")
        y = nn.relu(y, f"act{number + 1}")
        y = nn.blur(y, "blur", conv.blur_stride)
    y = nn.conv(y, f"conv{len(inner) + 1}", last, ends_branch=True)
    y = nn.norm(y, f"norm{len(inner) + 1}", ends_branch=True)
    y = end_branch(y, nn, unit)
    return add_shortcut(preact if unit.changes_shape else x, y, nn, unit)


# By the value of `ResNetSpec.order`.
BY_ORDER: Mapping[str, Callable[[Tensor, Primitives, Unit], Tensor]] = {
    "norm_after_add": norm_after_add,
    "relu_before_add": relu_before_add,
    "relu_only_pre": relu_only_preactivation,
}
