"""Files timed in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ..measurement import child_environment, last_line

# Seconds between two turns, in which the threads of the last runtime stop to spin.
_PAUSE = 0.02


@dataclasses.dataclass(frozen=True)
class Timed:
    """What is timed.

    Attributes:
        path: The file or run.
        format: `tflite`, `onnx`, `saved_model` or `keras`.
        threads: Number of threads that compute.
        batch: Images of one run.
        size: Height and width of images where the file takes any, pixels.
        net: The net, for published names of weights.
    """

    path: str
    format: str
    threads: int
    batch: int
    size: tuple[int, int] | None = None
    net: str | None = None


@dataclasses.dataclass(frozen=True)
class Timing:
    """The measured times of one file.

    Attributes:
        timed: What was timed.
        version: Name and version of the runtime.
        calls: Calls of a file with a fixed batch for one batch of images.
        seconds: Time of each run, in their order.
        cpu_seconds: Processor time of each run, of all threads.
        load_seconds: Time to load the file and run it once.
        peak_bytes: Peak memory of its process.
        before_bytes: Peak memory of its process with the runtime and without the file.
    """

    timed: Timed
    version: str
    calls: int
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    load_seconds: float
    peak_bytes: int
    before_bytes: int

    @property
    def median(self) -> float:
        """Median time of a run, seconds."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """Time that 95 % of the runs do not exceed, seconds."""
        return percentile(self.seconds, 0.95)

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values; times in milliseconds."""
        return {
            "file": self.timed.path,
            "format": self.timed.format,
            "runtime": self.version,
            "threads": self.timed.threads,
            "batch": self.timed.batch,
            "calls_per_batch": self.calls,
            "runs": len(self.seconds),
            "median_ms": 1e3 * self.median,
            "p95_ms": 1e3 * self.p95,
            "min_ms": 1e3 * min(self.seconds),
            "cpu_ms": 1e3 * statistics.median(self.cpu_seconds),
            "images_per_second": self.timed.batch / self.median,
            "load_ms": 1e3 * self.load_seconds,
            "peak_bytes": self.peak_bytes,
            "memory_bytes": max(0, self.peak_bytes - self.before_bytes),
        }


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the smallest value that at least this share of the values do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def time_in_turns(
    entries: Sequence[Timed],
    *,
    seconds: float = 3.0,
    rounds: int = 10,
    warm_up: float = 0.3,
    progress: Callable[[str], None] | None = None,
) -> list[Timing]:
    """Times files in turns, each in a process of its own.

    Each round gives every file one turn; the order is rotated from round to round.

    Args:
        entries: What is timed.
        seconds: Time of each file's runs, in all rounds together.
        rounds: Number of turns of each file.
        warm_up: Time of the runs before the first round, which do not count.
        progress: Is called with a line about each step.

    Raises:
        ValueError: If a file cannot be loaded or run.
        RuntimeError: If its process ends.
    """
    tell = progress or (lambda line: None)
    with contextlib.ExitStack() as stack:
        workers = []
        for number, entry in enumerate(entries, start=1):
            tell(f"[{number}/{len(entries)}] loading {entry.path}, threads {entry.threads}")
            workers.append(stack.enter_context(_started(entry)))
        for worker in workers:
            worker.turn(warm_up, keep=False)
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}")
            first = number % len(workers)
            for worker in (*workers[first:], *workers[:first]):
                time.sleep(_PAUSE)
                worker.turn(seconds / rounds)
        return [worker.timing() for worker in workers]


class _Worker:
    """The process of one file."""

    def __init__(self, timed: Timed, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._timed, self._process, self._errors = timed, process, errors
        self._wall: list[float] = []
        self._cpu: list[float] = []
        self._peak = 0
        self._facts = self._ask({**dataclasses.asdict(timed), "folder": os.getcwd()})
        if "error" in self._facts:
            raise ValueError(f"{timed.path} cannot be timed: {self._facts['error']}")

    def turn(self, seconds: float, *, keep: bool = True) -> None:
        """Lets the process run the file for some seconds."""
        answer = self._ask({"seconds": seconds})
        if keep:
            self._wall += answer["wall"]
            self._cpu += answer["cpu"]
        self._peak = answer["peak_bytes"]

    def timing(self) -> Timing:
        """Returns what was measured."""
        facts = self._facts
        return Timing(
            self._timed,
            facts["version"],
            facts["calls"],
            tuple(self._wall),
            tuple(self._cpu),
            facts["load_seconds"],
            self._peak,
            facts["before_bytes"],
        )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if line:
            return dict(json.loads(line))
        status = self._process.wait()
        self._errors.seek(0)
        reason = last_line(self._errors.read())
        raise RuntimeError(
            f"The process that runs {self._timed.path} ended with status {status}: {reason}"
        )


@contextlib.contextmanager
def _started(timed: Timed) -> Iterator[_Worker]:
    """Starts the process of a file, and ends it at the end."""
    command = [sys.executable, "-m", f"{__package__}.worker"]
    # This package may be found by the current directory only, as in a checkout.
    root = str(Path(__file__).parents[2])
    environment = child_environment()
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (environment.get("PYTHONPATH"), root) if part
    )
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )
        try:
            yield _Worker(timed, process, errors)
        finally:
            process.kill()
            process.communicate()
