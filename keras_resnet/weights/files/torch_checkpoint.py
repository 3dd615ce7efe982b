"""PyTorch's checkpoint files, read without PyTorch and without executing anything in them."""

from __future__ import annotations

import io
import os
import zipfile
from typing import Any, BinaryIO

import numpy as np

from keras_resnet.weights.files.errors import first_line
from keras_resnet.weights.files.pickle_objects import IgnoredObject, StorageSlice, TensorView
from keras_resnet.weights.files.pickle_parser import parse

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_DEPTH = 100
# Averaged weights come last: only a caller who asks for them should get them.
_STATE_DICTS = ("state_dict", "model", "model_state_dict", "model_ema", "state_dict_ema")
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_NUMBER = str | int | float | bool | None | np.generic
_LEAF = str | bytes | bytearray | int | float | complex | np.generic | None


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Reads a `.pth`, `.pt`, `.th` or `.bin` file that `torch.save` wrote, as zip or older.

    Args:
        path: The file; its name does not matter.

    Returns:
        The saved object: dicts, lists, tuples, strings, numbers, and NumPy arrays for tensors,
        which share memory where the tensors did. float16 and bfloat16 become float32; devices and
        dtypes become strings.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not a checkpoint, is damaged, or contains anything but tensors
            and plain values. The message names a function or class that it refers to; none is
            ever called.
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


def state_dict_of(checkpoint: Any, *, source: str) -> dict[str, np.ndarray]:
    """Returns the tensors of a module from the contents of a checkpoint.

    Args:
        checkpoint: The result of `read_checkpoint`: a state dict, or a dict that contains one as
            `state_dict`, `model`, `model_state_dict`, `model_ema` or `state_dict_ema`; the first
            of these that exists is used.
        source: Name of the file in error messages.

    Returns:
        Arrays by name, without single numbers beside them, and without a `module.` or
        `_orig_mod.` with which all names begin.

    Raises:
        ValueError: If there is no state dict, or it contains anything but tensors.
    """
    state = checkpoint
    if isinstance(checkpoint, dict) and not _is_state_dict(checkpoint):
        key = next((key for key in _STATE_DICTS if isinstance(checkpoint.get(key), dict)), None)
        state = None if key is None else checkpoint[key]
        if state and not _is_state_dict(state):
            odd = next(name for name, value in state.items() if not isinstance(value, np.ndarray))
            raise ValueError(
                f"{key!r} in {source} must contain tensors only. Received: {str(odd)[:80]!r} of "
                f"type {type(state[odd]).__name__}"
            )
    if not isinstance(state, dict) or not state:
        keys = [repr(key)[:40] for key in checkpoint] if isinstance(checkpoint, dict) else []
        raise ValueError(
            f"{source} contains no state dict, neither itself nor under "
            f"{', '.join(_STATE_DICTS)}. Received: a {type(checkpoint).__name__}"
            + (f" with the keys {', '.join(keys[:12])}" if keys else "")
        )
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    while wrapper := next((w for w in _WRAPPERS if all(n.startswith(w) for n in arrays)), None):
        arrays = {name.removeprefix(wrapper): value for name, value in arrays.items()}
    return arrays


def _is_state_dict(values: dict[Any, Any]) -> bool:
    """Whether values are tensors by name, perhaps beside single numbers such as an accuracy."""
    return (
        any(isinstance(value, np.ndarray) for value in values.values())
        and all(isinstance(value, np.ndarray | _NUMBER) for value in values.values())
        and all(isinstance(key, str) for key in values)
    )


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
    return _TensorBuilder(arrays).resolve(tree)


def _read_legacy(file: BinaryIO, size: int) -> Any:
    stream = _BoundedReader(file, size)
    if parse(stream)[0] != _MAGIC:
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
    return _TensorBuilder(arrays).resolve(tree)


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

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._resolved: dict[int, Any] = {}

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
        if isinstance(node, IgnoredObject):
            return None
        raise ValueError("it holds a function or class by itself; no code was run")

    def _slice(self, storage: StorageSlice) -> np.ndarray:
        return self._arrays[storage.key][storage.start : storage.start + storage.count]

    def _view(self, tensor: TensorView) -> np.ndarray:
        numbers = self._slice(tensor.storage)
        if 0 in tensor.shape:
            return np.empty(tensor.shape, numbers.dtype)
        # Unlike `as_strided`, this checks its bounds, as `parse` has done before.
        strides = tuple(step * numbers.itemsize for step in tensor.strides)
        offset = tensor.offset * numbers.itemsize
        return np.ndarray(tensor.shape, numbers.dtype, numbers.data, offset, strides)
