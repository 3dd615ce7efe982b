"""The section `loss` of a configuration: the loss and the teacher."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from .fields import ABOVE_0, AT_LEAST_0, FRACTION, Bounds, Section, setting


@dataclasses.dataclass(frozen=True)
class LossConfig(Section):
    """The loss; `optimizer.label_smoothing` applies to each kind."""

    section: ClassVar[str] = "loss"

    kind: Literal["cross_entropy", "bce", "focal"] = setting(
        "cross_entropy",
        "`cross_entropy`; `bce`: the mean binary cross-entropy of the classes; `focal`: "
        "cross-entropy that weighs well classified examples less. Where an image has several "
        "labels, `cross_entropy` is `bce`.",
        option="--loss",
    )
    target_threshold: float | None = setting(
        None,
        "For `bce`: smoothed and mixed labels above it become 1, the others 0. By default they "
        "stay.",
        FRACTION,
    )
    focal_gamma: float = setting(2.0, "Focusing parameter of `focal`.", AT_LEAST_0)
    class_weights: Literal["none", "balanced"] = setting(
        "none",
        "`balanced`: each example's loss is multiplied by n / (k * count), for n images of k "
        "classes and the count of its class.",
        option="--class-weights",
    )
    teacher: str | None = setting(
        None,
        "A trained net to learn from: a run, a file (`.keras` of any Keras model too) or a "
        "published name. It sees the same crops.",
        option="--teacher",
        metavar="SOURCE",
    )
    teacher_net: str | None = setting(
        None, "The teacher's net, for published names that hold several, such as `torchvision/v2`."
    )
    teacher_input: Literal["auto", "pixels", "normalized"] = setting(
        "auto",
        "What the teacher takes: `auto`, what it states; `pixels`, 0..255; `normalized`, the run's "
        "own images.",
    )
    teacher_temperature: float = setting(
        1.0, "Temperature of both outputs in the divergence from the teacher.", ABOVE_0
    )
    teacher_alpha: float = setting(
        0.5,
        "Share of the divergence from the teacher in the loss; the labels have the rest.",
        Bounds(minimum=0, maximum=1),
    )

    def __post_init__(self) -> None:
        """Checks the fields, and that only `bce` has a threshold."""
        super().__post_init__()
        if self.target_threshold is not None and self.kind != "bce":
            raise ValueError(
                "`loss.target_threshold` needs `loss.kind=bce`. "
                f"Received: loss.kind={self.kind}, loss.target_threshold={self.target_threshold}"
            )
