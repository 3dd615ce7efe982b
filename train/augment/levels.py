"""From the level of an operation to its argument, as timm and torchvision have it."""

from __future__ import annotations

from typing import Any

AUTOAUGMENT_BINS = 10
"""Magnitudes of AutoAugment's operations, numbered from 0."""

TRIVIAL_BINS = 31
"""Magnitudes of TrivialAugment's operations."""

RAND_OPERATIONS = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "Posterize",
    "Solarize",
    "SolarizeAdd",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
)
"""RandAugment's operations in timm (`_RAND_INCREASING_TRANSFORMS`)."""

AUGMIX_OPERATIONS = (
    "AutoContrast",
    "Color",
    "Contrast",
    "Brightness",
    "Sharpness",
    "Equalize",
    "Rotate",
    "Posterize",
    "Solarize",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
)
"""AugMix's operations in timm (`_AUGMIX_TRANSFORMS`)."""

TRIVIAL_OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
"""TrivialAugment's operations in torchvision (`TrivialAugmentWide._augmentation_space`)."""


def increasing(level: Any, sign: Any, size: Any, translation: float) -> dict[str, Any]:
    """Returns the argument of each operation where a higher level changes more.

    Args:
        level: 0 to 10, float32 of any shape; a higher one continues the scale.
        sign: -1 or 1, of the same shape.
        size: Height and width of the images.
        translation: Largest translation as a fraction of the side.

    Returns:
        By operation, float32 of the shape of `level`.

    Source: timm `data/auto_augment.py`, `LEVEL_TO_ARG`, those of `inc1`.
    """
    import tensorflow as tf

    share = level / 10
    height, width = (tf.cast(side, tf.float32) for side in (size[0], size[1]))
    enhanced = tf.maximum(0.1, 1 + sign * share * 0.9)
    nothing = tf.zeros_like(level)
    return {
        "AutoContrast": nothing,
        "Equalize": nothing,
        "Invert": nothing,
        "Rotate": sign * share * 30,
        "Posterize": tf.maximum(0.0, 4 - tf.floor(share * 4)),
        "Solarize": 256 - tf.minimum(256.0, tf.floor(share * 256)),
        "SolarizeAdd": tf.minimum(128.0, tf.floor(share * 110)),
        "Color": enhanced,
        "Contrast": enhanced,
        "Brightness": enhanced,
        "Sharpness": enhanced,
        "ShearX": sign * share * 0.3,
        "ShearY": sign * share * 0.3,
        "TranslateX": sign * share * translation * width,
        "TranslateY": sign * share * translation * height,
    }


def original(level: Any, sign: Any, size: Any, translation: float) -> dict[str, Any]:
    """Returns the argument of each operation by the scales of RandAugment's authors.

    Four operations differ from `increasing`: those of colour and sharpness have factors from 0.1 at
    level 0 to 1.9 at level 10, posterize and solarize change less at a higher level.

    Args:
        level: 0 to 10, float32 of any shape; a higher one continues the scale.
        sign: -1 or 1, of the same shape.
        size: Height and width of the images.
        translation: Translation at level 10 as a fraction of the side.

    Returns:
        By operation, float32 of the shape of `level`.

    Source: tensorflow/tpu, `models/official/efficientnet/autoaugment.py`, `level_to_arg`. There
    level 10 translates by 100 pixels; 0.45 of a side of 224 is 100.8.
    """
    import tensorflow as tf

    share = level / 10
    enhanced = 0.1 + share * 1.8
    return {
        **increasing(level, sign, size, translation),
        "Posterize": tf.floor(share * 4),
        "Solarize": tf.floor(share * 256),
        "SolarizeAdd": tf.floor(share * 110),
        "Color": enhanced,
        "Contrast": enhanced,
        "Brightness": enhanced,
        "Sharpness": enhanced,
    }


def trivial(index: Any, sign: Any) -> dict[str, Any]:
    """Returns the argument of each operation of TrivialAugment Wide.

    Args:
        index: Number of the magnitude, 0 to 30, float32.
        sign: -1 or 1, of the same shape.

    Source: torchvision `transforms/autoaugment.py`, `TrivialAugmentWide`, 31 bins.
    """
    import tensorflow as tf

    last = TRIVIAL_BINS - 1
    pixels = sign * tf.floor(index * 32 / last)
    return {
        **_enhanced(index / last * 0.99, sign),
        **_sheared(index / last * 0.99, sign),
        "TranslateX": pixels,
        "TranslateY": pixels,
        "Rotate": sign * index * 135 / last,
        "Posterize": 8 - tf.round(index * 6 / last),
        "Solarize": 255 * (last - index) / last,
    }


def autoaugment(index: Any, sign: Any, size: Any) -> dict[str, Any]:
    """Returns the argument of each operation of AutoAugment.

    Args:
        index: Number of the magnitude, 0 to 9, float32.
        sign: -1 or 1, of the same shape.
        size: Height and width of the images.

    Source: torchvision `transforms/autoaugment.py`, `AutoAugment`, 10 bins.
    """
    import tensorflow as tf

    last = AUTOAUGMENT_BINS - 1
    height, width = (tf.cast(side, tf.float32) for side in (size[0], size[1]))
    return {
        **_enhanced(index / last * 0.9, sign),
        **_sheared(index / last * 0.3, sign),
        "TranslateX": sign * tf.floor(index / last * (150 / 331) * width),
        "TranslateY": sign * tf.floor(index / last * (150 / 331) * height),
        "Rotate": sign * index * 30 / last,
        "Posterize": 8 - tf.round(index * 4 / last),
        "Solarize": 255 * (last - index) / last,
    }


def _enhanced(change: Any, sign: Any) -> dict[str, Any]:
    names = ("Brightness", "Color", "Contrast", "Sharpness")
    return dict.fromkeys(names, 1 + sign * change)


def _sheared(factor: Any, sign: Any) -> dict[str, Any]:
    return dict.fromkeys(("ShearX", "ShearY"), sign * factor)
