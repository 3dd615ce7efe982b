"""Contenders in processes of their own that take turns: only the one whose turn it is computes."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from .job import Job

# Threads of a library go on looking for work for a while after it; the next one waits for that.
_PAUSE = 0.2


@dataclasses.dataclass(frozen=True)
class Contender:
    """One entry of a comparison.

    Attributes:
        library: Whose net and runtime it is, such as `keras_resnet` or `PyTorch`.
        way: How it is run: contenders of one way are compared like with like, see `targets`.
        factory: `package.module:function` that sets it up; see `job.Factory`.
        job: What it is told.
        needs: Modules without which it is marked as not installed.
        fresh: Whether each turn is a new process, of which the parts of the start count.
    """

    library: str
    way: str
    factory: str
    job: Job
    needs: tuple[str, ...] = ()
    fresh: bool = False

    @property
    def name(self) -> str:
        """In tables."""
        return f"{self.library}, {self.way}" if self.way else self.library


@dataclasses.dataclass
class Measured:
    """What a contender did.

    Attributes:
        turns: For each turn that counts, seconds by part; `""` is the whole.
        multiply_adds: Of one image forward, or None.
        peak_bytes: Above what the process held after its imports, or None.
        note: Why there is nothing, in one line; empty if all went well.
    """

    turns: list[Mapping[str, float]] = dataclasses.field(default_factory=list)
    multiply_adds: int | None = None
    peak_bytes: float | None = None
    note: str = ""


class WorkerError(RuntimeError):
    """A contender failed; the text is one line."""


def take_turns(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    units: int,
    limit: float,
    say: Callable[[str], None] = print,
) -> list[Measured]:
    """Sets the contenders up one by one and gives each a turn in every round.

    A round more than asked for comes first and is not counted: caches are cold in it. A contender
    that fails, or takes longer than the limit, is out, with a note; the others go on.

    Args:
        contenders: In the order of their turns.
        rounds: Turns that count.
        units: Units of work (steps, calls) a turn.
        limit: Seconds that setting up or one turn may take.
        say: Told what goes on, a line at a time.

    Returns:
        One for each contender.
    """
    measured = [Measured() for _ in contenders]
    with contextlib.ExitStack() as stack:
        workers: dict[int, Worker] = {}
        for index, contender in enumerate(contenders):
            with _noted(measured[index], contender, say):
                check_installed(contender)
                if not contender.fresh:
                    say(f"  setting up {contender.name}")
                    workers[index] = stack.enter_context(Worker(contender, limit))
                    _keep(measured[index], workers[index].ready())
        for number in range(rounds + 1):
            say(f"  round {number} of {rounds}" if number else "  warming up")
            for index, contender in enumerate(contenders):
                if measured[index].note:
                    continue
                with _noted(measured[index], contender, say):
                    seconds = (
                        _start(contender, limit, measured[index])
                        if contender.fresh
                        else _keep(measured[index], workers[index].turn(units))
                    )
                    if number:
                        measured[index].turns.append(seconds)
                time.sleep(_PAUSE)
    return measured


def check_installed(contender: Contender) -> None:
    """Raises a `WorkerError` if a module that a contender needs is missing."""
    missing = [name for name in contender.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise WorkerError(f"not installed: {', '.join(missing)}")


@contextlib.contextmanager
def _noted(measured: Measured, contender: Contender, say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except WorkerError as error:
        measured.note = str(error)
        say(f"  {contender.name}: {error}")


def _start(contender: Contender, limit: float, measured: Measured) -> Mapping[str, float]:
    with Worker(contender, limit) as worker:
        return _keep(measured, worker.ready())


def _keep(measured: Measured, told: Mapping[str, Any]) -> Mapping[str, float]:
    measured.multiply_adds = told.get("multiply_adds") or measured.multiply_adds
    measured.peak_bytes = max(measured.peak_bytes or 0, told["peak_bytes"])
    seconds: Mapping[str, float] = told["seconds"]
    return seconds


class Worker:
    """The process of a contender; leaving the context ends it."""

    def __init__(self, contender: Contender, limit: float) -> None:
        self._contender = contender
        self._limit = limit

    def __enter__(self) -> Worker:
        """Starts the process."""
        contender = self._contender
        order = {"factory": contender.factory, "job": dataclasses.asdict(contender.job)}
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        # A session of its own: an interrupt from the terminal is the parent's to deal with.
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", json.dumps(order)],
            env=_environment(contender.job.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # with the processes that it started
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def ready(self) -> Mapping[str, Any]:
        """Waits until it has been set up; returns what that took.

        Raises:
            WorkerError: If it failed or took too long.
        """
        told: Mapping[str, Any] = self._answer()["ready"]
        return told

    def turn(self, units: int) -> Mapping[str, Any]:
        """Has it do some units of work; returns what they took.

        Raises:
            WorkerError: If it failed or took too long.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it is gone; the answer says why
                self._process.stdin.write(f"turn {units}\n")
                self._process.stdin.flush()
        return self._answer()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put("")

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self._limit)
        except queue.Empty:
            raise WorkerError(f"stopped after {self._limit:g} s") from None
        if not line:
            raise WorkerError(self._last_words())
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise WorkerError(told["error"])
        return told

    def _last_words(self) -> str:
        status = self._process.wait()
        if status < 0:
            return f"killed by signal {-status}" + (" (no memory left?)" if status == -9 else "")
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        return f"ended with status {status}: {last}"[:300]


def _environment(threads: int) -> dict[str, str]:
    count = str(threads)
    return {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": count,
        "TF_NUM_INTEROP_THREADS": count,
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        # Several processes share a GPU.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
