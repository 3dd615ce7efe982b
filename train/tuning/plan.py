"""A search as data: its space, length and limits; and the configuration of each trial."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from keras_resnet.nets.catalog import nearest

from ..config import RunConfig, differences, from_dict, with_changes
from ..data import resolve_data
from ..length import length_of
from ..rundir import spec_of
from .candidates import Candidates, Values
from .limits import Limits
from .space import get_space

TUNERS = ("hyperband", "bayesian", "random")
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)([smh])")
# Default length of a trial, as a fraction of the recipe's.
_FRACTION = 10


@dataclasses.dataclass(frozen=True)
class SearchPlan:
    """The settings that determine a search.

    Attributes:
        space: Name of the space.
        tuner: `hyperband`, `bayesian` or `random`.
        base: The run at the centre of the space, at the recipe's full length. All trials and the
            tuner use its seed.
        epochs: Length of a trial in epochs (of Hyperband's longest), or None.
        steps: Length of a trial in steps, or None.
        validation: Fraction of the training images that trials hold out; 0 where the data set
            has validation images.
        limits: Limits on the cost of a candidate.

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
        """Checks the values that do not depend on the data."""
        get_space(self.space)
        if self.tuner not in TUNERS:
            raise ValueError(f"Unknown tuner {self.tuner!r}. {nearest(self.tuner, list(TUNERS))}")
        if self.base.runtime.strategy == "multi-worker":
            raise ValueError(
                "Each worker of a search runs its own trials: start workers as KerasTuner does "
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
                "Hyperband allocates whole epochs: give the longest trial as --epochs N. "
                f"Received: {given}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> SearchPlan:
        """Returns the plan that `to_dict` described.

        Raises:
            ValueError: If a value is missing or of the wrong type.
        """
        plan: SearchPlan = from_dict(cls, values, where)
        return plan

    def differences(self, other: SearchPlan) -> list[str]:
        """Returns the settings in which `other` differs, with both values."""
        found = [
            f"{field.name}: {getattr(self, field.name)} then, {getattr(other, field.name)} now"
            for field in dataclasses.fields(self)
            if field.name != "base" and getattr(self, field.name) != getattr(other, field.name)
        ]
        return found + differences(self.base, other.base)


@dataclasses.dataclass(frozen=True)
class PreparedSearch:
    """A plan with the facts that depend on its data.

    Attributes:
        plan: The plan, with the trials' length and validation fraction filled in.
        candidates: The space around the base.
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
        """Returns a trial's run: the recipe shortened to the trial's length, warm-up included.

        Args:
            values: Hyperparameters that the tuner chose.
            epochs: Length in place of the plan's, for rounds of Hyperband.

        Raises:
            ValueError: If the values do not describe a valid net or run.
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
        """Returns a candidate's run at the recipe's full length."""
        return with_changes(self.plan.base, self.candidates.changes(values))


def prepare(plan: SearchPlan) -> PreparedSearch:
    """Opens the data and fills in the settings that depend on it.

    Raises:
        ValueError: If the data does not fit the base's net, or has no validation images.
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
        raise ValueError(
            f"A search needs training and validation images. Received: data set {data.name!r}"
        )
    examples = len(data.train)
    if plan.epochs is None and plan.steps is None:
        if plan.tuner == "hyperband" or base.epochs is not None:
            epochs = length_of(base, examples).epochs
            plan = dataclasses.replace(plan, epochs=float(math.ceil(epochs / _FRACTION)))
        else:
            plan = dataclasses.replace(plan, steps=math.ceil((base.steps or 0) / _FRACTION))
    shape = (*preprocess.size, data.channels)
    return PreparedSearch(
        plan, candidates, len(data.class_names), shape, examples, len(data.validation)
    )


def seconds_of(budget: str) -> float:
    """Reads a time such as `90s`, `30m` or `2h`, in seconds.

    Raises:
        ValueError: If it is not such a time.
    """
    found = _BUDGET.fullmatch(budget.strip())
    if found is None or not float(found[1]):
        raise ValueError(f"`--budget` takes a time such as 90s, 30m or 2h. Received: {budget!r}")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def number_of(text: str) -> int:
    """Reads a count such as `250000`, `250k`, `1.5M` or `2G`.

    Raises:
        ValueError: If it is not such a count.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([kMG]?)", text.strip())
    if found is None:
        raise ValueError(f"A count is a number such as 250000, 250k or 1.5M. Received: {text!r}")
    return round(float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]])
