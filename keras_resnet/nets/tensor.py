"""A name for tensors in annotations."""

from __future__ import annotations

from typing import Any, TypeAlias

# A tensor of the active backend, eager or in a graph, or a symbolic `keras.KerasTensor`. Keras has
# no common base class of these, so the alias documents a value rather than checks its type.
Tensor: TypeAlias = Any
