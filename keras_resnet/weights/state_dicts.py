"""State dicts in memory: tensors of any framework as NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_resnet.weights.files.pickle_objects import IgnoredObject

_MAX_DEPTH = 50


def to_arrays(node: Any, depth: int = 0) -> Any:
    """Returns nested dicts and lists with arrays in place of the tensors of any framework.

    Args:
        node: NumPy arrays; tensors of PyTorch (on any device), TensorFlow, JAX or Keras; dicts,
            lists and tuples of them.
        depth: Levels of nesting above the node.

    Raises:
        ValueError: If it is nested too deeply.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"The mapping is nested more than {_MAX_DEPTH} deep, or in itself")
    if isinstance(node, Mapping):
        return {key: to_arrays(value, depth + 1) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [to_arrays(value, depth + 1) for value in node]
    if isinstance(node, np.ndarray | np.generic | str | bytes | int | float | None):
        return _plain(node)
    if hasattr(node, "detach"):  # PyTorch's, whose bfloat16 NumPy does not have
        node = node.detach().cpu()
        node = node.float() if node.is_floating_point() else node
        return np.asarray(node)
    if hasattr(node, "shape") and hasattr(node, "dtype"):
        return _plain(keras.ops.convert_to_numpy(node))
    return IgnoredObject(f"{type(node).__module__}.{type(node).__qualname__}")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.name in ("float16", "bfloat16"):
        return value.astype(np.float32)
    if isinstance(value, np.ndarray) and value.dtype.kind not in "fiubc":
        return IgnoredObject(f"numpy.ndarray of {value.dtype}")
    return value
