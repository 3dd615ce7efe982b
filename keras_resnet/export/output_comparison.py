"""Comparison of files of several outputs, or of features, with their Keras model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_resnet.comparison import largest, ratio, spread_of
from keras_resnet.export.comparison import signal_to_noise


@dataclasses.dataclass(frozen=True)
class OutputDifference:
    """The difference of one output that does not hold logits of classes.

    Attributes:
        name: Its name in the file's signature.
        spread: Standard deviation of the Keras model's values of one input, or 1/16 of the largest
            if that is more.
        max_difference: Largest absolute difference of a value.
        relative_difference: `max_difference / spread`.
        conversion_difference: For float16: largest difference from the model with constants
            rounded to float16, relative to `spread`; otherwise None.
        signal_to_noise: Signal-to-noise ratio of the values, dB.

    Example:
        >>> [(each.name, each.relative_difference) for each in verification.outputs]
    """

    name: str
    spread: float
    max_difference: float
    relative_difference: float
    conversion_difference: float | None
    signal_to_noise: float


def compare_outputs(
    values: np.ndarray,
    expected: np.ndarray,
    rounded: np.ndarray | None,
    sections: Mapping[str, slice],
) -> tuple[OutputDifference, ...]:
    """Compares each output in units of its own spread.

    Args:
        values: Values of a file, one row per input with one output after another.
        expected: Those of the Keras model.
        rounded: Those of the model with rounded constants, of the first inputs; or None.
        sections: Where each output is in a row.
    """
    found = []
    for name, part in sections.items():
        ours, theirs = values[:, part], expected[:, part]
        spread, difference = spread_of(theirs), largest(ours, theirs)
        conversion = None
        if rounded is not None:
            conversion = ratio(largest(ours[: len(rounded)], rounded[:, part]), spread)
        found.append(
            OutputDifference(
                name,
                spread,
                difference,
                ratio(difference, spread),
                conversion,
                signal_to_noise(ours, theirs),
            )
        )
    return tuple(found)


def largest_relative(
    values: np.ndarray, reference: np.ndarray, sections: Mapping[str, slice]
) -> float:
    """Returns the largest difference from the first rows of a reference, in units of its spread.

    Args:
        values: Values of the first inputs, one row each.
        reference: Values of all inputs.
        sections: Where each output is in a row; empty for logits.
    """
    parts = list(sections.values()) or [slice(None)]
    return max(
        ratio(
            largest(values[:, part], reference[: len(values), part]), spread_of(reference[:, part])
        )
        for part in parts
    )
