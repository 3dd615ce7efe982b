"""The search: KerasTuner chooses candidates, and each is trained as an ordinary run."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from ..console import Console, quiet_retracing
from ..errors import TrainingStoppedError
from ..strategies import check_name, make_strategy
from .candidate_filter import CandidateFilter
from .directory import SearchClock, SearchDirectory, TrialRecord, role
from .limits import CostBook
from .oracles import ATTEMPTS, Bounds
from .plan import PreparedSearch, SearchPlan, prepare
from .tuner import SearchStopped, TrialTuner, silent


@dataclasses.dataclass(frozen=True)
class Search:
    """A search at the end of a session.

    Attributes:
        prepared: The plan and its data.
        directory: Its directory.
        costs: Costs of its nets.
        seconds: Wall-clock time over all sessions.
        stopped: The signal that stopped it, or "".
        note: Why it ended before its budget, or "".
    """

    prepared: PreparedSearch
    directory: SearchDirectory
    costs: CostBook
    seconds: float
    stopped: str = ""
    note: str = ""


def run_search(
    plan: SearchPlan, output: Path, *, budget: float | None = None, trials: int | None = None
) -> Search | None:
    """Runs a search, or resumes it.

    Args:
        plan: The search.
        output: Its directory: new, empty, or holding the same search.
        budget: Seconds of wall-clock time over all sessions; a trial in progress is finished.
        trials: Number of trials over all sessions.

    Returns:
        The search at the end of the session; None in a worker.

    Raises:
        ValueError: Before training, if plan, data and directory do not fit, or no net of the space
            keeps to the limits.
        RuntimeError: If several trials in a row fail for another reason than divergence.
    """
    check_name(plan.base.runtime.strategy)
    part = role()
    # CPU replicas must be created before TensorFlow initializes the CPU, which counting a net does.
    make_strategy(plan.base.runtime.strategy)
    prepared = prepare(plan)
    directory = SearchDirectory(output)
    if part == "worker":
        _work(prepared, directory)
        return None
    costs = CostBook(None, prepared.classes, prepared.input_shape, prepared.plan.limits)
    candidate_filter = CandidateFilter(prepared, directory, costs)
    candidate_filter.check_space()
    with directory.opened(prepared.plan):
        costs.keep_in(output / "costs.json")
        clock = SearchClock(output / "clock.json")
        tuner = TrialTuner(
            prepared, directory, Bounds(candidate_filter, clock, budget, trials), Console()
        )
        if part == "chief":
            address = f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"
            tuner.console.say(f"Chief: giving trials to the workers that ask at {address}")
        stopped = ""
        try:
            with quiet_retracing(), silent() if part == "chief" else contextlib.nullcontext():
                tuner.search(verbose=0)
        except SearchStopped as stop:
            stopped = str(stop)
        clock.save()
        _check_statuses(tuner.oracle, directory)
        exhausted = f"none of {ATTEMPTS} further candidates was new and kept to the limits"
        note = exhausted if tuner.oracle.exhausted else ""
        return Search(prepared, directory, costs, clock.seconds, stopped, note)


def _work(prepared: PreparedSearch, directory: SearchDirectory) -> None:
    """Trains the trials of the chief, which applies the limits and the budget."""
    directory.joined(prepared.plan)
    bounds = Bounds(lambda values: True, SearchClock(None))
    try:
        with quiet_retracing():
            TrialTuner(prepared, directory, bounds, Console()).search()
    except SearchStopped as stop:
        raise TrainingStoppedError(str(stop)) from stop


def _check_statuses(oracle: Any, directory: SearchDirectory) -> None:
    """Writes a record of each trial of KerasTuner's without one.

    KerasTuner's search returns normally even if trials failed.
    """
    recorded = {record.id for record in directory.records() if record.status != "unfinished"}
    for trial_id, trial in oracle.trials.items():
        if trial_id in recorded:
            continue
        values = dict(trial.hyperparameters.values)
        lines = (trial.message or "").strip().splitlines() or ["KerasTuner gives no reason"]
        failed = trial.status in ("FAILED", "INVALID")
        directory.keep(
            TrialRecord(trial_id, values, "failed", lines[-1])
            if failed
            else TrialRecord(trial_id, values, "unfinished", f"KerasTuner: {trial.status}")
        )
