"""The meeting of all workers before TensorFlow connects them.

TensorFlow waits for missing workers in a call that neither prints, nor ends, nor lets Python answer
a signal. The workers therefore meet first: the chief listens at its own address of TF_CONFIG, each
other worker tells it its index, and when all are there the chief lets them go on together. A worker
that takes no part, because its settings or files are refused, tells the others (`leaving`).
"""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from .errors import PeerLostError
from .worker_messages import (
    CONNECT,
    HELLO,
    LEFT,
    LONGEST_MESSAGE,
    LOOK,
    REFUSED,
    TOGETHER,
    Wait,
    addresses_of,
    capitalized,
    greeting,
    listening,
    own_name,
    tell,
    tell_all,
)


def meet(config: Mapping[str, Any], limit: float, stream: TextIO = sys.stderr) -> None:
    """Returns when all workers of a cluster are there; says for whom it waits.

    Args:
        config: Content of TF_CONFIG.
        limit: Seconds to wait; 0 for no limit.
        stream: Where lines are printed.

    Raises:
        PeerLostError: If workers are missing after `limit` seconds, or one takes no part; says
            which, and why.
        ValueError: If a later process has the same task.

    Example:
        >>> meet(tf_config(), limit=600)
    """
    addresses = addresses_of(config["cluster"])
    own = own_name(config)
    if own not in addresses:
        raise ValueError(
            f"TF_CONFIG has the task {own} and no address for it. Received: {dict(config)}"
        )
    chief, *others = addresses
    if not others:
        return
    wait = Wait(limit, stream)
    if own == chief:
        _gather(addresses[chief], {name: addresses[name] for name in others}, wait)
    else:
        _join(own, chief, addresses[chief], wait)


def _gather(address: str, others: Mapping[str, str], wait: Wait) -> None:
    """Waits, as the chief, for all others, and lets them go on."""
    present: dict[str, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(listening(address, wait))

        def missing() -> str:
            named = [f"{name} ({at})" for name, at in others.items() if name not in present]
            more = f" and {len(named) - 8} more" if len(named) > 8 else ""
            return f"{len(named)} of {len(others)} other workers: {', '.join(named[:8])}{more}"

        told = ""
        while len(present) < len(others):
            wait.tick(missing)
            ready, _, _ = select.select([server, *present.values()], [], [], LOOK)
            if server in ready:
                connection = stack.enter_context(server.accept()[0])
                name, why = greeting(connection)
                if name in others and why:
                    text = f"{name} {why}"
                    for one in present.values():
                        tell(one, LEFT, text)
                    tell_all(server, set(others) - set(present) - {name}, text, wait.again())
                    raise PeerLostError(capitalized(text))
                if name in present:  # the newer one counts: the other may be on a dead machine
                    tell(present.pop(name), REFUSED, f"another process has the task {name}")
                if name in others:
                    present[name] = connection
            for name, one in list(present.items()):
                if one in ready:  # nothing is sent: it has ended
                    del present[name]
            if present and missing() != told:
                told = missing()
                for one in present.values():
                    tell(one, "waiting", told)
        for one in present.values():
            tell(one, TOGETHER, "")


def _join(own: str, chief: str, address: str, wait: Wait) -> None:
    """Tells the chief that this worker is there, and waits for the others."""
    host, _, port = address.rpartition(":")
    heard = [f"{chief} ({address}), which does not answer"]
    while True:
        wait.tick(lambda: heard[0])
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT)
        except OSError as error:  # also a name that is not known yet
            heard[0] = f"{chief} ({address}), which does not answer ({error})"
            time.sleep(LOOK)
            continue
        with connection:
            if _wait_for_others(connection, own, heard, wait):
                return
        heard[0] = f"{chief} ({address}), which does not take this worker: it trains already, or"
        heard[0] += " has just ended"
        time.sleep(LOOK)


def _wait_for_others(connection: socket.socket, own: str, heard: list[str], wait: Wait) -> bool:
    """Returns whether all workers are there; False if the connection ends before."""
    with contextlib.suppress(OSError):
        connection.sendall((json.dumps({HELLO: own}) + "\n").encode())
    received = b""
    while True:
        wait.tick(lambda: heard[0])
        if not select.select([connection], [], [], LOOK)[0]:
            continue
        try:
            part = connection.recv(LONGEST_MESSAGE)
        except OSError:
            return False
        if not part or len(received) > LONGEST_MESSAGE:
            return False
        received += part
        *lines, received = received.split(b"\n")
        for line in lines:
            try:
                what, text = json.loads(line)
            except ValueError:  # TensorFlow's server: the chief trains already
                return False
            if what == TOGETHER:
                return True
            if what == REFUSED:
                raise ValueError(f"TF_CONFIG needs an index for each process: {text}")
            if what == LEFT:
                raise PeerLostError(capitalized(text))
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
