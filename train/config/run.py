"""`RunConfig`: all settings that a training run is a function of, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import json

from .augment import AugmentConfig as AugmentConfig
from .data import DataConfig as DataConfig
from .data import with_earlier_data_defaults as with_earlier_data_defaults
from .fields import ABOVE_0, AT_LEAST_0, AT_LEAST_1, Bounds, Section, setting
from .loss import LossConfig as LossConfig
from .net import ModelConfig as ModelConfig
from .optimizer import OptimizerConfig as OptimizerConfig
from .quantize import NOT_QUANTIZED, check_quantize
from .quantize import QuantizeConfig as QuantizeConfig
from .runtime import CheckpointConfig as CheckpointConfig
from .runtime import RuntimeConfig as RuntimeConfig
from .schedule import ScheduleConfig as ScheduleConfig


@dataclasses.dataclass(frozen=True)
class RunConfig(Section):
    """All settings that a training run is a function of.

    Raises:
        ValueError: If a value is out of bounds, or if not exactly one of `epochs` and `steps` is
            given.

    Example:
        >>> RunConfig(epochs=90, schedule=ScheduleConfig(kind="cosine")).batch_size
        128
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    quantize: QuantizeConfig = NOT_QUANTIZED
    recipe: str = setting(
        "custom", "Name of the recipe that the other settings came from, as a note.", free=True
    )
    batch_size: int = setting(
        128, "Images per step, over all replicas together.", AT_LEAST_1, option="--batch-size"
    )
    epochs: float | None = setting(
        None, "Length of the run in passes over the training images.", ABOVE_0, option="--epochs"
    )
    steps: int | None = setting(None, "Length of the run in steps.", ABOVE_0, option="--steps")
    seed: int = setting(
        0,
        "Seed of the initial weights, of the order of the images and of their augmentation.",
        Bounds(minimum=0, maximum=2**31 - 1),
        option="--seed",
    )
    head_epochs: float = setting(
        0.0,
        "With `model.weights`: epochs at the beginning that train the classifier only.",
        AT_LEAST_0,
        option="--head-epochs",
        metavar="EPOCHS",
    )
    early_stop: int = setting(
        0,
        "End the run after so many epochs without a better result on the validation images; 0 for "
        "never.",
        AT_LEAST_0,
        option="--early-stop",
        metavar="EPOCHS",
    )

    def __post_init__(self) -> None:
        """Checks the fields, and that exactly one length is given."""
        super().__post_init__()
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "Give the length of the run as `epochs` or as `steps`, one of the two. "
                f"Received: epochs={self.epochs}, steps={self.steps}"
            )
        if self.head_epochs and self.model.weights is None:
            raise ValueError(
                "`head_epochs` needs `model.weights`: random weights have nothing to keep. "
                f"Received: head_epochs={self.head_epochs}"
            )
        if self.head_epochs and self.model.freeze == "all":
            raise ValueError(
                "`head_epochs` needs layers that train after the classifier, and "
                "`model.freeze=all` leaves none. "
                f"Received: head_epochs={self.head_epochs}, model.freeze='all'"
            )
        check_quantize(self)

    def to_json(self) -> str:
        """Returns the configuration as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"
