"""A worker that ends before the workers of its run have met, and tells the others why."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import PeerLostError
from .worker_messages import (
    CONNECT,
    HELLO,
    LEFT,
    LONGEST_MESSAGE,
    LOOK,
    SECONDS_TO_TELL,
    Wait,
    addresses_of,
    listening,
    own_name,
    tell_all,
)

_LONGEST_REASON = 1000


@contextlib.contextmanager
def telling_others(config: Mapping[str, Any]) -> Iterator[None]:
    """Tells the other workers, which wait or will, if a block before their meeting fails.

    Args:
        config: Content of TF_CONFIG; without a cluster nobody is told.
    """
    try:
        yield
    except Exception as error:
        leave(config, f"could not start: {error}")
        raise


def leave(config: Mapping[str, Any], why: str) -> None:
    """Tells the other workers that this one takes no part; gives up after 20 seconds.

    Those that wait for it, or come meanwhile, end with a PeerLostError.

    Args:
        config: Content of TF_CONFIG.
        why: The reason, as it continues the name of this worker.
    """
    addresses = addresses_of(config.get("cluster", {}))
    own = own_name(config)
    if len(addresses) < 2 or own not in addresses or "index" not in config.get("task", {}):
        return
    chief, *others = addresses
    wait = Wait(SECONDS_TO_TELL, sys.stderr)
    with contextlib.suppress(PeerLostError, OSError):
        if own == chief:
            with listening(addresses[chief], wait) as server:
                tell_all(server, set(others), f"{own} {why[:_LONGEST_REASON]}", wait)
        else:
            _tell_chief(own, why, addresses[chief], wait)


def _tell_chief(own: str, why: str, address: str, wait: Wait) -> None:
    host, _, port = address.rpartition(":")
    while True:
        wait.tick(lambda: "worker 0, to tell it that this one ends")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), CONNECT) as connection:
                message = {HELLO: own, LEFT: why[:_LONGEST_REASON]}
                connection.sendall((json.dumps(message) + "\n").encode())
                connection.recv(LONGEST_MESSAGE)  # the chief answers, or ends
                return
        except OSError:  # the chief is not there yet
            time.sleep(LOOK)
