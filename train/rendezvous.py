"""The meeting of all workers before TensorFlow connects them.

TensorFlow waits for missing workers in a call that neither prints, nor ends, nor lets Python answer
a signal. The workers therefore meet first: the chief listens at its own address of TF_CONFIG, each
other worker tells it its index, and when all are there the chief lets them go on together.
"""

from __future__ import annotations

import contextlib
import functools
import json
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from .errors import PeerLostError

_HELLO = "keras_resnet"
_TOGETHER, _REFUSED = "together", "refused"
# Seconds: between looks, until the first line, between lines, for one connection.
_LOOK, _FIRST_LINE, _BETWEEN_LINES, _CONNECT = 0.2, 10.0, 60.0, 5.0
_LONGEST_MESSAGE = 65_536


def meet(config: Mapping[str, Any], limit: float, stream: TextIO = sys.stderr) -> None:
    """Returns when all workers of a cluster are there; says for whom it waits.

    Args:
        config: Content of TF_CONFIG.
        limit: Seconds to wait; 0 for no limit.
        stream: Where lines are printed.

    Raises:
        PeerLostError: If workers are missing after `limit` seconds; names them.
        ValueError: If a later process has the same task.

    Example:
        >>> meet(tf_config(), limit=600)
    """
    addresses = _addresses(config["cluster"])
    task = config["task"]
    own = f"{task.get('type', 'worker')} {int(task.get('index', 0))}"
    if own not in addresses:
        raise ValueError(
            f"TF_CONFIG has the task {own} and no address for it. Received: {dict(config)}"
        )
    chief, *others = addresses
    if not others:
        return
    wait = _Wait(limit, stream)
    if own == chief:
        _gather(addresses[chief], {name: addresses[name] for name in others}, wait)
    else:
        _join(own, chief, addresses[chief], wait)


def _addresses(cluster: Mapping[str, Any]) -> dict[str, str]:
    """Returns the addresses of all workers by task, the chief first."""
    return {
        f"{kind} {index}": address
        for kind in ("chief", "worker")
        for index, address in enumerate(cluster.get(kind, ()))
    }


class _Wait:
    """A wait that says what for, and ends."""

    def __init__(self, limit: float, stream: TextIO) -> None:
        self._limit, self._stream = limit, stream
        self._since = time.monotonic()
        self._next_line = self._since + _FIRST_LINE

    def tick(self, what: Callable[[], str]) -> None:
        """Prints a line from time to time.

        Raises:
            PeerLostError: After the limit.
        """
        now = time.monotonic()
        if self._limit and now - self._since > self._limit:
            raise PeerLostError(
                f"Waited {now - self._since:.0f} s (--worker-timeout) for {what()}. Start the same "
                "command on all workers"
            )
        if now > self._next_line:
            self._next_line = now + _BETWEEN_LINES
            print(
                f"Waiting for {what()} for {now - self._since:.0f} s",
                file=self._stream,
                flush=True,
            )


def _gather(address: str, others: Mapping[str, str], wait: _Wait) -> None:
    """Waits, as the chief, for all others, and lets them go on."""
    present: dict[str, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listening(address, wait))

        def missing() -> str:
            named = [f"{name} ({at})" for name, at in others.items() if name not in present]
            more = f" and {len(named) - 8} more" if len(named) > 8 else ""
            return f"{len(named)} of {len(others)} other workers: {', '.join(named[:8])}{more}"

        told = ""
        while len(present) < len(others):
            wait.tick(missing)
            ready, _, _ = select.select([server, *present.values()], [], [], _LOOK)
            if server in ready:
                connection = stack.enter_context(server.accept()[0])
                name = _greeting(connection)
                if name in present:  # the newer one counts: the other may be on a dead machine
                    _tell(present.pop(name), _REFUSED, f"another process has the task {name}")
                if name in others:
                    present[name] = connection
            for name, one in list(present.items()):
                if one in ready:  # nothing is sent: it has ended
                    del present[name]
            if present and missing() != told:
                told = missing()
                for one in present.values():
                    _tell(one, "waiting", told)
        for one in present.values():
            _tell(one, _TOGETHER, "")


@contextlib.contextmanager
def _listening(address: str, wait: _Wait) -> Iterator[socket.socket]:
    """Yields a socket that listens at the port of an address; waits until the port is free."""
    port = int(address.rpartition(":")[2])
    server = None
    while server is None:
        try:
            server = socket.create_server(("", port), backlog=128)
        except OSError as error:
            cause = f"port {port} of this machine ({error.strerror})"
            wait.tick(functools.partial(str, cause))
            time.sleep(_LOOK)
    with server:
        yield server


def _greeting(connection: socket.socket) -> str:
    """Returns the task that a process at the other end names; "" for something else."""
    connection.settimeout(_CONNECT)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        with connection.makefile("r", encoding="utf-8") as lines:
            message = json.loads(lines.readline(_LONGEST_MESSAGE))
        return str(message.get(_HELLO, ""))
    return ""


def _tell(connection: socket.socket, what: str, text: str) -> None:
    with contextlib.suppress(OSError):  # the next look finds that it has ended
        connection.sendall((json.dumps([what, text]) + "\n").encode())


def _join(own: str, chief: str, address: str, wait: _Wait) -> None:
    """Tells the chief that this worker is there, and waits for the others."""
    host, _, port = address.rpartition(":")
    heard = [f"{chief} ({address}), which does not answer"]
    while True:
        wait.tick(lambda: heard[0])
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT)
        except OSError as error:  # also a name that is not known yet
            heard[0] = f"{chief} ({address}), which does not answer ({error})"
            time.sleep(_LOOK)
            continue
        with connection:
            if _wait_for_others(connection, own, heard, wait):
                return
        heard[0] = f"{chief} ({address}), which does not take this worker: it trains already, or"
        heard[0] += " has just ended"
        time.sleep(_LOOK)


def _wait_for_others(connection: socket.socket, own: str, heard: list[str], wait: _Wait) -> bool:
    """Returns whether all workers are there; False if the connection ends before."""
    with contextlib.suppress(OSError):
        connection.sendall((json.dumps({_HELLO: own}) + "\n").encode())
    received = b""
    while True:
        wait.tick(lambda: heard[0])
        if not select.select([connection], [], [], _LOOK)[0]:
            continue
        try:
            part = connection.recv(_LONGEST_MESSAGE)
        except OSError:
            return False
        if not part or len(received) > _LONGEST_MESSAGE:
            return False
        received += part
        *lines, received = received.split(b"\n")
        for line in lines:
            try:
                what, text = json.loads(line)
            except ValueError:  # TensorFlow's server: the chief trains already
                return False
            if what == _TOGETHER:
                return True
            if what == _REFUSED:
                raise ValueError(f"TF_CONFIG needs an index for each process: {text}")
            heard[0] = str(text)


@contextlib.contextmanager
def ended_by_signals(seconds: float) -> Iterator[None]:
    """Lets the system end this process by signals, and after a time, while a block runs.

    For calls that hold Python's lock, where no handler of Python runs. Nothing is saved; there is
    nothing to save yet. A signal ends the process with 128 and its number: 142 after the time.

    Args:
        seconds: The time; 0 for none.
    """
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name)]
    try:
        previous = {
            number: signal.signal(number, signal.SIG_DFL)
            for number in (getattr(signal, name) for name in names)
            if signal.getsignal(number) is not signal.SIG_IGN
        }
    except ValueError:  # not the main thread
        yield
        return
    timer = getattr(signal, "alarm", lambda _: 0)
    timer(int(seconds))
    try:
        yield
    finally:
        timer(0)
        for number, handler in previous.items():
            signal.signal(number, handler)
