"""A directory in an object store: the few operations that runs need, with one kind of error.

fsspec rather than `etils.epath`: both come with TensorFlow Datasets, and epath has neither writes
on condition nor times of the server.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_resnet.weights.files.file_system import replace

from .address import SCHEMES
from .entries import Entry, Listing, folders_of, mark_of, seconds_of, written_of
from .store_errors import ABSENT, WON_BY_ANOTHER, StoreError, explained, is_refused, says

# Bounds for one request of S3's driver, in seconds. A server that takes requests and answers none
# is given up after 2 x 2 attempts of 20 s; `Uploader` tries again by itself.
_S3_OPTIONS = {
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 20,
        "retries": {"total_max_attempts": 2},
    }
}
_S3_ATTEMPTS = 2  # by s3fs, whose default is 5; each of them by botocore's `total_max_attempts`


class Store:
    """A directory in an object store.

    Args:
        url: Its address.

    Raises:
        ModuleNotFoundError: If the driver is not installed; names the extra.

    Example:
        >>> store = Store("s3://bucket/runs/flowers")
        >>> store.write("note.txt", b"text")
        >>> store.read("note.txt")
        b'text'
    """

    def __init__(self, url: str) -> None:
        self.url = url
        scheme = url.split("://")[0]
        kind = SCHEMES[scheme]
        if importlib.util.find_spec("fsspec") is None or (
            importlib.util.find_spec(kind.module) is None
        ):
            extra = kind.extra or "train"
            raise ModuleNotFoundError(
                f"{scheme}:// needs {kind.module}, which is not installed: "
                f"pip install 'keras3-resnet[{extra}]'",
                name=kind.module,
            )
        self.connect()

    def connect(self) -> None:
        """Connects, also again: with the credentials as they are now.

        No other thread may be in a request meanwhile: s3fs would close its connection, and the
        request would never end.
        """
        import fsspec

        # gcsfs logs the traceback of each failure that it then raises.
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
        scheme = self.url.split("://")[0]
        options: dict[str, Any] = dict(_S3_OPTIONS) if scheme == "s3" else {}
        if scheme == "file":
            options["auto_mkdir"] = True
        with self._errors("opened"):
            files, root = fsspec.core.url_to_fs(
                self.url, use_listings_cache=False, skip_instance_cache=True, **options
            )
        if scheme == "s3":
            files.retries = _S3_ATTEMPTS
        self._fs, self._root = files, root.rstrip("/")

    def entries(self, below: str = "") -> Mapping[str, Entry]:
        """Returns all files, or those below a folder, by their names relative to the directory."""
        root = f"{self._root}/{below}".rstrip("/")
        with self._errors("listed"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(root, detail=True)
            except FileNotFoundError:
                return {}
        entries = {
            path[len(self._root) :].removeprefix("/"): Entry(
                int(info.get("size") or 0), mark_of(info)
            )
            for path, info in found.items()
            if len(path) > len(self._root) and not path.endswith("/")  # a marker of a folder
        }
        for name in entries:
            # Two of such names may be one local file, or lie outside of the copy.
            if {"", ".", ".."} & set(name.split("/")) or "\\" in name:
                raise StoreError(f"{self.url} holds a file of the unsafe name {name!r}: remove it")
        both = sorted(folders_of(entries) & entries.keys())
        if both:
            raise StoreError(
                f"{self.url} holds a file {both[0]!r} and files below that name: remove one of them"
            )
        return entries

    def is_file(self) -> bool:
        """Whether the address is a file, not a directory."""
        return self._is_file(self._root)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self._is_file(self._path(name))

    def _is_file(self, path: str) -> bool:
        # `isfile` of fsspec is False also where the store fails.
        with self._errors("read"):
            self._fs.invalidate_cache()
            try:
                return str(self._fs.info(path)["type"]) == "file"
            except FileNotFoundError:
                return False

    def listing(self, below: str = "") -> Listing:
        """Returns what is directly in a folder: one request for 1,000 names."""
        root = f"{self._root}/{below}".rstrip("/")
        with self._errors("listed"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(root, detail=True)
            except FileNotFoundError:
                found = []
        folders, files = [], {}
        for info in found:
            name = info["name"].rstrip("/")[len(root) :].lstrip("/")
            if not name:
                continue
            if info["type"] == "directory":
                folders.append(name)
            else:
                files[name] = written_of(info)
        return Listing(tuple(sorted(folders)), files)

    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
            FileNotFoundError: If there is none.
        """
        with self._errors("read", absent=name):
            return bytes(self._fs.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Writes a file, or replaces it."""
        with self._errors("written"):
            self._fs.pipe_file(self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Writes a file unless there is one; returns whether it did.

        On S3 and Google Cloud Storage the condition is part of the request (If-None-Match: * and
        ifGenerationMatch=0), so that one of several processes wins. Other drivers look first.
        """
        with self._errors("written"):
            try:
                self._fs.pipe_file(self._path(name), content, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if says(error, WON_BY_ANOTHER):
                    return False
                raise
        return True

    def put(self, local: Path, name: str) -> None:
        """Uploads a file."""
        if not local.is_file():
            raise FileNotFoundError(f"{local} is gone")
        with self._errors("written"):
            self._fs.put_file(str(local), self._path(name))

    def get(self, name: str, local: Path) -> None:
        """Downloads a file under a temporary name, then renames it.

        Raises:
            FileNotFoundError: If there is none.
        """
        local.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{local.name}.", dir=local.parent)
        os.close(handle)
        try:
            with self._errors("read", absent=name):
                self._fs.get_file(self._path(name), temporary)
            os.chmod(temporary, 0o644)
            replace(temporary, local)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        """Removes a file, if there is one."""
        with self._errors("removed"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def modified(self, name: str) -> float:
        """Returns when a file was written, by the clock of the store, in seconds.

        Raises:
            FileNotFoundError: If there is none.
        """
        with self._errors("read", absent=name):
            self._fs.invalidate_cache()
            return seconds_of(self._fs.modified(self._path(name)))

    def check_writable(self) -> float:
        """Writes a file, reads it and removes it; returns the time by the clock of the store.

        Raises:
            StoreError: If one of these is not possible; says why, and what to do.
        """
        name, content = f"lock/probe-{uuid.uuid4().hex}", uuid.uuid4().bytes
        self.write(name, content)
        try:
            now = self.modified(name)
            if self.read(name) != content:
                raise StoreError(f"{self.url} returns another content than was written")
        finally:
            self.remove(name)
        return now

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _errors(self, done: str, absent: str = "") -> Iterator[None]:
        """Turns a driver's errors, which are of many kinds, into `StoreError`."""
        try:
            yield
        except (FileExistsError, StoreError):
            raise
        except Exception as error:
            missing = isinstance(error, FileNotFoundError) and not says(error, ABSENT[:2])
            if absent and missing:
                raise FileNotFoundError(f"{self.url} has no {absent}") from error
            raised = StoreError(f"{self.url} cannot be {done}: {explained(self.url, error)}")
            raised.refused = is_refused(error)
            raise raised from error
