"""How long a run is, in steps and in epochs."""

from __future__ import annotations

import dataclasses

from .config import RunConfig


@dataclasses.dataclass(frozen=True)
class Length:
    """How long a run is.

    Attributes:
        steps: Steps of the whole run.
        steps_per_epoch: Steps that one pass over the training images takes, not always whole.
    """

    steps: int
    steps_per_epoch: float

    @property
    def epochs(self) -> int:
        """Epochs, the last of which may be cut short."""
        epoch = max(1, int(self.steps / self.steps_per_epoch))
        while round(epoch * self.steps_per_epoch) < self.steps:
            epoch += 1
        return epoch

    def epoch_of(self, step: int) -> int:
        """Returns the number, from 1, of the epoch that the update after `step` belongs to."""
        for epoch in range(max(1, int(step / self.steps_per_epoch) - 1), self.epochs + 1):
            if step < self.end_of(epoch):
                return epoch
        return self.epochs

    def end_of(self, epoch: int) -> int:
        """Returns the step at which an epoch, counted from 1, is over."""
        return min(self.steps, max(1, round(epoch * self.steps_per_epoch)))


def length_of(config: RunConfig, examples: int) -> Length:
    """Returns the length of a run over `examples` training images."""
    per_epoch = examples / config.batch_size
    steps = config.steps or max(1, round((config.epochs or 0) * per_epoch))
    return Length(steps, max(per_epoch, 1.0))
