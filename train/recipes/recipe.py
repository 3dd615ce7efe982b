"""`Recipe`: the settings of a training run as a paper, or this project, published them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from keras_resnet import ResNetSpec, get_spec

from ..config import ModelConfig, RunConfig, with_changes


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of a training run, and the accuracy that it reached.

    Attributes:
        name: The name given to `--recipe`.
        source: Where it was published.
        expected: The accuracy or error to expect, and where that was published.
        model: Name of a net that `expected` is about.
        dataset: The data that `expected` is about, as `--dataset` takes it.
        settings: Dotted fields of `RunConfig` that differ from the defaults.
        adapt: Further settings, as a function of the net.
        rate_follows_batch: Whether the learning rate is scaled with the batch size.
        by_images: Further settings, as a function of the number of training images and of the run.
        weights: Weights that the recipe starts from, as an example; None for random ones.
        here: What this project has run of it, and the result.
    """

    name: str
    source: str
    expected: str
    model: str
    dataset: str
    settings: Mapping[str, Any]
    adapt: Callable[[ResNetSpec], Mapping[str, Any]] = lambda spec: {}
    rate_follows_batch: bool = False
    by_images: Callable[[int, RunConfig], Mapping[str, Any]] | None = None
    weights: str | None = None
    here: str = ""

    @property
    def command(self) -> str:
        """The command that trains `model` on `dataset`, without `--output`."""
        weights = "" if self.weights is None else f"--weights {self.weights} "
        return (
            f"keras-resnet train {weights}--model {self.model} --dataset {self.dataset} "
            f"--recipe {self.name}"
        )

    def configure(
        self, model: str, changes: Mapping[str, Any], sized: Mapping[str, Any] | None = None
    ) -> RunConfig:
        """Returns the configuration for a net.

        Args:
            model: Name of the net.
            changes: Dotted fields of `RunConfig` that the user sets; they replace the recipe's.
            sized: The settings that follow the data, from `by_images`.

        Raises:
            ValueError: If the net or a field is unknown, or a value is wrong.
        """
        settings = {**self.settings, **self.adapt(get_spec(model)), **(sized or {}), **changes}
        if self.rate_follows_batch and "schedule.learning_rate" not in changes:
            ratio = settings["batch_size"] / (sized or self.settings)["batch_size"]
            settings["schedule.learning_rate"] *= ratio
        rate, start = settings.get("schedule.learning_rate"), settings.get("schedule.warmup_rate")
        if rate is not None and start is not None and "schedule.warmup_rate" not in changes:
            settings["schedule.warmup_rate"] = min(rate, start)  # a warm-up must not fall
        _scale_sizes(settings, self.settings, changes, get_spec(model).input_size)
        # A given length replaces the recipe's, in epochs or in steps.
        if "epochs" in changes or "steps" in changes:
            settings["epochs"] = changes.get("epochs")
            settings["steps"] = changes.get("steps")
        base = RunConfig(model=ModelConfig(name=model), recipe=self.name, epochs=1)
        return with_changes(base, {"epochs": None, **settings})


def _scale_sizes(
    settings: dict[str, Any], own: Mapping[str, Any], changes: Mapping[str, Any], size: int
) -> None:
    """Scales a recipe's sizes of training images, in place, with the size that the user sets."""
    given = changes.get("data.image_size")
    for name in ("augment.train_size", "augment.start_size"):
        if given and own.get(name) and name not in changes:
            scale = given / own.get("data.image_size", size)
            settings[name] = max(1, round(own[name] * scale))
