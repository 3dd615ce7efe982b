"""Files of object stores, as the listings of the drivers describe them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A file of a store: its size in bytes, and a mark that differs when its content does."""

    size: int
    mark: str


class Listing(NamedTuple):
    """A folder of a store.

    Attributes:
        folders: Names of the folders in it.
        files: When each file in it was written, by the clock of the store, in seconds; None where
            a listing does not say it.
    """

    folders: tuple[str, ...]
    files: Mapping[str, float | None]


def folders_of(names: Iterable[str]) -> set[str]:
    """Returns the folders that names of files imply."""
    found: set[str] = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def seconds_of(time: datetime) -> float:
    """Returns a time in seconds; one without a zone is UTC."""
    return datetime.timestamp(time if time.tzinfo else time.replace(tzinfo=UTC))


def written_of(info: Mapping[str, Any]) -> float | None:
    """Returns when a file of a listing was written, as the drivers name it, or None."""
    for key in ("LastModified", "mtime", "updated", "last_modified", "created", "uploaded_at"):
        value = info.get(key)
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return seconds_of(value)
        if isinstance(value, int | float):
            return float(value)
    return None


def mark_of(info: Mapping[str, Any]) -> str:
    """Returns what differs when the content of a file does."""
    for key in ("ETag", "etag", "md5Hash", "xet_hash", "mtime", "LastModified", "updated"):
        if info.get(key):
            return str(info[key])
    return str(info.get("created", ""))
