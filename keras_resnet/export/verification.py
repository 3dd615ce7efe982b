"""What is measured of a file in comparison with its Keras model."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from keras_resnet.comparison import EXACT, ROUNDINGS
from keras_resnet.export.checks import Format, Precision
from keras_resnet.export.interface import Activation
from keras_resnet.export.output_comparison import OutputDifference
from keras_resnet.export.runtime import InputDescription


@dataclasses.dataclass(frozen=True)
class Verification:
    """The comparison of an artifact with its Keras model on the same uint8 images.

    Attributes:
        format: `"saved_model"`, `"tflite"` or `"onnx"`.
        precision: One of `keras_resnet.export.checks.Precision`.
        file: Name of the file or directory.
        bytes: Size of the file, or of all files of the directory.
        sha256: SHA-256 of the file; of a directory, of its files' relative paths and contents.
        images: Number of images compared.
        non_finite: Number of logits that are NaN or infinite, on either side.
        max_difference: Largest absolute difference of a (dequantised) logit; NaN if one is NaN.
            Where the file returns probabilities: of their logarithms or log odds, above 1e-6; of
            int8 files, of the probabilities.
        mean_difference: Mean absolute difference of the logits.
        max_logit: Largest absolute logit of the Keras model.
        spread: Standard deviation of the Keras model's logits over the classes, or 1/16 of
            `max_logit` if that is more.
        relative_difference: `max_difference / spread`.
        conversion_difference: For float16: largest difference from the same model with constants
            rounded to float16, relative to `spread`, on the first 32 images; otherwise None.
        sensitivity: Change of the Keras model's logits when its input is rounded otherwise (by at
            most 2^-22 of each value), relative to `spread`; 0 where it was not measured, because
            nothing differs by more than rounding.
        signal_to_noise: Signal-to-noise ratio of the logits, dB; infinite where they are equal.
        agreement: Share of images with the same top-1 class; of equal logits the first counts. With
            several labels per image: share of the labels that either side gives (probability above
            1/2) which both give. NaN if the outputs are not logits.
        changed_margins: Margins of the Keras model between its class and the artifact's, for the
            images where they differ, or its distances from 1/2 for labels that only one side gives;
            relative to `spread`, largest first.
        decisions: Number of images, or of labels that either side gives.
        keras_accuracy: Top-1 accuracy of the Keras model, 0..1; None without labels.
        accuracy: Top-1 accuracy of the artifact, 0..1; None without labels.
        lost: Number of images that only the Keras model classifies correctly.
        gained: Number of images that only the artifact classifies correctly.
        operators: Number of occurrences of each operator.
        latency_ms: Median time for one image at batch size 1 on this machine, milliseconds.
        input: The artifact's input.
        output_type: Type of the artifact's output.
        activation: `"none"` for logits, `"softmax"` or `"sigmoid"` for probabilities.
        outputs: The difference of each output that does not hold logits. Those of the fields above
            that concern logits are then the worst output's.

    Example:
        ```python
        verification = keras_resnet.export.verify("model.tflite", reference)
        print(verification.agreement, verification.bytes, verification.latency_ms)
        ```
    """

    format: Format
    precision: Precision
    file: str
    bytes: int
    sha256: str
    images: int
    non_finite: int
    max_difference: float
    mean_difference: float
    max_logit: float
    spread: float
    relative_difference: float
    conversion_difference: float | None
    sensitivity: float
    signal_to_noise: float
    agreement: float
    changed_margins: tuple[float, ...]
    decisions: int
    keras_accuracy: float | None
    accuracy: float | None
    lost: int
    gained: int
    operators: dict[str, int]
    latency_ms: float
    input: InputDescription
    output_type: str = "float32"
    activation: Activation = "none"
    outputs: tuple[OutputDifference, ...] = ()

    @property
    def accuracy_drop(self) -> float | None:
        """Loss of top-1 accuracy, 0..1; None without labels."""
        if self.accuracy is None or self.keras_accuracy is None:
            return None
        return self.keras_accuracy - self.accuracy

    @property
    def amplified(self) -> bool:
        """Whether the net amplifies rounding so much that this explains the difference.

        It does so if rounding its input changes more than two float32 computations may differ.
        What rounding the input changes is scaled to the rounding of the file's weights: 2^-11 in
        float16, 2^-8 in int8.
        """
        if self.sensitivity <= EXACT / ROUNDINGS:
            return False
        coarser = {"float32": 1.0, "float16": 2.0**11}.get(self.precision, 2.0**14)
        difference = self.relative_difference
        if self.precision not in ("float32", "float16"):
            difference = 10 ** (-self.signal_to_noise / 20)
        return 0 < difference <= ROUNDINGS * coarser * self.sensitivity

    @property
    def largest_changed_margin(self) -> float:
        """Largest of `changed_margins`; 0 if no class changed."""
        return max(self.changed_margins, default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Returns values for JSON; NaN and infinity, which JSON does not have, become None."""
        values = dataclasses.asdict(self)
        values["changed"] = len(values.pop("changed_margins"))
        values["largest_changed_margin"] = self.largest_changed_margin
        values["input"]["shape"] = list(self.input.shape)
        values["outputs"] = [_finite(each) for each in values["outputs"]]
        if not values["outputs"]:
            del values["outputs"]
        return _finite(values)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
