"""The random numbers of training images: a stateless function of the seed, the step and the row.

Each kind of augmentation draws with a key of its own, so that one that is switched on does not
change the numbers of the others, and one that is off draws nothing.
"""

from __future__ import annotations

from typing import Any

from ..config import AugmentConfig
from .erasing import ERASING_DRAWS
from .example import RETRIES, RETRY_DRAWS
from .policies import draws_of

DRAWS = 5
"""Number of uniform random numbers in [0, 1) per example for placing, mirroring and scaling."""

JITTER_DRAWS = 6

# Keys of independent streams of random numbers; 1 is the order of the examples.
PLACE, RETRY, POLICY, JITTER, ERASING, ERASING_NOISE, NOISE, MIX = range(2, 10)


def step_key(seed: int, stream: int, step: Any) -> Any:
    """Returns the key of one stream of random numbers at one step.

    Args:
        seed: The run's seed.
        stream: One of the streams of this module.
        step: The step, an integer tensor.
    """
    import tensorflow as tf

    return tf.random.experimental.stateless_fold_in([seed, stream], step)


def example_draws(config: AugmentConfig, seed: int, step: Any, batch: int) -> dict[str, Any]:
    """Returns what the augmentation of single images draws, one row per image of a global batch.

    Args:
        config: The augmentation.
        seed: The run's seed.
        step: The step, an integer tensor.
        batch: Images in a global batch.

    Returns:
        Uniform in [0, 1): `place` `(batch, DRAWS)`, and where the augmentation needs them `retry`
        `(batch, RETRIES, RETRY_DRAWS)`, `policy`, `jitter` and `erasing`, `(batch, ...)`; and
        `erasing_key`, int32 `(batch, 2)`.
    """
    import tensorflow as tf

    def uniform(stream: int, *shape: int) -> Any:
        return tf.random.stateless_uniform([batch, *shape], step_key(seed, stream, step))

    draws = {"place": uniform(PLACE, DRAWS)}
    if config.crop == "resized":
        draws["retry"] = uniform(RETRY, RETRIES, RETRY_DRAWS)
    if config.policy != "none":
        draws["policy"] = uniform(POLICY, draws_of(config))
    if config.color_jitter:
        draws["jitter"] = uniform(JITTER, JITTER_DRAWS)
    if config.erasing:
        draws["erasing"] = uniform(ERASING, ERASING_DRAWS)
        key = step_key(seed, ERASING_NOISE, step)
        draws["erasing_key"] = tf.random.stateless_uniform([batch, 2], key, None, None, tf.int32)
    return draws
