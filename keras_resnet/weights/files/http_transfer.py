"""The transfer of one file over HTTP: resumed after a break, safe redirects only."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from keras_resnet.version import __version__
from keras_resnet.weights.files.errors import DownloadError, NotFoundError
from keras_resnet.weights.files.json_object import read_object
from keras_resnet.weights.files.progress import Progress, megabytes

# Seconds before each further attempt; an attempt that brought `_ADVANCE` bytes starts them over.
BACKOFF = (0.5, 1.0, 2.0, 4.0)
_ADVANCE = 1 << 20
_BLOCK = 1 << 18
# Bounds of a body: its length, its lowest speed in bytes per second over a window in seconds, and
# the disk space that it leaves.
MAX_BYTES = 16 << 30
SLOWEST, WINDOW = 1000, 60.0
HEADER_SECONDS = 60.0  # from the request to the last header
_LEFT_FREE = 256 << 20
_CHECK_EVERY = 64 << 20
_RETRIED = (408, 425, 429)  # HTTP status codes, besides those from 500 up
_HEAD = 4096  # bytes in which a web page shows
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_SHA256 = re.compile(r'(?:W/)?"?([0-9a-fA-F]{64})"?')


class _Interrupted(Exception):
    """An attempt ended before the file did; another one may fetch the rest."""


class Transfer:
    """The transfer of one file from a URL into a part file that outlives the process.

    Args:
        url: The URL of the file.
        part: Path of the part file. Its URL, version and length are noted in `<part>.json`.
        timeout: Seconds without data after which an attempt ends.
        progress: Prints the progress.
        limit: Length that the file may have, bytes; 16 GiB where None.

    Attributes:
        part: Path of the part file.
        server_sha256: SHA-256 that the server named for the file, or None.
        have: Bytes in the part file.
        total: Length of the file in bytes; None while unknown.
    """

    def __init__(
        self, url: str, part: str, *, timeout: float, progress: Progress, limit: int | None = None
    ) -> None:
        self.server_sha256: str | None = None
        self.have = os.path.getsize(part) if os.path.exists(part) else 0
        self.total: int | None = None
        self.part, self._url, self._notes = part, url, f"{part}.json"
        self._timeout, self._progress, self._limit = timeout, progress, limit or MAX_BYTES
        self._validator = self._read_notes()
        if self._validator is None:
            self.drop()  # without a version, a changed file would be continued

    def run(self) -> None:
        """Downloads the missing bytes.

        Raises:
            DownloadError: If that fails, with the reason only. Received bytes are kept.
        """
        try:
            self._run_attempts()
        finally:
            self._progress.end(self.have, self.total)

    def _run_attempts(self) -> None:
        failures, best = 0, self.have
        while True:
            try:
                self._attempt()
                return
            except DownloadError:
                raise
            except (_Interrupted, http.client.HTTPException, OSError, ValueError) as error:
                _raise_if_final(error)
                failures = 1 if self.have - best >= _ADVANCE else failures + 1
                best = max(best, self.have)
                if failures > len(BACKOFF):
                    raise DownloadError(_reason(error)) from error
            time.sleep(BACKOFF[failures - 1])

    def describe(self) -> str:
        """Describes the bytes that a later call can resume from; empty if there are none."""
        if not self.have or not self._validator:
            return ""
        of = "" if self.total is None else f" of {self.total}"
        return f"; {self.have}{of} bytes are kept in {self.part!r} for the next call"

    def drop(self) -> None:
        """Removes the part file and its notes.

        Raises:
            DownloadError: If one cannot be removed; names it.
        """
        for path in (self.part, self._notes):
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
            except OSError as error:
                raise DownloadError(f"{path!r} cannot be removed: {error.strerror}") from error
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
                    self.server_sha256 = redirects.sha256 or _server_sha256(error.headers)
                    return
                raise
        with response:
            self.server_sha256 = redirects.sha256 or _server_sha256(response.headers)
            encoding = response.headers.get("Content-Encoding", "identity").lower()
            # Of the codings of a transfer, Python's client decodes "chunked" alone.
            coding = response.headers.get("Transfer-Encoding", "chunked").lower()
            for name in (encoding, "identity" if coding == "chunked" else coding):
                if name != "identity":
                    raise DownloadError(f"the server compressed it by {name[:20]!r}, unasked")
            self._begin(response)
            self._receive(response)

    def _check_end(self, content_range: str) -> None:
        """Accepts "range not satisfiable" where the part file is already complete."""
        if content_range.strip() != f"bytes */{self.have}":
            self.drop()
            raise _Interrupted("the server has another file now")
        self.total = self.have

    def _begin(self, response: Any) -> None:
        if response.status == 206 and self.have:
            sent = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
            total = int(sent[3]) if sent and sent[3] != "*" else None
            same_length = self.total is None or total is None or total == self.total
            # Some servers ignore `If-Range`, so versions are compared here too.
            versions = {self._validator, _validator(response.headers)} - {None}
            if not sent or int(sent[1]) != self.have or not same_length or len(versions) > 1:
                self.drop()
                raise _Interrupted("the server sent another range than the requested one")
            self.total = total
        elif response.status == 200:
            self.drop()
            length = response.headers.get("Content-Length")
            self.total = int(length) if length and length.isdecimal() else None
            self._write_notes(response.headers)
        else:
            raise _Interrupted(f"the server answered {response.status}")
        self._check_room(0 if self.total is None else self.total - self.have)

    def _check_room(self, need: int) -> None:
        """Checks the length, known or not, against the ceiling and the free space."""
        if max(self.total or 0, self.have) > self._limit:
            self._validator = None  # no later call may go on with it
            raise DownloadError(
                f"it is longer than the {megabytes(self._limit)} MB that are allowed"
            )
        with _on_disk():
            free = shutil.disk_usage(os.path.dirname(self.part)).free
        if free < need:
            raise DownloadError(f"it needs {megabytes(need)} MB, {megabytes(free)} are free")
        if self.total is None and free < _LEFT_FREE:
            raise DownloadError(f"it does not state its length, and {megabytes(free)} MB are free")

    def _receive(self, response: Any) -> None:
        self._progress.begin(self.have, self.total)
        with _on_disk():
            # Unbuffered: received bytes are on disk whenever the process ends.
            file = open(self.part, "ab", buffering=0)  # noqa: SIM115
        head = b""
        with file, _least_speed(response, lambda: self.have):
            while self.total is None or self.have < self.total:
                left = _BLOCK if self.total is None else min(_BLOCK, self.total - self.have)
                block = response.read1(left)
                if not block:
                    break
                before = self.have
                if before == len(head) < _HEAD:
                    head += block
                    self._check_page(head, ended=before + len(block) == self.total)
                _write(file, block)
                self.have += len(block)
                if self.have > self._limit or self.have // _CHECK_EVERY > before // _CHECK_EVERY:
                    self._check_room(0)
                self._progress.update(self.have, self.total)
        if self.total is not None and self.have < self.total:
            raise _Interrupted("the connection ended early")
        if not self.have:
            raise _Interrupted("the server sent an empty file")
        if self.have == len(head):
            self._check_page(head, ended=True)

    def _check_page(self, head: bytes, *, ended: bool) -> None:
        """Refuses markup. Of weights, only safetensors can begin with `<`, and a zero follows."""
        text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
        if text.startswith(b"<") and b"\0" not in text[:8] and (ended or len(text) >= 8):
            self._validator = None
            raise DownloadError("the server sent a web page, perhaps that of a login")

    def _read_notes(self) -> str | None:
        """Returns the version that is noted for the part file, if it is from the same URL."""
        try:
            notes = read_object(self._notes)
            if notes["url"] != self._url or not isinstance(notes["validator"], str):
                return None
            self.total = notes["total"] if isinstance(notes["total"], int) else None
            return notes["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write_notes(self, headers: Any) -> None:
        self._validator = _validator(headers)
        notes = {"url": self._url, "validator": self._validator, "total": self.total}
        with _on_disk(), open(self._notes, "w", encoding="utf-8", newline="\n") as file:
            json.dump(notes, file)


@contextlib.contextmanager
def _least_speed(response: Any, have: Callable[[], int]) -> Iterator[None]:
    """Ends the connection if a window brings too few bytes of the body.

    A thread measures, because Python's client reads on by itself where a body ends: any number of
    trailers, each within the socket's timeout.

    Raises:
        _Interrupted: If the connection was ended.
    """
    done, slow = threading.Event(), threading.Event()

    def watch() -> None:
        before = have()
        while not done.wait(WINDOW):
            if have() - before < SLOWEST * WINDOW:
                slow.set()
                response.abort()
                return
            before = have()

    threading.Thread(target=watch, daemon=True).start()
    error: Exception | None = None
    try:
        yield
    except (OSError, http.client.HTTPException, _Interrupted) as raised:
        if not slow.is_set():
            raise
        error = raised
    finally:
        done.set()
    if slow.is_set():
        raise _Interrupted(f"the server sends less than {SLOWEST} bytes per second") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP(S), never from https to http; keeps the SHA-256 they name."""

    max_redirections = 8

    def __init__(self) -> None:
        self.sha256: str | None = None

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        fp.length, fp.chunked = 0, False  # else its body would be read, of any length
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (scheme == "http" and req.type == "https"):
            fp.close()
            raise DownloadError(f"it redirects from {req.type} to {scheme}, which is refused")
        # The Hugging Face hub names the hash of a file when it redirects to its storage.
        self.sha256 = _parse_sha256(headers.get("X-Linked-ETag")) or self.sha256
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.remove_header("Proxy-authorization")  # the next host may bypass the proxy
        return request


class _Response(http.client.HTTPResponse):
    """A response whose status line and headers must come within `HEADER_SECONDS`.

    The socket's timeout begins anew with each byte, and Python's client reads any number of
    `100 Continue`.
    """

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        self._socket = sock
        super().__init__(sock, *args, **options)

    def begin(self) -> None:
        late = threading.Event()

        def end() -> None:
            late.set()
            self.abort()

        timer = threading.Timer(HEADER_SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            super().begin()
        except (OSError, http.client.HTTPException):
            if not late.is_set():
                raise
        finally:
            timer.cancel()
        if late.is_set():  # to Python's client, the end of the connection ends the headers too
            raise TimeoutError("the headers did not end")

    def abort(self) -> None:
        """Ends the connection, from any thread; who reads from it finds its end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class _HTTP(urllib.request.HTTPHandler):
    def http_open(self, req: Any) -> Any:
        return self.do_open(_Connection, req)


class _HTTPS(urllib.request.HTTPSHandler):
    def https_open(self, req: Any) -> Any:
        return self.do_open(_SecureConnection, req, context=ssl.create_default_context())


def _opener(redirects: _Redirects) -> urllib.request.OpenerDirector:
    """Returns an opener for HTTP(S) only: the default one also opens files and FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _HTTP(),
        _HTTPS(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        redirects,
    ):
        opener.add_handler(handler)
    return opener


def _raise_if_final(error: Exception) -> None:
    """Raises if another attempt would end the same way."""
    if isinstance(error, urllib.error.HTTPError):
        final = error.code < 500 and error.code not in _RETRIED
    else:
        # A ValueError is an invalid address or certificate.
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
    """Returns the cause on one printable line; the text of a server may hold control characters."""
    line = _cause_line(error)[:200]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _cause_line(error: Exception) -> str:
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
    """Turns an error of the local disk into one that ends the transfer."""
    try:
        yield
    except OSError as error:
        raise DownloadError(f"it cannot be written: {error.strerror}") from error


def _validator(headers: Any) -> str | None:
    """Returns the version of the file that a response names."""
    tag = headers.get("ETag", "")
    # A weak tag also covers equivalent files with other bytes.
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _server_sha256(headers: Any) -> str | None:
    """Returns the SHA-256 of the file that a response names."""
    return _parse_sha256(headers.get("X-Linked-ETag") or headers.get("ETag"))


def _parse_sha256(tag: str | None) -> str | None:
    match = _SHA256.fullmatch((tag or "").strip())
    return match[1].lower() if match else None
