"""KerasTuner's oracles, kept to candidates that may be trained, to a budget, and to whole files."""

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
from .directory import Clock
from .plan import Prepared

OBJECTIVE = "val_accuracy"
# Candidates drawn for one trial before the search gives up finding one that may be trained.
ATTEMPTS = 200


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a search keeps to.

    Attributes:
        allows: Whether a candidate may be trained; lists it where not.
        clock: Time so far.
        budget: Seconds after which no trial begins, or None.
        trials: Number of trials after which none begins, or None.
    """

    allows: Callable[[Values], bool]
    clock: Clock
    budget: float | None = None
    trials: int | None = None


class _Bounded:
    """Mixed into an oracle of KerasTuner's, whose own search it leaves as it is.

    Candidates that may not be trained are drawn again, before they become trials: as failed
    trials they would teach a Gaussian process nothing, and Hyperband would wait for their rounds
    to be complete. The first candidate is the base, so that the table says what a search gained.
    """

    bounds: Bounds
    exhausted = False

    @keras_tuner.synchronized
    def create_trial(self: Any, tuner_id: str) -> Any:
        """Begins a trial, or goes on with one that was killed; ends the search by the clock."""
        self.bounds.clock.save()
        over = self.bounds.budget is not None and self.bounds.clock.seconds >= self.bounds.budget
        if over and tuner_id not in self.ongoing_trials:
            self.tuner_ids.discard(tuner_id)
            return Trial(self.hyperparameters.copy(), status=TrialStatus.STOPPED)
        return super().create_trial(tuner_id)  # type: ignore[misc]

    def populate_space(self: Any, trial_id: str) -> dict[str, Any]:
        """Chooses values for a new trial, or ends the search by the number of trials."""
        if self.bounds.trials is not None and len(self.trials) >= self.bounds.trials:
            return {"status": TrialStatus.STOPPED}
        response: dict[str, Any] = super().populate_space(trial_id)  # type: ignore[misc]
        return response

    def _random_values(self: Any) -> Mapping[str, Any] | None:
        """Draws candidates until one may be trained; None where there seems to be none."""
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
        """Writes the state whole or not at all: KerasTuner's own way leaves half a file."""
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
            raise ValueError(f"{self._project_dir} is not what was written: {error!r}") from error
        # Killed between the trial's file and the oracle's: it never began, and is drawn again.
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

        The process would propose it again: it learns from trials that ended, and from no others.
        """
        with warnings.catch_warnings():
            # Few trials, many axes: the kernel's length often ends at a bound.
            warnings.filterwarnings("ignore", module="sklearn")
            response = super().populate_space(trial_id)
        values = response.get("values")
        if values is None:
            return response
        values = {name: plain(value) for name, value in values.items()}
        fresh = not self._duplicate(values) and self.bounds.allows(values)
        chosen = values if fresh else self._random_values()
        return {**response, "values": chosen} if chosen else {"status": TrialStatus.STOPPED}


def make_oracle(prepared: Prepared, bounds: Bounds) -> Any:
    """Returns the plan's oracle; its state is loaded when a tuner takes it."""
    plan, space = prepared.plan, prepared.candidates.hyperparameters()
    common = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "hyperparameters": space,
        "seed": plan.base.seed + 1,  # KerasTuner takes 0 for none
        # An oracle that raises here never gives its lock back; `search.py` counts failures.
        "max_consecutive_failed_trials": None,
    }
    oracle: Any
    if plan.tuner == "hyperband":
        oracle = BoundedHyperband(
            max_epochs=math.ceil(plan.epochs or 1), hyperband_iterations=None, **common
        )
    elif plan.tuner == "bayesian":
        # KerasTuner's default, three a dimension, would leave a short search random throughout.
        points = max(4, len(space.space))
        oracle = BoundedBayesian(max_trials=None, num_initial_points=points, **common)
    else:
        oracle = BoundedRandom(max_trials=None, **common)
    oracle.bounds = bounds
    oracle.verbose = 0
    return oracle


def plain(value: Any) -> Any:
    """Returns a NumPy scalar as Python's own, as JSON takes it."""
    return value.item() if hasattr(value, "item") else value
