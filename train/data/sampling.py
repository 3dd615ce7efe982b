"""Balanced sampling: each class equally often, as a function of seed and position."""

from __future__ import annotations

from typing import Any

import numpy as np

_BALANCE = 3  # key of a stream of random numbers; the pipeline uses 1 and 2


def balanced_examples(labels: np.ndarray, slots: Any, epochs: Any, seed: int) -> Any:
    """Returns the examples at shuffled positions, such that each class comes equally often.

    An epoch has as many positions as there are examples. Its shuffled positions are dealt to the
    classes in turn, so their counts differ by at most one. Within a class, each image is drawn once
    before any is drawn again, in an order keyed by the seed, the class and the pass.

    Args:
        labels: int64, `(examples,)`.
        slots: The shuffled positions within their epoch, an int64 tensor of values in
            0..examples - 1.
        epochs: The epoch of each, int64.
        seed: Seed of the run.

    Returns:
        Numbers of examples, int64, shaped as `slots`.
    """
    import tensorflow as tf

    present, counts = np.unique(labels, return_counts=True)
    members = tf.constant(np.argsort(labels, kind="stable").astype("int64"))
    first = tf.constant(np.concatenate([[0], np.cumsum(counts)[:-1]]).astype("int64"))
    size, classes = len(labels), len(present)
    which = slots % classes
    # How often the class was drawn before: in earlier epochs, then in this one.
    per_epoch = (size - 1 - which) // classes + 1
    drawn = epochs * per_epoch + slots // classes
    count = tf.gather(tf.constant(counts.astype("int64")), which)
    passes = (drawn // count) * classes + which
    keys = tf.stack([tf.fill(tf.shape(slots), np.int64(_BALANCE)), 0 * slots + seed, passes], -1)
    within = tf.raw_ops.RandomIndexShuffle(
        index=drawn % count, seed=tf.cast(keys, tf.int32), max_index=count - 1, rounds=8
    )
    return tf.gather(members, tf.gather(first, which) + within)
