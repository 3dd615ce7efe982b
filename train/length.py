"""The length of a run in steps and in epochs."""

from __future__ import annotations

import dataclasses

from .config import RunConfig


@dataclasses.dataclass(frozen=True)
class Length:
    """The length of a run.

    Attributes:
        steps: Steps of the whole run.
        steps_per_epoch: Steps per pass over the training images; not always a whole number.
    """

    steps: int
    steps_per_epoch: float

    @property
    def epochs(self) -> int:
        """Number of epochs; the last one may be shorter than the others."""
        epoch = max(1, int(self.steps / self.steps_per_epoch))
        while round(epoch * self.steps_per_epoch) < self.steps:
            epoch += 1
        return epoch

    def epoch_of(self, step: int) -> int:
        """Returns the epoch, from 1, of the update that follows `step` others."""
        for epoch in range(max(1, int(step / self.steps_per_epoch) - 1), self.epochs + 1):
            if step < self.end_of(epoch):
                return epoch
        return self.epochs

    def end_of(self, epoch: int) -> int:
        """Returns the number of steps done when an epoch, counted from 1, ends."""
        return min(self.steps, max(1, round(epoch * self.steps_per_epoch)))

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends when `step` steps are done."""
        return step == self.end_of(self.epoch_of(step - 1))


def length_of(config: RunConfig, examples: int) -> Length:
    """Returns the length of a run over `examples` training images."""
    per_epoch = examples / config.batch_size
    steps = config.steps or max(1, round((config.epochs or 0) * per_epoch))
    return Length(steps, max(per_epoch, 1.0))
