"""What workers tell one another before TensorFlow connects them: lines of JSON over TCP."""

from __future__ import annotations

import contextlib
import functools
import json
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from .errors import PeerLostError

HELLO = "keras_resnet"
TOGETHER, REFUSED, LEFT = "together", "refused", "left"
"""Messages of the chief: all are there; another process has the task; a worker takes no part."""
# Seconds: between looks, until the first line, between lines, for one connection.
LOOK, _FIRST_LINE, _BETWEEN_LINES, CONNECT = 0.2, 10.0, 60.0, 5.0
SECONDS_TO_TELL = 20.0
LONGEST_MESSAGE = 65_536


def own_name(config: Mapping[str, Any]) -> str:
    """Returns the task of this process in TF_CONFIG, such as `worker 1`."""
    task = config.get("task", {})
    return f"{task.get('type', 'worker')} {int(task.get('index', 0))}"


def addresses_of(cluster: Mapping[str, Any]) -> dict[str, str]:
    """Returns the addresses of all workers by task, the chief first."""
    return {
        f"{kind} {index}": address
        for kind in ("chief", "worker")
        for index, address in enumerate(cluster.get(kind, ()))
    }


class Wait:
    """A wait that says what for, and ends."""

    def __init__(self, limit: float, stream: TextIO) -> None:
        self._limit, self._stream = limit, stream
        self._since = time.monotonic()
        self._next_line = self._since + _FIRST_LINE

    def again(self) -> Wait:
        """Returns a wait of 20 seconds that begins now, to tell others that a worker ends."""
        return Wait(SECONDS_TO_TELL, self._stream)

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


@contextlib.contextmanager
def listening(address: str, wait: Wait) -> Iterator[socket.socket]:
    """Yields a socket that listens at the port of an address; waits until the port is free."""
    port = int(address.rpartition(":")[2])
    server = None
    while server is None:
        try:
            server = socket.create_server(("", port), backlog=128)
        except OSError as error:
            cause = f"port {port} of this machine ({error.strerror})"
            wait.tick(functools.partial(str, cause))
            time.sleep(LOOK)
    with server:
        yield server


def greeting(connection: socket.socket) -> tuple[str, str]:
    """Returns the task that a process at the other end names, and why it does not take part.

    Both are "" for something else, the second for a worker that takes part.
    """
    connection.settimeout(CONNECT)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        with connection.makefile("r", encoding="utf-8") as lines:
            message = json.loads(lines.readline(LONGEST_MESSAGE))
        return str(message.get(HELLO, "")), str(message.get(LEFT, ""))
    return "", ""


def tell(connection: socket.socket, what: str, text: str) -> None:
    """Sends a message to a worker that may have ended."""
    with contextlib.suppress(OSError):  # the next look finds that it has ended
        connection.sendall((json.dumps([what, text]) + "\n").encode())


def tell_all(server: socket.socket, others: set[str], text: str, wait: Wait) -> None:
    """Tells all workers that come why one takes no part; gives up at the end of the wait."""
    with contextlib.suppress(PeerLostError):
        while others:
            wait.tick(lambda: "the other workers, to tell them that one takes no part")
            if select.select([server], [], [], LOOK)[0]:
                with server.accept()[0] as connection:
                    others.discard(greeting(connection)[0])
                    tell(connection, LEFT, text)


def capitalized(text: str) -> str:
    """Returns a sentence that may begin with the name of a worker."""
    return text[:1].upper() + text[1:]
