"""The parent's side of a contender's process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnet_train.measurement import child_environment, last_line

from .workload import Workload

_ROOT = Path(__file__).parents[2]


class WorkerError(RuntimeError):
    """A contender failed; the text is one line."""


class Worker:
    """The process of a contender, see `worker`; leaving the context ends it.

    Args:
        factory: `package.module:function` that sets the contender up.
        workload: Its argument.
        limit: Seconds that the set-up or one measurement may take.
    """

    def __init__(self, factory: str, workload: Workload, limit: float) -> None:
        self._factory, self._workload, self._limit = factory, workload, limit
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __enter__(self) -> Worker:
        """Starts the process."""
        order = {"factory": self._factory, "workload": dataclasses.asdict(self._workload)}
        self._errors = tempfile.TemporaryFile()
        # A session of its own: the parent handles an interrupt from the terminal.
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", json.dumps(order)],
            cwd=_ROOT,
            env=_environment(self._workload.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process and those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError), self._process:  # waits for it and closes its pipes
            self._reader.join()
        self._errors.close()

    def set_up(self) -> Mapping[str, Any]:
        """Waits for the end of the set-up; returns the worker's reply.

        Raises:
            WorkerError: If the contender failed or took too long.
        """
        return self._reply()

    def measure(self, units: int) -> Mapping[str, Any]:
        """Lets the contender do some units of work; returns the worker's reply.

        Raises:
            WorkerError: If the contender failed or took too long.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # the process is gone; the reply says why
                print(units, file=self._process.stdin, flush=True)
        return self._reply()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put("")

    def _reply(self) -> Mapping[str, Any]:
        try:
            line = self._lines.get(timeout=self._limit)
        except queue.Empty:
            raise WorkerError(f"stopped after {self._limit:g} s") from None
        if not line:
            raise WorkerError(self._cause_of_death())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(reply["error"][:300])
        return reply

    def _cause_of_death(self) -> str:
        status = self._process.wait()
        if status < 0:
            return f"killed by signal {-status}" + (" (out of memory?)" if status == -9 else "")
        self._errors.seek(0)
        return f"ended with status {status}: {last_line(self._errors.read())}"[:300]


def _environment(threads: int) -> dict[str, str]:
    limits = (
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    )
    return {
        **child_environment(),
        **dict.fromkeys(limits, str(threads)),
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # several processes share a GPU
    }
