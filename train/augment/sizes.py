"""Sizes of training images: smaller than those of evaluation, or growing with the step."""

from __future__ import annotations

from typing import Any

from ..config import AugmentConfig


def is_progressive(config: AugmentConfig) -> bool:
    """Whether training images have another size than the net's, in some steps or in all."""
    return config.start_size is not None or config.train_size is not None


def training_size(config: AugmentConfig, full: tuple[int, int], step: Any, total_steps: int) -> Any:
    """Returns height and width of the training images of one step, int32 `(2,)`.

    The shorter side grows linearly from `start_size` to its full size, which it has from the
    fraction `full_size_at` of the run on, in multiples of `size_multiple`; the other side keeps
    the ratio.

    Args:
        config: The augmentation.
        full: Height and width of the net's input; `train_size` replaces its shorter side.
        step: The step, an integer tensor.
        total_steps: Steps of the whole run.
    """
    import tensorflow as tf

    shorter = config.train_size or min(full)
    start = config.start_size or shorter
    ramp = max(1.0, config.full_size_at * total_steps)
    progress = tf.minimum(tf.cast(step, tf.float64) / ramp, 1.0)
    side = (start + progress * (shorter - start)) / config.size_multiple
    side = tf.round(side) * config.size_multiple
    side = tf.where(progress < 1, tf.clip_by_value(side, min(start, shorter), shorter), shorter)
    whole = [tf.round(side * length / min(full)) for length in full]
    return tf.cast(tf.stack(whole), tf.int32)
