"""What reading an image has told, and the files that keep it."""

from __future__ import annotations

import contextlib
import csv
import gc
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """Size in bytes and time of the last change in nanoseconds, by which a file is the same."""

    size: int
    changed: int


class Read(NamedTuple):
    """What reading an image has told.

    Attributes:
        problem: Why it cannot be decoded; "" if it can.
        digest: Hash of its content; "" if it could not be read.
        notable: What is converted; see `headers.notable`.
    """

    problem: str
    digest: str
    notable: tuple[str, ...]


Records = dict[str, tuple[Stamp, Read]]


def pack(header: str, records: Records) -> bytes:
    """Returns rows of an index as a gzip-compressed CSV, its first row being a header."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((header,))
    writer.writerows(
        (name, size, changed, read.digest, "|".join(read.notable))
        for name, ((size, changed), read) in records.items()
    )
    return gzip.compress(text.getvalue().encode("utf-8", "surrogateescape"), 1, mtime=0)


def unpack(file: Path, header: str) -> Records | None:
    """Reads what `pack` returned; None if there is no such file, or its header is another.

    Raises:
        OSError, EOFError, ValueError, StopIteration, csv.Error: If it is damaged.
    """
    try:
        with (
            without_collection(),
            gzip.open(file, "rt", encoding="utf-8", errors="surrogateescape", newline="") as text,
        ):
            rows = csv.reader(text)
            if next(rows) != [header]:
                return None
            # Equal values of many images are one object, which saves half of the memory.
            kinds: dict[str, tuple[str, ...]] = {"": ()}
            found: Records = {}
            for name, size, changed, digest, notable in rows:
                if notable not in kinds:
                    kinds[notable] = tuple(notable.split("|"))
                found[name] = Stamp(int(size), int(changed)), Read("", digest, kinds[notable])
            return found
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Pauses the search for cycles, which the many new tuples of a long index would start often."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
