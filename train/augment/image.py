"""The changes of single images of the network's size: policy, colour jitter, erasing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..config import AugmentConfig
from .batch import pad_crop_flip
from .erasing import erase, erased_boxes
from .operations import make_apply
from .policies import (
    AUGMIX_DEPTH,
    AUGMIX_WIDTH,
    JITTER_OPERATIONS,
    mixing_weights,
    operations_of,
    plan,
    plan_jitter,
)

Apply = Callable[[Any, Any, Any], Any]


def changes_images(config: AugmentConfig) -> bool:
    """Whether images are changed one by one after they have the network's size."""
    return config.policy != "none" or config.color_jitter > 0 or config.erasing > 0


def image_plan(config: AugmentConfig, draws: dict[str, Any], size: Any) -> dict[str, Any]:
    """Turns random numbers into operations and rectangles, for all images of a batch at once.

    Args:
        config: The augmentation.
        draws: Rows of `example_draws`.
        size: Height and width of the images that the operations get.

    Returns:
        `place` and `retry` as they are; `numbers` and `arguments` of the policy's operations,
        `weights` of AugMix; `jitter_numbers` and `jitter_arguments`; `box` and `key` of erasing.
    """
    rows: dict[str, Any] = {name: draws[name] for name in ("place", "retry") if name in draws}
    if config.policy != "none":
        rows["numbers"], rows["arguments"] = plan(config, draws["policy"], size)
    if config.policy == "augmix":
        rows["weights"] = mixing_weights(draws["policy"])
    if config.color_jitter:
        steps = plan_jitter(config.color_jitter, draws["jitter"])
        rows["jitter_numbers"], rows["jitter_arguments"] = steps
    if config.erasing:
        rows["box"] = erased_boxes(config.erasing, draws["erasing"], size)
        rows["key"] = draws["erasing_key"]
    return rows


def make_change(config: AugmentConfig, fill: Any) -> Callable[[Any, dict[str, Any]], Any]:
    """Returns a function that applies policy and colour jitter to one image.

    Args:
        config: The augmentation.
        fill: uint8 `(channels,)`, the mean colour, for pixels from outside the image.

    Returns:
        A function of a uint8 image `(height, width, channels)` and its row of `image_plan`, to a
        uint8 image of the same shape.
    """
    policy = make_apply(operations_of(config.policy), fill)
    jitter = make_apply(frozenset(JITTER_OPERATIONS), fill)

    def change(image: Any, row: dict[str, Any]) -> Any:
        if config.policy == "augmix":
            image = _augmix(image, row, policy)
        elif config.policy != "none":
            image = _in_sequence(image, row["numbers"], row["arguments"], policy)
        if config.color_jitter:
            image = _in_sequence(image, row["jitter_numbers"], row["jitter_arguments"], jitter)
        return image

    return change


def erase_from(image: Any, row: dict[str, Any], config: AugmentConfig) -> Any:
    """Erases the rectangle of an image's row of `image_plan` from a normalised image."""
    return erase(image, row["box"], row["key"], config.erasing_mode)


def place(images: Any, draws: Any, config: AugmentConfig, fill: Any) -> Any:
    """Pads uint8 images with the mean colour, crops and mirrors them: `pad_crop_flip`.

    Args:
        images: uint8 `(batch, height, width, channels)`.
        draws: `(batch, DRAWS)`.
        config: The augmentation.
        fill: uint8 `(channels,)`, the mean colour.
    """
    import tensorflow as tf

    colour = tf.cast(fill, tf.int16)
    centred = tf.cast(images, tf.int16) - colour
    return tf.cast(pad_crop_flip(centred, draws, config) + colour, tf.uint8)


def _in_sequence(image: Any, numbers: Any, arguments: Any, apply: Apply) -> Any:
    for slot in range(numbers.shape[0]):
        image = apply(image, numbers[slot], arguments[slot])
    return image


def _augmix(image: Any, row: dict[str, Any], apply: Apply) -> Any:
    """Mixes the image with three chains of operations: Hendrycks et al. 2019, Algorithm 1."""
    import tensorflow as tf

    mixed = row["weights"][0] * tf.cast(image, tf.float32)
    for chain in range(AUGMIX_WIDTH):
        slots = slice(chain * AUGMIX_DEPTH, (chain + 1) * AUGMIX_DEPTH)
        changed = _in_sequence(image, row["numbers"][slots], row["arguments"][slots], apply)
        mixed += row["weights"][1 + chain] * tf.cast(changed, tf.float32)
    return tf.cast(tf.clip_by_value(tf.round(mixed), 0, 255), tf.uint8)
