"""The largest learning rate at which a net still trains."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from ..config import with_changes
from .plan import Trial
from .trials import run_trials

FACTOR = 2.0
# Range of the search.
LOWEST, HIGHEST = 1e-4, 100.0
# A short run trains if its loss is below this fraction of ln(classes), the loss of uniform
# probabilities.
TRAINED = 0.95


@dataclasses.dataclass(frozen=True)
class RateSearch:
    """The result of the search.

    Attributes:
        largest: The largest rate at which the net trained; NaN if there is none.
        tried: Rate and final training loss of each short run, by rate; NaN if it diverged.
    """

    largest: float
    tried: tuple[tuple[float, float], ...]


def largest_rate(trial: Trial, classes: int, steps: int, output: Path) -> RateSearch:
    """Searches the largest learning rate at which a trial's net trains, up to a factor of 2.

    The rate is doubled from the trial's own until a short run fails, or halved until one succeeds.
    A run succeeds if its mean loss over the last tenth is below 0.95 ln(classes). Each is an
    ordinary run at a constant rate after a linear warm-up, kept below `output` and not repeated.

    Args:
        trial: The net, its data and its seed.
        classes: Classes of the data.
        steps: Length of each short run.
        output: Directory of the search.
    """
    limit = TRAINED * math.log(classes)
    tried: dict[float, float] = {}

    def trains(rate: float) -> bool:
        (result,) = run_trials([_short(trial, rate, steps)], output)
        tried[rate] = result.training_loss if result.finished else math.nan
        return tried[rate] < limit

    rate = trial.config.schedule.learning_rate
    if trains(rate):
        while rate * FACTOR <= HIGHEST and trains(rate * FACTOR):
            rate *= FACTOR
    else:
        while rate / FACTOR >= LOWEST and not trains(rate / FACTOR):
            rate /= FACTOR
    largest = max((r for r, loss in tried.items() if loss < limit), default=math.nan)
    return RateSearch(largest, tuple(sorted(tried.items())))


def _short(trial: Trial, rate: float, steps: int) -> Trial:
    """Returns a short run of a trial's net at another, constant rate."""
    changes = {
        "steps": steps,
        "epochs": None,
        "schedule.kind": "constant",
        "schedule.learning_rate": rate,
        "schedule.warmup": "linear",
        "schedule.warmup_rate": 0.0,
        "schedule.warmup_steps": steps // 10,
        "schedule.warmup_epochs": 0.0,
    }
    arm = dataclasses.replace(
        trial.arm, name=f"{trial.arm.name}-rate{rate:g}", label=f"{trial.arm.label}, rate {rate:g}"
    )
    return Trial(arm, trial.seed, with_changes(trial.config, changes))
