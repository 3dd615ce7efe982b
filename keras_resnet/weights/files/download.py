"""Downloads of weights into a cache, resumed after a break and checked against hashes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from keras_resnet.weights.files.errors import DownloadError
from keras_resnet.weights.files.file_system import flush, lock, replace, unlock
from keras_resnet.weights.files.http_transfer import Transfer
from keras_resnet.weights.files.json_object import read_object
from keras_resnet.weights.files.progress import Progress
from keras_resnet.weights.files.tensor_file import file_sha256

Verified = Literal["pinned", "server", "none"]

_HASH = re.compile(r"sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True)
class Download:
    """A file in the cache.

    Attributes:
        path: Its path.
        sha256: SHA-256 of its bytes, hexadecimal.
        url: Its URL; empty for a file that was not downloaded.
        verified_by: The hash that it was checked against: `"pinned"`, given by the caller;
            `"server"`, named by the server; `"none"`, not checked, such as a file that a user
            put into the cache.
        from_cache: Whether it was in the cache before the call.
    """

    path: str
    sha256: str
    url: str
    verified_by: Verified
    from_cache: bool


def fetch(
    url: str,
    *,
    name: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    hash: str | None = None,
    progress: bool = True,
    timeout: float = 30.0,
    limit: int | None = None,
) -> Download:
    """Returns a file from the cache; downloads it first where necessary.

    A transfer that breaks off is resumed, also by a later call. The file gets its final name only
    when it is complete and its hash has been checked. If several processes fetch one file, one
    downloads it and the others wait. They share a lock on `<file>.lock`, which the operating
    system releases when its holder ends. On file systems without such locks, each process
    downloads into its own part file.

    Args:
        url: An `http` or `https` URL.
        name: Name of the file in the cache; by default the last part of the URL. Files from
            different URLs need different names.
        cache_dir: Default: `models/keras_resnet` in `$KERAS_HOME` or `~/.keras`.
        hash: `"sha256:"` with the hash or at least its first 8 digits, or `"md5:"` with the hash.
            If None, the file is checked against the SHA-256 that the server names, if it names
            one: `X-Linked-ETag` of a redirect, or an `ETag` of 64 hexadecimal digits.
        progress: Whether to print the progress to stderr.
        timeout: Seconds without data after which the request is repeated.
        limit: Length that the file may have, bytes; 16 GiB where None.

    Raises:
        DownloadError: If the file cannot be downloaded or stored; the message says where to put
            it by hand. A `NotFoundError` if the server does not have the file.
        ValueError: If the file has another hash, or an argument is invalid.
    """
    pinned = _check(url, hash, timeout)
    path = os.path.join(_folder(cache_dir), _file_name(url, name))
    for own in (path, f"{path}.json", f"{path}.part", f"{path}.part.json", f"{path}.lock"):
        if os.path.isdir(own):
            raise DownloadError(f"{path!r} cannot be used as a cache: {own!r} is a directory")
    try:
        cached = _find_in_cache(path, url, pinned)
        if cached is not None:
            return cached
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with _part_file(path, say=progress) as part:
            cached = _find_in_cache(path, url, pinned)  # another process may have fetched it
            if cached is not None:
                return cached
            bar = Progress(os.path.basename(path), shown=progress)
            transfer = Transfer(url, part, timeout=timeout, progress=bar, limit=limit)
            return _download(transfer, url, path, pinned)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"{path!r} cannot be used as a cache: {error.strerror}") from error


def _check(url: str, hash: str | None, timeout: float) -> str | None:
    """Checks the arguments; returns the hash in lower case."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"`url` must be an http or https URL. Received: url={url!r}")
    if "@" in parts.netloc:  # The message leaves the URL out: it may contain a password.
        raise ValueError(
            f"`url` must not contain a user name. Received: one for host {parts.hostname!r}"
        )
    if any(ord(letter) <= 32 or ord(letter) > 126 for letter in url):
        raise ValueError(
            f"`url` must contain printable ASCII characters only, no spaces. Received: url={url!r}"
        )
    if not timeout > 0:
        raise ValueError(f"`timeout` must be above 0. Received: timeout={timeout}")
    if hash is None:
        return None
    if not _HASH.fullmatch(hash.lower()):
        raise ValueError(
            "`hash` must be 'sha256:' and 8 to 64 hexadecimal digits, or 'md5:' and 32. "
            f"Received: hash={hash!r}"
        )
    return hash.lower()


def _folder(cache_dir: str | os.PathLike[str] | None) -> str:
    if cache_dir is not None:
        return os.path.abspath(os.fspath(cache_dir))
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return os.path.abspath(os.path.join(home, "models", "keras_resnet"))


def _file_name(url: str, name: str | None) -> str:
    chosen = unquote(urlsplit(url).path.rsplit("/", 1)[-1]) if name is None else name
    hidden = not chosen or chosen.startswith(".")
    if hidden or not chosen.isprintable() or set(chosen) & set("/\\:"):
        raise ValueError(
            "`name`, by default the last part of `url`, must be a plain file name. "
            f"Received: name={name!r}, url={url!r}"
        )
    return chosen


def _find_in_cache(path: str, url: str, pinned: str | None) -> Download | None:
    """Returns the file in the cache if it is the requested one."""
    if not os.path.isfile(path):
        return None
    sha256 = file_sha256(path)
    if pinned is not None:
        matches = _has_hash(path, sha256, pinned)
        return Download(path, sha256, url, "pinned", True) if matches else None
    if not os.path.exists(f"{path}.json"):
        return Download(path, sha256, url, "none", True)  # put there by hand
    try:
        notes = read_object(f"{path}.json")
    except ValueError:
        return None
    if (notes.get("url"), notes.get("sha256")) != (url, sha256):
        return None
    noted = notes.get("verified_by")
    verified: Verified = next((value for value in get_args(Verified) if value == noted), "none")
    return Download(path, sha256, url, verified, True)


def _download(transfer: Transfer, url: str, path: str, pinned: str | None) -> Download:
    """Downloads a file, checks its hash and moves it to its final name."""
    try:
        transfer.run()
    except DownloadError as error:
        resumable = transfer.describe() if transfer.part == f"{path}.part" else ""
        if not resumable:  # no later call could go on with it
            transfer.drop()
        raise type(error)(
            f"{url} could not be fetched: {error}{resumable}. "
            f"The file may be put by hand at {path!r}"
        ) from error
    sha256 = file_sha256(transfer.part)
    named = transfer.server_sha256 and f"sha256:{transfer.server_sha256}"
    expected = pinned or named
    if expected and not _has_hash(transfer.part, sha256, expected):
        origin = "that was asked for" if pinned else "that its server names (`hash` overrides it)"
        received = _md5(transfer.part) if expected.startswith("md5:") else f"sha256:{sha256}"
        transfer.drop()
        # Not a DownloadError: a caller that tries another URL after one must not ignore this.
        raise ValueError(
            f"{url} does not have the hash {origin}; the download was deleted. "
            f"Expected: {expected}. Received: {received}"
        )
    verified: Verified = "pinned" if pinned else "server" if named else "none"
    notes = {"url": url, "sha256": sha256, "verified_by": verified}
    temporary = f"{path}.json.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            json.dump(notes, file)
        flush(transfer.part)
        # Notes first: if the process ends between the two, they mark an older file as another one.
        replace(temporary, f"{path}.json")
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    replace(transfer.part, path)
    transfer.drop()
    return Download(path, sha256, url, verified, from_cache=False)


def _has_hash(path: str, sha256: str, expected: str) -> bool:
    if expected.startswith("md5:"):
        return _md5(path) == expected
    return f"sha256:{sha256}".startswith(expected)


def _md5(path: str) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return f"md5:{digest.hexdigest()}"


@contextlib.contextmanager
def _part_file(path: str, *, say: bool) -> Iterator[str]:
    """Yields the name of a part file that no other process writes in the meantime."""
    try:
        descriptor = lock(f"{path}.lock", wait=False)
    except BlockingIOError:
        if say:
            name = os.path.basename(path)
            print(f"Waiting for another process that fetches {name}", file=sys.stderr)
        descriptor = lock(f"{path}.lock")
    if descriptor is None:
        part = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.part"
        try:
            yield part
        finally:
            for leftover in (part, f"{part}.json"):  # no later call would find this name
                with contextlib.suppress(FileNotFoundError):
                    os.remove(leftover)
        return
    try:
        yield f"{path}.part"
    finally:
        unlock(descriptor, f"{path}.lock", remove=True)
