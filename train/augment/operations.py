"""The operations that policies choose from, and a sequence of them applied to an image."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from . import geometry, tones

_GEOMETRY: dict[str, Callable[[Any, Any, Any], Any]] = {
    "Rotate": geometry.rotate,
    "ShearX": geometry.shear_x,
    "ShearY": geometry.shear_y,
    "TranslateX": geometry.translate_x,
    "TranslateY": geometry.translate_y,
}
_TONES: dict[str, Callable[[Any, Any], Any]] = {
    "AutoContrast": tones.autocontrast,
    "Equalize": tones.equalize,
    "Invert": tones.invert,
    "Posterize": tones.posterize,
    "Solarize": tones.solarize,
    "SolarizeAdd": tones.solarize_add,
    "Brightness": tones.brightness,
    "Color": tones.color,
    "Contrast": tones.contrast,
    "Sharpness": tones.sharpness,
    "GaussianBlur": tones.gaussian_blur,
}

OPERATIONS = ("Identity", *_GEOMETRY, *_TONES)
"""Names of the operations, in the order of their numbers; 0 leaves the image as it is."""


def number_of(operation: str) -> int:
    """Returns the number of an operation."""
    return OPERATIONS.index(operation)


def make_apply(names: frozenset[str], fill: Any) -> Callable[[Any, Any, Any], Any]:
    """Returns a function that applies one operation, of which only the chosen one is computed.

    Args:
        names: The operations that are chosen from; others are left out of the graph.
        fill: uint8 `(channels,)`, the colour of pixels from outside the image.

    Returns:
        A function of a uint8 image, the number of an operation (an int32 scalar) and its argument
        (a float32 scalar). It is traced once for all calls with images of one shape.
    """
    import tensorflow as tf

    chosen = [name for name in OPERATIONS if name in names and name != "Identity"]
    numbers = [number_of(name) for name in chosen]
    # From the operation's number to the branch; all others are branch 0, the identity.
    branch_of = [numbers.index(n) + 1 if n in numbers else 0 for n in range(len(OPERATIONS))]

    def apply(image: Any, number: Any, argument: Any) -> Any:
        branches: list[Callable[[], Any]] = [lambda: image]
        for name in chosen:
            if name in _TONES:
                branches.append(functools.partial(_TONES[name], image, argument))
            else:
                branches.append(functools.partial(_GEOMETRY[name], image, argument, fill))
        changed = tf.switch_case(tf.gather(branch_of, number), branches)
        return tf.ensure_shape(changed, image.shape)

    return tf.function(apply, autograph=False)
