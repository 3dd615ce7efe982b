"""Workers that read the images of one data set together: each a share, and all know the rest.

They exchange what they have read by files in the run's directory, which all of them see: one sign
of life of each worker, and one part of the index. A worker waits for another one only while that
gives signs of life; what then is still unknown it reads itself. What one worker has read counts for
another one only if that sees the same size and time of the file.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ..files import write_bytes
from .known import Records, pack, unpack

# The names are of the form that `RunDirectory.sweep` removes.
_SIGN, _PART = ".data_index.csv.gz.s{:04d}_{:02d}", ".data_index.csv.gz.p{:04d}_{:02d}"
_BLOCK = 64
_Found = TypeVar("_Found")
_SECONDS_BETWEEN_SIGNS, _SECONDS_BETWEEN_LOOKS, _SECONDS_BETWEEN_LINES = 5.0, 0.5, 30.0


@dataclasses.dataclass(frozen=True)
class Sharing:
    """The workers that read one data set.

    Attributes:
        index: The file beside the run that keeps what reading has told; in its directory, which all
            workers see, they exchange it.
        worker: Index of this worker.
        workers: Number of workers.
        token: What all workers of this start have, and those of no other one.
        patience: Seconds to wait for a worker without a sign of life.
    """

    index: Path
    worker: int
    workers: int
    token: int
    patience: float = 120.0

    def exchange(self, number: int, settings: str, say: Callable[[str], None] | None) -> Exchange:
        """Returns the exchange of a split, which all workers make in the same order.

        Args:
            number: The place of the exchange, from 0.
            settings: What the rows of the index depend on.
            say: Prints for whom this worker waits, or None.
        """
        return Exchange(self, number, settings, say)


class Exchange:
    """One exchange of what workers have read."""

    def __init__(
        self, sharing: Sharing, number: int, settings: str, say: Callable[[str], None] | None
    ) -> None:
        self._sharing, self._number, self._say = sharing, number, say
        self._header = json.dumps([sharing.token, settings])
        self._others = [n for n in range(sharing.workers) if n != sharing.worker]
        self._signed, self._signs, self._missing = 0.0, 0, 0

    def share_of(self, numbers: Sequence[int]) -> list[int]:
        """Returns the images that this worker reads, in blocks of 64 by their position."""
        workers, worker = self._sharing.workers, self._sharing.worker
        return [number for number in numbers if number // _BLOCK % workers == worker]

    def begin(self, missing: int) -> None:
        """Tells the others that this worker is there.

        Args:
            missing: How many images of the split it does not know.
        """
        self._missing = missing
        self._tell_others()

    def sign(self) -> None:
        """Tells the others, every five seconds, that this worker lives."""
        if time.monotonic() - self._signed > _SECONDS_BETWEEN_SIGNS:
            self._tell_others()

    def _tell_others(self) -> None:
        self._signed, self._signs = time.monotonic(), self._signs + 1
        content = json.dumps([self._sharing.token, self._missing, self._signs])
        self._write(_SIGN, content.encode())

    def gather(self, records: Records, *, needed: bool) -> Records:
        """Returns what the others have read, after telling them what this worker knows.

        Args:
            records: What this worker knows of its share.
            needed: Whether this worker needs what the others have read.
        """
        missing = self._wait(self._missing_of)
        if any(missing.values()):
            self._write(_PART, pack(self._header, records))
        found: Records = {}
        if needed:
            for part in self._wait(self._part_of).values():
                found.update(part)
        return found

    def _wait(self, look: Callable[[int], _Found | None]) -> dict[int, _Found]:
        """Returns what is found of each other worker that gives signs of life."""
        found: dict[int, _Found] = {}
        signs: dict[int, str] = {}
        seen = dict.fromkeys(self._others, time.monotonic())
        said = time.monotonic()
        while True:
            now = time.monotonic()
            self.sign()
            for other in self._others:
                if other in found:
                    continue
                result = look(other)
                if result is not None:
                    found[other] = result
                sign = self._read(_SIGN, other)
                if sign != signs.get(other, ""):
                    signs[other], seen[other] = sign, now
            waiting = [other for other in self._others if other not in found]
            lost = [other for other in waiting if now - seen[other] > self._sharing.patience]
            if len(lost) == len(waiting):
                if lost:
                    self._tell(f"no sign of {_named(lost)}: their images are read here")
                return found
            if now - said > _SECONDS_BETWEEN_LINES:
                said = now
                self._tell(f"waiting for {_named(waiting)} to read their share of the images")
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _missing_of(self, other: int) -> int | None:
        """Returns how many images another worker did not know when it began; None before."""
        with contextlib.suppress(ValueError, TypeError):
            token, missing, _ = json.loads(self._read(_SIGN, other) or "0")
            if token == self._sharing.token:
                return int(missing)
        return None

    def _part_of(self, other: int) -> Records | None:
        with contextlib.suppress(OSError, EOFError, ValueError, StopIteration, csv.Error):
            return unpack(self._path(_PART, other), self._header)
        return None

    def _path(self, form: str, worker: int) -> Path:
        return self._sharing.index.with_name(form.format(worker, self._number))

    def _read(self, form: str, worker: int) -> str:
        try:
            return self._path(form, worker).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""

    def _write(self, form: str, content: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # the others read the images themselves
            write_bytes(self._path(form, self._sharing.worker), content)

    def _tell(self, text: str) -> None:
        if self._say is not None:
            self._say(text)


def remove_parts(directory: Path) -> None:
    """Removes the files by which workers have told one another what they have read."""
    for path in directory.glob(".data_index.csv.gz.[sp]????_??"):
        path.unlink(missing_ok=True)


def _named(workers: Sequence[int]) -> str:
    shown = ", ".join(map(str, workers[:8])) + (", ..." if len(workers) > 8 else "")
    return f"worker {shown}" if len(workers) == 1 else f"workers {shown}"
