"""`RunConfig`: all settings that a training run is a function of, as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from keras_resnet.nets.spec import with_fixup_as_norm

from ..strategies import NAMES, check_name
from .fields import Bounds, Section, setting

_AT_LEAST_0 = Bounds(minimum=0)
_AT_LEAST_1 = Bounds(minimum=1)
_ABOVE_0 = Bounds(above=0)
_FRACTION = Bounds(minimum=0, below=1)
_SHARE = Bounds(above=0, maximum=1)


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The net."""

    section: ClassVar[str] = "model"

    name: str = setting("cifar_resnet20", "Name of the net, one of `keras_resnet.variants`.")
    spec: Mapping[str, Any] = setting({}, "Fields of the `ResNetSpec` that differ from the net's.")
    stacked: bool | None = setting(
        None,
        "Trace units that are alike once: a deep net then starts sooner. By default for nets of "
        "300 layers or more.",
        option="--stacked",
    )

    def __post_init__(self) -> None:
        """Checks the fields; configurations of earlier versions have Fixup as a merge."""
        super().__post_init__()
        object.__setattr__(self, "spec", with_fixup_as_norm(self.spec))


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """The images, and how they are brought to the net's input size."""

    section: ClassVar[str] = "data"

    dataset: str = setting(
        "digits",
        "`digits`, `synthetic`, the name of a TFDS data set, or a folder of class folders.",
        option="--dataset",
        metavar="DATASET",
    )
    data_dir: str | None = setting(
        None,
        "Directory of TFDS data sets, read and written. By default TFDS's own.",
        option="--data-dir",
        metavar="DIR",
        free=True,
    )
    validation: float = setting(
        0.0,
        "Fraction of the training images to hold out for validation; the best weights are chosen "
        "by it.",
        _FRACTION,
        option="--validation",
        metavar="FRACTION",
    )
    image_size: int | None = setting(
        None,
        "Height and width of the net's input, pixels. By default the net's own.",
        _AT_LEAST_1,
        option="--image-size",
        metavar="PIXELS",
    )
    crop_fraction: float = setting(
        1.0,
        "Evaluation resizes the shorter side to `image_size / crop_fraction` and crops the centre.",
        _SHARE,
    )
    mean: tuple[float, ...] | None = setting(
        None, "Mean of each channel, pixel values. By default measured on the training images."
    )
    std: tuple[float, ...] | None = setting(
        None,
        "Standard deviation of each channel, pixel values. By default measured on the training "
        "images.",
        _ABOVE_0,
    )
    on_bad_image: Literal["fail", "skip", "trust"] = setting(
        "fail",
        "Unreadable images of a folder: `fail` before training, `skip` them, or `trust` the folder "
        "and read no image beforehand.",
        option="--on-bad-image",
    )
    cache: Literal["auto", "memory", "none"] = setting(
        "auto",
        "Keep decoded images in memory: `auto` where they take less than 2 GiB, `memory` always, "
        "`none` never.",
    )
    classes: int | None = setting(
        None,
        "Number of classes that the data must have. By default any.",
        _AT_LEAST_1,
        option="--classes",
    )

    def __post_init__(self) -> None:
        """Checks the fields, and that mean and standard deviation come together."""
        super().__post_init__()
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                "Give both `data.mean` and `data.std`, or neither. "
                f"Received: data.mean={self.mean}, data.std={self.std}"
            )


@dataclasses.dataclass(frozen=True)
class AugmentConfig(Section):
    """Random changes of the training images."""

    section: ClassVar[str] = "augment"

    crop: Literal["none", "pad", "resized", "scale"] = setting(
        "none",
        "`pad`: zero-pad by `pad` pixels and crop at random (He et al. 2015, section 4.2). "
        "`resized`: crop a random area and aspect ratio (Szegedy et al. 2015, as in Goyal et al. "
        "2017). `scale`: resize the shorter side at random and crop at random (He et al. 2015, "
        "section 3.4).",
    )
    pad: int = setting(4, "Pixels on each side, for the crop `pad`.", _AT_LEAST_0)
    min_area: float = setting(
        0.08, "Smallest fraction of the image's area, for the crop `resized`.", _SHARE
    )
    shorter_side: tuple[float, float] = setting(
        (256 / 224, 480 / 224),
        "Range of the shorter side in units of the crop's size, for the crop `scale`.",
        Bounds(minimum=1, ascending=True),
    )
    flip: bool = setting(False, "Mirror images left-right with probability 1/2.")


@dataclasses.dataclass(frozen=True)
class ScheduleConfig(Section):
    """The learning rate as a function of the step."""

    section: ClassVar[str] = "schedule"

    kind: Literal["constant", "piecewise", "cosine"] = setting(
        "constant",
        "`constant`; `piecewise`: multiplied by `factor` at each of `boundaries`; `cosine`: to "
        "zero at the end of the run.",
    )
    learning_rate: float = setting(
        0.1, "Learning rate after the warm-up.", _ABOVE_0, option="--learning-rate", metavar="RATE"
    )
    boundaries: tuple[float, ...] = setting(
        (),
        "Where a `piecewise` rate changes, as fractions of the run.",
        Bounds(above=0, below=1, ascending=True),
    )
    factor: float = setting(0.1, "Factor of the rate at each of `boundaries`.", _ABOVE_0)
    warmup_steps: int = setting(0, "Length of the warm-up in steps.", _AT_LEAST_0)
    warmup_epochs: float = setting(
        0.0, "Length of the warm-up in epochs; added to `warmup_steps`.", _AT_LEAST_0
    )
    warmup: Literal["linear", "constant"] = setting(
        "linear",
        "`linear` from `warmup_rate` to `learning_rate`, or `constant` at `warmup_rate`.",
    )
    warmup_rate: float = setting(0.0, "Learning rate that the warm-up starts at.", _AT_LEAST_0)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Section):
    """The optimizer and the loss."""

    section: ClassVar[str] = "optimizer"

    name: Literal["sgd", "adamw"] = setting("sgd", "`sgd` has momentum; `adamw`.")
    momentum: float = setting(0.9, "Momentum of `sgd`.", _FRACTION)
    nesterov: bool = setting(False, "Nesterov's momentum, for `sgd`.")
    weight_decay: float = setting(
        1e-4,
        "For `sgd` the factor of an L2 term added to the gradient, as in the papers; for `adamw` "
        "decoupled.",
        _AT_LEAST_0,
    )
    decay_all: bool = setting(
        True,
        "Decay biases and batch norm's scales and shifts too, as in the papers' code.",
    )
    label_smoothing: float = setting(
        0.0,
        "Share of each label that is spread over all classes.",
        _FRACTION,
        option="--label-smoothing",
        metavar="SHARE",
    )
    ema: float = setting(
        0.0,
        "Momentum of a moving average of the weights, which is what is evaluated; 0 for none.",
        _FRACTION,
        option="--ema",
        metavar="MOMENTUM",
    )
    clip_norm: float = setting(
        0.0, "Largest global norm of the gradient; 0 does not clip.", _AT_LEAST_0
    )


@dataclasses.dataclass(frozen=True)
class RuntimeConfig(Section):
    """Where and how the steps run."""

    section: ClassVar[str] = "runtime"

    strategy: str = setting(
        "auto",
        f"Devices to train on: {NAMES}.",
        option="--strategy",
        metavar="NAME",
        free=True,
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = setting(
        "float32", "Precision of the computation.", option="--precision"
    )
    xla: bool = setting(False, "Compile the step with XLA.", option="--xla", free=True)
    steps_per_call: int = setting(
        10,
        "Steps in one call of the graph.",
        _AT_LEAST_1,
        option="--steps-per-call",
        free=True,
    )
    remat: Literal["none", "unit", "stage"] = setting(
        "none",
        "For the gradient compute the activations inside each `unit` or each `stage` again instead "
        "of keeping them: less memory, more time. The last stage keeps its own.",
        option="--remat",
        free=True,
    )
    sync_batch_norm: bool = setting(
        False, "Average batch-norm statistics over replicas.", option="--sync-batch-norm"
    )
    deterministic: bool = setting(
        False, "Use only operations that repeat to the last bit.", option="--deterministic"
    )

    def __post_init__(self) -> None:
        """Checks the fields, the strategy's name among them."""
        super().__post_init__()
        check_name(self.strategy)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig(Section):
    """When the state of the run is saved; it always is at the end of an epoch."""

    section: ClassVar[str] = "checkpoint"

    every_steps: int = setting(
        1000,
        "Steps between checkpoints; 0 for none.",
        _AT_LEAST_0,
        option="--checkpoint-steps",
        free=True,
    )
    every_minutes: float = setting(
        10.0,
        "Minutes between checkpoints; 0 for none.",
        _AT_LEAST_0,
        option="--checkpoint-minutes",
        metavar="MINUTES",
        free=True,
    )
    keep: int = setting(2, "Checkpoints to keep beside the best one.", _AT_LEAST_1, free=True)


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

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    recipe: str = setting(
        "custom", "Name of the recipe that the other settings came from, as a note.", free=True
    )
    batch_size: int = setting(
        128, "Images per step, over all replicas together.", _AT_LEAST_1, option="--batch-size"
    )
    epochs: float | None = setting(
        None, "Length of the run in passes over the training images.", _ABOVE_0, option="--epochs"
    )
    steps: int | None = setting(None, "Length of the run in steps.", _ABOVE_0, option="--steps")
    seed: int = setting(
        0,
        "Seed of the initial weights, of the order of the images and of their augmentation.",
        Bounds(minimum=0, maximum=2**31 - 1),
        option="--seed",
    )

    def __post_init__(self) -> None:
        """Checks the fields, and that exactly one length is given."""
        super().__post_init__()
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "Give the length of the run as `epochs` or as `steps`, one of the two. "
                f"Received: epochs={self.epochs}, steps={self.steps}"
            )

    def to_json(self) -> str:
        """Returns the configuration as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"
