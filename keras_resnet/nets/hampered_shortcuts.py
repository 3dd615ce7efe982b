"""Shortcuts that are scaled or dropped: the variants that He et al. 2016 found to train worse.

They exist for comparison only. The gated variants are values of `merge`; see `merges`.

Source: He et al. 2016 (arXiv:1603.05027), section 3.1, Figure 2 (b) and (f), Table 1.
"""

from __future__ import annotations

import keras

from keras_resnet.nets.primitives import Primitives
from keras_resnet.nets.tensor import Tensor


def hamper(shortcut: Tensor, nn: Primitives) -> Tensor:
    """Applies constant scaling (Figure 2b) and dropout (Figure 2f), where the spec has them."""
    if nn.spec.shortcut_scale != 1:
        scale = keras.layers.Rescaling(nn.spec.shortcut_scale, name=nn.name("shortcut_scale"))
        shortcut = scale(shortcut)
    if nn.spec.shortcut_dropout:
        shortcut = nn.dropout(shortcut, nn.name("shortcut_drop"), nn.spec.shortcut_dropout)
    return shortcut
