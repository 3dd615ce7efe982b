"""What reading a file once has told of it, kept so that later starts need not read it again."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import filecmp
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.weights.files.file_system import replace

from ..files import write_bytes
from .known import Read as Read
from .known import Records, Stamp, pack, unpack
from .shared_index import Exchange, Sharing, remove_parts

FILE = "data_index.csv.gz"
"""Name of an index beside a run."""

_VERSION = 1
_MOST_BYTES = 8 * 2**30  # of resized images in the cache directory; the oldest are removed


@dataclasses.dataclass
class FileIndex:
    """The readable images of a folder that were read before, in one or two files.

    A file is a gzip-compressed CSV with a row per image and, in its first row, what the rows depend
    on. An index of other settings or of another version of TensorFlow is not used.

    Attributes:
        root: The folder; names in the index are relative to it.
        cached: The file in the cache directory.
        settings: What the rows depend on: channels, decoder, versions.
        records: Size, time and result by relative name.
        notes: What was wrong with the files.
        sharing: The workers that read the images together, or None.
    """

    root: str
    cached: Path
    settings: str
    records: Records = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    sharing: Sharing | None = None
    _complete: bool = True
    _exchanges: int = 0
    _seen: Stamp | None = None  # of the file in the cache directory, when it was read or written

    @classmethod
    def open(
        cls, root: Path, beside: Path | Sharing | None, settings: Mapping[str, Any]
    ) -> FileIndex:
        """Reads the index of a folder: beside the run, and in the cache directory.

        Args:
            root: The folder.
            beside: The file beside the run, with the workers that share it; or None.
            settings: What the results depend on, as JSON can hold it.
        """
        text = json.dumps({"version": _VERSION, **settings}, sort_keys=True)
        key = _key(os.path.realpath(root), text)
        index = cls(str(root), cache_directory() / f"{key}.csv.gz", text)
        if isinstance(beside, Sharing):
            index.sharing, beside = beside, beside.index
        if beside is not None and not _same(beside, index.cached):
            index._read(beside)
        index._seen = stamp_of(str(index.cached))
        known = index._read(index.cached)
        index._complete = known == len(index.records) and index.cached.is_file()
        return index

    def find(self, path: str, stamp: Stamp | None) -> Read | None:
        """Returns what is known of a file that has not changed, or None."""
        found = self.records.get(self.name(path))
        return found[1] if found is not None and found[0] == stamp else None

    def add(self, path: str, stamp: Stamp | None, read: Read) -> None:
        """Keeps what reading a file has told; of unreadable files nothing, as they may be mended.

        A file that becomes legible by its permissions, or by another decoder, keeps size and time.
        """
        if stamp is not None and not read.problem:
            self.records[self.name(path)] = stamp, read
            self._complete = False

    def exchange(self, say: Callable[[str], None] | None) -> Exchange | None:
        """Returns the next exchange with other workers; None where there are none."""
        if self.sharing is None or self.sharing.workers < 2:
            return None
        self._exchanges += 1
        return self.sharing.exchange(self._exchanges - 1, self.settings, say)

    def merge(self, records: Records) -> None:
        """Adds what other workers have read."""
        self.records.update(records)
        self._complete = self._complete and not records

    def name(self, path: str) -> str:
        """Returns the name of a path in the index."""
        return path.removeprefix(self.root + os.sep)

    def write(self) -> None:
        """Writes the file in the cache directory, if anything has changed, atomically.

        What another process has written into it meanwhile, as a worker on the same machine does
        with its share, is kept.
        """
        if self._complete or not self.records:
            return
        self._complete = True
        if stamp_of(str(self.cached)) != self._seen:
            with contextlib.suppress(OSError, EOFError, ValueError, StopIteration, csv.Error):
                self.records = {**(unpack(self.cached, self.settings) or {}), **self.records}
        content = pack(self.settings, self.records)
        try:
            self.cached.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.cached, content)
        except (OSError, ValueError) as error:
            self.notes.append(f"the index of the images is not kept in {self.cached}: {error}")
        self._seen = stamp_of(str(self.cached))

    def _read(self, file: Path) -> int:
        """Adds the rows of a file; returns their number, or -1 without a sound file."""
        try:
            found = unpack(file, self.settings)
        except (OSError, EOFError, ValueError, StopIteration, csv.Error) as error:
            self.notes.append(
                f"the index of the images {file} is damaged ({error or 'empty'}) and not used: the "
                "images are read again"
            )
            return -1
        if found is None:
            return -1
        self.records.update(found)
        return len(found)


def _same(one: Path, other: Path) -> bool:
    """Whether two files have the same content, so that one of them need not be read."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def keep_beside(index: Path | None, run: Path) -> None:
    """Copies the index of a run's images into its directory, where resuming finds it.

    The parts by which workers have exchanged it are removed.

    Args:
        index: The file in the cache directory, or None.
        run: The directory of the run, which has begun.
    """
    if index is None:
        return
    with contextlib.suppress(OSError, ValueError):  # without it, resuming may read them again
        write_bytes(run / FILE, index.read_bytes())
    remove_parts(run)


def stamp_of(path: str) -> Stamp | None:
    """Returns the size and time of a file; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Stamp(found.st_size, found.st_mtime_ns)


def cache_directory() -> Path:
    """Returns the directory of what is kept between runs: `$KERAS_HOME/keras_resnet/data`.

    `KERAS_HOME` is `~/.keras` where it is not set, as for Keras.
    """
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return Path(home) / "keras_resnet" / "data"


def kept_array(
    key: tuple[Any, ...], shape: tuple[int, ...], make: Callable[[], np.ndarray]
) -> np.ndarray:
    """Returns a uint8 array from the cache directory, or makes it and keeps it there.

    Args:
        key: All that the array depends on.
        shape: Its shape; a file of another shape, or a damaged one, is made anew.
        make: Makes it.
    """
    file = cache_directory() / f"{_key(*key)}.npy"
    try:
        with file.open("rb") as opened:
            found = np.load(opened, allow_pickle=False)
            sound = opened.read() == _checksum(found)
        if sound and found.shape == shape and found.dtype == np.uint8:
            os.utime(file)
            return np.asarray(found)
    except (OSError, ValueError, EOFError):
        pass
    array = make()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _make_room(file.parent, array.nbytes)
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as opened:
                np.save(opened, array)
                opened.write(_checksum(array))
            replace(temporary, file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:  # a full disk, a home without a place to write: the array is there
        pass
    return array


def kept_values(key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """Returns values of JSON from the cache directory, or makes them and keeps them there."""
    file = cache_directory() / f"{_key(*key)}.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass
    values = make()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, json.dumps(values).encode())
    except (OSError, ValueError):
        pass
    return values


def _make_room(folder: Path, size: int) -> None:
    """Removes the arrays that were used longest ago, so that all stay within 8 GiB."""
    arrays = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)
    total = size + sum(file.stat().st_size for file in arrays)
    while arrays and total > _MOST_BYTES:
        total -= arrays[0].stat().st_size
        arrays.pop(0).unlink(missing_ok=True)


def _checksum(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()


def _key(*parts: Any) -> str:
    content = "\0".join(map(str, parts)).encode("utf-8", "surrogateescape")
    return hashlib.sha256(content).hexdigest()[:32]
