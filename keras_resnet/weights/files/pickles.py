"""PyTorch's checkpoint files, read without PyTorch and without running what they hold."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from keras_resnet.weights.files.stand_ins import LeftOut, Storage, Tensor
from keras_resnet.weights.files.unpickle import parse

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_DEPTH = 100
# Averaged weights come last: whoever wants them in place of the trained ones should say so.
_STATE_DICTS = ("state_dict", "model", "model_state_dict", "model_ema", "state_dict_ema")
_WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Reads a `.pth`, `.pt`, `.th` or `.bin` file as `torch.save` writes it, zip or older.

    Args:
        path: The file; its name does not matter.

    Returns:
        What was saved: dicts, lists, tuples, strings, numbers, and NumPy arrays for tensors, which
        share memory where the tensors did. float16 and bfloat16 come as float32; devices and dtypes
        as strings.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, damaged, or holds more than tensors and plain values;
            a function or class that it asks for is named, and none is ever called.
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
        # Whatever a forged file provokes here, MemoryError and RecursionError too, is its fault.
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path!r} is no readable PyTorch checkpoint: {line}") from error


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the tensors of a checkpoint by name.

    Args:
        path: A file that `read_checkpoint` reads.

    Returns:
        As `state_dict_of`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read or holds no state dict.
    """
    return state_dict_of(read_checkpoint(path), source=repr(os.fspath(path)))


_SINGLE = str | int | float | bool | None | np.generic


def state_dict_of(checkpoint: Any, *, source: str) -> dict[str, np.ndarray]:
    """Finds the tensors of a module in what a checkpoint holds.

    Args:
        checkpoint: What `read_checkpoint` returned: a state dict, or a dict with one under
            `state_dict`, `model`, `model_state_dict`, `model_ema` or `state_dict_ema`; the first
            that is there is taken.
        source: What error messages call the file.

    Returns:
        Arrays by name, without the single numbers beside them, and without a `module.` or
        `_orig_mod.` that all names begin with.

    Raises:
        ValueError: If there is none, or if it holds anything but tensors.
    """
    found = checkpoint
    if isinstance(checkpoint, dict) and not _is_state_dict(checkpoint):
        named = [key for key in _STATE_DICTS if isinstance(checkpoint.get(key), dict)]
        found = checkpoint[named[0]] if named else None
        if named and found and not _is_state_dict(found):
            odd = next(key for key, value in found.items() if not isinstance(value, np.ndarray))
            raise ValueError(
                f"{named[0]!r} in {source} must hold tensors alone. Received: {str(odd)[:80]!r} of "
                f"type {type(found[odd]).__name__}"
            )
    if not isinstance(found, dict) or not found:
        kind = type(checkpoint).__name__
        keys = [repr(key)[:40] for key in checkpoint] if isinstance(checkpoint, dict) else []
        raise ValueError(
            f"{source} holds no state dict, neither itself nor under {', '.join(_STATE_DICTS)}. "
            f"Received: a {kind}" + (f" with the keys {', '.join(keys[:12])}" if keys else "")
        )
    found = {key: value for key, value in found.items() if isinstance(value, np.ndarray)}
    while wrapper := next((w for w in _WRAPPERS if all(key.startswith(w) for key in found)), None):
        found = {key.removeprefix(wrapper): value for key, value in found.items()}
    return found


def _is_state_dict(values: dict[Any, Any]) -> bool:
    """Whether there are tensors by name, perhaps beside single numbers such as an accuracy."""
    return (
        any(isinstance(value, np.ndarray) for value in values.values())
        and all(isinstance(value, np.ndarray | _SINGLE) for value in values.values())
        and all(isinstance(key, str) for key in values)
    )


def _read_zip(file: BinaryIO, size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if len(members) != len(archive.infolist()):
            raise ValueError("its archive holds two members of one name")
        roots = [
            name.removesuffix("/data.pkl")
            for name in members
            if name.endswith("/data.pkl") and name.count("/") == 1
        ]
        if len(roots) != 1:
            raise ValueError("its archive has no data.pkl in its one folder")
        root = roots[0]
        if f"{root}/constants.pkl" in members:
            raise ValueError("it is a TorchScript program; save the state dict of its module")

        # What is read comes to no more than the file holds, lest members overlap or expand.
        left = size

        def member(name: str) -> np.ndarray:
            nonlocal left
            info = members.get(f"{root}/{name}")
            if info is None:
                raise ValueError(f"its archive has no {name[:80]!r}")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(
                    f"its member {name[:80]!r} is compressed, as torch.save leaves none"
                )
            left -= info.file_size
            if left < 0:
                raise ValueError(f"its member {name[:80]!r} is larger than the file has room for")
            data = np.empty(info.file_size, np.uint8)
            with archive.open(info) as stream:
                _fill(stream, data, name)
            return data

        tree, storages = parse(io.BytesIO(member("data.pkl").tobytes()))
        order = member("byteorder").tobytes() if f"{root}/byteorder" in members else b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"its byte order must be little or big. Received: {order[:20]!r}")
        arrays = {
            key: _numbers(member(f"data/{key}"), storage, "<" if order == b"little" else ">")
            for key, storage in storages.items()
        }
    return _Resolver(arrays).resolve(tree)


def _read_legacy(file: BinaryIO, size: int) -> Any:
    stream = _Bounded(file, size)
    if parse(stream)[0] != _MAGIC:
        raise ValueError("it is a pickle, but none that torch.save wrote")
    if parse(stream)[0] != _PROTOCOL:
        raise ValueError("it is of another version of the format")
    parse(stream)  # the writer's type sizes; storages are little-endian wherever they were written
    tree, storages = parse(stream)
    keys, _ = parse(stream)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("it lists no storages")
    if sorted(keys) != sorted(storages):
        raise ValueError("the storages it lists are not those it uses")
    arrays = {}
    for key in keys:
        storage = storages[key]
        if stream.read(8) != storage.count.to_bytes(8, "little"):
            raise ValueError(f"it ends before its storage {key[:80]!r}, or lies about its length")
        length = storage.count * _width(storage)
        if length > size - file.tell():
            raise ValueError(f"it ends within its storage {key[:80]!r}")
        data = np.empty(length, np.uint8)
        _fill(file, data, key)
        arrays[key] = _numbers(data, storage, "<")
    return _Resolver(arrays).resolve(tree)


class _Bounded:
    """A file whose `read(n)` sets no memory aside for more than there is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self.tell = file, size, file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size - self._file.tell()))

    def readline(self) -> bytes:
        return self._file.readline(1000)  # names of functions are the only lines


def _fill(stream: Any, data: np.ndarray, name: str) -> None:
    if len(data) and stream.readinto(data.data) != len(data):
        raise ValueError(f"it ends before {name[:80]!r} does")


def _width(storage: Storage) -> int:
    return 2 if storage.dtype == "bfloat16" else np.dtype(storage.dtype).itemsize


def _numbers(data: np.ndarray, storage: Storage, order: str) -> np.ndarray:
    """Makes numbers of a storage's bytes, once for all tensors that share it."""
    if len(data) < storage.count * _width(storage):
        raise ValueError(f"its storage {storage.key[:80]!r} is shorter than it says")
    data = data[: storage.count * _width(storage)]
    if storage.dtype == "bool":
        return data != 0  # a NumPy bool of any other byte is neither true nor false
    if storage.dtype == "bfloat16":
        # The upper half of a float32.
        return (data.view(f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    numbers = data.view(np.dtype(storage.dtype).newbyteorder(order))  # type: ignore[arg-type]
    wanted = "float32" if storage.dtype == "float16" else storage.dtype
    return numbers.astype(wanted, copy=False)


class _Resolver:
    """Puts arrays in the places of tensors; what occurs twice is made once."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._made: dict[int, Any] = {}
        self._kinds: dict[type, Callable[[Any, int], Any]] = {
            dict: lambda node, depth: {k: self.resolve(v, depth) for k, v in node.items()},
            list: lambda node, depth: [self.resolve(item, depth) for item in node],
            tuple: lambda node, depth: tuple(self.resolve(item, depth) for item in node),
            LeftOut: lambda node, _: None,
            Tensor: lambda node, _: self._view(node),
            Storage: lambda node, _: self._part(node),
        }

    def resolve(self, node: Any, depth: int = 0) -> Any:
        make = self._kinds.get(type(node))
        if make is None:
            if isinstance(
                node, str | bytes | bytearray | int | float | complex | np.generic | None
            ):
                return node
            raise ValueError("it holds a function or class by itself; no code was run")
        if depth > _MAX_DEPTH:
            raise ValueError(f"its objects lie more than {_MAX_DEPTH} deep, or in themselves")
        if id(node) not in self._made:
            self._made[id(node)] = make(node, depth + 1)
        return self._made[id(node)]

    def _part(self, storage: Storage) -> np.ndarray:
        return self._arrays[storage.key][storage.start : storage.start + storage.count]

    def _view(self, tensor: Tensor) -> np.ndarray:
        numbers = self._part(tensor.storage)
        if 0 in tensor.shape:
            return np.empty(tensor.shape, numbers.dtype)
        # Unlike `as_strided` this checks its bounds, as `parse` has already.
        strides = tuple(step * numbers.itemsize for step in tensor.strides)
        offset = tensor.offset * numbers.itemsize
        return np.ndarray(tensor.shape, numbers.dtype, numbers.data, offset, strides)
