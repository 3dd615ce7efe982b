"""Limits on how much an artifact may differ from its Keras model."""

from __future__ import annotations

import dataclasses
import math

from keras_resnet.export.checks import Format
from keras_resnet.export.verify import Verification

_FLOAT16_LOGITS = 10.0
"""Largest logit up to which the float16 limit is absolute."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """A failed check: `value` exceeds, or does not reach, `limit`."""

    check: str
    value: float
    limit: float


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits that every artifact must keep; SavedModels and ONNX files are float32.

    Limits on differences are absolute, except that the float16 limit grows in proportion to the
    Keras model's largest logit beyond 10: rounding every weight by up to 1 in 2,048 changes a logit
    in proportion to its size (by 0.05 to 0.23 % of the largest logit in the networks tested).

    Attributes:
        float32_agreement: Smallest share of images with the same top-1 class.
        float32_difference: Largest absolute difference of a logit.
        float16_agreement: Smallest share of images with the same top-1 class, for float16.
        float16_difference: Largest absolute difference of a logit, for float16.
        int8_accuracy_drop: Largest loss of top-1 accuracy of int8, as a share of the images.

    Raises:
        ValueError: If a limit is negative, or an agreement is above 1.

    Example:
        >>> limits = keras_resnet.export.Limits(int8_accuracy_drop=0.01)
    """

    float32_agreement: float = 1.0
    float32_difference: float = 1e-4
    float16_agreement: float = 0.999
    float16_difference: float = 1e-2
    int8_accuracy_drop: float = 0.02

    def __post_init__(self) -> None:
        """Checks the fields."""
        for name, value in dataclasses.asdict(self).items():
            highest = 1.0 if name.endswith("agreement") else math.inf
            if not 0 <= value <= highest:
                raise ValueError(f"`{name}` must lie in [0, {highest}]. Received: {name}={value}")

    def failures(self, verification: Verification) -> list[Failure]:
        """Returns the checks that an artifact fails.

        Args:
            verification: The measurements of the artifact.
        """
        v = verification
        # Each as (check, passed, value, limit). Comparisons with NaN are false, so NaN fails.
        checks = [("non-finite logits", v.non_finite == 0, float(v.non_finite), 0.0)]
        custom = sum(n for name, n in v.operators.items() if _is_custom(v.format, name))
        checks.append(("custom operators", custom == 0, custom, 0))
        if v.precision == "int8":
            checks += self._int8_checks(v)
        else:
            checks += self._float_checks(v)
        return [Failure(name, value, limit) for name, passed, value, limit in checks if not passed]

    def _float_checks(self, v: Verification) -> list[tuple[str, bool, float, float]]:
        agreement, difference = self.float32_agreement, self.float32_difference
        if v.precision == "float16":
            agreement = self.float16_agreement
            difference = self.float16_difference * max(1.0, v.max_logit / _FLOAT16_LOGITS)
        return [
            ("top-1 agreement", v.agreement >= agreement, v.agreement, agreement),
            ("logit difference", v.max_difference <= difference, v.max_difference, difference),
        ]

    def _int8_checks(self, v: Verification) -> list[tuple[str, bool, float, float]]:
        # Inputs and outputs are integers, so only this operator leads to float arithmetic. The
        # converter's integer-only mode has been observed to leave some without an error.
        floats = v.operators.get("DEQUANTIZE", 0)
        drop, limit = v.keras_accuracy - v.accuracy, self.int8_accuracy_drop
        checks = [
            ("DEQUANTIZE operators", floats == 0, float(floats), 0.0),
            # The tolerance is for rounding: 0.98 - 0.96 is above 0.02.
            ("accuracy drop", drop <= limit + 1e-9, drop, limit),
        ]
        if v.input.mode == "raw":
            scale = v.input.scale or 0.0
            checks.append(("input scale", (scale, v.input.zero_point) == (1, 0), scale, 1.0))
        return checks


def _is_custom(format: Format, operator: str) -> bool:
    """Whether an operator is missing from the format's runtime."""
    if format == "tflite":
        return operator != operator.upper()  # builtin operators are in capitals
    return format == "onnx" and "::" in operator  # ONNX's operators have no domain
