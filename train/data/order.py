"""The order of training images, a stateless function of the seed and the position in the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

ORDER = 1
"""The key of the order; those of the augmentation are in `augment/draws.py`."""

_CLASS_ORDER = 20  # further keys: of the classes of a round, and of each class's images
_IMAGE_ORDER = 21


def shuffled(seed: int, epochs: Any, indices: Any, size: Any, key: Any = ORDER) -> Any:
    """Returns the places of indices in the shuffled order of their epochs.

    Args:
        seed: The run's seed.
        epochs: int64 `(count,)`.
        indices: int64 `(count,)`, 0 to `size - 1`.
        size: Number of indices of an epoch: one for all, or int64 `(count,)`.
        key: Which order: a number, or int64 `(count,)`.
    """
    import tensorflow as tf

    key = tf.broadcast_to(tf.cast(key, tf.int64), tf.shape(epochs))
    seeds = tf.stack([key, tf.fill(tf.shape(epochs), tf.constant(seed, tf.int64)), epochs], axis=1)
    # `tf.random.experimental.index_shuffle` rejects one seed per index, contrary to its
    # documentation. With its 4 rounds, up to 38 % more pairs of examples than by chance share
    # a batch in the next epoch; with 8 rounds, no more than by chance.
    return tf.raw_ops.RandomIndexShuffle(
        index=indices,
        seed=tf.cast(seeds, tf.int32),
        max_index=tf.cast(size, tf.int64) - 1,
        rounds=8,
    )


def make_balanced_order(labels: np.ndarray, seed: int) -> Callable[[Any], Any]:
    """Returns a function from positions to examples that shows each class equally often.

    Positions come in rounds of one image of each class, in a shuffled order. Each class goes
    through its own images in shuffled passes, so that small classes are repeated more often.

    Args:
        labels: int64 `(examples,)`. Classes without images are left out.
        seed: The run's seed.

    Returns:
        A function of int64 positions `(count,)`, to int64 example numbers `(count,)`.
    """
    import tensorflow as tf

    _, counts = np.unique(labels, return_counts=True)
    with tf.device("/CPU:0"):
        by_class = tf.constant(np.argsort(labels, kind="stable").astype("int64"))
        sizes = tf.constant(counts.astype("int64"))
        starts = tf.constant((np.cumsum(counts) - counts).astype("int64"))
    classes = len(counts)

    def examples(positions: Any) -> Any:
        rounds = positions // classes
        chosen = shuffled(seed, rounds, positions % classes, classes, _CLASS_ORDER)
        size = tf.gather(sizes, chosen)
        place = shuffled(seed, rounds // size, rounds % size, size, _IMAGE_ORDER + chosen)
        return tf.gather(by_class, tf.gather(starts, chosen) + place)

    return examples
