"""What a comparison consists of: its arms, and the budget that all of them get."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet import ResNetSpec, get_spec
from keras_resnet.analysis import Counts, count_spec

from ..config import RunConfig
from ..recipes import get_recipe
from ..rundir import spec_of

# Share of the steps in which the rate grows from zero, in every arm alike: a short budget leaves
# no time to recover from a bad start, and an arm must not lose by its first hundred steps.
WARMUP = 0.1


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the nets that a study compares.

    Attributes:
        name: Becomes the name of its runs' directories.
        label: As figures and tables call it.
        model: Name of the net.
        spec: Fields of the spec that differ from the named net's.
        settings: Dotted fields of the run's configuration that differ from the other arms'.
        group: Arms of one group are compared with one another (the plain nets of all depths).
        cited: What the paper reports, for the table; "" where it has no such net.
    """

    name: str
    label: str
    model: str
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    group: str = ""
    cited: str = ""

    @property
    def net(self) -> ResNetSpec:
        """The net's spec."""
        return get_spec(self.model).replace(**self.spec)


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every arm gets: the same data, recipe, length and seeds.

    Attributes:
        dataset: As `train --dataset` takes it.
        recipe: Name of the recipe.
        seeds: One run of each arm for each.
        steps: Length of a run in steps, or None.
        epochs: Length of a run in epochs, or None; one of the two is given.
        batch_size: Images a step.
        settings: Dotted fields of the configuration that the user set.
        warmup: Whether the rate grows over the first tenth; otherwise the recipe's own warm-up.
    """

    dataset: str
    recipe: str
    seeds: tuple[int, ...]
    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 128
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warmup: bool = True

    def configure(self, arm: Arm, seed: int) -> RunConfig:
        """Returns the configuration of an arm's run.

        Raises:
            ValueError: If the net, the recipe or a field is unknown, or a value wrong.
        """
        length: dict[str, Any] = (
            {"epochs": self.epochs} if self.steps is None else {"steps": self.steps}
        )
        warmup: dict[str, Any] = {}
        if self.warmup:
            warmup = {
                "schedule.warmup": "linear",
                "schedule.warmup_rate": 0.0,
                "schedule.warmup_steps": round(WARMUP * (self.steps or 0)),
                "schedule.warmup_epochs": WARMUP * (self.epochs or 0.0),
            }
        changes = {
            "data.dataset": self.dataset,
            "batch_size": self.batch_size,
            "seed": seed,
            "checkpoint.keep": 1,
            **length,
            **warmup,
            **{f"model.spec.{field}": value for field, value in arm.spec.items()},
            **self.settings,
            **arm.settings,
        }
        return get_recipe(self.recipe).configure(arm.model, changes)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of a study: an arm and a seed."""

    arm: Arm
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Name of the run's directory."""
        return f"{self.arm.name}-seed{self.seed}"

    def counts(self) -> Counts:
        """Counts the net that is trained, at the size that it is given, on images of its depth."""
        spec = spec_of(self.config)
        size = self.config.data.image_size or spec.input_size
        return count_spec(spec, input_shape=(size, size, spec.input_channels))


def trials(arms: Sequence[Arm], budget: Budget) -> list[Trial]:
    """Returns all runs, one seed of every arm before the next seed.

    Raises:
        ValueError: If two arms have one name, or an arm's configuration is wrong.
    """
    names = [arm.name for arm in arms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Each arm of a study needs a name of its own. Received twice: {twice[0]}")
    return [Trial(arm, seed, budget.configure(arm, seed)) for seed in budget.seeds for arm in arms]
