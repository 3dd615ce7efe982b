"""Files of weights from any supported library, read as arrays by name."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from keras_resnet.hdf5 import KERAS_MEMBER, SIGNATURE, read_hdf5, unpack
from keras_resnet.weights.files.errors import first_line
from keras_resnet.weights.files.file_system import replace
from keras_resnet.weights.files.tensor_tree import flatten
from keras_resnet.weights.files.torch_checkpoint import read_checkpoint

Kind = Literal["safetensors", "torch", "hdf5"]

_INSTALL = "safetensors files need another package: pip install 'keras3-resnet[weights]'"
_MAX_TENSORS = 100_000  # a ResNet-1202 has 6,010
_ZIP = b"PK\x03\x04"
# Other files that often have the name of a weights file, by their first bytes in lower case.
_OTHER_FILES = (
    (b"version https://git-lfs", "a pointer of git-lfs, not the file itself: run `git lfs pull`"),
    (b"<!doctype html", "a web page: the URL is not that of the file"),
    (b"<html", "a web page: the URL is not that of the file"),
    (b"<?xml", "an XML document, perhaps a server's error message"),
    (b"{", "JSON, perhaps a server's error message"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"\xfd7zxz\0", "compressed by xz: unpack it first"),
    (b"bzh", "compressed by bzip2: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class TensorFile:
    """The contents of a file of weights.

    Attributes:
        path: The file.
        kind: Its format.
        tensors: Arrays by the names that the writing library gave them; float16 and bfloat16 as
            float32. The keys of nested dicts in a checkpoint are joined by dots:
            `state_dict.conv1.weight`.
        metadata: For safetensors, its `__metadata__`; for PyTorch, the single values beside the
            tensors, such as an epoch; for HDF5, `format` (`"keras 2"` or `"keras 3"`) and
            versions.
        sha256: SHA-256 of the file, hexadecimal.
        ignored: How many objects of each class or function stand beside the tensors of a
            checkpoint; they were not read.
    """

    path: str
    kind: Kind
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]
    sha256: str
    ignored: dict[str, int] = dataclasses.field(default_factory=dict)


def read(path: str | os.PathLike[str]) -> TensorFile:
    """Reads a file of weights; its contents decide its format, not its name.

    Args:
        path: A safetensors file, a PyTorch checkpoint, an HDF5 file of Keras 2 or 3, or a `.keras`
            archive. Nothing in it is executed, and no other file is read.

    Raises:
        FileNotFoundError: If the file does not exist.
        ImportError: If it is a safetensors file and the package `safetensors` is not installed.
        ValueError: If it has another format or is damaged.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"No weights file at {path!r}")
    if not os.path.isdir(path) and not os.path.isfile(path):
        raise ValueError(f"{path!r} is not a regular file")  # a pipe would wait for a writer
    try:
        with open(path, "rb") as file:
            start = file.read(512)
        sha256 = file_sha256(path)
        size = os.path.getsize(path)
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from error
    kind = _kind(path, start)
    metadata: dict[str, Any]
    ignored: dict[str, int] = {}
    if kind == "torch":
        checkpoint = read_checkpoint(path)
        tensors, ignored = flatten(checkpoint, source=repr(path))
        metadata = _single_values(checkpoint) if isinstance(checkpoint, dict) else {}
    elif kind == "safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        try:
            source = unpack(path, size) if start.startswith(_ZIP) else path
            tensors, metadata = read_hdf5(source, size)
        except Exception as error:  # zlib and h5py raise errors of many types
            message = f"{path!r} contains no readable weights: {first_line(error)}"
            raise ValueError(message) from error
    return TensorFile(path, kind, _widen(path, tensors), metadata, sha256, ignored)


def read_parts(paths: Sequence[str]) -> TensorFile:
    """Reads files that hold the tensors of one net together, such as sharded safetensors.

    Its path, format and metadata are those of the first file.

    Raises:
        FileNotFoundError: If a file does not exist.
        ImportError: If the package `safetensors` is needed and not installed.
        ValueError: If a file cannot be read, or two files hold different tensors of one name.
    """
    first = read(paths[0])
    tensors, ignored = dict(first.tensors), dict(first.ignored)
    for path in paths[1:]:
        part = read(path)
        for name in set(part.tensors) & set(tensors):
            if not np.array_equal(part.tensors[name], tensors[name]):
                raise ValueError(f"{path!r} and {paths[0]!r} hold different {name[:80]!r}")
        tensors |= part.tensors
        ignored |= part.ignored
    return dataclasses.replace(first, tensors=tensors, ignored=ignored)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays to a safetensors file, atomically.

    Floating-point arrays are written as float32, integers unchanged.

    Args:
        path: The file; an existing one is replaced.
        tensors: Arrays of any shape by name.
        metadata: Strings by name, stored in the header.

    Raises:
        ImportError: If the package `safetensors` is not installed.
        ValueError: If `metadata` contains anything but strings.
    """
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise ValueError(
                f"`metadata` must map strings to strings. Received: metadata[{key!r}]={value!r}"
            )
    # Not `ascontiguousarray`, which turns a scalar into a vector.
    arrays = {
        key: np.asarray(value, value.dtype if value.dtype.kind in "iu" else "<f4", order="C")
        for key, value in tensors.items()
    }
    path = os.fspath(path)
    temporary = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        # Not `safetensors.save_file`, whose files only their owner may read.
        with open(temporary, "xb") as file:
            file.write(save(arrays, metadata=dict(metadata) if metadata else None))
        replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _kind(path: str, start: bytes) -> Kind:
    """Returns the format of a file; `.keras` archives count as HDF5."""
    if start.startswith(SIGNATURE):
        return "hdf5"
    if start.startswith(_ZIP):
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
        except Exception as error:
            raise ValueError(f"{path!r} is a damaged archive: {first_line(error)}") from error
        if KERAS_MEMBER in members:
            return "hdf5"
        if any(name.endswith("/data.pkl") for name in members):
            return "torch"
        content = f"a zip archive of {', '.join(members[:4]) or 'nothing'}"
    elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32:
        return "safetensors"
    elif start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "torch"
    else:
        content = _describe_other(start)
    raise ValueError(
        f"{path!r} must be safetensors, a PyTorch checkpoint, Keras's HDF5 or a `.keras` archive. "
        f"Received: {content}"
    )


def _describe_other(start: bytes) -> str:
    """Describes a file that is not a file of weights, by its first bytes."""
    if not start:
        return "an empty file"
    if start[4:8] == b"TFL3":
        return "a TFLite model"
    begin = start.lstrip().lower()
    unknown = f"a file that begins with {start[:12]!r}"
    return next((name for mark, name in _OTHER_FILES if begin.startswith(mark)), unknown)


def _read_safetensors(path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    try:
        with safe_open(path, framework="np") as file:
            if len(file.keys()) > _MAX_TENSORS:
                raise ValueError(f"it has {len(file.keys())} tensors, more than {_MAX_TENSORS}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except Exception as error:  # SafetensorError, and NumPy's errors about its types
        message = f"{path!r} is not a readable safetensors file: {first_line(error)}"
        raise ValueError(message) from error


def _widen(path: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts float16 and bfloat16 to float32; refuses other unusual types."""
    widened = {}
    for name, array in tensors.items():
        dtype = array.dtype
        if dtype.name in ("float16", "bfloat16"):
            array = array.astype(np.float32)
        elif dtype.kind not in "fiubc":
            raise ValueError(f"{name!r} in {path!r} has the type {dtype.name}")
        widened[name] = array
    return widened


def _single_values(checkpoint: dict[Any, Any]) -> dict[str, Any]:
    """Returns the numbers and strings on the first level of a checkpoint."""
    plain = str | int | float | bool | np.generic
    return {str(key): value for key, value in checkpoint.items() if isinstance(value, plain)}
