"""ArrayRecord files that are read at any record, several records in one call."""

from __future__ import annotations

import bisect
import collections
import errno
import itertools
import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# One record per chunk, without compression of its own: images are compressed.
WRITER_OPTIONS = "group_size:1,uncompressed"
# `tf.data` makes several calls at once. Measured with records of 110 KB in the page cache: 20,000
# to 23,000 records per second of processor time, 13,000 with the reader's own threads.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:1"
_BUFFER = 128 * 1024
_MOST_OPEN = 256
DAMAGED = "is a damaged record of the file"


def array_record_module(what: str) -> Any:
    """Imports the library that reads and writes ArrayRecord files.

    Args:
        what: What needs it, for the error.

    Raises:
        ValueError: If it is not installed; it has no build for Windows, nor for Intel Macs.
    """
    try:
        from array_record.python import array_record_module as module
    except ImportError:
        raise ValueError(
            f"{what} needs the library array_record: pip install array_record. It exists for Linux "
            "and for Macs with Apple's processors; elsewhere train from a folder, a table of "
            "images and labels, or tar shards"
        ) from None
    return module


class Part(NamedTuple):
    """Records of a file.

    Attributes:
        file: Path of the file.
        skip: Number of its records before the first one.
        take: Number of records.
    """

    file: str
    skip: int
    take: int


class ArrayRecordFiles:
    """Records of several files, numbered through.

    Files are opened when they are needed and at most 256 of them at once. Methods may be called
    from several threads.

    Args:
        parts: The files.
        what: What they are, for the error where the library is not installed.

    Raises:
        ValueError: If the library is not installed.
    """

    def __init__(self, parts: Sequence[Part], what: str) -> None:
        self._module = array_record_module(what)
        self._parts = tuple(parts)
        self._ends = tuple(itertools.accumulate(part.take for part in parts))
        self._readers: collections.OrderedDict[str, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def read(self, numbers: Iterable[int]) -> list[bytes]:
        """Returns the records of some numbers, in their order.

        Raises:
            OSError: If a file is missing or a record is damaged; names the file.
        """
        wanted: dict[str, list[tuple[int, int]]] = {}
        count = 0
        for place, number in enumerate(numbers):
            part = bisect.bisect_right(self._ends, number)
            file, skip, take = self._parts[part]
            record = skip + int(number) - (self._ends[part] - take)
            wanted.setdefault(file, []).append((record, place))
            count += 1
        found = [b""] * count
        for file, pairs in wanted.items():
            records = self._of_file(file, [record for record, _ in pairs])
            for (_, place), content in zip(pairs, records, strict=True):
                found[place] = content
        return found

    def _of_file(self, file: str, records: list[int]) -> list[bytes]:
        reader = self._reader(file)
        count = reader.num_records()
        if max(records) >= count:  # the reader would return empty records
            raise OSError(
                errno.EIO, f"number {max(records)} {DAMAGED} {file}: it has {count} record(s)"
            )
        try:
            return list(reader.read(records))
        except (RuntimeError, ValueError, IndexError):
            pass
        for record in records:  # which one of them
            try:
                reader.read([record])
            except (RuntimeError, ValueError, IndexError) as error:
                raise OSError(
                    errno.EIO, f"number {record} {DAMAGED} {file}: {_first_line(error)}"
                ) from None
        return [reader.read([record])[0] for record in records]

    def _reader(self, file: str) -> Any:
        with self._lock:
            if file in self._readers:
                self._readers.move_to_end(file)
                return self._readers[file]
            if not os.path.isfile(file):
                raise FileNotFoundError(errno.ENOENT, "No such file", file)
            reader = open_reader(self._module, file)
            while len(self._readers) >= _MOST_OPEN:
                # Closed when the last thread that reads from it has finished.
                self._readers.popitem(last=False)
            self._readers[file] = reader
            return reader


def open_reader(module: Any, file: str) -> Any:
    """Returns a reader of a file.

    Raises:
        OSError: If it is no ArrayRecord file, or its end is missing.
    """
    try:
        reader = module.ArrayRecordReader(
            file, options=_READER_OPTIONS, file_reader_buffer_size=_BUFFER
        )
        reader.num_records()
    except (RuntimeError, ValueError) as error:
        raise OSError(errno.EIO, f"{file} is damaged: {_first_line(error)}") from None
    return reader


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
