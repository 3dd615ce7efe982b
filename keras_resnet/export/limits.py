"""Limits on how much an artifact may differ from its Keras model."""

from __future__ import annotations

import dataclasses
import math

from keras_resnet.export.checks import QUANTIZED, Format, Precision
from keras_resnet.export.comparison import (
    exceeds_by_more_than_chance,
    loses_by_more_than_chance,
    permitted_by,
)
from keras_resnet.export.reference import Reference
from keras_resnet.export.verification import Verification

# Fields with the smallest signal-to-noise ratio, by precision.
SIGNAL_TO_NOISE: dict[Precision, str] = {
    precision: f"{precision}_signal_to_noise" for precision in QUANTIZED
}
# Difference of a quantised logit that is not surprising, in standard deviations of the noise.
_DEVIATIONS = 3


@dataclasses.dataclass(frozen=True)
class Failure:
    """A failed check: `value` exceeds, or does not reach, `limit`.

    Attributes:
        check: What was measured.
        value: The measurement.
        limit: The limit.
        field: Field of `Limits` that sets the limit; empty where none does.
    """

    check: str
    value: float
    limit: float
    field: str = ""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits that every artifact must keep, by its precision.

    Differences are in units of the spread of the Keras model's logits (`Verification.spread`). A
    changed top-1 class counts only where the Keras model's margin between the two classes exceeds
    twice the permitted difference.

    float16 files compute in float32 with rounded weights. So they are compared twice: with the
    Keras model whose weights are rounded alike, at the limit for float32, which shows that the
    file is right; and with the Keras model, which shows what rounding costs.

    Shares of few images are uncertain. A share fails where it misses its limit by more than chance
    explains: by a binomial test for the agreement and a sign test on the images that only one side
    classifies correctly for the accuracy, both at 5 %.

    Attributes:
        float32_difference: Largest difference of a logit that float32 rounding may cause.
            Measured: 3e-6 for trained CIFAR nets, 1e-5 for ResNet-50; at least 1e-2 for a net of
            which one kernel is 1 % too large. A net that amplifies rounding may differ by four
            times its own `Verification.sensitivity`.
        float16_difference: Largest difference of a logit from rounding the weights to float16.
            Measured: 2e-3 to 8e-3.
        int8_signal_to_noise: Smallest signal-to-noise ratio of int8 logits, dB. Measured: 24 to 32
            when calibrated on 100 images or more, about 10 on a single one.
        int8_agreement: Smallest share of images whose class a quantised file keeps. The permitted
            difference is three times the noise at the signal-to-noise limit of its precision.
        int8_accuracy_drop: Largest loss of top-1 accuracy of a quantised file, as a share of the
            images.
        dynamic_signal_to_noise: As for int8, for weights in int8 and activations in float.
        int16x8_signal_to_noise: As for int8, for activations in int16.
        mixed_signal_to_noise: What `mixed` must reach: as many layers are float as that takes.

    Raises:
        ValueError: If a limit is negative, or the agreement is above 1.

    Example:
        >>> limits = keras_resnet.export.Limits(int8_accuracy_drop=0.01)
    """

    float32_difference: float = 1e-4
    float16_difference: float = 5e-2
    int8_signal_to_noise: float = 18.0
    int8_agreement: float = 0.99
    int8_accuracy_drop: float = 0.02
    dynamic_signal_to_noise: float = 20.0
    int16x8_signal_to_noise: float = 24.0
    mixed_signal_to_noise: float = 32.0

    def __post_init__(self) -> None:
        """Checks the fields."""
        for name, value in dataclasses.asdict(self).items():
            highest = 1.0 if name.endswith("agreement") else math.inf
            if not 0 <= value <= highest:
                raise ValueError(f"`{name}` must lie in [0, {highest}]. Received: {name}={value}")

    def judged(
        self, verification: Verification, reference: Reference
    ) -> tuple[Verification, list[Failure]]:
        """Returns the checks that an artifact fails.

        Args:
            verification: The measurements of the artifact.
            reference: What it was compared with.

        Returns:
            The measurements, of a failed artifact with the sensitivity of the net; and the checks.
        """
        failures = self.failures(verification)
        if failures:
            verification = dataclasses.replace(verification, sensitivity=reference.sensitivity)
        return verification, failures

    def failures(self, verification: Verification) -> list[Failure]:
        """Returns the checks that an artifact fails.

        Args:
            verification: The measurements of the artifact.
        """
        v = verification
        # Each as (passed, failure). Comparisons with NaN are false, so NaN fails.
        checks = [(v.non_finite == 0, Failure("non-finite logits", float(v.non_finite), 0.0))]
        custom = sum(n for name, n in v.operators.items() if _is_custom(v.format, name))
        checks.append((custom == 0, Failure("custom operators", custom, 0)))
        if v.outputs:
            checks += self._output_checks(v)
            return [failure for passed, failure in checks if not passed]
        if v.precision == "float32":
            checks += self._difference(v, "float32_difference", permitted_by(v.sensitivity))
        elif v.precision == "float16":
            if v.conversion_difference is not None:
                checks.append(
                    self._bound(
                        "logit difference from the net with float16 weights",
                        v.conversion_difference,
                        "float32_difference",
                    )
                )
            checks += self._difference(v, "float16_difference")
        else:
            if v.precision == "int8" and v.format == "tflite":
                checks += self._integer_checks(v)
            checks += self._quantized_checks(v)
        return [failure for passed, failure in checks if not passed]

    def _output_checks(self, v: Verification) -> list[tuple[bool, Failure]]:
        """Checks each output that does not hold logits, in units of its own spread."""
        checks = self._integer_checks(v) if (v.precision, v.format) == ("int8", "tflite") else []
        for each in v.outputs:
            name, difference = f"of the output {each.name!r}", each.relative_difference
            if v.precision in QUANTIZED:
                field, value = SIGNAL_TO_NOISE[v.precision], each.signal_to_noise
                least = getattr(self, field)
                failure = Failure(f"signal-to-noise ratio {name}, dB", value, least, field)
                checks.append((value >= least, failure))
                continue
            if each.conversion_difference is not None:
                check = f"difference {name} from the net with float16 weights"
                checks.append(self._bound(check, each.conversion_difference, "float32_difference"))
            field = f"{v.precision}_difference"
            limit = getattr(self, field)
            if v.precision == "float32" and limit > 0:
                limit = max(limit, permitted_by(v.sensitivity))
            failure = Failure(f"difference {name} relative to its spread", difference, limit, field)
            checks.append((difference <= limit, failure))
        return checks

    def _bound(self, check: str, value: float, field: str) -> tuple[bool, Failure]:
        limit = getattr(self, field)
        return value <= limit, Failure(check, value, limit, field)

    def _difference(
        self, v: Verification, field: str, least: float = 0.0
    ) -> list[tuple[bool, Failure]]:
        """Checks the largest difference, and the margins of the classes that changed."""
        limit = max(getattr(self, field), least) if getattr(self, field) > 0 else 0.0
        difference, margin = v.relative_difference, v.largest_changed_margin
        name = "logit difference relative to the spread"
        return [
            (difference <= limit, Failure(name, difference, limit, field)),
            (margin <= 2 * limit, Failure("margin of a changed class", margin, 2 * limit, field)),
        ]

    def _integer_checks(self, v: Verification) -> list[tuple[bool, Failure]]:
        # Integers at both ends, so only this operator leads to float arithmetic inside. The
        # converter's integer-only mode has been observed to leave some without an error.
        floats, ends = v.operators.get("DEQUANTIZE", 0), int(v.output_type == "float32")
        ends *= max(1, len(v.outputs))
        checks = [(floats <= ends, Failure("DEQUANTIZE operators", float(floats), float(ends)))]
        if v.input.mode == "raw" and v.input.dtype != "float32":
            scale = v.input.scale or 0.0
            passed = (scale, v.input.zero_point) == (1, -128 if v.input.dtype == "int8" else 0)
            checks.append((passed, Failure("input scale", scale, 1.0)))
        return checks

    def _quantized_checks(self, v: Verification) -> list[tuple[bool, Failure]]:
        field = SIGNAL_TO_NOISE[v.precision]
        ratio, least = v.signal_to_noise, getattr(self, field)
        name = "signal-to-noise ratio of the logits, dB"
        checks = [(ratio >= least, Failure(name, ratio, least, field))]
        checks.append(self._agreement(v, least))
        if v.accuracy_drop is not None:
            drop, limit = v.accuracy_drop, self.int8_accuracy_drop
            # The tolerance is for rounding: 0.98 - 0.96 is above 0.02.
            passed = drop <= limit + 1e-9 or not loses_by_more_than_chance(v.lost, v.gained)
            checks.append((passed, Failure("accuracy drop", drop, limit, "int8_accuracy_drop")))
        return checks

    def _agreement(self, v: Verification, least: float) -> tuple[bool, Failure]:
        permitted = _DEVIATIONS * 10 ** (-least / 20)
        changed = sum(margin > 2 * permitted for margin in v.changed_margins)
        agreement, limit = 1 - changed / max(1, v.decisions), self.int8_agreement
        failed = exceeds_by_more_than_chance(changed, v.decisions, 1 - limit)
        name = "top-1 agreement beyond the noise"
        return not failed, Failure(name, agreement, limit, "int8_agreement")


def _is_custom(format: Format, operator: str) -> bool:
    """Whether an operator is missing from the format's runtime."""
    if format == "tflite":
        return operator != operator.upper()  # builtin operators are in capitals
    return format == "onnx" and "::" in operator  # ONNX's operators have no domain
