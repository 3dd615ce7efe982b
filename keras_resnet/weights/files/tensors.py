"""Files of weights as arrays by name, whatever library wrote them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import secrets
import zipfile
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from keras_resnet.weights.files import pickles
from keras_resnet.weights.files.hdf5 import MAX_EXPANSION, SIGNATURE, read_hdf5

Kind = Literal["safetensors", "torch", "hdf5"]

_INSTALL = "safetensors files need another package: pip install 'keras3-resnet[weights]'"
_ZIP = b"PK\x03\x04"
_KERAS = "model.weights.h5"  # in a `.keras` archive
# What is often found in the place of weights, by its beginning in lower case.
_OTHERS = (
    (b"version https://git-lfs", "a pointer of git-lfs, not the file itself: run `git lfs pull`"),
    (b"<!doctype html", "a web page: its address is not that of the file"),
    (b"<html", "a web page: its address is not that of the file"),
    (b"<?xml", "an XML document, perhaps a server's error message"),
    (b"{", "JSON, perhaps a server's error message"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class TensorFile:
    """What a file of weights holds.

    Attributes:
        path: The file.
        kind: Its format.
        tensors: Arrays by name, as the library that wrote them calls them; halves as float32.
        metadata: Of safetensors its `__metadata__`; of PyTorch's what stands beside the tensors,
            such as an epoch; of HDF5 `format`, `"keras 2"` or `"keras 3"`, and versions.
        sha256: Of the file.
    """

    path: str
    kind: Kind
    tensors: dict[str, np.ndarray]
    metadata: dict[str, Any]
    sha256: str


def read(path: str | os.PathLike[str]) -> TensorFile:
    """Reads a file of weights; its content tells its kind, not its name.

    Args:
        path: safetensors, a PyTorch checkpoint, Keras's HDF5 (Keras 2's, or `.weights.h5`), or a
            `.keras` archive. Nothing in it is run, and nothing outside it is read.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If it is of safetensors and the package for them is missing.
        ValueError: If it is of no such kind, or damaged.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"No weights file at {path!r}")
    try:
        with open(path, "rb") as file:
            start = file.read(512)
        sha256 = file_sha256(path)
        size = os.path.getsize(path)
    except OSError as error:
        raise ValueError(f"{path!r} cannot be read: {error.strerror}") from error
    kind, member = _kind(path, start)
    metadata: dict[str, Any]
    if kind == "torch":
        checkpoint = pickles.read_checkpoint(path)
        tensors = pickles.state_dict_of(checkpoint, source=repr(path))
        metadata = _scalars(checkpoint)
    elif kind == "safetensors":
        tensors, metadata = _safetensors(path)
    else:
        try:
            source = path if member is None else _unpack(path, member, size)
            tensors, metadata = read_hdf5(source, size)
        except Exception as error:  # zlib has errors of its own, and so has h5py
            raise ValueError(f"{path!r} holds no readable weights: {_line(error)}") from error
    return TensorFile(path, kind, _widened(path, tensors), metadata, sha256)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes arrays to a safetensors file; all of it or nothing.

    Floating-point arrays are written as float32, whole numbers as they are.

    Args:
        path: The file; one that is there is replaced.
        tensors: Arrays of any shape by name.
        metadata: Strings by name, kept in the header.

    Raises:
        ImportError: If the package for safetensors is missing.
        ValueError: If `metadata` holds anything but strings.
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
    # Not `ascontiguousarray`, which makes a vector of a scalar.
    arrays = {
        key: np.asarray(value, value.dtype if value.dtype.kind in "iu" else "<f4", order="C")
        for key, value in tensors.items()
    }
    path = os.fspath(path)
    temporary = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        # Not its `save_file`, whose files nobody else may read.
        with open(temporary, "xb") as file:
            file.write(save(arrays, metadata=dict(metadata) if metadata else None))
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _kind(path: str, start: bytes) -> tuple[Kind, str | None]:
    """Returns the kind of a file and, of a `.keras` archive, the member with the weights."""
    if start.startswith(SIGNATURE):
        return "hdf5", None
    if start.startswith(_ZIP):
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
        except Exception as error:
            raise ValueError(f"{path!r} is a damaged archive: {_line(error)}") from error
        if _KERAS in members:
            return "hdf5", _KERAS
        if any(name.endswith("/data.pkl") for name in members):
            return "torch", None
        found = f"a zip archive of {', '.join(members[:4]) or 'nothing'}"
    elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32:
        return "safetensors", None
    elif start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "torch", None
    else:
        begin = start.lstrip().lower()
        found = next(
            (name for mark, name in _OTHERS if begin.startswith(mark)),
            f"something that begins with {start[:12]!r}" if start else "an empty file",
        )
        found = "a TFLite model" if start[4:8] == b"TFL3" else found
    raise ValueError(
        f"{path!r} must be safetensors, a PyTorch checkpoint, Keras's HDF5 or a `.keras` archive. "
        f"Received: {found}"
    )


def _unpack(path: str, member: str, size: int) -> io.BytesIO:
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        if info.file_size > MAX_EXPANSION * size:
            raise ValueError(f"its {member!r} would expand to {info.file_size} bytes")
        return io.BytesIO(archive.read(info))


def _safetensors(path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except Exception as error:  # SafetensorError, and whatever NumPy makes of its types
        message = f"{path!r} is no readable safetensors file: {_line(error)}"
        raise ValueError(message) from error


def _widened(path: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Makes float32 of halves; the other small floats have no place in weights."""
    for name, array in tensors.items():
        if array.dtype.kind not in "fiubc" and array.dtype.name != "bfloat16":
            raise ValueError(f"{name!r} in {path!r} has the type {array.dtype.name}")
    return {
        name: array.astype(np.float32) if array.dtype.itemsize == 2 and _is_float(array) else array
        for name, array in tensors.items()
    }


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind not in "iub"


def _scalars(checkpoint: Any) -> dict[str, Any]:
    if not isinstance(checkpoint, dict):
        return {}
    plain = str | int | float | bool | np.generic
    return {str(key): value for key, value in checkpoint.items() if isinstance(value, plain)}
