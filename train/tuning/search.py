"""The search: KerasTuner chooses, the project's own training loop trains, each in its directory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from ..console import Console, quiet_retracing
from ..errors import TrainingStoppedError
from ..strategies import check_name, make_strategy
from .directory import Clock, Record, SearchDirectory, role
from .judge import Judge
from .limits import CostBook
from .oracles import ATTEMPTS, Bounds
from .plan import Prepared, SearchPlan, prepare
from .tuner import SearchStopped, TrialTuner, silent


@dataclasses.dataclass(frozen=True)
class Searched:
    """A search at the end of a session.

    Attributes:
        prepared: The plan and its data.
        directory: Where it lies.
        costs: Of its nets.
        seconds: Wall-clock time over all sessions.
        stopped: What stopped it from outside, or nothing.
        note: Why it ended before its budget, or nothing.
    """

    prepared: Prepared
    directory: SearchDirectory
    costs: CostBook
    seconds: float
    stopped: str = ""
    note: str = ""


def run_search(
    plan: SearchPlan, output: Path, *, budget: float | None = None, trials: int | None = None
) -> Searched | None:
    """Searches, or goes on searching.

    Args:
        plan: The search.
        output: Its directory: new, empty, or holding this very search.
        budget: Seconds of wall-clock time over all sessions; a trial in progress is finished.
        trials: Number of trials over all sessions.

    Returns:
        The search as it stands; None in a worker, whose chief has it.

    Raises:
        ValueError: If plan, data and directory do not fit, or no net of the space keeps to the
            limits; before training.
        RuntimeError: If trial after trial fails for another reason than divergence.
    """
    check_name(plan.base.runtime.strategy)
    part = role()
    # CPU replicas must be made before TensorFlow has touched the CPU, which counting a net does.
    make_strategy(plan.base.runtime.strategy)
    prepared = prepare(plan)
    directory = SearchDirectory(output)
    if part == "worker":
        _work(prepared, directory)
        return None
    costs = CostBook(None, prepared.classes, prepared.input_shape, prepared.plan.limits)
    judge = Judge(prepared, directory, costs)
    judge.check_space()
    with directory.opened(prepared.plan):
        costs.keep_in(output / "costs.json")
        clock = Clock(output / "clock.json")
        tuner = TrialTuner(prepared, directory, Bounds(judge, clock, budget, trials), Console())
        if part == "chief":
            address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
            tuner.reporter.say(f"Chief: giving trials to the workers that ask at {address}")
        stopped = ""
        try:
            with quiet_retracing(), silent() if part == "chief" else contextlib.nullcontext():
                tuner.search(verbose=0)
        except SearchStopped as stop:
            stopped = str(stop)
        clock.save()
        _check_statuses(tuner.oracle, directory)
        drained = f"none of {ATTEMPTS} further candidates was new and kept to the limits"
        note = drained if tuner.oracle.exhausted else ""
        return Searched(prepared, directory, costs, clock.seconds, stopped, note)


def _work(prepared: Prepared, directory: SearchDirectory) -> None:
    """Trains what the chief gives; its limits and clock are the ones that count."""
    directory.joined(prepared.plan)
    bounds = Bounds(lambda values: True, Clock(None))
    try:
        with quiet_retracing():
            TrialTuner(prepared, directory, bounds, Console()).search()
    except SearchStopped as stop:
        raise TrainingStoppedError(str(stop)) from stop


def _check_statuses(oracle: Any, directory: SearchDirectory) -> None:
    """Writes a record of each trial that KerasTuner has and no run has told of.

    Its search returns normally whatever became of the trials.
    """
    known = {record.id for record in directory.records() if record.status != "unfinished"}
    for trial_id, trial in oracle.trials.items():
        if trial_id in known:
            continue
        values = dict(trial.hyperparameters.values)
        lines = (trial.message or "").strip().splitlines() or ["KerasTuner does not say why"]
        failed = trial.status in ("FAILED", "INVALID")
        directory.keep(
            Record(trial_id, values, "failed", lines[-1])
            if failed
            else Record(trial_id, values, "unfinished", f"KerasTuner: {trial.status}")
        )
