"""What a command writes for a place in an object store: written here, then uploaded."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import NotUploadedError
from ..files import read_object, write_json
from .layout import plain_files
from .mirror import work_folder
from .store import Store
from .store_errors import StoreError

# Seconds between tries to upload a file of a store that fails.
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
# An output folder that holds more than this is no output of a command.
_MOST_FILES, _MOST_BYTES = 10_000, 2**30
# In a copy: names of the files that a command has written (true) or removed, and that are not so
# in the store.
_UNSENT = ".unsent.json"

Say = Callable[[str], None]
_Marks = Mapping[str, tuple[int, int]]


class Copy(NamedTuple):
    """A local copy of a place, and its files as they were before the command.

    Attributes:
        url: The place.
        path: The copy: a folder, or a file that need not exist.
        before: The files of a folder that are in the store as they are here.
        scratch: The folder of this command alone that `path` is in; None for a kept copy.
    """

    url: str
    path: Path
    before: _Marks
    scratch: Path | None = None


def new_output(url: str, *, fresh: bool) -> Copy:
    """Returns where a file or folder is written that must not be there, or is replaced.

    Args:
        url: Its place.
        fresh: Whether there must be nothing at the place.

    Raises:
        FileExistsError: If there is something.
        StoreError: If the place cannot be written.
    """
    folder, name = _parted(url)
    store = Store(url)
    if fresh and (store.is_file() or store.entries()):
        raise FileExistsError(f"{url} exists: remove it or choose another name")
    Store(folder).check_writable()
    scratch = _scratch()
    return Copy(url, scratch / name, {}, scratch)


def folder_output(url: str) -> Copy:
    """Returns the copy of a folder that is written to, with the files that are there.

    Raises:
        StoreError: If the place cannot be written.
        ValueError: If it is a file, or holds too much for the output of a command.
    """
    store = Store(url)
    if store.is_file():
        raise ValueError(f"{url} is a file, and the output is a folder: choose another place")
    entries = store.entries()
    size = sum(each.size for each in entries.values())
    if len(entries) > _MOST_FILES or size > _MOST_BYTES:
        raise ValueError(
            f"{url} holds {len(entries):,} files of {size / 2**20:,.0f} MiB, which is more than an "
            "output: give a folder of its own"
        )
    store.check_writable()
    scratch = _scratch()
    path = scratch / _parted(url)[1]
    for name in entries:
        store.get(name, path / name)
    return Copy(url, path, marks(path), scratch)


def kept_copy(url: str, path: Path) -> Copy:
    """Returns a copy of a run that a command may write into."""
    left = unsent(path)
    before = {name: mark for name, mark in marks(path).items() if name not in left}
    return Copy(url, path, before | {name: (0, 0) for name, here in left.items() if not here})


def unsent(path: Path) -> dict[str, bool]:
    """Returns the files of a copy that an earlier command could not upload, or remove (False)."""
    try:
        return {str(name): bool(here) for name, here in read_object(path / _UNSENT).items()}
    except (OSError, ValueError):
        return {}


def marks(path: Path) -> dict[str, tuple[int, int]]:
    """Returns time and size of each file of a folder."""
    stats = {name: (path / name).stat() for name in plain_files(path)}
    return {name: (stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}


def upload(copy: Copy, say: Say = print) -> None:
    """Uploads what a command has written or changed, and removes what it has removed.

    A store that fails is tried again for half a minute. A run that must not be written is as one
    on a disk that must not: what was measured stays in the copy, and a line says so.

    Raises:
        NotUploadedError: If it goes on failing; says where the files are.
    """
    changes = _changes_of(copy)
    store, left = Store(changes.url), list(changes.written)
    patience = _Patience(say)
    try:
        for name in changes.written:
            patience.tries(store.put, changes.local / name, name)
            left.remove(name)
        for name in changes.removed:
            patience.tries(store.remove, name)
    except OSError as error:
        if copy.scratch is None and getattr(error, "refused", False):
            say(f"Note: what was written into the run stays in {changes.local}. {error}")
            return
        again = ""
        if copy.scratch is None:
            gone = dict.fromkeys(changes.removed, False)
            write_json(copy.path / _UNSENT, dict.fromkeys(left, True) | gone)
            again = "; the next command that reads this run uploads them"
        raise NotUploadedError(
            f"{len(left)} of {len(changes.written)} file(s) that were written are not at "
            f"{copy.url}{f', {left[0]} first' if left else ''}. They are in {changes.local}{again}."
            f" {error}"
        ) from error
    if changes.written:
        say(f"Uploaded {len(changes.written)} file(s) to {copy.url}")
    if changes.removed:
        say(f"Removed {len(changes.removed)} file(s) from {copy.url}, as the command has done here")
    if copy.scratch is None:
        (copy.path / _UNSENT).unlink(missing_ok=True)
    else:
        shutil.rmtree(copy.scratch, ignore_errors=True)


class _Changes(NamedTuple):
    """What a command has done to a copy: names in `local`, and in the store at `url`."""

    url: str
    local: Path
    written: list[str]
    removed: list[str]


def _changes_of(copy: Copy) -> _Changes:
    if copy.path.is_file():  # an output that is one file
        folder, name = _parted(copy.url)
        return _Changes(folder, copy.path.parent, [name], [])
    now = marks(copy.path) if copy.path.is_dir() else {}
    written = [name for name, mark in now.items() if copy.before.get(name) != mark]
    removed = [name for name in copy.before if name not in now]
    if not now or "config.json" in removed:  # the copy itself was removed, not by the command
        removed = []
    return _Changes(copy.url, copy.path, written, removed)


def discard(copy: Copy) -> None:
    """Removes the folder of one command, whose output is not whole."""
    if copy.scratch is not None:
        shutil.rmtree(copy.scratch, ignore_errors=True)


class _Patience:
    """Tries a request again, with five waits in all; says so once."""

    def __init__(self, say: Say) -> None:
        self._waits, self._say = list(_WAITS), say

    def tries(self, request: Callable[..., None], *args: Any) -> None:
        while True:
            try:
                return request(*args)
            except StoreError as error:
                if error.refused or not self._waits:
                    raise
                if len(self._waits) == len(_WAITS):
                    self._say(f"Warning: {error}. Trying again for {sum(_WAITS):.0f} s")
                time.sleep(self._waits.pop(0))


def _scratch() -> Path:
    folder = work_folder().with_name("written")
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


def _parted(url: str) -> tuple[str, str]:
    """Returns the folder of an address and the last part.

    Raises:
        ValueError: If it names a bucket alone.
    """
    folder, _, name = url.rpartition("/")
    if folder.endswith((":", "/")):
        raise ValueError(f"{url} names a bucket alone: add a name, such as {url}/name")
    return folder, name
