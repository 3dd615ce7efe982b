"""Nested dicts and lists of arrays, such as a checkpoint, as arrays by name."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np

from keras_resnet.weights.files.pickle_objects import IgnoredObject

_MAX_NAMES = 100_000_000  # characters of all names: a few long keys could name many arrays
_ADVICE = (
    "a state dict is needed: in PyTorch, `torch.save(model.state_dict(), path)` writes that of a "
    "pickled model"
)


def flatten(tree: Any, *, source: str) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Returns the arrays in nested dicts, lists and tuples.

    Args:
        tree: The contents of a checkpoint. A dict or list that occurs twice counts once.
        source: Name of the source, for messages.

    Returns:
        Arrays by name, where the keys on the way are joined by dots; and the number of
        `IgnoredObject` by name. Other values are metadata.

    Raises:
        ValueError: If there are no arrays, or two have the same name.
    """
    tensors: dict[str, np.ndarray] = {}
    ignored: collections.Counter[str] = collections.Counter()
    seen: set[int] = set()
    length = 0
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, np.ndarray):
            if name in tensors:
                raise ValueError(f"{source} holds two tensors {name[:80]!r}")
            tensors[name] = node
        elif isinstance(node, IgnoredObject):
            ignored[node.name] += 1
        elif isinstance(node, dict | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            pairs = list(node.items() if isinstance(node, dict) else enumerate(node))
            for key, value in reversed(pairs):
                if isinstance(value, dict | list | tuple | np.ndarray | IgnoredObject):
                    path = f"{name}.{key}" if name else str(key)
                    waiting.append((path, value))
                    length += len(path)
            if length > _MAX_NAMES:
                raise ValueError(f"{source} holds tensors with names that are too long")
    if not tensors or isinstance(tree, np.ndarray):
        raise ValueError(f"{source} contains no state dict: {_describe(tree, ignored)}; {_ADVICE}")
    return tensors, dict(ignored)


def _describe(tree: Any, ignored: dict[str, int]) -> str:
    if isinstance(tree, IgnoredObject):
        return f"it is a pickled object of {tree.name!r}"
    if not isinstance(tree, dict):
        return f"it is a {type(tree).__name__}"
    keys = f"a dict with the keys {', '.join(repr(key)[:40] for key in list(tree)[:12])}"
    objects = f" and objects of {', '.join(list(ignored)[:4])}" if ignored else ""
    return f"it is {keys if tree else 'an empty dict'}{objects}"
