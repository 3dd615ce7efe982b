"""What a run trains, and when: the whole net, a part of it, or the classifier first.

A run with `head_epochs` has two phases. The first trains the classifier at a constant rate. At the
switch the rest of the net, but for frozen stages, joins it with a new optimizer, and the schedule
begins. So the momentum of the first phase, which knows one layer only, does not enter the second,
Adam's bias correction starts again, and a checkpoint holds the variables of its own phase. A
checkpoint of the step of the switch belongs to the second phase.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_resnet import finetune

from .config import RunConfig
from .length import Length


@dataclasses.dataclass(frozen=True)
class HeadFirst:
    """A constant learning rate for the classifier, then a schedule that starts from its step 0.

    Attributes:
        schedule: The schedule of the second phase.
        rate: The rate of the first phase.
        steps: Length of the first phase in steps.
    """

    schedule: Callable[[Any], Any]
    rate: float
    steps: int

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of the update that follows `step` others."""
        rest = self.schedule(ops.maximum(ops.cast(step, "float32") - self.steps, 0.0))
        return ops.where(ops.cast(step, "float32") < self.steps, self.rate, rest)


def head_steps(config: RunConfig, length: Length) -> int:
    """Returns the number of steps at the beginning that train the classifier only.

    Raises:
        ValueError: If they are not fewer than the steps of the run.
    """
    steps = round(config.head_epochs * length.steps_per_epoch)
    if config.head_epochs and steps >= length.steps:
        raise ValueError(
            f"`--head-epochs` must be shorter than the run of {length.steps} steps; to train the "
            f"classifier only, use --freeze all. Received: {config.head_epochs} ({steps} steps)"
        )
    return steps


def set_trainable(model: Any, freeze: str | None, *, head_only: bool) -> None:
    """Freezes the layers of a net, in place, and makes the others trainable.

    Args:
        model: The net.
        freeze: Number of the last frozen stage as text, `"all"`, or None.
        head_only: Whether to freeze everything but the classifier.
    """
    finetune.unfreeze(model)
    if head_only or freeze == "all":
        finetune.freeze(model)
    elif freeze is not None:
        finetune.freeze(model, int(freeze))
