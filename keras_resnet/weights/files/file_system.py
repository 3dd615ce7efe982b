"""File locks and renames on Linux, macOS and Windows."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

_WINDOWS = os.name == "nt"
# Windows refuses to rename what another process has open, such as a virus scanner.
_RENAME_ATTEMPTS = 10
_SECONDS_BETWEEN_ATTEMPTS = 0.1


def lock(path: str | os.PathLike[str], *, wait: bool = True) -> int | None:
    """Locks a file, which is created if necessary.

    The operating system releases the lock when the process ends.

    Args:
        path: The file; nobody reads or writes its content.
        wait: Whether to wait until another process or thread releases it.

    Returns:
        The descriptor to give to `unlock`, or None if this system or this file system has no
        locks.

    Raises:
        BlockingIOError: If the file is locked and `wait` is False.
        OSError: If the file cannot be created.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _lock_descriptor(descriptor, wait)
            # The previous holder removes the file: the lock may be on a file without a name.
            if locked and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            locked = True
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not locked:
            return None


def unlock(descriptor: int, path: str | os.PathLike[str], *, remove: bool) -> None:
    """Releases a lock of `lock`.

    Args:
        descriptor: The descriptor that `lock` returned.
        path: The file.
        remove: Whether to remove the file. On Windows it remains if another process waits for it.
    """
    if not remove:
        os.close(descriptor)
    elif _WINDOWS:  # Windows does not remove an open file
        os.close(descriptor)
        with contextlib.suppress(OSError):
            os.remove(path)
    else:  # removed under the lock, or it could be another process's by now
        with contextlib.suppress(OSError):  # removed already, or a read-only directory
            os.remove(path)
        os.close(descriptor)


def flush(path: str | os.PathLike[str]) -> None:
    """Writes a file's content to the disk, so that a power failure after a rename keeps it."""
    descriptor = os.open(path, os.O_RDWR)  # Windows flushes writable descriptors only
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Renames a file or directory as `os.replace` does, with patience on Windows.

    Raises:
        OSError: If it cannot be renamed, on Windows after about one second of attempts.
    """
    for _ in range(_RENAME_ATTEMPTS - 1):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if not _WINDOWS:
                raise
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
    try:
        os.replace(source, target)
    except PermissionError as error:
        raise PermissionError(
            error.errno,
            f"{os.fspath(target)} was not replaced: another program may have it, or a file in it, "
            f"open ({error.strerror})",
        ) from error


def _lock_descriptor(descriptor: int, wait: bool) -> bool:
    """Locks an open file; returns False where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(descriptor, wait)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:  # a network file system without locks
        return False
    return True


def _lock_on_windows(descriptor: int, wait: bool) -> bool:
    try:
        import msvcrt
    except ImportError:
        return False
    windows: Any = msvcrt  # its functions are declared for Windows only
    while True:
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            windows.locking(descriptor, windows.LK_NBLCK, 1)
            return True
        except PermissionError:
            if not wait:
                raise BlockingIOError("The file is locked") from None
        except OSError:
            return False
        time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
