"""A search's directory: its plan, its clock, a record of each trial and of each rejection."""

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
class Record:
    """How a trial ended, or why a candidate was none.

    Attributes:
        id: The trial's, and its run's directory below `trials`; empty where none was begun.
        values: Hyperparameters as the tuner gave them.
        status: `finished` with an accuracy; `diverged`, the loss became infinite; `failed` for
            another reason; `unfinished`, stopped and to be gone on with; `rejected` before
            training.
        reason: Of a failure or rejection.
        accuracy: Share of the validation images, of the run's best epoch.
        interval: 95 % interval of it.
        loss: Mean cross-entropy of the validation images, nats.
        epochs: Passes over the data.
        seconds: Time that the run trained.
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
        """The loss, infinite after a divergence (which JSON has no word for)."""
        return math.inf if self.status == "diverged" else self.loss


@dataclasses.dataclass(frozen=True)
class SearchDirectory:
    """Paths and small files of a search; whatever holds a `search.json` is one."""

    path: Path

    @property
    def plan_file(self) -> Path:
        """What the search is a function of."""
        return self.path / "search.json"

    def trial(self, trial_id: str) -> Path:
        """Where a trial's run lies."""
        return self.path / "trials" / trial_id

    @contextlib.contextmanager
    def opened(self, plan: SearchPlan) -> Iterator[None]:
        """Makes the directory this search's, or checks that it is, and keeps others out.

        Raises:
            ValueError: If it holds another search or other files, or is in use.
        """
        with RunDirectory(self.path).locked():
            if self.plan_file.is_file():
                self._check(plan)
            elif any(not _OWN.match(file.name) for file in self.path.iterdir()):
                raise ValueError(
                    f"{self.path} holds files and no search.json, so it is no search. "
                    "Choose another --output"
                )
            else:
                write_json(self.plan_file, plan.to_dict())
                (self.path / "trials").mkdir(exist_ok=True)
            yield

    def joined(self, plan: SearchPlan) -> None:
        """Waits, as a worker, for the chief to open the directory.

        Raises:
            ValueError: If it does not, or searches something else.
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

    def records(self) -> list[Record]:
        """Returns the records of all trials that ended, by trial."""
        files = sorted((self.path / "trials").glob("*.json"))
        return [_record(read_json(file)) for file in files]

    def rejected(self) -> list[Record]:
        """Returns the candidates that were rejected, in order."""
        file = self.path / "rejected.json"
        return [_record(values) for values in read_json(file)] if file.is_file() else []

    def keep(self, record: Record) -> None:
        """Writes a trial's record; what the run's checkpoints held is in its model by then."""
        write_json(self.path / "trials" / f"{record.id}.json", dataclasses.asdict(record))
        if record.status != "unfinished":
            shutil.rmtree(self.trial(record.id) / "checkpoints", ignore_errors=True)

    def reject(self, record: Record) -> None:
        """Adds a rejected candidate to the list."""
        known = [dataclasses.asdict(each) for each in self.rejected()]
        write_json(self.path / "rejected.json", [*known, dataclasses.asdict(record)])

    def _check(self, plan: SearchPlan) -> None:
        before = SearchPlan.from_dict(read_json(self.plan_file), str(self.plan_file))
        changed = before.differences(plan)
        if changed:
            raise ValueError(
                f"{self.path} holds another search, which differs in {'; '.join(changed[:6])}. "
                "Give the same settings to go on with it, or choose another --output"
            )


class Clock:
    """Wall-clock time that a search took, over all its sessions.

    Args:
        path: A file that carries it from one session to the next, or None.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        held = path is not None and path.is_file()
        self._before = float(read_json(path)["seconds"]) if held and path else 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time so far."""
        return self._before + time.monotonic() - self._started

    def save(self) -> None:
        """Writes the time down; a session that is killed loses what came after."""
        if self._path is not None:
            write_json(self._path, {"seconds": round(self.seconds, 1)})


Role = Literal["alone", "chief", "worker"]


def role() -> Role:
    """Returns what KerasTuner's environment makes of this process.

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


def _record(values: dict[str, Any]) -> Record:
    return Record(**{**values, "interval": tuple(values["interval"])})
