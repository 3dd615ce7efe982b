"""A run's configuration: a frozen dataclass tree, written as JSON beside what it produced."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which net.

    Attributes:
        name: A name of `keras_resnet.variants`.
        spec: Fields of the `ResNetSpec` that differ from the named one's.
        stacked: Whether units that are alike are traced once (`keras_resnet.build`); by the net's
            depth where None.
    """

    name: str = "cifar_resnet20"
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stacked: bool | None = None


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are brought to the net's size.

    Attributes:
        dataset: `digits`, `synthetic`, the name of a TFDS data set, or a folder of class folders.
        data_dir: Where TFDS finds or puts its data sets; TFDS's default where None.
        validation: Fraction of the training images held out for validation, or 0.
        image_size: Height and width that the net is given, pixels; the net's default where None.
        crop_fraction: Evaluation resizes the shorter side to `image_size / crop_fraction`.
        mean: Per-channel mean, pixel values; measured on the training images where None.
        std: Per-channel standard deviation, pixel values; measured where None.
        on_bad_image: For folders: `fail` on unreadable images, `skip` them, or `trust` the folder
            and not look.
        cache: `auto` decodes a data set into memory where it takes less than 2 GiB; `memory` and
            `none` decide.
        classes: Number of classes the data must have; not checked where None.
    """

    dataset: str = "digits"
    data_dir: str | None = None
    validation: float = 0.0
    image_size: int | None = None
    crop_fraction: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    on_bad_image: Literal["fail", "skip", "trust"] = "fail"
    cache: Literal["auto", "memory", "none"] = "auto"
    classes: int | None = None


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied.

    Attributes:
        crop: `none`; `pad`, zero-pad by `pad` pixels and crop at random (He et al. 2015, 4.2);
            `resized`, a random area and aspect ratio (Szegedy et al. 2015, as in Goyal et al.
            2017); `scale`, a random shorter side and a random crop (He et al. 2015, 3.4).
        pad: Pixels on each side for `pad`.
        min_area: Smallest fraction of the image that `resized` keeps.
        shorter_side: Range of the shorter side for `scale`, in units of the crop's size.
        flip: Whether images are mirrored left-right with probability 1/2.
    """

    crop: Literal["none", "pad", "resized", "scale"] = "none"
    pad: int = 4
    min_area: float = 0.08
    shorter_side: tuple[float, float] = (256 / 224, 480 / 224)
    flip: bool = False


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate as a function of the step.

    Attributes:
        kind: `constant`; `piecewise`, multiplied by `factor` at each of `boundaries`; `cosine`,
            to zero at the end.
        learning_rate: The rate after warm-up, for the run's batch size.
        boundaries: Fractions of the run, each in (0, 1).
        factor: What the rate is multiplied by at a boundary.
        warmup_steps: Steps before the schedule proper.
        warmup_epochs: The same in epochs; added to `warmup_steps`.
        warmup: `linear` from `warmup_rate` to `learning_rate`, or `constant` at `warmup_rate`.
        warmup_rate: See `warmup`.
    """

    kind: Literal["constant", "piecewise", "cosine"] = "constant"
    learning_rate: float = 0.1
    boundaries: tuple[float, ...] = ()
    factor: float = 0.1
    warmup_steps: int = 0
    warmup_epochs: float = 0.0
    warmup: Literal["linear", "constant"] = "linear"
    warmup_rate: float = 0.0


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How weights follow gradients.

    Attributes:
        name: `sgd` (momentum) or `adamw`.
        momentum: Of SGD.
        nesterov: Whether SGD looks ahead.
        weight_decay: For `sgd` the factor of an L2 term added to the gradient, as in the papers;
            for `adamw` decoupled.
        decay_all: Whether norms' scales and shifts and biases decay too, as in the papers' code.
        label_smoothing: Share of the target spread over all classes.
        ema: Momentum of an average of the weights, used for evaluation; 0 keeps none.
        clip_norm: Largest global norm of the gradient; 0 does not clip.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_all: bool = True
    label_smoothing: float = 0.0
    ema: float = 0.0
    clip_norm: float = 0.0


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """Where and how the steps run; the defaults are what was fastest when measured.

    Attributes:
        strategy: `auto`, `mirrored`, `cpu:N`, `multi-worker` or `one-device`.
        precision: `float32`, `mixed_bfloat16` or `mixed_float16`.
        xla: Whether the step is compiled by XLA.
        steps_per_call: Steps that run in one call of the graph.
        remat: What the step recomputes rather than keeps for the gradient: the activations inside
            each `unit`, inside each `stage`, of all stages but the last; or `none`.
        sync_batch_norm: Whether batch-norm statistics are averaged over replicas.
        deterministic: Whether TensorFlow is held to operations that repeat to the last bit.
    """

    strategy: str = "auto"
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    xla: bool = False
    steps_per_call: int = 10
    remat: Literal["none", "unit", "stage"] = "none"
    sync_batch_norm: bool = False
    deterministic: bool = False


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When the state of the run is written.

    Attributes:
        every_steps: Steps between checkpoints; 0 for none but the epochs' ends.
        every_minutes: Minutes between checkpoints; 0 likewise.
        keep: Checkpoints kept beside the best one.
    """

    every_steps: int = 1000
    every_minutes: float = 10.0
    keep: int = 2


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """All that a training run is a function of.

    Attributes:
        recipe: Name of the recipe that the other fields came from; for the reader.
        batch_size: Images a step over all replicas together.
        epochs: Length of the run in passes over the training images, or None.
        steps: Length of the run in steps, or None; one of the two is given.
        seed: Of the initial weights, the order of the images and their augmentation.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    recipe: str = "custom"
    batch_size: int = 128
    epochs: float | None = None
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks what can be checked without the data."""
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                "Give the length of the run as `epochs` or as `steps`, one of the two. "
                f"Received: epochs={self.epochs}, steps={self.steps}"
            )
        rules = (
            ("batch_size", self.batch_size >= 1, "at least 1", self.batch_size),
            (
                "epochs",
                self.epochs is None or 0 < self.epochs < math.inf,
                "above 0 and finite",
                self.epochs,
            ),
            ("steps", self.steps is None or self.steps > 0, "above 0", self.steps),
            ("validation", 0 <= self.data.validation < 1, "in [0, 1)", self.data.validation),
            (
                "image_size",
                self.data.image_size is None or self.data.image_size > 0,
                "above 0",
                self.data.image_size,
            ),
            (
                "classes",
                self.data.classes is None or self.data.classes >= 1,
                "at least 1",
                self.data.classes,
            ),
            (
                "crop_fraction",
                0 < self.data.crop_fraction <= 1,
                "in (0, 1]",
                self.data.crop_fraction,
            ),
            (
                "learning_rate",
                0 < self.schedule.learning_rate < math.inf,
                "above 0 and finite",
                self.schedule.learning_rate,
            ),
            (
                "boundaries",
                all(0 < b < 1 for b in self.schedule.boundaries)
                and list(self.schedule.boundaries) == sorted(self.schedule.boundaries),
                "rising fractions of the run",
                self.schedule.boundaries,
            ),
            ("factor", self.schedule.factor > 0, "above 0", self.schedule.factor),
            (
                "warmup_steps",
                self.schedule.warmup_steps >= 0,
                "at least 0",
                self.schedule.warmup_steps,
            ),
            (
                "warmup_epochs",
                0 <= self.schedule.warmup_epochs < math.inf,
                "at least 0 and finite",
                self.schedule.warmup_epochs,
            ),
            (
                "warmup_rate",
                self.schedule.warmup_rate >= 0,
                "at least 0",
                self.schedule.warmup_rate,
            ),
            ("momentum", 0 <= self.optimizer.momentum < 1, "in [0, 1)", self.optimizer.momentum),
            (
                "label_smoothing",
                0 <= self.optimizer.label_smoothing < 1,
                "in [0, 1)",
                self.optimizer.label_smoothing,
            ),
            ("ema", 0 <= self.optimizer.ema < 1, "in [0, 1)", self.optimizer.ema),
            (
                "weight_decay",
                self.optimizer.weight_decay >= 0,
                "at least 0",
                self.optimizer.weight_decay,
            ),
            ("clip_norm", self.optimizer.clip_norm >= 0, "at least 0", self.optimizer.clip_norm),
            (
                "steps_per_call",
                self.runtime.steps_per_call >= 1,
                "at least 1",
                self.runtime.steps_per_call,
            ),
            (
                "every_steps",
                self.checkpoint.every_steps >= 0,
                "at least 0",
                self.checkpoint.every_steps,
            ),
            (
                "every_minutes",
                self.checkpoint.every_minutes >= 0,
                "at least 0",
                self.checkpoint.every_minutes,
            ),
            ("keep", self.checkpoint.keep >= 1, "at least 1", self.checkpoint.keep),
            ("pad", self.augment.pad >= 0, "at least 0", self.augment.pad),
            ("min_area", 0 < self.augment.min_area <= 1, "in (0, 1]", self.augment.min_area),
            (
                "shorter_side",
                len(self.augment.shorter_side) == 2
                and 1 <= self.augment.shorter_side[0] <= self.augment.shorter_side[1] < math.inf,
                "a range from 1 on",
                self.augment.shorter_side,
            ),
            ("seed", 0 <= self.seed < 2**31, f"in 0..{2**31 - 1}", self.seed),
        )
        for name, fine, rule, value in rules:
            if not fine:
                raise ValueError(f"`{name}` must be {rule}. Received: {name}={value}")
        if (self.data.mean is None) != (self.data.std is None):
            raise ValueError("Give `mean` and `std` both or neither.")

    def to_json(self) -> str:
        """Returns the configuration as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


# What a resumed run may change: none of it changes what is computed, only where and how fast.
_FREE = frozenset(
    {
        "data.data_dir",
        "runtime.strategy",
        "runtime.steps_per_call",
        "runtime.xla",
        "runtime.remat",
        "checkpoint.every_steps",
        "checkpoint.every_minutes",
        "checkpoint.keep",
        "recipe",
    }
)


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Returns the fields that keep `new` from going on where `old` stopped, with both values."""
    before, after = dict(_leaves(dataclasses.asdict(old))), dict(_leaves(dataclasses.asdict(new)))
    names = sorted(before.keys() | after.keys())
    return [
        f"{name}: {before.get(name)!r} then, {after.get(name)!r} now"
        for name in names
        if before.get(name) != after.get(name) and name not in _FREE
    ]


def load_config(path: Path) -> RunConfig:
    """Reads a configuration that `RunConfig.to_json` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no JSON, has an unknown key, or a value of the wrong type.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    return from_dict(RunConfig, values, str(path))


def from_dict(cls: type[Any], values: Any, where: str) -> Any:
    """Makes a dataclass of a config tree from JSON values, checking keys and types.

    Raises:
        ValueError: Naming `where`, the key, and what would be right.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be an object. Received: {values!r}")
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"{where} has no key {unknown[0]!r}. Keys: {', '.join(hints)}")
    made = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    return cls(**made)


def with_changes(config: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
    """Returns a copy with dotted fields changed: `{"optimizer.momentum": 0.95}`.

    Raises:
        ValueError: If a field is unknown or a value of the wrong type.
    """
    values = dataclasses.asdict(config)
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        node: Any = values
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or (leaf not in node and parents != ["model", "spec"]):
            raise ValueError(
                f"The configuration has no field {path!r}. "
                f"Fields: {', '.join(name for name, _ in _leaves(values))}"
            )
        node[leaf] = value
    return typing.cast(RunConfig, from_dict(RunConfig, values, "configuration"))


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type[Any], hint), value, where)
    if origin is Literal:
        if value not in get_args(hint):
            allowed = ", ".join(map(repr, get_args(hint)))
            raise ValueError(f"{where} must be one of {allowed}. Received: {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(arg for arg in get_args(hint) if arg is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} must be a list. Received: {value!r}")
        return tuple(_convert(get_args(hint)[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    if hint in plain and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ValueError(f"{where} must be {plain[hint]}. Received: {value!r}")
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} must be an object. Received: {value!r}")
        return dict(value)
    return value
