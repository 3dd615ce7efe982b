"""The largest learning rate at which a net still trains."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from ..config import with_changes
from .plan import Trial
from .trials import Outcome, run_trials

FACTOR = 2.0
# Rates between which the search stays.
LOWEST, HIGHEST = 1e-4, 100.0
# What a short run must come below, as a share of ln(classes), the loss of a net that knows nothing.
LEARNT = 0.95


@dataclasses.dataclass(frozen=True)
class RateSearch:
    """What the search found.

    Attributes:
        largest: The largest rate at which the net trained; NaN where none did.
        tried: Rate and final training loss of each short run, by rate; NaN where it diverged.
    """

    largest: float
    tried: tuple[tuple[float, float], ...]


def largest_rate(trial: Trial, classes: int, steps: int, output: Path) -> RateSearch:
    """Searches the ladder of doubled rates around a trial's own.

    The rate doubles from the trial's own until a short run fails, or halves until one succeeds. A
    run succeeds that ends with a finite loss, over its last tenth, below 0.95 ln(classes). Each
    is an ordinary run at a constant rate behind the same warm-up, kept below `output` and not run
    again.

    Args:
        trial: The net, its data and its seed.
        classes: Classes of the data.
        steps: Length of each short run.
        output: Directory of the search.
    """
    limit = LEARNT * math.log(classes)
    tried: dict[float, float] = {}

    def trains(rate: float) -> bool:
        (outcome,) = run_trials([_short(trial, rate, steps)], output)
        tried[rate] = _loss(outcome)
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
    """Returns a short run of a trial's net at another rate, held constant."""
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


def _loss(outcome: Outcome) -> float:
    return outcome.training_loss if outcome.finished else math.nan
