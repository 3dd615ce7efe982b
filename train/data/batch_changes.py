"""Augmentation of whole batches: growing sizes, colour noise, mixup and cutmix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..augment import (
    NOISE,
    color_shifts,
    is_mixed,
    kept_shares,
    mix_by,
    soft_labels,
    step_key,
    training_size,
)
from ..config import AugmentConfig
from .batches import Share, TrainingPlan
from .hand_over import grows_batches


def changes_batches(augment: AugmentConfig) -> bool:
    """Whether random numbers change whole batches, or their labels."""
    return grows_batches(augment) or augment.pca_noise > 0 or is_mixed(augment)


def make_batch_change(plan: TrainingPlan, share: Share) -> Callable[..., Any]:
    """Returns a function that changes the batch of one replica.

    Args:
        plan: The parameters of the batches.
        share: The batch and this process's part of it.

    Returns:
        A function of a counter (`step * replicas + replica`) and (pixels, labels), to the same with
        what the device shall do: see `hand_over.py`. Labels are float32 `(per_replica, classes)`
        where images are mixed.
    """
    import tensorflow as tf

    augment, seed = plan.augment, plan.seed

    def batch_change(counter: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        pixels, labels = dict(batch[0]), batch[1]
        step, replica = counter // share.replicas, counter % share.replicas
        if grows_batches(augment):
            pixels["images"] = _grown(pixels["images"], plan, step)
        if augment.pca_noise:
            first = (share.worker * share.replicas + replica) * share.per_replica
            pixels["shifts"] = _shifts(plan, step, first, share)
        if is_mixed(augment):
            size = tf.shape(pixels["images"])[1:3]
            pixels["kept"], kept = kept_shares(augment, seed, step, size)
            labels = mix_by(soft_labels(labels, plan.classes), kept)
        return pixels, labels

    return batch_change


def _grown(images: Any, plan: TrainingPlan, step: Any) -> Any:
    import tensorflow as tf

    size = training_size(plan.augment, plan.preprocess.size, step, plan.total_steps)
    return tf.cond(
        tf.reduce_all(size == plan.preprocess.size),
        lambda: images,
        lambda: tf.image.resize(images, size, antialias=True),
    )


def _shifts(plan: TrainingPlan, step: Any, first: Any, share: Share) -> Any:
    """Returns AlexNet's noise for normalised images, `(per_replica, 3)`."""
    import tensorflow as tf

    key = step_key(plan.seed, NOISE, step)
    normal = tf.random.stateless_normal([share.batch, 3], key)[first : first + share.per_replica]
    shifts = color_shifts(plan.augment.pca_noise, normal)
    if plan.preprocess.channel_order == "bgr":
        shifts = tf.reverse(shifts, [1])
    return shifts / tf.constant(plan.preprocess.std)
