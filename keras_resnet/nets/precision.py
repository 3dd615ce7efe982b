"""The dtype policy of new layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def dtype_policy(policy: str | keras.DTypePolicy) -> Iterator[None]:
    """Sets the dtype policy of the layers and models created inside; restores the old one after.

    Example:
        >>> with dtype_policy("mixed_bfloat16"):
        ...     model = build("cifar_resnet20")
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
