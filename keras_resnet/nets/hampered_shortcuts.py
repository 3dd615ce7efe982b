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
        name = nn.name("shortcut_drop")
        # PyTorch keeps the state of a seed generator as an int32.
        seed = nn.layer_seed(name)
        seed = None if seed is None else seed % 2**31
        shortcut = keras.layers.Dropout(nn.spec.shortcut_dropout, seed=seed, name=name)(shortcut)
    return shortcut
