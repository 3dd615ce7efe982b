"""A search as data: what it varies, how long, within which limits; and each trial's run."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from keras_resnet.nets.catalog import nearest

from ..config import RunConfig, differences, from_dict, with_changes
from ..length import length_of
from ..rundir import spec_of
from ..session import resolve_data
from .candidates import Candidates, Values
from .limits import Limits
from .space import get_space

TUNERS = ("hyperband", "bayesian", "random")
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)([smh])")
# Without a length of its own a trial is this part of the recipe's.
_SHARE = 10


@dataclasses.dataclass(frozen=True)
class SearchPlan:
    """What a search is a function of, but for chance in the machine's arithmetic.

    Attributes:
        space: Name of the space.
        tuner: `hyperband`, `bayesian` or `random`.
        base: The run in the middle of the space, at the recipe's full length; its seed is every
            trial's, and the tuner's.
        epochs: Length of a trial in passes over the data (the longest, of Hyperband), or None.
        steps: Length of a trial in steps, or None.
        validation: Fraction of the training images that trials hold out; 0 where the data set
            has validation images.
        limits: What candidates must keep to.

    Raises:
        ValueError: If a value is unknown or does not fit another.
    """

    space: str
    tuner: str
    base: RunConfig
    epochs: float | None = None
    steps: int | None = None
    validation: float = 0.0
    limits: Limits = dataclasses.field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Checks what can be checked without the data."""
        get_space(self.space)
        if self.tuner not in TUNERS:
            raise ValueError(f"Unknown tuner {self.tuner!r}. {nearest(self.tuner, list(TUNERS))}")
        if self.base.runtime.strategy == "multi-worker":
            raise ValueError(
                "A search gives each worker trials of its own: start workers as KerasTuner does "
                "(KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT), with "
                "another --strategy than multi-worker"
            )
        if self.epochs is not None and self.steps is not None:
            raise ValueError("Give the length of a trial as --epochs or as --steps, one of the two")
        for name, value in (("epochs", self.epochs), ("steps", self.steps)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"`--{name}` must be above 0 and finite. Received: {value}")
        whole = self.epochs is None or self.epochs == int(self.epochs)
        if self.tuner == "hyperband" and (self.steps is not None or not whole):
            given = f"--steps {self.steps}" if self.steps is not None else f"--epochs {self.epochs}"
            raise ValueError(
                "Hyperband shares out whole epochs: give the longest trial as --epochs N. "
                f"Received: {given}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> SearchPlan:
        """Makes a plan from what `to_dict` returned.

        Raises:
            ValueError: If a value is missing or of the wrong type.
        """
        plan: SearchPlan = from_dict(cls, values, where)
        return plan

    def differences(self, other: SearchPlan) -> list[str]:
        """Returns what keeps `other` from going on where this one stopped, with both values."""
        found = [
            f"{field.name}: {getattr(self, field.name)} then, {getattr(other, field.name)} now"
            for field in dataclasses.fields(self)
            if field.name != "base" and getattr(self, field.name) != getattr(other, field.name)
        ]
        return found + differences(self.base, other.base)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A plan with its data looked at.

    Attributes:
        plan: With its trials' length and validation images settled.
        candidates: The space about the base.
        classes: Number of classes.
        input_shape: `(height, width, channels)` of one image.
        examples: Training images of a trial.
        held_out: Validation images of a trial.
    """

    plan: SearchPlan
    candidates: Candidates
    classes: int
    input_shape: tuple[int, int, int]
    examples: int
    held_out: int

    def trial(self, values: Values, epochs: float | None = None) -> RunConfig:
        """Returns a trial's run: the recipe squeezed to the trial's length, warm-up included.

        Args:
            values: What the tuner chose.
            epochs: Length in place of the plan's, as Hyperband's rounds have it.

        Raises:
            ValueError: If the values make no net or run.
        """
        plan, schedule = self.plan, self.plan.base.schedule
        length = {"epochs": epochs or plan.epochs, "steps": None if epochs else plan.steps}
        short = dataclasses.replace(plan.base, **length)  # type: ignore[arg-type]
        ratio = min(
            1.0,
            length_of(short, self.examples).steps / length_of(plan.base, self.examples).steps,
        )
        return with_changes(
            plan.base,
            {
                "schedule.warmup_steps": int(schedule.warmup_steps * ratio),
                "schedule.warmup_epochs": schedule.warmup_epochs * ratio,
                **length,
                "data.validation": plan.validation,
                **self.candidates.changes(values),
            },
        )

    def full(self, values: Values) -> RunConfig:
        """Returns a candidate's run at the recipe's full length, its data as the recipe has it."""
        return with_changes(self.plan.base, self.candidates.changes(values))


def prepare(plan: SearchPlan) -> Prepared:
    """Opens the data and settles what depends on it.

    Raises:
        ValueError: If the data does not fit the base's net, or leaves nothing to choose by.
    """
    base = plan.base
    candidates = Candidates(get_space(plan.space), base)
    spec = spec_of(base)
    data, preprocess = resolve_data(base, spec)
    if data.validation is None:
        plan = dataclasses.replace(plan, validation=base.data.validation or 0.1)
        held = dataclasses.replace(
            base, data=dataclasses.replace(base.data, validation=plan.validation)
        )
        data, preprocess = resolve_data(held, spec)
    else:
        plan = dataclasses.replace(plan, validation=base.data.validation)
    if not data.train or not data.validation:
        raise ValueError(f"Data set {data.name!r} has no images to train on, or none to choose by")
    examples = len(data.train)
    if plan.epochs is None and plan.steps is None:
        if plan.tuner == "hyperband" or base.epochs is not None:
            epochs = length_of(base, examples).epochs
            plan = dataclasses.replace(plan, epochs=float(math.ceil(epochs / _SHARE)))
        else:
            plan = dataclasses.replace(plan, steps=math.ceil((base.steps or 0) / _SHARE))
    shape = (*preprocess.size, data.channels)
    return Prepared(plan, candidates, len(data.class_names), shape, examples, len(data.validation))


def seconds_of(budget: str) -> float:
    """Reads a time such as `90s`, `30m` or `2h`.

    Raises:
        ValueError: If it is none.
    """
    found = _BUDGET.fullmatch(budget.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"`--budget` takes a time such as 90s, 30m or 2h. Received: {budget!r}")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def number_of(text: str) -> int:
    """Reads a count such as `250000`, `250k`, `1.5M` or `2G`.

    Raises:
        ValueError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([kMG]?)", text.strip())
    if found is None:
        raise ValueError(f"A count is a number such as 250000, 250k or 1.5M. Received: {text!r}")
    return round(float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]])
