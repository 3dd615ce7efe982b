"""The lock of a run in an object store: one process at a time trains there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from .layout import LOCKS
from .store import Store
from .store_errors import StoreError

# Seconds: between signs of life, after which an owner without one has ended, between looks.
BEAT, STALE, _LOOK = 20.0, 120.0, 2.0


class Lease:
    """A numbered lock object with its owner, which gives signs of life.

    The lock is the object with the highest number, such as `lock/00000003.json`. Whoever finds it
    released, or without a sign of life for 120 seconds, creates the next number on condition that
    it does not exist: of several processes one wins. Ages are differences of the store's own times,
    so that clocks that differ do not matter.

    Args:
        store: The run's place; for the lock alone, whose thread may connect it anew.
        token: Names the working directory that is locked on this machine. A lock of the same
            token is of a process that has ended.
        say: Prints a message.

    Attributes:
        on_lost: Called when another process has taken the run over.

    Raises:
        StoreError: If the store cannot be written.
        ValueError: If another process trains there.
    """

    def __init__(self, store: Store, token: str, say: Callable[[str], None]) -> None:
        self._store, self._say = store, say
        self._own: dict[str, Any] = {
            "owner": f"{socket.gethostname()}, process {os.getpid()}",
            "token": token,
            "id": uuid.uuid4().hex,
            "released": False,
            "beat": 0,
        }
        self._lost = ""
        self.on_lost: Callable[[], None] = lambda: None
        self._ended = threading.Event()
        self._number = self._acquire()
        self._thread = threading.Thread(target=self._live, daemon=True, name="lease")
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another process has taken the run over."""
        return bool(self._lost)

    def check(self) -> None:
        """Checks that no other process has taken the run over.

        Raises:
            OSError: If one has, because this one was cut off from the store for too long.
        """
        if self._lost:
            raise OSError(
                f"{self._lost} trains at {self._store.url} now: this process gave the store no "
                f"sign of life for {STALE:.0f} s. Its own state remains on this machine"
            )

    def release(self) -> None:
        """Gives the lock up, if the store can be reached."""
        self._ended.set()
        self._thread.join()
        if self._lost:
            return
        self._own["released"] = True
        try:
            self._store.write(self._name(self._number), self._content())
        except StoreError as error:
            self._say(f"Warning: the lock was not released, and expires in {STALE:.0f} s: {error}")

    def _acquire(self) -> int:
        """Waits for a lock that may be left over, and takes it; returns its number."""
        seen: Any = None
        until = time.monotonic() + STALE + BEAT
        said = False
        while True:
            now = self._store.check_writable()
            number, held = self._newest()
            age = 0.0
            free = held is None or held.get("released") or held.get("token") == self._own["token"]
            if not free and held is not None:
                age = now - self._store.modified(self._name(number))
                free = age > STALE
            if free:
                if self._store.create(self._name(number + 1), self._content()):
                    if self._store.create(self._name(number + 1), self._content()):
                        self._say(
                            f"Warning: {self._store.url} has no conditional writes: start no "
                            "second process that trains there"
                        )
                    self._tidy(number)
                    return number + 1
                continue
            owner = {} if held is None else held
            mark = (owner.get("id"), owner.get("beat"))
            if (seen is not None and mark != seen) or time.monotonic() > until:
                raise ValueError(
                    f"Another process is training at {self._store.url}: {owner.get('owner')}, "
                    f"which gave a sign of life {max(0.0, age):.0f} s ago"
                )
            if not said:
                said = True
                self._say(
                    f"{self._store.url} is locked by {owner.get('owner')}, last sign of life "
                    f"{max(0.0, age):.0f} s ago: waiting up to {STALE - age:.0f} s for another"
                )
            seen = mark
            time.sleep(_LOOK)

    def _newest(self) -> tuple[int, dict[str, Any] | None]:
        numbers = sorted(
            int(name.split("/")[1].removesuffix(".json"))
            for name in self._store.entries(LOCKS)
            if name.split("/")[1].removesuffix(".json").isdecimal()
        )
        if not numbers:
            return 0, None
        try:
            content = json.loads(self._store.read(self._name(numbers[-1])))
        except (ValueError, FileNotFoundError):
            content = {}
        return numbers[-1], content if isinstance(content, dict) else {}

    def _tidy(self, last: int) -> None:
        for number in range(max(1, last - 8), last + 1):
            self._store.remove(self._name(number))

    def _live(self) -> None:
        """Gives signs of life until the end; notices a successor."""
        while not self._ended.wait(BEAT):
            try:
                number, held = self._newest()
                if number > self._number:
                    self._lost = str((held or {}).get("owner", "Another process"))
                    self.on_lost()
                    return
                self._own["beat"] += 1
                self._store.write(self._name(self._number), self._content())
            except OSError as error:  # the uploader says that the store cannot be reached
                if getattr(error, "refused", False):
                    with contextlib.suppress(OSError):
                        self._store.connect()  # credentials that have expired may be new

    def _content(self) -> bytes:
        return json.dumps(self._own).encode()

    @staticmethod
    def _name(number: int) -> str:
        return f"{LOCKS}/{number:08d}.json"


def is_alive(store: Store, prefix: str = "") -> bool:
    """Whether a process trains at a place, as `keras-resnet runs` shows it; writes nothing.

    The age is by this machine's clock.

    Args:
        store: The place, or one above it.
        prefix: The name of the run below the store, with a slash at its end; "" for the store.
    """
    times = store.listing(f"{prefix}{LOCKS}").files
    name = max((each for each in times if each.endswith(".json")), default=None)
    if name is None:
        return False
    try:
        held = json.loads(store.read(f"{prefix}{LOCKS}/{name}"))
        written = times[name]
        if written is None:
            written = store.modified(f"{prefix}{LOCKS}/{name}")
    except (ValueError, OSError):
        return False
    return isinstance(held, dict) and not held.get("released") and time.time() - written < STALE
