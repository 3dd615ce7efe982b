"""One file over HTTP: resumed after a break, led by safe redirects alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from keras_resnet.version import __version__
from keras_resnet.weights.files.progress import Progress, megabytes

# Seconds before each further try; a try that brought `_ADVANCE` bytes or more sets them back.
BACKOFF = (0.5, 1.0, 2.0, 4.0)
_ADVANCE = 1 << 20
_BLOCK = 1 << 18
_TRY_AGAIN = (408, 425, 429)  # and all from 500 up
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_SHA256 = re.compile(r'(?:W/)?"?([0-9a-fA-F]{64})"?')


class DownloadError(OSError):
    """A file could not be fetched or kept."""


class NotFoundError(DownloadError):
    """The server has no such file."""


class _Broken(Exception):
    """A try ended before the file did; another may bring the rest."""


class Transfer:
    """The way of one file from a URL into a part file, which outlives the process.

    Attributes:
        part: The part file; what is noted about it lies beside it.
        named: SHA-256 that the server gave for the file, or None.
        have: Bytes that lie in the part file.
        total: Length of the file, bytes; None while unknown.
    """

    def __init__(self, url: str, part: str, *, timeout: float, progress: Progress) -> None:
        self.named: str | None = None
        self.have = os.path.getsize(part) if os.path.exists(part) else 0
        self.total: int | None = None
        self.part, self._url, self._notes = part, url, f"{part}.json"
        self._timeout, self._progress = timeout, progress
        self._validator = self._recall()
        if self._validator is None:
            self.drop()  # without one, a changed file would be continued as if it were the same

    def run(self) -> None:
        """Fetches what is missing.

        Raises:
            DownloadError: With the reason alone, if it cannot be had; what came is kept.
        """
        try:
            self._try()
        finally:
            self._progress.end(self.have, self.total)

    def _try(self) -> None:
        failures, best = 0, self.have
        while True:
            try:
                self._attempt()
                return
            except DownloadError:
                raise
            except (_Broken, http.client.HTTPException, OSError, ValueError) as error:
                _raise_if_final(error)
                failures = 1 if self.have - best >= _ADVANCE else failures + 1
                best = max(best, self.have)
                if failures > len(BACKOFF):
                    raise DownloadError(_reason(error)) from error
            time.sleep(BACKOFF[failures - 1])

    def describe(self) -> str:
        """Says what another call could continue; empty if there is nothing."""
        if not self.have or not self._validator:
            return ""
        of = "" if self.total is None else f" of {self.total}"
        return f"; {self.have}{of} bytes are kept in {self.part!r} for the next try"

    def drop(self) -> None:
        """Removes the part file and what is noted about it."""
        for path in (self.part, self._notes):
            with _on_disk(), contextlib.suppress(FileNotFoundError):
                os.remove(path)
        self.have, self.total, self._validator = 0, None, None

    def _attempt(self) -> None:
        headers = {"User-Agent": f"keras-resnet/{__version__}", "Accept-Encoding": "identity"}
        if self.have and self._validator:
            headers |= {"Range": f"bytes={self.have}-", "If-Range": self._validator}
        redirects = _Redirects()
        try:
            request = urllib.request.Request(self._url, headers=headers)
            response = _opener(redirects).open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and self.have:
                    self._check_end(error.headers.get("Content-Range", ""))
                    self.named = redirects.named or _named(error.headers)
                    return
                raise
        with response:
            self.named = redirects.named or _named(response.headers)
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise DownloadError(f"the server compresses it, unasked, by {encoding[:20]!r}")
            self._begin(response)
            self._receive(response)

    def _check_end(self, content_range: str) -> None:
        """Takes "range not satisfiable" for the end where it is the end."""
        if content_range.strip() != f"bytes */{self.have}":
            self.drop()
            raise _Broken("the server has another file than the one begun")
        self.total = self.have

    def _begin(self, response: Any) -> None:
        if response.status == 206 and self.have:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            total = int(found[3]) if found and found[3] != "*" else None
            same = self.total is None or total is None or total == self.total
            # Some servers leave `If-Range` aside.
            tags = {self._validator, _validator(response.headers)} - {None}
            if not found or int(found[1]) != self.have or not same or len(tags) > 1:
                self.drop()
                raise _Broken("the server sent another part than the one asked for")
            self.total = total
        elif response.status == 200:
            self.drop()
            length = response.headers.get("Content-Length")
            self.total = int(length) if length and length.isdecimal() else None
            self._note(response.headers)
        else:
            raise _Broken(f"the server answered {response.status}")
        if self.total is not None:
            with _on_disk():
                free = shutil.disk_usage(os.path.dirname(self.part)).free
            need = self.total - self.have
            if free < need:
                raise DownloadError(f"it needs {megabytes(need)} MB, {megabytes(free)} are free")

    def _receive(self, response: Any) -> None:
        self._progress.begin(self.have, self.total)
        with _on_disk():
            # Unbuffered: what came is on disk whenever the process ends.
            file = open(self.part, "ab", buffering=0)  # noqa: SIM115
        with file:
            while self.total is None or self.have < self.total:
                left = _BLOCK if self.total is None else min(_BLOCK, self.total - self.have)
                block = response.read1(left)
                if not block:
                    break
                _write(file, block)
                self.have += len(block)
                self._progress.update(self.have, self.total)
        if self.total is not None and self.have < self.total:
            raise _Broken("the connection ended early")

    def _recall(self) -> str | None:
        """Returns what the part file's server called its version, if it is of the same URL."""
        try:
            with open(self._notes, encoding="utf-8") as file:
                notes = json.load(file)
            if notes["url"] != self._url or not isinstance(notes["validator"], str):
                return None
            self.total = notes["total"] if isinstance(notes["total"], int) else None
            return notes["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _note(self, headers: Any) -> None:
        self._validator = _validator(headers)
        notes = {"url": self._url, "validator": self._validator, "total": self.total}
        with _on_disk(), open(self._notes, "w", encoding="utf-8") as file:
            json.dump(notes, file)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects by HTTP, never from https back to http, and reads the hash off them."""

    max_redirections = 8

    def __init__(self) -> None:
        self.named: str | None = None

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        fp.length, fp.chunked = 0, False  # or its body would be read, however long
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (scheme == "http" and req.type == "https"):
            fp.close()
            raise DownloadError(f"it redirects from {req.type} to {scheme}, which is refused")
        # The hub of Hugging Face names the hash of a file where it redirects to its store.
        self.named = _sha256(headers.get("X-Linked-ETag")) or self.named
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.remove_header("Proxy-authorization")  # the next host may be beyond the proxy
        return request


def _opener(redirects: _Redirects) -> urllib.request.OpenerDirector:
    """Makes an opener of HTTP alone: the usual one opens files and FTP as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        redirects,
    ):
        opener.add_handler(handler)
    return opener


def _raise_if_final(error: Exception) -> None:
    """Raises where another try would end the same way."""
    if isinstance(error, urllib.error.HTTPError):
        final = error.code < 500 and error.code not in _TRY_AGAIN
    else:
        # A ValueError is an address that cannot be asked, or a certificate that does not hold.
        final = isinstance(
            _cause(error),
            socket.gaierror | ConnectionRefusedError | http.client.InvalidURL | ValueError,
        )
    if final:
        absent = isinstance(error, urllib.error.HTTPError) and error.code in (404, 410)
        raise (NotFoundError if absent else DownloadError)(_reason(error)) from error


def _cause(error: Exception) -> Any:
    return error.reason if isinstance(error, urllib.error.URLError) else error


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        line = str(error.reason).strip().splitlines()[0] if error.reason else ""
        return f"the server answered {error.code} {line}".strip()
    cause = _cause(error)
    if isinstance(cause, TimeoutError):
        return "the server sent nothing for too long"
    text = getattr(cause, "strerror", None) or str(cause)
    return text.strip().splitlines()[0] if text.strip() else type(cause).__name__


def _write(file: Any, block: bytes) -> None:
    left = memoryview(block)
    with _on_disk():
        while left:
            left = left[file.write(left) :]


@contextlib.contextmanager
def _on_disk() -> Iterator[None]:
    """Ends the transfer for an error that no server has made."""
    try:
        yield
    except OSError as error:
        raise DownloadError(f"it cannot be written: {error.strerror}") from error


def _validator(headers: Any) -> str | None:
    """Returns what a response calls its version."""
    tag = headers.get("ETag", "")
    # A weak tag holds for equivalent files too, not only for the same bytes.
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _named(headers: Any) -> str | None:
    """Returns the SHA-256 that a response names."""
    return _sha256(headers.get("X-Linked-ETag") or headers.get("ETag"))


def _sha256(tag: str | None) -> str | None:
    found = _SHA256.fullmatch((tag or "").strip())
    return found[1].lower() if found else None
