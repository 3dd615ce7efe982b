"""The workers of a run on several machines: who is there, whom this one waits for, who is lost.

TensorFlow waits for workers inside calls that Python cannot interrupt. A thread therefore watches
the main one: it says for whom the process waits, ends it if it is asked to stop meanwhile, and
bounds each wait.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

from .errors import PEER_LOST, STOPPED, PeerLostError
from .strategies import tf_config

# Seconds: between looks, until the first line, between lines, and from a signal to the end.
_LOOK, _FIRST_LINE, _BETWEEN_LINES, _GRACE = 0.5, 10.0, 60.0, 15.0
_CONNECT = 1.0
# Names of TensorFlow's errors when another worker has ended.
_OF_PEERS = ("UnavailableError", "AbortedError", "CancelledError", "DeadlineExceededError")
_WORDS = ("Collective ops is aborted", "peer", "heartbeat", "Connection reset", "coordination")
# What it says of a worker that sends no heartbeats, and where the chief does not take them.
_OF_SILENT = r"reported from /job:(chief|worker)(?:/replica:\d+)?/task:(\d+): [^\n]*heartbeat"
_OF_CHIEF = "/tensorflow.CoordinationService/Heartbeat"


class Peer(NamedTuple):
    """Another worker.

    Attributes:
        name: Its task, such as `worker 1`.
        address: Its host and port.
    """

    name: str
    address: str

    @property
    def answers(self) -> bool:
        """Whether something listens at its address."""
        host, _, port = self.address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT):
                return True
        except (OSError, ValueError):
            return False


def peers() -> list[Peer]:
    """Returns the other workers of TF_CONFIG."""
    config = tf_config()
    task = config.get("task", {})
    own = (task.get("type"), int(task.get("index", 0)))
    return [
        Peer(f"{kind} {index}", address)
        for kind in ("chief", "worker")
        for index, address in enumerate(config.get("cluster", {}).get(kind, ()))
        if (kind, index) != own
    ]


def describe_missing(others: Sequence[Peer]) -> str:
    """Returns which workers do not answer, or that all do."""
    missing = [each for each in others if not each.answers]
    if not missing:
        return "all other workers answer"
    listed = ", ".join(f"{each.name} ({each.address})" for each in missing[:8])
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    return f"{len(missing)} of {len(others)} do not answer: {listed}{more}"


class _Wait(NamedTuple):
    """What the main thread waits for, since when, and whether it answers signals afterwards."""

    what: str
    since: float
    saves: bool


class Watch:
    """Watches the waits of a process for other workers.

    Args:
        others: The other workers; without any, nothing is watched.
        limit: Seconds after which a wait ends the process with `PEER_LOST`; 0 for no limit.
        stream: Where lines are printed.

    Example:
        >>> with Watch(peers(), limit=600) as watch:
        ...     with watch.waiting("the other workers to start"):
        ...         strategy = tf.distribute.MultiWorkerMirroredStrategy()
    """

    def __init__(
        self, others: Sequence[Peer], limit: float = 0.0, stream: TextIO = sys.stderr
    ) -> None:
        self._others, self._limit, self._stream = others, limit, stream
        self._wait: _Wait | None = None
        self._signalled: tuple[int, float] | None = None
        self._ended = threading.Event()
        self._end: Callable[[int], Any] = os._exit
        self._previous: int | None = None  # stays so outside the main thread

    def __enter__(self) -> Watch:
        """Starts to watch."""
        if self._others:
            self._ended.clear()
            self._pipe = os.pipe()
            for end in self._pipe:
                os.set_blocking(end, False)
            with contextlib.suppress(ValueError):  # not the main thread
                # C code writes each signal's number here, also while Python is blocked.
                self._previous = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, daemon=True, name="watch")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops watching."""
        if self._others:
            self._ended.set()
            self._thread.join()
            if self._previous is not None:
                signal.set_wakeup_fd(self._previous)
            for end in self._pipe:
                os.close(end)

    @contextlib.contextmanager
    def waiting(self, what: str, *, saves: bool = False) -> Iterator[None]:
        """States what the main thread waits for while a block runs; blocks may be nested.

        Args:
            what: What it waits for, as it continues "Waiting for".
            saves: Whether the process answers a signal by itself as soon as the block ends. A
                signal then ends the process only if another worker is gone.
        """
        before, self._wait = self._wait, _Wait(what, time.monotonic(), saves)
        try:
            yield
        finally:
            self._wait = before and before._replace(since=time.monotonic())

    def _watch(self) -> None:
        said = 0.0
        while not self._ended.wait(_LOOK):
            self._read_signals()
            wait, now = self._wait, time.monotonic()
            if wait is None:
                continue
            what, since, _ = wait
            if self._must_stop(wait, now):
                name = signal.Signals(self._signalled[0]).name if self._signalled else ""
                self._say(
                    f"Stopped by {name} while waiting for {what}; the last checkpoint remains"
                )
                self._end(STOPPED)
                return
            if self._limit and now - since > self._limit:
                self._say(
                    f"Error: waited {now - since:.0f} s for {what}; "
                    f"{describe_missing(self._others)}. The last checkpoint remains: give the same "
                    "command again"
                )
                self._end(PEER_LOST)
                return
            if now - since > _FIRST_LINE and now - max(said, since) > (
                _BETWEEN_LINES if said > since else _FIRST_LINE
            ):
                said = now
                missing = describe_missing(self._others)
                self._say(f"Waiting for {what} for {now - since:.0f} s; {missing}")

    def _must_stop(self, wait: _Wait, now: float) -> bool:
        """Whether a signal came that the main thread cannot answer."""
        if self._signalled is None or now - self._signalled[1] < _GRACE:
            return False
        return not wait.saves or not all(each.answers for each in self._others)

    def _read_signals(self) -> None:
        if not select.select([self._pipe[0]], [], [], 0)[0]:
            return
        numbers = os.read(self._pipe[0], 1024)
        stops = {getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP", "SIGINT")}
        for number in numbers:
            if number in stops and self._signalled is None:
                self._signalled = (number, time.monotonic())

    def _say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


@contextlib.contextmanager
def naming_lost_peers(others: Sequence[Peer], step: Callable[[], int]) -> Iterator[None]:
    """Turns TensorFlow's errors about workers that have ended into one that names them.

    Args:
        others: The other workers.
        step: Returns the step of the newest checkpoint.

    Raises:
        PeerLostError: In place of TensorFlow's error.
    """
    try:
        yield
    except Exception as error:
        lost = type(error).__name__ in _OF_PEERS or any(word in str(error) for word in _WORDS)
        if not others or not lost or not type(error).__module__.startswith("tensorflow"):
            raise
        saved, lost_one = step(), _named_by(str(error), others)
        who = f"{lost_one} gives no sign of life" if lost_one else describe_missing(others)
        state = f"the state of step {saved} is saved" if saved else "no state is saved yet"
        raise PeerLostError(
            f"Lost the connection to another worker; {who}; {state}. Give the same command again, "
            "on all workers, to resume"
        ) from error


def _named_by(message: str, others: Sequence[Peer]) -> str:
    """Returns the worker whose heartbeats TensorFlow misses; "" if its message is about others.

    A process that is stopped, or has no memory left, keeps its port: it seems to answer.
    """
    silent = re.search(_OF_SILENT, message)
    if silent is not None:
        names = {f"{silent[1]} {silent[2]}"}
    elif _OF_CHIEF in message:
        names = {"chief 0", "worker 0"}
    else:
        return ""
    found = [f"{each.name} ({each.address})" for each in others if each.name in names]
    return found[0] if found else ""
