"""Augmentation of whole batches: growing sizes, colour noise, mixup and cutmix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..augment import (
    NOISE,
    color_shifts,
    is_mixed,
    is_progressive,
    mix,
    soft_labels,
    step_key,
    training_size,
)
from ..config import AugmentConfig
from .batches import Share, TrainingPlan
from .image_changes import crops_originals


def changes_batches(augment: AugmentConfig) -> bool:
    """Whether batches are changed after their images are normalised."""
    grows = is_progressive(augment) and not crops_originals(augment)
    return grows or augment.pca_noise > 0 or is_mixed(augment)


def make_batch_change(plan: TrainingPlan, share: Share) -> Callable[..., Any]:
    """Returns a function that changes the batch of one replica.

    Args:
        plan: The parameters of the batches.
        share: The batch and this process's part of it.

    Returns:
        A function of a counter (`step * replicas + replica`) and (normalised images, labels), to
        (images, labels). Labels are float32 `(per_replica, classes)` where images are mixed.
    """
    augment, seed = plan.augment, plan.seed

    def batch_change(counter: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
        images, labels = batch
        step, replica = counter // share.replicas, counter % share.replicas
        if is_progressive(augment) and not crops_originals(augment):
            images = _grown(images, plan, step)
        if augment.pca_noise:
            first = (share.worker * share.replicas + replica) * share.per_replica
            images = _shifted(images, plan, step, first, share)
        if is_mixed(augment):
            labels = soft_labels(labels, plan.classes)
            images, labels = mix(images, labels, augment, seed, step)
        return images, labels

    return batch_change


def _grown(images: Any, plan: TrainingPlan, step: Any) -> Any:
    import tensorflow as tf

    size = training_size(plan.augment, plan.preprocess.size, step, plan.total_steps)
    return tf.cond(
        tf.reduce_all(size == plan.preprocess.size),
        lambda: images,
        lambda: tf.image.resize(images, size, antialias=True),
    )


def _shifted(images: Any, plan: TrainingPlan, step: Any, first: Any, share: Share) -> Any:
    """Adds AlexNet's noise to normalised images."""
    import tensorflow as tf

    key = step_key(plan.seed, NOISE, step)
    normal = tf.random.stateless_normal([share.batch, 3], key)[first : first + share.per_replica]
    shifts = color_shifts(plan.augment.pca_noise, normal)
    if plan.preprocess.channel_order == "bgr":
        shifts = tf.reverse(shifts, [1])
    return images + (shifts / tf.constant(plan.preprocess.std))[:, None, None]
