"""Several workers of one run on this machine: started, watched, restarted together, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from .errors import PEER_LOST, STOPPED
from .local_cluster import divide_gpus, free_ports, visible_gpus, worker_environments

# Seconds: between looks, and that workers have to end by themselves after one was lost.
_LOOK, _NOTICE = 0.05, 20.0
_LONGEST_LINE = 65_536
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def may_restart(statuses: Sequence[int]) -> bool:
    """Whether workers that ended so may be started again.

    A worker that a signal ended (a status below 0) may always: what the others said about it does
    not count. Otherwise no status may be permanent, as those below 128 are.
    """
    failed = [status for status in statuses if status != 0]
    return any(status < 0 for status in failed) or all(status >= 128 for status in failed)


def joint_status(statuses: Sequence[int], *, stopped: bool) -> int:
    """Returns the one exit status for workers that ended with several.

    Args:
        statuses: As `subprocess` gives them, in the order in which the workers ended.
        stopped: Whether they were asked to stop.
    """
    failed = [status if status > 0 else 128 - status for status in statuses if status != 0]
    permanent = [status for status in failed if status < 128]
    if not failed:
        return 0
    if stopped and not permanent:
        return STOPPED
    if permanent and not may_restart(statuses):
        return permanent[0]
    return failed[0]


class Launcher:
    """Starts the workers of a run here, and all of them again when one is lost.

    Args:
        command: The words of the program that each worker is.
        workers: Number of workers.
        max_restarts: How often all workers may be started again.
        grace: Seconds that workers have to end after a signal before they are killed.
        words_again: Words that the program gets in addition when it is started again.
        stream: Where the workers' lines are printed, each with its worker.

    Example:
        >>> Launcher(["python", "train.py"], 2).run()  # train.py reads TF_CONFIG
        0
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        *,
        max_restarts: int = 3,
        grace: float = 60.0,
        words_again: Sequence[str] = (),
        stream: TextIO | None = None,
    ) -> None:
        self._command, self._words_again = list(command), list(words_again)
        self._workers = workers
        self._max_restarts, self._grace = max_restarts, grace
        self._stream: TextIO | None = sys.stdout if stream is None else stream
        self._writing = threading.Lock()
        self._signals: list[int] = []
        self.processes: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        """Runs the workers to the end of their run.

        Returns:
            The exit status: 0 if all workers ended well; a permanent status of a worker (1, 2 or
            3); 130 after a signal; otherwise that of the first worker lost in the last attempt.
        """
        devices = divide_gpus(visible_gpus(), self._workers)
        previous = {
            number: signal.signal(number, lambda got, _: self._signals.append(got))
            for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name))
            if signal.getsignal(number) is not signal.SIG_IGN  # as `nohup` has SIGHUP
        }
        try:
            return self._attempts(devices)
        finally:
            self._kill()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _attempts(self, devices: Sequence[str] | None) -> int:
        restarts = 0
        while True:
            ended = self._attempt(devices, again=restarts > 0)
            statuses = [status for _, status in ended]
            stopped = bool(self._signals)
            status = joint_status(statuses, stopped=stopped)
            if status == 0 or stopped or not may_restart(statuses):
                return status
            first, code = next(each for each in ended if each[1] != 0)
            lost = f"worker {first} {_describe(code)}"
            if restarts == self._max_restarts:
                self._say(f"{lost}; no restart is left of {self._max_restarts}")
                return status
            restarts += 1
            self._say(
                f"{lost}; starting all workers again from the last checkpoint "
                f"(restart {restarts} of {self._max_restarts})"
            )

    def _attempt(self, devices: Sequence[str] | None, *, again: bool) -> list[tuple[int, int]]:
        """Runs the workers once; returns index and status of each, in the order of their ends."""
        addresses = [f"127.0.0.1:{port}" for port in free_ports(self._workers)]
        self.processes = [
            subprocess.Popen(
                [*self._command, *(self._words_again if again else [])],
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # signals of the terminal come from here only
            )
            for variables in worker_environments(addresses, devices)
        ]
        numbers = ", ".join(str(process.pid) for process in self.processes)
        self._say(f"{self._workers} worker(s) at {', '.join(addresses)}: processes {numbers}")
        readers = [
            threading.Thread(target=self._copy, args=(index, process.stdout), daemon=True)
            for index, process in enumerate(self.processes)
        ]
        for reader in readers:
            reader.start()
        ended = self._watch()
        self._kill()
        for reader in readers:
            reader.join(timeout=5)
        return ended

    def _watch(self) -> list[tuple[int, int]]:
        """Waits until all workers have ended; passes signals on, and ends those that hang.

        Those count as workers that lost another one: their own status says nothing.
        """
        ended: dict[int, int] = {}
        hung: set[int] = set()
        passed, kill_at = 0, float("inf")
        while True:
            for index, process in enumerate(self.processes):
                status = process.poll()
                if status is not None and index not in ended:
                    ended[index] = PEER_LOST if index in hung else status
                    if status != 0:
                        kill_at = min(kill_at, time.monotonic() + _NOTICE)
            if len(ended) == len(self.processes):
                return list(ended.items())
            if passed < len(self._signals):
                number, passed = self._signals[passed], passed + 1
                self._say(f"{signal.Signals(number).name}: passing it on to the workers")
                self._send(number)
                kill_at = time.monotonic() + self._grace
            if time.monotonic() > kill_at:
                hung = {index for index in range(len(self.processes)) if index not in ended}
                self._say(f"killing worker {', '.join(map(str, hung))}, which did not end")
                self._kill()
            time.sleep(_LOOK)

    def _send(self, number: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def _kill(self) -> None:
        """Ends the workers that are left, with the processes that they have started."""
        for process in self.processes:
            if process.poll() is None:
                _kill_group(process)
                process.wait()

    def _copy(self, index: int, source: Any) -> None:
        """Prints a worker's lines until it has ended."""
        with source:
            while line := source.readline(_LONGEST_LINE):
                self._print(f"[worker {index}] {line.decode(errors='replace').rstrip()}")

    def _say(self, text: str) -> None:
        self._print(f"[launch] {text}")

    def _print(self, line: str) -> None:
        with self._writing:
            if self._stream is None:
                return
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            try:
                text = line.encode(encoding, "replace").decode(encoding)
                print(text, file=self._stream, flush=True)
            except (OSError, ValueError):  # nobody reads any more; the workers go on
                self._stream = None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    kill_group: Callable[[int, int], None] | None = getattr(os, "killpg", None)
    if kill_group is None:
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        kill_group(process.pid, signal.SIGKILL)


def _describe(status: int) -> str:
    """Returns how a process ended, in words."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"
