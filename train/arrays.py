"""Arrays in `.npy` and `.npz` files, whose sizes are checked before memory is reserved."""

from __future__ import annotations

import collections
import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.hdf5 import allowed_bytes
from keras_resnet.texts import escaped

_ENDING = ".npy"
_ZIP = b"PK"


class _Stated(NamedTuple):
    """What the header of an array states."""

    header: int
    values: int


def read_array(path: Path) -> np.ndarray:
    """Reads the array of a `.npy` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no regular file, is damaged, holds Python objects, or states more
            values than it has.

    Example:
        >>> read_array(Path("images.npy")).shape
        (100, 32, 32, 3)
    """
    size = _size(path)
    try:
        with path.open("rb") as file:
            stated = _stated(file)
            if stated.header + stated.values > size:
                raise ValueError(f"it states {stated.values:,} bytes of values and has {size:,}")
            file.seek(0)
            return np.asarray(np.load(file, allow_pickle=False))
    except Exception as error:  # NumPy raises errors of many types, of Python's parser too
        raise ValueError(f"{path} is no readable array: {_reason(error)}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a `.npz` file by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no regular file, is damaged, holds other members than arrays or one
            name twice, or would unfold to more than twice its size and 256 MiB.

    Example:
        >>> read_arrays(Path("examples.npz")).keys()
        dict_keys(['inputs', 'labels'])
    """
    size = _size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, size)
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # zipfile, zlib and NumPy raise errors of many types
        raise ValueError(f"{path} is damaged: {_reason(error)}") from error


def read_either(path: Path, name: str) -> dict[str, np.ndarray]:
    """Reads the arrays of a `.npz` file, or that of a `.npy` file under a name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As `read_array` and `read_arrays` do.
    """
    _size(path)
    with path.open("rb") as file:
        packed = file.read(2) == _ZIP
    return read_arrays(path) if packed else {name: read_array(path)}


def _size(path: Path) -> int:
    """Returns the size of a regular file; a pipe or a device might never end."""
    size = path.stat().st_size
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    return size


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Refuses members that are no arrays, or take more memory than the file allows."""
    members = archive.infolist()
    repeated = [name for name, n in collections.Counter(archive.namelist()).items() if n > 1]
    if repeated:
        raise ValueError(f"it holds {escaped(repeated[0])[:80]!r} twice")
    if sum(member.file_size for member in members) > allowed_bytes(size):
        raise _too_large(sum(member.file_size for member in members), size)
    for member in members:
        if not member.filename.endswith(_ENDING):
            raise ValueError(f"its member {escaped(member.filename)[:80]!r} is no array")
        with archive.open(member) as stream:
            stated = _stated(stream)
        if stated.header + stated.values > member.file_size:
            raise ValueError(
                f"its array {escaped(member.filename)[:80]!r} states {stated.values:,} bytes of "
                f"values and has {member.file_size:,}"
            )


def _too_large(needed: int, size: int) -> ValueError:
    return ValueError(
        f"it would unfold from {size:,} to {needed:,} bytes, more than twice its size and 256 MiB "
        "(`numpy.savez` stores arrays without compression, which are not bounded)"
    )


def _stated(stream: Any) -> _Stated:
    """Returns the bytes of an array's header, and of the values that it states."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        header = np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    if min(shape, default=0) < 0 or (dtype.itemsize == 0 and math.prod(shape) > 0):
        raise ValueError(f"it states the shape {shape} of {dtype}")
    return _Stated(stream.tell(), math.prod(shape) * dtype.itemsize)


def _reason(error: Exception) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__
