"""Fixup: residual nets without norms, by rescaled initial weights and learned scalars.

`norm="fixup"` in a spec. The unit stands here; the stem and the classifier call `bias`, and the
classifier starts at zero.

Source: Zhang et al. 2019 (arXiv:1901.09321), section 3, "Fixup initialization", and Figure 1. The
standard deviation is He's with fan-in, where the authors' code takes fan-out; inside a stage the
two are equal.
"""

from __future__ import annotations

from keras_resnet.nets.branches import convolutions, end_branch
from keras_resnet.nets.geometry import Unit
from keras_resnet.nets.layers import Scalar
from keras_resnet.nets.merges import add_shortcut
from keras_resnet.nets.primitives import Primitives
from keras_resnet.nets.tensor import Tensor


def fixup_unit(x: Tensor, nn: Primitives, unit: Unit) -> Tensor:
    """Convolutions between scalar biases, and a scalar factor (Figure 1, right).

    The last convolution starts at zero. The others start as He's, times L^(-1 / (2m - 2)), with L
    the number of units in the net and m the number of convolutions in a branch.
    """
    *inner, last = convolutions(nn.spec, unit)
    gain = sum(nn.spec.depths) ** (-1 / (2 * len(inner)))
    biased = bias(x, nn, "bias1a")
    y = biased
    for number, conv in enumerate(inner, start=1):
        y = y if number == 1 else bias(y, nn, f"bias{number}a")
        y = nn.conv(y, f"conv{number}", conv, gain=gain)
        y = bias(y, nn, f"bias{number}b")
        y = nn.relu(y, f"act{number}")
    number = len(inner) + 1
    y = bias(y, nn, f"bias{number}a")
    y = nn.conv(y, f"conv{number}", last, gain=0.0)
    y = Scalar("multiply", 1.0, name=nn.name("scale"))(y)
    y = bias(y, nn, f"bias{number}b")
    y = end_branch(y, nn, unit)
    # A projection has the branch's first bias; an identity does not.
    y = add_shortcut(biased if unit.changes_shape else x, y, nn, unit)
    return nn.relu(y, "out")


def bias(x: Tensor, nn: Primitives, role: str) -> Tensor:
    """Adds one learned number, which starts at 0.

    The stem has one before its ReLU, and the classifier one before its dense layer.
    """
    return Scalar("add", 0.0, name=nn.name(role))(x)
