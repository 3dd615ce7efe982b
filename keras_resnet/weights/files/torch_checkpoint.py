"""PyTorch's checkpoint files, read without PyTorch and without executing anything in them."""

from __future__ import annotations

import io
import math
import os
import zipfile
from typing import Any, BinaryIO

import numpy as np

from keras_resnet.hdf5 import allowed_bytes
from keras_resnet.weights.files.errors import first_line
from keras_resnet.weights.files.pickle_objects import (
    ArrayHolder,
    IgnoredObject,
    StorageSlice,
    TensorView,
)
from keras_resnet.weights.files.pickle_parser import parse

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_DEPTH = 100
_LEAF = str | bytes | bytearray | int | float | complex | np.generic | None | IgnoredObject


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Reads a `.pth`, `.pt`, `.th` or `.bin` file that `torch.save` wrote, as zip or older.

    Args:
        path: The file; its name does not matter.

    Returns:
        The saved object: dicts, lists, tuples, strings, numbers, and NumPy arrays for tensors,
        which share memory where the tensors did. float16 and bfloat16 become float32; devices and
        dtypes become strings. Every other object becomes an `IgnoredObject`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not a checkpoint, is damaged, or refers to a function that only
            an attack needs; the message names it. No function is ever called.
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(4)
            file.seek(0)
            if start == b"PK\x03\x04":
                return _read_zip(file, size)
            if start[:1] == b"\x80":
                return _read_legacy(file, size)
            raise ValueError("it is neither a zip archive nor a pickle")
    except FileNotFoundError:
        raise FileNotFoundError(f"No weights file at {path!r}") from None
    except Exception as error:
        # Any error here, MemoryError and RecursionError included, is caused by the file.
        message = f"{path!r} is not a readable PyTorch checkpoint: {first_line(error)}"
        raise ValueError(message) from error


class _Archive:
    """The zip archive of a checkpoint; in total, no more is read than the file has bytes."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive, self._left = archive, size
        self._members = {info.filename: info for info in archive.infolist()}
        if len(self._members) != len(archive.infolist()):
            raise ValueError("its archive contains two members of one name")
        roots = [
            name.removesuffix("/data.pkl")
            for name in self._members
            if name.endswith("/data.pkl") and name.count("/") == 1
        ]
        if len(roots) != 1:
            raise ValueError("its archive has no data.pkl in its one folder")
        self._root = roots[0]

    def __contains__(self, name: str) -> bool:
        return f"{self._root}/{name}" in self._members

    def read(self, name: str) -> np.ndarray:
        """Returns the bytes of a member, as uint8."""
        info = self._members.get(f"{self._root}/{name}")
        if info is None:
            raise ValueError(f"its archive has no {name[:80]!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(
                f"its member {name[:80]!r} is compressed; torch.save does not compress"
            )
        # Members may overlap or claim any size, so the sum is bounded before memory is reserved.
        self._left -= info.file_size
        if self._left < 0:
            raise ValueError(f"its member {name[:80]!r} is larger than the file allows")
        data = np.empty(info.file_size, np.uint8)
        with self._archive.open(info) as stream:
            _fill(stream, data, name)
        return data


def _read_zip(file: BinaryIO, size: int) -> Any:
    with zipfile.ZipFile(file) as opened:
        archive = _Archive(opened, size)
        if "constants.pkl" in archive:
            raise ValueError("it is a TorchScript program; save the state dict of its module")
        tree, storages = parse(io.BytesIO(archive.read("data.pkl").tobytes()))
        order = archive.read("byteorder").tobytes() if "byteorder" in archive else b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"its byte order must be little or big. Received: {order[:20]!r}")
        mark = "<" if order == b"little" else ">"
        arrays = {
            key: _decode(archive.read(f"data/{key}"), storage, mark)
            for key, storage in storages.items()
        }
    return _TensorBuilder(arrays, size).resolve(tree)


def _read_legacy(file: BinaryIO, size: int) -> Any:
    stream = _BoundedReader(file, size)
    magic, storages = parse(stream)
    if type(magic) is dict and not storages:  # a plain pickle, such as those of detectron2
        return _TensorBuilder({}, size).resolve(magic)
    if magic != _MAGIC:
        raise ValueError("it is a pickle that torch.save did not write")
    if parse(stream)[0] != _PROTOCOL:
        raise ValueError("it has another version of the format")
    parse(stream)  # the type sizes of the writer; storages are always little-endian
    tree, storages = parse(stream)
    keys, _ = parse(stream)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("it has no list of storages")
    if sorted(keys) != sorted(storages):
        raise ValueError("the storages it lists are not those it uses")
    arrays = {}
    for key in keys:
        storage = storages[key]
        if stream.read(8) != storage.count.to_bytes(8, "little"):
            raise ValueError(f"its storage {key[:80]!r} is missing or has another length")
        length = storage.count * _width(storage)
        if length > size - file.tell():
            raise ValueError(f"it ends within its storage {key[:80]!r}")
        data = np.empty(length, np.uint8)
        _fill(file, data, key)
        arrays[key] = _decode(data, storage, "<")
    return _TensorBuilder(arrays, size).resolve(tree)


class _BoundedReader:
    """A file whose `read(n)` reserves no more memory than the file has bytes left."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self.tell = file, size, file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size - self._file.tell()))

    def readline(self) -> bytes:
        return self._file.readline(1000)  # only names of functions are stored as lines


def _fill(stream: Any, data: np.ndarray, name: str) -> None:
    if len(data) and stream.readinto(data.data) != len(data):
        raise ValueError(f"it ends before {name[:80]!r} does")


def _width(storage: StorageSlice) -> int:
    return 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize


def _decode(data: np.ndarray, storage: StorageSlice, order: str) -> np.ndarray:
    """Converts the bytes of a storage to numbers, once for all tensors that share it."""
    length = storage.count * _width(storage)
    if len(data) < length:
        raise ValueError(f"its storage {storage.key[:80]!r} is shorter than it says")
    data = data[:length]
    if storage.dtype == "bool":
        return data != 0  # in a NumPy bool, other bytes than 0 and 1 are undefined
    if storage.dtype == "bfloat16":  # the upper half of a float32
        return (data.view(f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    numbers = data.view(np.dtype(storage.dtype).newbyteorder(order))  # type: ignore[arg-type]
    target = "float32" if storage.dtype == "float16" else storage.dtype
    return numbers.astype(target, copy=False)


class _TensorBuilder:
    """Puts arrays in the places of tensors; an object that occurs twice is converted once."""

    def __init__(self, arrays: dict[str, np.ndarray], size: int) -> None:
        self._arrays = arrays
        # Tensors may share a storage. Whoever copies each of them needs memory for all.
        self._bytes_left = allowed_bytes(2 * size)  # of float16 values become float32
        self._resolved: dict[int, Any] = {}
        self._encoded: dict[int, bytes] = {}

    def resolve(self, node: Any, depth: int = 0) -> Any:
        if isinstance(node, _LEAF):
            return node
        if depth > _MAX_DEPTH:
            raise ValueError(
                f"its objects are nested more than {_MAX_DEPTH} deep, or in themselves"
            )
        if id(node) not in self._resolved:
            self._resolved[id(node)] = self._convert(node, depth + 1)
        return self._resolved[id(node)]

    def _convert(self, node: Any, depth: int) -> Any:
        if isinstance(node, dict):
            return {key: self.resolve(value, depth) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return type(node)(self.resolve(item, depth) for item in node)
        if isinstance(node, TensorView):
            return self._view(node)
        if isinstance(node, StorageSlice):
            return self._slice(node)
        if isinstance(node, ArrayHolder):
            return self._array(node)
        return IgnoredObject(type(node).__name__)  # a function, class or dtype by itself

    def _array(self, array: ArrayHolder) -> np.ndarray | IgnoredObject:
        """Returns a view of the bytes of a NumPy array; bytes in a text are encoded once."""
        if array.dtype is None or not array.dtype.isnative:
            return IgnoredObject("numpy.ndarray")
        data = array.data
        if isinstance(data, str):
            if id(data) not in self._encoded:
                self._encoded[id(data)] = data.encode("latin-1")
            data = self._encoded[id(data)]
        return np.frombuffer(data, array.dtype).reshape(array.shape, order=array.order)

    def _slice(self, storage: StorageSlice) -> np.ndarray:
        return self._arrays[storage.key][storage.start : storage.start + storage.count]

    def _view(self, tensor: TensorView) -> np.ndarray:
        numbers = self._slice(tensor.storage)
        if 0 in tensor.shape:
            return np.empty(tensor.shape, numbers.dtype)
        self._bytes_left -= math.prod(tensor.shape) * numbers.itemsize
        if self._bytes_left < 0:
            raise ValueError("its tensors share storages and are together larger than it allows")
        # Unlike `as_strided`, this checks its bounds, as `parse` has done before.
        strides = tuple(step * numbers.itemsize for step in tensor.strides)
        offset = tensor.offset * numbers.itemsize
        return np.ndarray(tensor.shape, numbers.dtype, numbers.data, offset, strides)
