"""Policies: which operations each image goes through, from its random numbers.

A policy is planned for a whole batch at once: numbers of operations and their arguments,
`(batch, slots)`. `operations.py` then applies them image by image, and computes only those.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..config import AugmentConfig
from . import levels
from .cifar_policy import SUB_POLICIES
from .operations import OPERATIONS, number_of

AUGMIX_WIDTH, AUGMIX_DEPTH = 3, 3
"""Chains of operations that AugMix mixes, and the largest number of operations of a chain."""

THREE_OPERATIONS = ("Solarize", "Color", "GaussianBlur")
"""3-Augment's operations: solarize from 128, grey, blur. Source: Touvron et al. 2022
(arXiv:2204.07118), section 3.2, and DeiT's `augment.py`, `new_data_aug_generator`."""

JITTER_OPERATIONS = ("Brightness", "Contrast", "Color")


class Steps(NamedTuple):
    """Operations for each image of a batch.

    Attributes:
        numbers: Numbers of operations, int32 `(batch, slots)`; 0 leaves the image as it is.
        arguments: Their arguments, float32 `(batch, slots)`.
    """

    numbers: Any
    arguments: Any


def operations_of(policy: str) -> frozenset[str]:
    """Returns the names of the operations that a policy chooses from."""
    if policy == "autoaugment":
        return frozenset(name for pair in SUB_POLICIES for name, _, _ in pair)
    names = {
        "none": (),
        "rand": levels.RAND_OPERATIONS,
        "trivial": levels.TRIVIAL_OPERATIONS,
        "augmix": levels.AUGMIX_OPERATIONS,
        "three": THREE_OPERATIONS,
    }
    return frozenset(names[policy])


def draws_of(config: AugmentConfig) -> int:
    """Returns the number of uniform random numbers that a policy takes per image."""
    chains = AUGMIX_WIDTH * AUGMIX_DEPTH
    return {
        "none": 0,
        "rand": 4 * config.policy_operations,
        "trivial": 3,
        "autoaugment": 5,
        "augmix": 3 * chains + 2 * AUGMIX_WIDTH + 1,
        "three": 2,
    }[config.policy]


def plan(config: AugmentConfig, draws: Any, size: Any) -> Steps:
    """Returns the operations of each image.

    Args:
        config: The augmentation. `policy` is not `none`.
        draws: Uniform in [0, 1), `(batch, draws_of(config))`.
        size: Height and width of the images.
    """
    if config.policy == "rand":
        return _rand(config, draws, size)
    if config.policy == "trivial":
        return _trivial(draws)
    if config.policy == "autoaugment":
        return _autoaugment(draws, size)
    if config.policy == "augmix":
        return _augmix(config, draws, size)
    return _three(draws)


def plan_jitter(strength: float, draws: Any) -> Steps:
    """Returns brightness, contrast and colour in a random order, as torchvision's `ColorJitter`.

    Args:
        strength: Factors are from `max(0, 1 - strength)` to `1 + strength`.
        draws: Uniform in [0, 1), `(batch, 6)`: order, factors.
    """
    import tensorflow as tf

    order = tf.argsort(draws[:, :3], axis=1)
    low = max(0.0, 1 - strength)
    factors = low + (1 + strength - low) * draws[:, 3:]
    numbers = tf.constant([number_of(name) for name in JITTER_OPERATIONS])
    return Steps(tf.gather(numbers, order), tf.gather(factors, order, axis=1, batch_dims=1))


def mixing_weights(draws: Any) -> Any:
    """Returns the share of the original and of each chain in AugMix, `(batch, 1 + width)`.

    Args:
        draws: The policy's draws.

    Source: Hendrycks et al. 2019 (arXiv:1912.02781), Algorithm 1, with alpha 1: a Beta variate is
    then uniform, and a Dirichlet variate a row of exponential variates divided by its sum.
    """
    import tensorflow as tf

    share = draws[:, -1:]
    exponential = -tf.math.log(tf.maximum(draws[:, -1 - AUGMIX_WIDTH : -1], 1e-30))
    chains = exponential / tf.reduce_sum(exponential, axis=1, keepdims=True)
    return tf.concat([1 - share, share * chains], axis=1)


def _rand(config: AugmentConfig, draws: Any, size: Any) -> Steps:
    """Cubuk et al. 2019 (arXiv:1909.13719), Figure 2, as timm's `rand-m{m}-mstd{s}-inc1`.

    With `policy_levels=original`, as TensorFlow's code without cutout. That draws an operation's
    probability from [0.2, 0.8], which makes 0.5.
    """
    import tensorflow as tf

    draws = tf.reshape(draws, (-1, config.policy_operations, 4))
    magnitude = 9.0 if config.policy_magnitude is None else config.policy_magnitude
    level = magnitude + config.policy_spread * _normal(draws[..., 0])
    level = tf.clip_by_value(level, 0, max(10.0, magnitude))
    scale = levels.increasing if config.policy_levels == "increasing" else levels.original
    arguments = scale(level, _sign(draws[..., 1]), size, 0.45)
    used = draws[..., 2] < config.policy_probability
    return _choose(levels.RAND_OPERATIONS, draws[..., 3], arguments, used)


def _trivial(draws: Any) -> Steps:
    """Müller and Hutter 2021 (arXiv:2103.10158), section 3: one operation, any magnitude."""
    import tensorflow as tf

    index = tf.floor(draws[:, :1] * levels.TRIVIAL_BINS)
    arguments = levels.trivial(index, _sign(draws[:, 1:2]))
    return _choose(levels.TRIVIAL_OPERATIONS, draws[:, 2:3], arguments, None)


def _autoaugment(draws: Any, size: Any) -> Steps:
    import tensorflow as tf

    pair = tf.cast(draws[:, 0] * len(SUB_POLICIES), tf.int32)
    table = tf.constant([[number_of(each[0]) for each in pair] for pair in SUB_POLICIES])
    chance = tf.constant([[each[1] for each in pair] for pair in SUB_POLICIES])
    index = tf.constant([[float(each[2]) for each in pair] for pair in SUB_POLICIES])
    arguments = levels.autoaugment(tf.gather(index, pair), _sign(draws[:, 1:3]), size)
    numbers = tf.where(draws[:, 3:5] < tf.gather(chance, pair), tf.gather(table, pair), 0)
    return Steps(numbers, _arguments_of(numbers, arguments))


def _augmix(config: AugmentConfig, draws: Any, size: Any) -> Steps:
    """Chains one after the other; timm's levels: uniform from 0 to the magnitude."""
    import tensorflow as tf

    slots = AUGMIX_WIDTH * AUGMIX_DEPTH
    magnitude = 3.0 if config.policy_magnitude is None else config.policy_magnitude
    each = tf.reshape(draws[:, : 3 * slots], (-1, slots, 3))
    arguments = levels.increasing(each[..., 0] * magnitude, _sign(each[..., 1]), size, 0.3)
    depth = 1 + tf.floor(draws[:, 3 * slots : 3 * slots + AUGMIX_WIDTH] * AUGMIX_DEPTH)
    used = tf.range(float(AUGMIX_DEPTH)) < depth[..., None]
    return _choose(levels.AUGMIX_OPERATIONS, each[..., 2], arguments, tf.reshape(used, (-1, slots)))


def _three(draws: Any) -> Steps:
    import tensorflow as tf

    radius = 0.1 + 1.9 * draws[:, :1]
    arguments = {
        "Solarize": tf.fill(tf.shape(radius), 128.0),
        "Color": tf.zeros_like(radius),
        "GaussianBlur": radius,
    }
    return _choose(THREE_OPERATIONS, draws[:, 1:2], arguments, None)


def _choose(names: tuple[str, ...], draws: Any, arguments: dict[str, Any], used: Any) -> Steps:
    """Returns one of `names` for each draw, all equally often, where it is used."""
    import tensorflow as tf

    numbers = tf.constant([number_of(name) for name in names])
    chosen = tf.gather(numbers, tf.cast(draws * len(names), tf.int32))
    if used is not None:
        chosen = tf.where(used, chosen, 0)
    return Steps(chosen, _arguments_of(chosen, arguments))


def _arguments_of(numbers: Any, arguments: dict[str, Any]) -> Any:
    import tensorflow as tf

    nothing = tf.zeros(tf.shape(numbers))
    table = tf.stack([arguments.get(name, nothing) for name in OPERATIONS], axis=-1)
    return tf.gather(table, numbers, axis=-1, batch_dims=numbers.shape.rank)


def _sign(draws: Any) -> Any:
    import tensorflow as tf

    return tf.where(draws < 0.5, -1.0, 1.0)


def _normal(draws: Any) -> Any:
    """Returns a standard normal variate for each uniform one."""
    import tensorflow as tf

    return tf.math.ndtri(tf.clip_by_value(draws, 1e-7, 1 - 1e-7))
