"""Atomic writing of files and directories: under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from keras_resnet.weights.files.file_system import replace
from keras_resnet.weights.files.json_object import loads

MOST_BYTES = 256 << 20
"""Bytes that a JSON file of a run may have. 21,000 classes make metrics of 10 MB."""
# A full disk, a quota, a limit of a file's size. HDF5 has the number in its text only.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    with _new_file(path, "wb") as file:
        file.write(content)


@contextlib.contextmanager
def new_text_file(path: Path) -> Iterator[TextIO]:
    """Yields a UTF-8 text file that appears at `path` when the block ends without error."""
    with _new_file(path, "w", encoding="utf-8", newline="") as file:
        yield file


@contextlib.contextmanager
def _new_file(
    path: Path, mode: str, encoding: str | None = None, newline: str | None = None
) -> Iterator[Any]:
    with naming_full_disks(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, mode, encoding=encoding, newline=newline) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_json(path: Path, values: Any) -> None:
    """Writes an indented JSON file atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def read_bytes(path: Path, limit: int = MOST_BYTES) -> bytes:
    """Reads a file.

    Args:
        path: The file.
        limit: Bytes that it may have.

    Raises:
        ValueError: If it is longer, or is a pipe or a device, of which reading might never end.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} is longer than the {limit:,} bytes that are read")
    return content


def read_json(path: Path, limit: int = MOST_BYTES) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        limit: Bytes that it may have.

    Raises:
        ValueError: If it is not JSON, is longer, has a key twice, or is a pipe or a device.
    """
    content = read_bytes(path, limit)
    try:
        return loads(content)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_gzip(path: Path) -> bytes:
    """Reads a file that is compressed by gzip.

    Raises:
        ValueError: If it is damaged, or unfolds to more than 64 times its size and 16 MiB. Lists of
            files with hashes unfold to 3 to 10 times their size.
    """
    content = read_bytes(path)
    limit = 64 * len(content) + (16 << 20)
    try:
        with gzip.open(io.BytesIO(content), mode="rb") as file:
            unfolded = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if len(unfolded) > limit:
        raise ValueError(f"{path} would unfold to more than {limit:,} bytes")
    return unfolded


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        ValueError: If it does not.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return content


def flush(path: Path) -> None:
    """Flushes a file's content to the disk."""
    with path.open("r+b") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())


def check_room(directory: Path, size: int) -> None:
    """Checks that so many bytes can be written into a directory: disk, quota and limits.

    HDF5 ends the process with a segmentation fault where the disk fills while it writes.

    Raises:
        OSError: If they cannot.
    """
    handle, name = tempfile.mkstemp(prefix=".room.", dir=directory)
    try:
        if not _allocate(handle, size) and shutil.disk_usage(directory).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(handle)
        os.unlink(name)


def _allocate(handle: int, size: int) -> bool:
    """Gives a file its room on the disk; returns whether the file system can."""
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return False
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno in _FULL:
            raise
        return False
    return True


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yields a temporary directory that is renamed to `path` when the block ends without error.

    A directory at `path` is replaced. After an error nothing of the new directory remains.
    """
    with naming_full_disks(path):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    flush(file)
            os.chmod(temporary, 0o755)
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
                replace(path, old / "replaced")
                replace(temporary, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextlib.contextmanager
def naming_full_disks(path: Path) -> Iterator[None]:
    """Names the file that a full disk or a read-only directory keeps from being written."""
    try:
        yield
    except OSError as error:
        beside = str(error.filename or path).startswith(str(path.parent))
        if error.errno in _READ_ONLY and beside:
            raise OSError(
                error.errno,
                f"{path} was not written: {error.strerror}. Make its directory writable and give "
                "the same command again",
            ) from error
        if error.errno in _FULL or any(f"errno = {each}" in str(error) for each in _FULL):
            raise OSError(
                error.errno or errno.ENOSPC,
                f"The disk is full: {path} was not written. Free some space and give the same "
                "command again",
            ) from error
        raise
