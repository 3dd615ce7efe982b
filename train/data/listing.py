"""The files of each split, as a run stores them, and how the files of today differ from them."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import read_gzip

_COLUMNS = ("split", "name", "label", "digest")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A file of a split.

    Attributes:
        label: Its class's name, or its classes' names separated by line feeds.
        digest: Hash of its content; "" if it was not read.
    """

    label: str
    digest: str = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """The files of each split, by name relative to the folder of the data.

    Attributes:
        splits: Entries by name, by split.
    """

    splits: Mapping[str, Mapping[str, Entry]]

    def digest(self) -> str:
        """Returns a hash of the names, labels and splits, not of the files' content."""
        total = hashlib.sha256()
        for split, entries in sorted(self.splits.items()):
            for name, entry in sorted(entries.items()):
                total.update("\0".join((split, name, entry.label, "")).encode(**_SURROGATES))
        return total.hexdigest()

    def to_bytes(self) -> bytes:
        """Returns a compressed CSV file with a row per file: split, name, label, digest."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for split, entries in self.splits.items():
            writer.writerows((split, name, e.label, e.digest) for name, e in entries.items())
        return gzip.compress(text.getvalue().encode(**_SURROGATES), mtime=0)


_SURROGATES = {"encoding": "utf-8", "errors": "surrogateescape"}


def read_listing(path: Path) -> Listing | None:
    """Reads what `Listing.to_bytes` returned; None if there is no such file.

    Raises:
        ValueError: If the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        text = read_gzip(path).decode(**_SURROGATES)
        rows = csv.reader(io.StringIO(text, newline=""))
        if tuple(next(rows)) != _COLUMNS:
            raise ValueError(f"its columns are not {', '.join(_COLUMNS)}")
        splits: dict[str, dict[str, Entry]] = {}
        for split, name, label, digest in rows:
            splits.setdefault(split, {})[name] = Entry(label, digest)
    except (OSError, EOFError, ValueError, StopIteration) as error:
        raise ValueError(f"{path} is not what was written: {error}") from error
    return Listing(splits)


def changed_files(
    before: Mapping[str, Entry], now: Mapping[str, Entry], split: str
) -> tuple[str, ...]:
    """Returns a sentence for each way in which the files of a split differ from earlier ones.

    Args:
        before: The split's files when the run began.
        now: The same split's files now, without files that came later.
        split: Its name, for the sentences.
    """
    gone = [name for name in before if name not in now]
    both = [name for name in before if name in now]
    moved = [name for name in both if before[name].label != now[name].label]
    digests = ((name, before[name].digest, now[name].digest) for name in both)
    other = [name for name, old, new in digests if old and new and old != new]
    sentences = (
        (gone, "are gone"),
        (moved, "have another label"),
        (other, "have other content"),
    )
    total = len(before)
    return tuple(
        f"{len(names)} of {total} {split} images {what}: {examples(names)}"
        for names, what in sentences
        if names
    )


def examples(names: Sequence[str], most: int = 3) -> str:
    """Returns the first names for a message, on one line and printable."""
    shown = ", ".join(printable(name) for name in names[:most])
    return shown + (", ..." if len(names) > most else "")


def printable(name: str) -> str:
    """Returns a file's name with escapes for line feeds and for bytes that are not UTF-8."""
    plain = name.encode(**_SURROGATES).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)
