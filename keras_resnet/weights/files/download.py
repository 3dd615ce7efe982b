"""Files of weights from the network into a cache, checked against their hashes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from typing import Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from keras_resnet.weights.files.progress import Progress
from keras_resnet.weights.files.tensors import file_sha256
from keras_resnet.weights.files.transport import DownloadError as DownloadError
from keras_resnet.weights.files.transport import NotFoundError as NotFoundError
from keras_resnet.weights.files.transport import Transfer

Verified = Literal["pinned", "server", "none"]

_HASH = re.compile(r"sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32}")


@dataclasses.dataclass(frozen=True)
class Download:
    """A file in the cache.

    Attributes:
        path: Where it lies.
        sha256: Of its bytes.
        url: Where it is from.
        verified_by: What its hash was checked against: one that the caller gave, one that the
            server named, or nothing, as with a file that was put there by hand.
        from_cache: Whether it was there already.
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
) -> Download:
    """Fetches a file, or finds it in the cache.

    A break is resumed where it happened, also by a later call. A file is put in its place when it
    is whole and its hash has been checked. Where processes fetch the same file, one does and the
    others wait for it: the operating system holds a lock on `<file>.lock` and drops it with the
    process. Where it has no such locks (Windows), each fetches into a part file of its own.

    Args:
        url: Of `http` or `https`.
        name: Of the file in the cache; by default the last part of the URL. Files of different
            URLs need different names.
        cache_dir: Default: `models/keras_resnet` in `$KERAS_HOME` or `~/.keras`.
        hash: `"sha256:"` and the hash or its first 8 or more digits, or `"md5:"` and the hash.
            Where None, the SHA-256 that the server names is checked, if it does: `X-Linked-ETag`
            of a redirect, or an `ETag` of 64 hexadecimal digits.
        progress: Whether to tell on stderr how far it is.
        timeout: Seconds without a byte after which the server is asked again.

    Raises:
        DownloadError: If the file cannot be had or kept; says where it may be put by hand. It is
            a `NotFoundError` if the server has no such file.
        ValueError: If the file has another hash; or if an argument is outside its range.
    """
    wanted = _check(url, hash, timeout)
    path = os.path.join(_folder(cache_dir), _name(url, name))
    try:
        found = _cached(path, url, wanted)
        if found is None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with _locked(path) as part:
                found = _cached(path, url, wanted)  # what another process has fetched meanwhile
                if found is None:
                    shown = Progress(os.path.basename(path), shown=progress)
                    found = _bring(
                        Transfer(url, part, timeout=timeout, progress=shown), url, path, wanted
                    )
        return found
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"{path!r} cannot be used as a cache: {error.strerror}") from error


def _check(url: str, hash: str | None, timeout: float) -> str | None:
    """Checks arguments; returns the hash in lower case."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"`url` must be of http or https. Received: url={url!r}")
    if "@" in parts.netloc:  # and is not repeated: a password may stand there
        raise ValueError(f"`url` must hold no user name. Received: one for {parts.hostname!r}")
    if any(ord(letter) <= 32 or ord(letter) > 126 for letter in url):
        raise ValueError(f"`url` must be of ASCII without blanks. Received: url={url!r}")
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


def _name(url: str, name: str | None) -> str:
    chosen = unquote(urlsplit(url).path.rsplit("/", 1)[-1]) if name is None else name
    if (
        not chosen
        or chosen.startswith(".")
        or not chosen.isprintable()
        or set(chosen) & set("/\\:")
    ):
        raise ValueError(
            "`name`, or else the last part of `url`, must be a plain name of a file. "
            f"Received: name={name!r}, url={url!r}"
        )
    return chosen


def _cached(path: str, url: str, wanted: str | None) -> Download | None:
    """Returns the file in the cache if it is the one that is asked for."""
    if not os.path.isfile(path):
        return None
    sha256 = file_sha256(path)
    if wanted is not None:
        return Download(path, sha256, url, "pinned", True) if _has(path, sha256, wanted) else None
    try:
        with open(f"{path}.json", encoding="utf-8") as file:
            notes: Any = json.load(file)
    except FileNotFoundError:
        return Download(path, sha256, url, "none", True)  # put there by hand
    except ValueError:
        return None
    if not isinstance(notes, dict) or (notes.get("url"), notes.get("sha256")) != (url, sha256):
        return None
    verified = notes.get("verified_by")
    known: Verified = next((each for each in get_args(Verified) if each == verified), "none")
    return Download(path, sha256, url, known, True)


def _bring(transfer: Transfer, url: str, path: str, wanted: str | None) -> Download:
    """Fetches a file, checks it and puts it in its place."""
    try:
        transfer.run()
    except DownloadError as error:
        kept = transfer.describe() if transfer.part == f"{path}.part" else ""
        raise type(error)(
            f"{url} could not be fetched: {error}{kept}. The file may be put by hand at {path!r}"
        ) from error
    sha256 = file_sha256(transfer.part)
    named = transfer.named and f"sha256:{transfer.named}"
    expected = wanted or named
    if expected and not _has(transfer.part, sha256, expected):
        whose = "that was asked for" if wanted else "that its server names (`hash` goes before it)"
        received = _md5(transfer.part) if expected.startswith("md5:") else f"sha256:{sha256}"
        transfer.drop()
        # No DownloadError: whoever tries another address after one must not pass over this.
        raise ValueError(
            f"{url} does not have the hash {whose}, and what came was deleted. "
            f"Expected: {expected}. Received: {received}"
        )
    verified: Verified = "pinned" if wanted else "server" if named else "none"
    notes = {"url": url, "sha256": sha256, "verified_by": verified}
    temporary = f"{path}.json.{secrets.token_hex(4)}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(notes, file)
    # The sidecar first: beside an older file it says that this is another, should we end here.
    os.replace(temporary, f"{path}.json")
    os.replace(transfer.part, path)
    transfer.drop()
    return Download(path, sha256, url, verified, from_cache=False)


def _has(path: str, sha256: str, wanted: str) -> bool:
    if wanted.startswith("md5:"):
        return _md5(path) == wanted
    return f"sha256:{sha256}".startswith(wanted)


def _md5(path: str) -> str:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return f"md5:{digest.hexdigest()}"


@contextlib.contextmanager
def _locked(path: str) -> Iterator[str]:
    """Yields the name of a part file that no other process writes meanwhile."""
    lock = _lock(f"{path}.lock")
    if lock is None:
        part = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.part"
        try:
            yield part
        finally:
            for left in (part, f"{part}.json"):  # under this name nobody would find them again
                with contextlib.suppress(FileNotFoundError):
                    os.remove(left)
        return
    try:
        yield f"{path}.part"
    finally:
        os.remove(f"{path}.lock")
        os.close(lock)


def _lock(path: str) -> int | None:
    """Waits for the lock on a file; None where there are no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever held it removes the file: then the lock is on a file without a name.
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        except FileNotFoundError:
            pass
        except OSError:  # a network's file system without locks
            os.close(lock)
            return None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
