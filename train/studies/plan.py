"""The plan of a comparison: its arms, their common budget, and the trials."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnet import ResNetSpec, get_spec
from keras_resnet.analysis import Counts, count_spec

from ..config import RunConfig
from ..recipes import get_recipe
from ..rundir import spec_of

# Fraction of the steps in which the learning rate rises from zero, in every arm: a short budget
# leaves no time to recover from a bad start.
WARMUP = 0.1


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the nets of a comparison.

    Attributes:
        name: Name, also of its runs' directories.
        label: Name in figures and tables.
        model: Name of the net.
        spec: Fields of the spec that differ from the named net's.
        settings: Dotted fields of the run's configuration that differ from the other arms'.
        group: Group of arms that are compared with each other, such as the plain nets.
        cited: Result of the paper, for the table; "" if there is none.
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
    """The data, recipe, length and seeds that all arms share.

    Attributes:
        dataset: Data set, as for `train --dataset`.
        recipe: Name of the recipe.
        seeds: Seeds; each arm has one run per seed.
        steps: Length of a run in steps, or None.
        epochs: Length of a run in epochs, or None; one of the two is given.
        batch_size: Global batch size.
        settings: Dotted fields of the configuration that the user set.
        warmup: Whether the learning rate rises over the first tenth; otherwise as in the recipe.
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
            ValueError: If the net, the recipe or a field is unknown, or a value is invalid.
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
        """Returns the counts of the net, at the image size that it is trained on."""
        spec = spec_of(self.config)
        size = self.config.data.image_size or spec.input_size
        return count_spec(spec, input_shape=(size, size, spec.input_channels))


def trials(arms: Sequence[Arm], budget: Budget) -> list[Trial]:
    """Returns all runs, one seed of every arm before the next seed.

    Raises:
        ValueError: If two arms have the same name, or an arm's configuration is invalid.
    """
    names = [arm.name for arm in arms]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"Each arm of a study needs a unique name. Received twice: {repeated[0]}")
    return [Trial(arm, seed, budget.configure(arm, seed)) for seed in budget.seeds for arm in arms]
