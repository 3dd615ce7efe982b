"""How much an artefact may differ from its Keras model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from keras_resnet.export.verify import Verification

_FLOAT16_LOGITS = 10.0
"""Logits up to which the limit of float16 is absolute."""


# Whether an operator is one that the format's own runtime lacks. LiteRT's schema has its names in
# capitals, and custom ones, Flex too, name themselves; ONNX's own stand in no domain.
_CUSTOM: dict[str, Callable[[str], bool]] = {
    "tflite": lambda name: name != name.upper(),
    "onnx": lambda name: "::" in name,
}


@dataclasses.dataclass(frozen=True)
class Failure:
    """A check that an artefact did not pass: `value` had to keep to `limit`."""

    check: str
    value: float
    limit: float


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an artefact must keep to; SavedModels and ONNX files are float32.

    Limits on differences are absolute, but that of float16 grows in proportion to the Keras
    model's largest logit beyond 10: rounding every weight by up to 1 in 2,048 moves a logit in
    proportion to what it is (by 0.05 to 0.23 % of the largest, in the nets that were tried).

    Attributes:
        float32_agreement: Least share of images with the same top-1 class.
        float32_difference: Largest difference of a logit.
        float16_agreement: As above, for float16.
        float16_difference: As above, for float16.
        int8_accuracy_drop: Accuracy that int8 may lose, as a share of the images.
    """

    float32_agreement: float = 1.0
    float32_difference: float = 1e-4
    float16_agreement: float = 0.999
    float16_difference: float = 1e-2
    int8_accuracy_drop: float = 0.02

    def __post_init__(self) -> None:
        """Checks that every limit is a number from 0 on; agreements up to 1."""
        for name, value in dataclasses.asdict(self).items():
            highest = 1.0 if name.endswith("agreement") else math.inf
            if not 0 <= value <= highest:
                raise ValueError(f"`{name}` must lie in [0, {highest}]. Received: {name}={value}")

    def failures(self, verification: Verification) -> list[Failure]:
        """Returns the checks that an artefact does not pass."""
        v = verification
        # Each as (check, passes, value, limit). NaN passes no comparison.
        checks: list[tuple[str, bool, float, float]] = [
            ("non-finite logits", v.non_finite == 0, v.non_finite, 0)
        ]
        if v.format in _CUSTOM:
            custom = sum(n for name, n in v.operators.items() if _CUSTOM[v.format](name))
            checks.append(("custom operators", custom == 0, custom, 0))
        if v.precision == "int8":
            # All sides of an int8 file are integers, so only this can lead to float arithmetic;
            # the converter's integer-only mode was seen to leave some without an error.
            floats = v.operators.get("DEQUANTIZE", 0)
            checks.append(("DEQUANTIZE operators", floats == 0, floats, 0))
            drop, limit = v.keras_accuracy - v.accuracy, self.int8_accuracy_drop
            # A share of images is a quotient in floating point: 0.98 - 0.96 is above 0.02.
            checks.append(("accuracy drop", drop <= limit + 1e-9, drop, limit))
            if v.input.mode == "raw":
                scale = v.input.scale or 0.0
                checks.append(("input scale", (scale, v.input.zero_point) == (1, 0), scale, 1))
        else:
            half = v.precision == "float16"
            agreement = self.float16_agreement if half else self.float32_agreement
            limit = self.float32_difference
            if half:
                limit = self.float16_difference * max(1.0, v.max_logit / _FLOAT16_LOGITS)
            checks.append(("top-1 agreement", v.agreement >= agreement, v.agreement, agreement))
            checks.append(("logit difference", v.max_difference <= limit, v.max_difference, limit))
        return [Failure(name, value, limit) for name, passes, value, limit in checks if not passes]
