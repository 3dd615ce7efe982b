"""Tensors that stay in the host's memory."""

from __future__ import annotations

from typing import Any


def on_host(values: Any) -> Any:
    """Returns a tensor in the host's memory, which `tf.constant` puts on a GPU where there is one.

    Functions of `tf.data` capture it as an argument. It is no constant of their graphs, whose bytes
    each pipeline would copy, also where this is called while such a function is traced.
    """
    import tensorflow as tf

    with tf.init_scope(), tf.device("/CPU:0"):
        return tf.constant(values)
