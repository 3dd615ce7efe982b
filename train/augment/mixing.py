"""Mixup and cutmix: each image is mixed with its neighbour in the global batch."""

from __future__ import annotations

from typing import Any

from ..config import AugmentConfig
from .draws import MIX, step_key


def is_mixed(config: AugmentConfig) -> bool:
    """Whether the augmentation mixes images, so that labels are probabilities."""
    return config.mixup > 0 or config.cutmix > 0


def mix(images: Any, labels: Any, config: AugmentConfig, seed: int, step: Any) -> tuple[Any, Any]:
    """Mixes images 0 and 1, 2 and 3 and so on, with one share and one rectangle for the batch.

    Args:
        images: float32 `(batch, height, width, channels)`, an even number of them.
        labels: float32 `(batch, classes)`.
        config: `mixup` and `cutmix` are the parameters of their Beta distributions, 0 for none.
            Where both are given, each step uses one of the two, with probability 1/2.
        seed: The run's seed.
        step: The step, an integer tensor.

    Returns:
        Images and labels of the same shapes.

    Source: Zhang et al. 2017 (arXiv:1710.09412), section 2; Yun et al. 2019 (arXiv:1905.04899),
    section 3.1. The switch with probability 1/2, one share per batch, and cutmix's share counted
    after the rectangle is clipped to the image are those of timm (`data/mixup.py`, `Mixup`, mode
    `batch`), with which "ResNet strikes back" was trained.
    """
    import tensorflow as tf

    kept, share = kept_shares(config, seed, step, tf.shape(images)[1:3])
    return mix_by(images, kept[..., None]), mix_by(labels, share)


def kept_shares(config: AugmentConfig, seed: int, step: Any, size: Any) -> tuple[Any, Any]:
    """Returns what each pixel, and what the labels, keep of their own image in a step.

    Args:
        config: As for `mix`.
        seed: The run's seed.
        step: The step, an integer tensor.
        size: Height and width of the images, int32 `(2,)`.

    Returns:
        float32 `(height, width)`, where cutmix has zeros and ones; and a float32 scalar.
    """
    import tensorflow as tf

    keys = tf.random.split(step_key(seed, MIX, step), 2)
    key = keys[0]
    uniform = tf.random.stateless_uniform([3], keys[1])  # the switch, and the rectangle's centre
    uses_cutmix = config.cutmix > 0 and (config.mixup == 0 or uniform[0] < 0.5)
    height, width = tf.unstack(size)

    def mixup() -> tuple[Any, Any]:
        share = beta(key, config.mixup)
        return tf.fill((height, width), share), share

    def cutmix() -> tuple[Any, Any]:
        top, left, bottom, right = cut_box(beta(key, config.cutmix), uniform[1:], height, width)
        rows, columns = tf.range(height), tf.range(width)
        inside = ((rows >= top) & (rows < bottom))[:, None] & (columns >= left) & (columns < right)
        area = tf.cast((bottom - top) * (right - left), tf.float32)
        return tf.where(inside, 0.0, 1.0), 1 - area / tf.cast(height * width, tf.float32)

    if isinstance(uses_cutmix, bool):
        return cutmix() if uses_cutmix else mixup()
    return tf.cond(uses_cutmix, cutmix, mixup)


def mix_by(values: Any, kept: Any) -> Any:
    """Returns `kept` of each row and the rest of its neighbour; 0 and 1 choose one of the two."""
    import tensorflow as tf

    return tf.ensure_shape(kept * values + (1 - kept) * neighbours(values), values.shape)


def neighbours(values: Any) -> Any:
    """Exchanges rows 0 and 1, 2 and 3 and so on."""
    import tensorflow as tf

    pairs = tf.reshape(values, tf.concat([[-1, 2], tf.shape(values)[1:]], axis=0))
    return tf.reshape(tf.reverse(pairs, [1]), tf.shape(values))


def beta(key: Any, alpha: float) -> Any:
    """Returns one number of the distribution Beta(alpha, alpha), float32.

    In float64: with a small `alpha`, both gamma variates may be 0 in float32.
    """
    import tensorflow as tf

    first, second = tf.unstack(
        tf.random.stateless_gamma([2], key, tf.constant(alpha, tf.float64), dtype=tf.float64)
    )
    return tf.cast(first / (first + second), tf.float32)


def cut_box(share: Any, centre: Any, height: Any, width: Any) -> tuple[Any, Any, Any, Any]:
    """Returns top, left, bottom and right of cutmix's rectangle, clipped to the image.

    Args:
        share: Share of the image that is kept where nothing is clipped.
        centre: Uniform in [0, 1), `(2,)`: row and column of the centre.
        height: Height of the images.
        width: Width of the images.
    """
    import tensorflow as tf

    size = tf.stack([height, width])
    sides = tf.cast(tf.cast(size, tf.float32) * tf.sqrt(1 - share), tf.int32)
    middle = tf.cast(centre * tf.cast(size, tf.float32), tf.int32)
    top, left = tf.unstack(tf.clip_by_value(middle - sides // 2, 0, size))
    bottom, right = tf.unstack(tf.clip_by_value(middle + (sides + 1) // 2, 0, size))
    return top, left, bottom, right


def soft_labels(labels: Any, classes: int) -> Any:
    """Returns float32 `(batch, classes)`: class numbers one-hot, several labels as they are."""
    import tensorflow as tf

    if labels.shape.rank == 2:
        return tf.cast(labels, tf.float32)
    return tf.one_hot(labels, classes)
