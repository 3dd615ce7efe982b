"""The section of the configuration that makes a run quantise-aware."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from .fields import Bounds, Section, setting


@dataclasses.dataclass(frozen=True)
class QuantizeConfig(Section):
    """Fine-tuning for an int8 file."""

    section: ClassVar[str] = "quantize"

    scheme: Literal["none", "int8"] = setting(
        "none",
        "`int8`: fine-tune `model.weights` as their LiteRT int8 file will compute, batch norms "
        "folded and every tensor rounded; the run exports as that file.",
        option="--quantize",
    )
    bits: int = setting(
        8,
        "Bits of the kernels, 8 or 4; activations have 8.",
        Bounds(minimum=4, maximum=8),
        option="--bits",
    )
    calibration: int = setting(
        512,
        "Training images that set the ranges of activations before the first step.",
        Bounds(minimum=1),
    )
    observe: float = setting(
        0.5,
        "Share of the steps in which ranges follow the activations; then they are frozen.",
        Bounds(minimum=0, maximum=1),
    )
    momentum: float = setting(
        0.99, "Momentum of the moving average of the ranges.", Bounds(minimum=0, below=1)
    )

    def __post_init__(self) -> None:
        """Checks the fields."""
        super().__post_init__()
        if self.bits not in (8, 4):
            raise ValueError(f"`quantize.bits` must be 8 or 4. Received: {self.bits}")

    @property
    def enabled(self) -> bool:
        """Whether the run is quantise-aware."""
        return self.scheme != "none"


NOT_QUANTIZED = QuantizeConfig()


def check_quantize(config: Any) -> None:
    """Checks the other settings of a quantise-aware run.

    Args:
        config: A `RunConfig`.

    Raises:
        ValueError: If one does not go with it; names both.
    """
    if not config.quantize.enabled:
        return
    if config.model.weights is None:
        raise ValueError(
            "`--quantize` fine-tunes a trained net: give --weights, a run or a file. "
            "Received: model.weights=None"
        )
    others = {
        "runtime.precision": (config.runtime.precision, "float32"),
        "runtime.remat": (config.runtime.remat, "none"),
        "runtime.sync_batch_norm": (config.runtime.sync_batch_norm, False),
        "model.freeze": (config.model.freeze, None),
        "model.head_std": (config.model.head_std, None),
        "head_epochs": (config.head_epochs, 0.0),
        "optimizer.recompute_batch_norm": (config.optimizer.recompute_batch_norm, 0),
        "augment.start_size": (config.augment.start_size, None),
    }
    for path, (value, needed) in others.items():
        if value != needed:
            raise ValueError(
                f"`{path}` must be {needed!r} with `--quantize`: the whole folded net trains in "
                f"float32 at one size, and has no batch norm left. Received: {path}={value!r}"
            )
    if config.model.stacked:
        raise ValueError(
            "`model.stacked` does not go with `--quantize`: each layer has its own range. "
            "Received: model.stacked=True"
        )
