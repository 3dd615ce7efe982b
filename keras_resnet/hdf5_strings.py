"""Strings of variable length in HDF5 files, checked before the HDF5 library reads them.

HDF5 1.14 trusts what a damaged file states of them: it loops forever over a heap with an object of
no length (its issue 1707), and reserves the length that a reference states, up to 4 GiB, before it
looks into the heap.

Source: HDF5 File Format Specification 3.0, III.E (global heap), IV.A.2.b, d and m (dataspace,
datatype and attribute messages).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_HEAP = b"GCOL\1\0\0\0"
# A type of class 9, variable length, in 16 bytes each, of unsigned integers of 8 bits; the byte of
# its class and version, padding and character set stand before.
_STRINGS = b"\0\x10\0\0\0" + b"\x10\0\0\0\1\0\0\0\0\0\x08\0"
_CLASS = 9
_REFERENCE = 16  # bytes: length, address of the heap, index of the object
_LONGEST_NAME = 64


class HeapStrings:
    """The strings of an HDF5 file that are references into its heaps.

    Args:
        data: The bytes of the file.

    Raises:
        ValueError: If a heap is damaged.
    """

    def __init__(self, data: Any) -> None:
        self._data = data
        self._sizes = dict(self._objects())
        self._fitting = list(self._attributes())
        self._data = None  # a map of the file, which is closed

    def check(self, name: str) -> None:
        """Checks that all references of the attributes of a name fit their objects.

        Raises:
            ValueError: If one does not, or no attribute of this name is written in the usual way.
        """
        ends = name.encode()
        found = [fits for stored, fits in self._fitting if stored.endswith(ends)]
        if not found or not all(found):
            raise ValueError("its strings are damaged")

    def _objects(self) -> Iterator[tuple[tuple[int, int], int]]:
        """Yields heap address and index of each object, and its length.

        A heap begins with `GCOL`, version 1, three zeros and its length. Its objects follow: index,
        reference count, four zeros, length, and data padded to a multiple of 8 bytes. Index 0 is
        free space.
        """
        start = self._data.find(_HEAP)
        while start >= 0:
            position, end = start + 16, start + self._number(start + 8, 8)
            while position <= end - 16 and position < len(self._data):
                index, size = self._number(position, 2), self._number(position + 8, 8)
                step = 16 + (size + 7) // 8 * 8 if index else size
                if step < 16 or position + step > end:
                    raise ValueError("its strings are damaged")
                yield (start, index), size
                position += step
            start = self._data.find(_HEAP, start + 1)

    def _attributes(self) -> Iterator[tuple[bytes, bool]]:
        """Yields the end of each attribute's name, and whether its references fit.

        What stands before the type of a data set is no name, and is never asked for.
        """
        found = self._data.find(_STRINGS)
        while found >= 0:
            start = found - 3
            if start >= 0 and self._data[start] & 15 == _CLASS:
                before = bytes(self._data[max(0, start - _LONGEST_NAME) : start])
                yield before.rstrip(b"\0"), self._fit(start)
            found = self._data.find(_STRINGS, found + 1)

    def _fit(self, start: int) -> bool:
        """Whether the references behind the type at a position fit their objects."""
        space = start + 3 + len(_STRINGS)
        version = self._number(space, 1)
        if version not in (1, 2):  # earlier attributes are padded to a multiple of 8 bytes
            space, version = space + 4, self._number(space + 4, 1)
        rank, limited = self._number(space + 1, 1), self._number(space + 2, 1) & 1
        first = space + (8 if version == 1 else 4)
        count = 1
        for axis in range(rank):
            count *= self._number(first + 8 * axis, 8)
        first += 8 * rank * (1 + limited)
        if version not in (1, 2) or rank > 1 or first + _REFERENCE * count > len(self._data):
            return False
        for place in range(first, first + _REFERENCE * count, _REFERENCE):
            length = self._number(place, 4)
            heap = self._number(place + 4, 8), self._number(place + 12, 4)
            if length > self._sizes.get(heap, 0):
                return False
        return True

    def _number(self, position: int, size: int) -> int:
        return int.from_bytes(self._data[position : position + size], "little")
