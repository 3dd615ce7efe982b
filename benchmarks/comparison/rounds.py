"""Interleaved measurements: in each round, each contender runs once, while the others wait."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .process import Worker, WorkerError
from .workload import Workload

# Threads of some libraries spin for a while after their work; the next contender waits for that.
PAUSE = 0.2


@dataclasses.dataclass(frozen=True)
class Contender:
    """One entry of a comparison.

    Attributes:
        library: Library whose net or runtime is measured, such as `keras_resnet` or `PyTorch`.
        label: How it runs, such as `fit`; contenders with equal labels are compared in `targets`.
        factory: `package.module:function` that takes a `Workload` and a `PhaseTimer` and returns a
            `Runner`.
        workload: The argument of `factory`.
        fresh: Whether each measurement is the set-up of a new process, phase by phase.
        problem: Reason why it cannot run; empty if there is none.
    """

    library: str
    label: str
    factory: str
    workload: Workload
    fresh: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.library}, {self.label}"


@dataclasses.dataclass
class Measurement:
    """Result of one contender.

    Attributes:
        rounds: Seconds by part, for each round that counts; `""` is the whole.
        multiply_adds: Multiply-adds of one image forward, or None.
        peak_bytes: Peak memory above the process's memory after its imports, or None.
        note: Reason why `rounds` is empty; empty if nothing failed.
    """

    rounds: list[Mapping[str, float]] = dataclasses.field(default_factory=list)
    multiply_adds: int | None = None
    peak_bytes: float | None = None
    note: str = ""

    def seconds(self, reply: Mapping[str, Any]) -> Mapping[str, float]:
        """Keeps the counts of a worker's reply and returns its seconds."""
        self.multiply_adds = reply.get("multiply_adds") or self.multiply_adds
        self.peak_bytes = max(self.peak_bytes or 0, reply["peak_bytes"])
        seconds: Mapping[str, float] = reply["seconds"]
        return seconds


def run_rounds(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    units: int,
    limit: float,
    log: Callable[[str], None] = print,
) -> list[Measurement]:
    """Sets up the contenders one by one and measures each once per round.

    A warm-up round comes first and does not count: caches are cold in it. A contender that fails
    or exceeds the limit is dropped with a note; the others go on.

    Args:
        contenders: In the order of measurement.
        rounds: Rounds that count.
        units: Units of work (steps, calls) per measurement.
        limit: Seconds that one set-up or measurement may take.
        log: Receives one line per event.

    Returns:
        One measurement per contender.
    """
    measurements = [Measurement(note=contender.problem) for contender in contenders]
    with contextlib.ExitStack() as stack:
        workers: dict[int, Worker] = {}
        for index, contender in enumerate(contenders):
            if contender.fresh or contender.problem:
                continue
            log(f"  setting up {contender.name}")
            with _failures_noted(measurements[index], contender, log):
                workers[index] = stack.enter_context(_worker(contender, limit))
                measurements[index].seconds(workers[index].set_up())
        for number in range(rounds + 1):
            log(f"  round {number} of {rounds}" if number else "  warm-up")
            for index, contender in enumerate(contenders):
                measurement = measurements[index]
                if measurement.note:
                    continue
                with _failures_noted(measurement, contender, log):
                    if contender.fresh:
                        with _worker(contender, limit) as worker:
                            reply = worker.set_up()
                    else:
                        reply = workers[index].measure(units)
                    seconds = measurement.seconds(reply)
                    if number:
                        measurement.rounds.append(seconds)
                time.sleep(PAUSE)
    return measurements


def _worker(contender: Contender, limit: float) -> Worker:
    return Worker(contender.factory, contender.workload, limit)


@contextlib.contextmanager
def _failures_noted(
    measurement: Measurement, contender: Contender, log: Callable[[str], None]
) -> Iterator[None]:
    try:
        yield
    except WorkerError as error:
        measurement.note = str(error)
        log(f"  {contender.name}: {error}")
