"""The directory of a search: its plan, its time, a record of each trial and each rejection."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ..files import read_json, write_json
from ..rundir import RunDirectory
from .plan import SearchPlan

Status = Literal["finished", "diverged", "failed", "unfinished", "rejected"]
_OWN = re.compile(r"\.lock$|\.search\.json\.")
_WAIT_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """How a trial ended, or why a candidate was rejected.

    Attributes:
        id: Name of the trial and of its run's directory below `trials`; empty if rejected.
        values: Hyperparameters that the tuner chose.
        status: `finished`, with an accuracy; `diverged`, the loss was no longer finite; `failed`
            for another reason; `unfinished`, stopped and can be resumed; `rejected` before
            training.
        reason: Reason of a failure or rejection.
        accuracy: Validation accuracy of the run's best epoch, 0..1.
        interval: Its 95 % interval.
        loss: Mean cross-entropy of the validation images, nats.
        epochs: Length, epochs.
        seconds: Training time.
    """

    id: str
    values: dict[str, Any]
    status: Status
    reason: str = ""
    accuracy: float | None = None
    interval: tuple[float, ...] = ()
    loss: float | None = None
    epochs: float | None = None
    seconds: float = 0.0

    @property
    def final_loss(self) -> float | None:
        """The loss; infinite after a divergence, which JSON cannot represent."""
        return math.inf if self.status == "diverged" else self.loss


@dataclasses.dataclass(frozen=True)
class SearchDirectory:
    """Paths and small files of a search; a directory with a `search.json` is one."""

    path: Path

    @property
    def plan_file(self) -> Path:
        """The file of the search's plan."""
        return self.path / "search.json"

    def trial(self, trial_id: str) -> Path:
        """Returns the directory of a trial's run."""
        return self.path / "trials" / trial_id

    @contextlib.contextmanager
    def opened(self, plan: SearchPlan) -> Iterator[None]:
        """Creates the directory or checks that it holds this search, and locks it.

        Raises:
            ValueError: If it holds another search or other files, or is in use.
        """
        with RunDirectory(self.path).locked():
            if self.plan_file.is_file():
                self._check(plan)
            elif any(not _OWN.match(file.name) for file in self.path.iterdir()):
                raise ValueError(
                    f"{self.path} holds files and no search.json, so it is not a search. "
                    "Choose another --output"
                )
            else:
                write_json(self.plan_file, plan.to_dict())
                (self.path / "trials").mkdir(exist_ok=True)
            yield

    def joined(self, plan: SearchPlan) -> None:
        """Waits, in a worker, until the chief has opened the directory.

        Raises:
            ValueError: If it does not, or holds another search.
        """
        deadline = time.monotonic() + _WAIT_SECONDS
        while not (self.path / "trials").is_dir():
            if time.monotonic() > deadline:
                raise ValueError(
                    f"No search began in {self.path} within {_WAIT_SECONDS:.0f} s: start the chief "
                    "with the same command; --output must be one directory that all of them share"
                )
            time.sleep(0.2)
        self._check(plan)

    def records(self) -> list[TrialRecord]:
        """Returns the records of all trials that ended, in the order of their names."""
        files = sorted((self.path / "trials").glob("*.json"))
        return [_record(read_json(file)) for file in files]

    def rejected(self) -> list[TrialRecord]:
        """Returns the rejected candidates, in order."""
        file = self.path / "rejected.json"
        return [_record(values) for values in read_json(file)] if file.is_file() else []

    def keep(self, record: TrialRecord) -> None:
        """Writes a trial's record, and deletes the checkpoints of a run that has ended."""
        write_json(self.path / "trials" / f"{record.id}.json", dataclasses.asdict(record))
        if record.status != "unfinished":
            shutil.rmtree(self.trial(record.id) / "checkpoints", ignore_errors=True)

    def reject(self, record: TrialRecord) -> None:
        """Adds a rejected candidate to the list."""
        records = [dataclasses.asdict(each) for each in (*self.rejected(), record)]
        write_json(self.path / "rejected.json", records)

    def _check(self, plan: SearchPlan) -> None:
        before = SearchPlan.from_dict(read_json(self.plan_file), str(self.plan_file))
        changed = before.differences(plan)
        if changed:
            raise ValueError(
                f"{self.path} holds another search, which differs in {'; '.join(changed[:6])}. "
                "Give the same settings to resume it, or choose another --output"
            )


class SearchClock:
    """Wall-clock time of a search over all its sessions.

    Args:
        path: File that keeps the time between sessions, or None.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        kept = path is not None and path.is_file()
        self._before = float(read_json(path)["seconds"]) if path and kept else 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time so far."""
        return self._before + time.monotonic() - self._started

    def save(self) -> None:
        """Writes the time; a session that is killed loses the time since then."""
        if self._path is not None:
            write_json(self._path, {"seconds": round(self.seconds, 1)})


Role = Literal["alone", "chief", "worker"]


def role() -> Role:
    """Returns the role of this process according to KerasTuner's environment variables.

    Raises:
        ValueError: If the environment is incomplete.
    """
    names = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
    given = [name for name in names if os.environ.get(name)]
    if "KERASTUNER_ORACLE_IP" not in given:
        return "alone"
    if len(given) < len(names):
        missing = next(name for name in names if name not in given)
        raise ValueError(f"Several workers need {', '.join(names)}. Missing: {missing}")
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def _record(values: dict[str, Any]) -> TrialRecord:
    return TrialRecord(**{**values, "interval": tuple(values["interval"])})
