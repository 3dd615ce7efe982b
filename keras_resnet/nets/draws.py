"""Random numbers of layers: from their own generators, or a function of seed, step and position.

A layer's generator counts its calls, and each replica of a `tf.distribute` strategy has the same
count, so that all replicas would drop the same examples. Inside of `keyed_draws` the numbers of an
example depend on its place in the global batch instead: any number of replicas draws the same, and
there is no state to save.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras

from keras_resnet.nets.tensor import Tensor


class _Keys(NamedTuple):
    seed: int
    step: Tensor
    first: Tensor
    batch: int


_KEYS: contextvars.ContextVar[_Keys | None] = contextvars.ContextVar("keys", default=None)


@contextlib.contextmanager
def keyed_draws(seed: int, step: Tensor, first: Tensor, batch: int) -> Iterator[None]:
    """Keys the draws of this package's layers by seed, step and position while the block runs.

    For training loops on TensorFlow. The block has to contain the computation of the gradient too,
    because rematerialized units run again in it. Each layer's seed is part of the key, so layers
    draw independently; a layer that is called twice in a step draws the same numbers twice.

    Args:
        seed: Seed of the run, from 0 to 2**31 - 1.
        step: Index of the step, an int64 scalar.
        first: Position of the first example in the global batch, an int64 scalar.
        batch: Examples in the global batch.

    Example:
        >>> with keyed_draws(0, step, first=replica * 32, batch=64), tf.GradientTape() as tape:
        ...     logits = model(images, training=True)  # 32 of 64 images
    """
    token = _KEYS.set(_Keys(seed, step, first, batch))
    try:
        yield
    finally:
        _KEYS.reset(token)


def uniform(shape: Sequence[Any], generator: keras.random.SeedGenerator) -> Tensor:
    """Returns float32 numbers in [0, 1).

    Args:
        shape: The shape, the batch first.
        generator: The layer's generator. Inside of `keyed_draws` its seed is used, and its count of
            calls stays as it is.
    """
    keys = _KEYS.get()
    if keys is None:
        return keras.random.uniform(shape, seed=generator, dtype="float32")
    import tensorflow as tf

    # Below 2**62: both seeds are below 2**31. Units that share a layer have a generator each.
    own = tf.cast(tf.convert_to_tensor(generator.state.value)[0], tf.int64)
    key = tf.stack([own * 2**31 + keys.seed, keys.step])
    # A whole batch is drawn for one part of it: positions then have the same numbers in all parts.
    # Bits, because XLA makes floats of other bits.
    bits = tf.random.stateless_uniform(
        (keys.batch, *shape[1:]), key, None, None, tf.uint32, alg="philox"
    )
    begin = tf.stack([keys.first, *[tf.constant(0, tf.int64)] * (len(shape) - 1)])
    own_bits = tf.slice(bits, begin, tf.cast(tf.stack(shape), tf.int64))
    return tf.cast(tf.bitwise.right_shift(own_bits, tf.constant(8, tf.uint32)), tf.float32) / 2**24
