"""KerasTuner's oracles with limits on candidates, time and trials, and with atomic files."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from ..files import write_json
from .candidates import Values
from .directory import SearchClock
from .plan import PreparedSearch

OBJECTIVE = "val_accuracy"
# Candidates drawn for one trial before the search ends.
ATTEMPTS = 200


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The bounds of a search.

    Attributes:
        allows: Returns whether a candidate may be trained, and records those that may not.
        clock: Time so far.
        budget: Seconds after which no trial starts, or None.
        trials: Number of trials after which none starts, or None.
    """

    allows: Callable[[Values], bool]
    clock: SearchClock
    budget: float | None = None
    trials: int | None = None


class _Bounded:
    """Mix-in for an oracle of KerasTuner that does not change its search algorithm.

    Candidates that may not be trained are replaced before they become trials: a Gaussian process
    learns nothing from failed trials, and Hyperband would wait for their rounds to be complete.
    The first candidate is the base, so that the results show what the search gained.
    """

    bounds: Bounds
    exhausted = False

    @keras_tuner.synchronized
    def create_trial(self: Any, tuner_id: str) -> Any:
        """Starts a trial or resumes one that was killed; ends the search when the time is over."""
        self.bounds.clock.save()
        over = self.bounds.budget is not None and self.bounds.clock.seconds >= self.bounds.budget
        if over and tuner_id not in self.ongoing_trials:
            self.tuner_ids.discard(tuner_id)
            return Trial(self.hyperparameters.copy(), status=TrialStatus.STOPPED)
        return super().create_trial(tuner_id)  # type: ignore[misc]

    def populate_space(self: Any, trial_id: str) -> dict[str, Any]:
        """Chooses values for a new trial; ends the search after the last one."""
        if self.bounds.trials is not None and len(self.trials) >= self.bounds.trials:
            return {"status": TrialStatus.STOPPED}
        response: dict[str, Any] = super().populate_space(trial_id)  # type: ignore[misc]
        return response

    def _random_values(self: Any) -> Mapping[str, Any] | None:
        """Draws candidates until one may be trained; None after too many attempts."""
        space = self.hyperparameters
        values = {hp.name: hp.default for hp in space.space if space.is_active(hp)}
        for _ in range(ATTEMPTS):
            if values is not None and not self._duplicate(values):
                if self.bounds.allows(values):
                    return values
                self._tried_so_far.add(self._compute_values_hash(values))
            values = super()._random_values()  # type: ignore[misc]
            if values is None:
                break
        self.exhausted = True
        return None

    def save(self: Any) -> None:
        """Writes the state atomically: KerasTuner itself may leave half a file."""
        write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self: Any, trial: Any) -> None:
        write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())

    def reload(self: Any) -> None:
        """Reads the state of an earlier session.

        Raises:
            ValueError: If a file of it is damaged.
        """
        try:
            super().reload()  # type: ignore[misc]
        except json.JSONDecodeError as error:
            raise ValueError(f"A file in {self._project_dir} is damaged: {error!r}") from error
        # A trial whose file was written, but not the oracle's, never started: it is drawn again.
        for trial_id in self.trials.keys() - set(self.start_order):
            del self.trials[trial_id]


class BoundedRandom(_Bounded, keras_tuner.oracles.RandomSearchOracle):
    """Random search."""


class BoundedHyperband(_Bounded, keras_tuner.oracles.HyperbandOracle):
    """Hyperband (Li et al. 2018, arXiv:1603.06560)."""


class BoundedBayesian(_Bounded, keras_tuner.oracles.BayesianOptimizationOracle):
    """Bayesian optimisation by a Gaussian process."""

    def populate_space(self: Any, trial_id: str) -> dict[str, Any]:
        """Chooses as KerasTuner does; at random where that was tried or may not be trained.

        The Gaussian process learns from finished trials only and would propose it again.
        """
        with warnings.catch_warnings():
            # With few trials and many axes the kernel's length scale often ends at a bound.
            warnings.filterwarnings("ignore", module="sklearn")
            response = super().populate_space(trial_id)
        values = response.get("values")
        if values is None:
            return response
        values = {name: plain(value) for name, value in values.items()}
        fresh = not self._duplicate(values) and self.bounds.allows(values)
        chosen = values if fresh else self._random_values()
        return {**response, "values": chosen} if chosen else {"status": TrialStatus.STOPPED}


def make_oracle(prepared: PreparedSearch, bounds: Bounds) -> Any:
    """Returns the plan's oracle; a tuner loads its state."""
    plan, space = prepared.plan, prepared.candidates.hyperparameters()
    common = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "hyperparameters": space,
        "seed": plan.base.seed + 1,  # 0 means no seed in KerasTuner
        # An oracle that raises here never releases its lock; `tuner.py` counts failures.
        "max_consecutive_failed_trials": None,
    }
    oracle: Any
    if plan.tuner == "hyperband":
        oracle = BoundedHyperband(
            max_epochs=math.ceil(plan.epochs or 1), hyperband_iterations=None, **common
        )
    elif plan.tuner == "bayesian":
        # KerasTuner's default, three per dimension, would make a short search entirely random.
        points = max(4, len(space.space))
        oracle = BoundedBayesian(max_trials=None, num_initial_points=points, **common)
    else:
        oracle = BoundedRandom(max_trials=None, **common)
    oracle.bounds = bounds
    oracle.verbose = 0
    return oracle


def plain(value: Any) -> Any:
    """Returns a NumPy scalar as a Python number, for JSON."""
    return value.item() if hasattr(value, "item") else value
