"""What a recipe is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from keras_resnet import ResNetSpec, get_spec

from ..config import ModelConfig, RunConfig, with_changes


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A way to train that a paper, or this project, has measured.

    Attributes:
        name: As given to `--recipe`.
        source: Where it was published.
        expected: What it reaches, and where that was measured.
        settings: Dotted fields of `RunConfig` that differ from the defaults.
        adapt: Further fields, as a function of the net.
        rate_follows_batch: Whether another batch size scales the learning rate in proportion.
    """

    name: str
    source: str
    expected: str
    settings: Mapping[str, Any]
    adapt: Callable[[ResNetSpec], Mapping[str, Any]] = lambda spec: {}
    rate_follows_batch: bool = False

    def configure(self, model: str, changes: Mapping[str, Any]) -> RunConfig:
        """Returns the configuration for a net.

        Args:
            model: Name of the net.
            changes: Dotted fields of `RunConfig` that the user sets; they win over the recipe's.

        Raises:
            ValueError: If the net or a field is unknown, or a value wrong.
        """
        settings = {**self.settings, **self.adapt(get_spec(model)), **changes}
        if self.rate_follows_batch and "schedule.learning_rate" not in changes:
            ratio = settings["batch_size"] / self.settings["batch_size"]
            settings["schedule.learning_rate"] *= ratio
        rate, start = settings.get("schedule.learning_rate"), settings.get("schedule.warmup_rate")
        if rate is not None and start is not None and "schedule.warmup_rate" not in changes:
            settings["schedule.warmup_rate"] = min(rate, start)  # a warm-up rises
        # Whoever sets one length replaces the recipe's, in whichever unit that is.
        if "epochs" in changes or "steps" in changes:
            settings["epochs"] = changes.get("epochs")
            settings["steps"] = changes.get("steps")
        base = RunConfig(model=ModelConfig(name=model), recipe=self.name, epochs=1)
        return with_changes(base, {"epochs": None, **settings})
