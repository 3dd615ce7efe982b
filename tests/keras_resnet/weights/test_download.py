"""Downloads from a server on 127.0.0.1 that breaks off, stalls, lies, redirects and resumes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from keras_resnet.weights.files import download, http_transfer
from keras_resnet.weights.files.download import Download, fetch
from keras_resnet.weights.files.errors import DownloadError

pytestmark = pytest.mark.network

BODY = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()
ETAG = '"version-1"'

Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request as the next of the server's answers says; the last one repeats."""

    server: Any

    def do_GET(self) -> None:
        seen = self.server.seen
        seen.append((self.path, dict(self.headers)))
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def send(self, code: int, body: bytes = b"", *, say: int | None = None, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if say is None else say))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def whole(handler: Handler, *, etag: str = ETAG, **headers: str) -> None:
    """Serves the file, from where it is asked for if its version is still the same."""
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if asked is None or handler.headers.get("If-Range") != etag:
        return handler.send(200, BODY, ETag=etag, **headers)
    start = int(asked[1])
    if start >= len(BODY):
        return handler.send(416, Content_Range=f"bytes */{len(BODY)}")
    place = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    handler.send(206, BODY[start:], ETag=etag, Content_Range=place, **headers)


def breaks_at(count: int, etag: str = ETAG) -> Answer:
    return lambda handler: handler.send(200, BODY[:count], say=len(BODY), ETag=etag)


def status(code: int, **headers: str) -> Answer:
    return lambda handler: handler.send(code, b"no", **headers)


def hangs_up(handler: Handler) -> None:
    handler.close_connection = True


def redirects(to: str, **headers: str) -> Answer:
    return lambda handler: handler.send(302, b"there", Location=to, **headers)


class Place(types.SimpleNamespace):
    """A server, and a cache of its own."""

    url: str
    cache: pathlib.Path
    server: Any

    def fetch(self, *answers: Answer, **arguments: Any) -> Download:
        """Fetches `weights.bin` from a server that gives these answers."""
        self.server.answers[:] = answers
        self.server.seen.clear()
        return fetch(
            f"{self.url}/weights.bin", cache_dir=self.cache, **{"progress": False, **arguments}
        )

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.server.seen]

    @property
    def files(self) -> list[str]:
        return sorted(os.listdir(self.cache))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Iterator[Place]:
    monkeypatch.setattr(http_transfer, "BACKOFF", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.answers, server.seen, server.done = [], [], threading.Event()
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield Place(
        url=f"http://127.0.0.1:{server.server_port}", cache=tmp_path / "cache", server=server
    )
    server.done.set()
    server.shutdown()
    server.server_close()
    thread.join()


def is_whole(got: Download) -> bool:
    return pathlib.Path(got.path).read_bytes() == BODY and got.sha256 == SHA256


def test_a_file_comes_once(place):
    first = place.fetch(whole)
    assert is_whole(first)
    assert first == Download(
        str(place.cache / "weights.bin"), SHA256, f"{place.url}/weights.bin", "none", False
    )
    assert place.files == ["weights.bin", "weights.bin.json"]
    second = place.fetch(status(500))
    assert (second.from_cache, second.verified_by, place.server.seen) == (True, "none", [])


@pytest.mark.parametrize(
    "hash", [f"sha256:{SHA256}", f"sha256:{SHA256[:8]}", f"md5:{MD5}", f"SHA256:{SHA256.upper()}"]
)
def test_a_pinned_hash_that_holds(place, hash):
    assert place.fetch(whole, hash=hash).verified_by == "pinned"
    again = place.fetch(status(500), hash=hash)
    assert again.from_cache
    assert again.verified_by == "pinned"
    assert place.fetch(status(500)).verified_by == "pinned"  # as its sidecar tells


@pytest.mark.parametrize(
    ("hash", "received"),
    [(f"sha256:{'0' * 64}", f"sha256:{SHA256}"), (f"md5:{'0' * 32}", f"md5:{MD5}")],
)
def test_another_hash_is_an_error_and_leaves_nothing(place, hash, received):
    with pytest.raises(ValueError, match=f"asked for.*Expected: {hash}. Received: {received}"):
        place.fetch(whole, hash=hash)
    assert place.files == []


@pytest.mark.parametrize("where", ["redirect", "etag"])
@pytest.mark.parametrize("holds", [True, False])
def test_a_hash_that_the_server_names(place, where, holds):
    named = SHA256 if holds else "0" * 64
    if where == "redirect":
        answers = [redirects("/store", X_Linked_ETag=f'"{named}"'), whole]
    else:
        answers = [functools.partial(whole, etag=f'"{named}"')]
    if holds:
        assert place.fetch(*answers).verified_by == "server"
        assert place.fetch(status(500)).verified_by == "server"
        return
    with pytest.raises(ValueError, match=f"server names.*sha256:{named}.*sha256:{SHA256}"):
        place.fetch(*answers)
    assert place.files == []


def test_the_redirect_names_the_hash_where_both_do(place):
    """The store of a hub may call its files by hashes of another kind."""
    answers = [
        redirects("/store", X_Linked_ETag=SHA256),
        functools.partial(whole, etag=f'"{"1" * 64}"'),
    ]
    assert place.fetch(*answers).verified_by == "server"


def test_a_pinned_hash_goes_before_the_named_one(place):
    got = place.fetch(functools.partial(whole, etag=f'"{"0" * 64}"'), hash=f"sha256:{SHA256}")
    assert got.verified_by == "pinned"


def test_a_break_is_resumed(place):
    got = place.fetch(breaks_at(100_000), whole)
    assert is_whole(got)
    assert place.ranges == [None, "bytes=100000-"]
    assert place.files == ["weights.bin", "weights.bin.json"]


def test_a_break_is_resumed_by_a_later_call(place):
    with pytest.raises(DownloadError, match="100000 of 300000 bytes are kept in '.*part'.*by hand"):
        place.fetch(breaks_at(100_000), status(503))
    assert place.files == ["weights.bin.part", "weights.bin.part.json"]
    assert is_whole(place.fetch(whole))
    assert place.ranges == ["bytes=100000-"]


def test_a_stopped_process_is_resumed(place, monkeypatch):
    """What came lies on disk at any moment, and the lock does not outlive its holder."""
    with monkeypatch.context() as patch:
        patch.setattr(http_transfer, "_BLOCK", 50_000)
        patch.setattr(http_transfer.Progress, "update", stopped)
        with pytest.raises(KeyboardInterrupt, match="now"):
            place.fetch(whole)
    came = (place.cache / "weights.bin.part").read_bytes()
    assert came
    assert BODY.startswith(came)
    assert is_whole(place.fetch(whole))
    assert place.ranges == [f"bytes={len(came)}-"]


def stopped(progress: Any, have: int, total: int) -> None:
    raise KeyboardInterrupt("now")


def test_a_break_without_a_version_starts_anew(place):
    nameless = breaks_at(100_000, etag='W/"weak"')
    with pytest.raises(DownloadError, match="the connection ended early. The file") as error:
        place.fetch(nameless)
    assert "kept" not in str(error.value)
    assert is_whole(place.fetch(nameless, whole))
    assert place.ranges == [None, None]


def test_last_modified_is_a_version_too(place):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"

    def begin(handler: Handler) -> None:
        handler.send(200, BODY[:9], say=len(BODY), Last_Modified=date)

    def rest(handler: Handler) -> None:
        assert handler.headers["If-Range"] == date
        handler.send(206, BODY[9:], Content_Range=f"bytes 9-{len(BODY) - 1}/{len(BODY)}")

    assert is_whole(place.fetch(begin, rest))


def test_a_part_of_a_changed_file_is_not_continued(place):
    with pytest.raises(DownloadError, match="503"):
        place.fetch(breaks_at(100_000, etag='"version-0"'), status(503))
    assert is_whole(place.fetch(whole))
    assert place.ranges == ["bytes=100000-"]


def test_a_part_of_another_url_is_not_continued(place):
    with pytest.raises(DownloadError, match="503"):
        place.fetch(breaks_at(100_000), status(503))
    place.server.answers[:] = [whole]
    got = fetch(f"{place.url}/b", name="weights.bin", cache_dir=place.cache, progress=False)
    assert is_whole(got)
    assert place.ranges[-1] is None


def test_a_server_without_ranges_starts_again(place):
    assert is_whole(place.fetch(breaks_at(100_000), lambda handler: handler.send(200, BODY)))


@pytest.mark.parametrize(
    "content_range",
    ["bytes 5-299999/300000", "bytes 100000-299998/299999", "", "bytes x", "bytes */300000"],
)
def test_another_range_than_the_one_asked_for(place, content_range):
    def lies(handler: Handler) -> None:
        handler.send(206, BODY[100_000:], ETag=ETAG, Content_Range=content_range)

    assert is_whole(place.fetch(breaks_at(100_000), lies, whole))
    assert place.ranges == [None, "bytes=100000-", None]


def test_a_server_that_sends_the_rest_of_another_version(place):
    """As some do that know no `If-Range`."""

    def rest(handler: Handler) -> None:
        handler.send(206, b"x" * 200_000, ETag='"2"', Content_Range="bytes 100000-299999/300000")

    assert is_whole(place.fetch(breaks_at(100_000), rest, whole))
    assert place.ranges == [None, "bytes=100000-", None]


def test_a_part_that_is_whole_needs_no_more(place):
    """As when the process was stopped before it could put the file in its place."""
    place.cache.mkdir()
    (place.cache / "weights.bin.part").write_bytes(BODY)
    notes = {"url": f"{place.url}/weights.bin", "validator": ETAG, "total": len(BODY)}
    (place.cache / "weights.bin.part.json").write_text(json.dumps(notes))
    assert is_whole(place.fetch(whole))
    assert place.ranges == ["bytes=300000-"]


def test_a_part_that_is_longer_than_the_file(place):
    place.cache.mkdir()
    (place.cache / "weights.bin.part").write_bytes(BODY + b"more")
    notes = {"url": f"{place.url}/weights.bin", "validator": ETAG, "total": None}
    (place.cache / "weights.bin.part.json").write_text(json.dumps(notes))
    assert is_whole(place.fetch(whole))
    assert place.ranges == ["bytes=300004-", None]


def test_a_server_that_always_breaks_off(place):
    with pytest.raises(DownloadError, match="fetched: Remote end closed .*; 1000 of 300000 bytes"):
        place.fetch(breaks_at(1000), hangs_up)
    assert len(place.server.seen) == 3


def test_tries_are_counted_from_the_last_advance(place, monkeypatch):
    monkeypatch.setattr(http_transfer, "_ADVANCE", 1000)

    def drips(handler: Handler) -> None:
        start = int(re.findall(r"\d+", handler.headers.get("Range", "0"))[0])
        if not start:
            return breaks_at(30_000)(handler)
        place = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
        body = BODY[start : start + 30_000]
        handler.send(206, body, say=len(BODY) - start, Content_Range=place)

    assert is_whole(place.fetch(drips))
    assert len(place.server.seen) == 10


def test_a_server_that_stalls(place):
    def stalls(handler: Handler) -> None:
        handler.send(200, BODY[:1000], say=len(BODY), ETag=ETAG)
        handler.wfile.flush()
        handler.server.done.wait(5)

    assert is_whole(place.fetch(stalls, whole, timeout=0.2))
    assert place.ranges == [None, "bytes=1000-"]


def test_a_server_that_only_stalls(place, monkeypatch):
    monkeypatch.setattr(http_transfer, "BACKOFF", (0.0,))
    with pytest.raises(DownloadError, match="sent nothing for too long"):
        place.fetch(lambda handler: handler.server.done.wait(5), timeout=0.1)
    assert len(place.server.seen) == 2


def test_a_server_that_drips(place, monkeypatch):
    """One byte now and then is not silence, but no file comes that way either."""
    monkeypatch.setattr(http_transfer, "BACKOFF", (0.0,))
    monkeypatch.setattr(http_transfer, "WINDOW", 0.1)

    def drips(handler: Handler) -> None:
        handler.send(200, b"", say=len(BODY), ETag=ETAG)
        with contextlib.suppress(OSError):
            for byte in BODY[:500]:
                handler.wfile.write(bytes([byte]))
                if handler.server.done.wait(0.01):
                    return

    with pytest.raises(DownloadError, match="sends less than 1000 bytes per second"):
        place.fetch(drips)
    assert len(place.server.seen) == 2


def endless(handler: Handler) -> None:
    """Sends a body of no stated length until the client leaves."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while not handler.server.done.is_set():
            handler.wfile.write(BODY)


def test_a_body_without_end(place, monkeypatch):
    monkeypatch.setattr(http_transfer, "MAX_BYTES", 10**6)
    monkeypatch.setattr(http_transfer, "_CHECK_EVERY", 10**5)
    with pytest.raises(DownloadError, match=r"longer than the 1\.0 MB that are allowed"):
        place.fetch(endless)
    assert place.files == []  # 16 GiB were left that no call could go on with
    with pytest.raises(DownloadError, match=r"longer than the 1\.0 MB that are allowed"):
        place.fetch(lambda handler: handler.send(200, b"", say=10**12, ETag=ETAG))
    assert place.files == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_trailers_without_end(place, monkeypatch, pause):
    """After the last chunk Python's client read on for ever, and the lock was held."""
    monkeypatch.setattr(http_transfer, "BACKOFF", (0.0,))
    monkeypatch.setattr(http_transfer, "WINDOW", 0.2)

    def trails(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        handler.wfile.write(b"5\r\nhello\r\n0\r\n")
        with contextlib.suppress(OSError):
            while not handler.server.done.wait(pause):
                handler.wfile.write(b"X: 1\r\n")

    with pytest.raises(DownloadError, match="sends less than 1000 bytes per second"):
        place.fetch(trails)
    assert len(place.server.seen) == 2
    assert place.files == []


@pytest.mark.parametrize("name", ["", ".json", ".part", ".part.json", ".lock"])
def test_a_directory_in_the_place_of_a_file(place, name):
    """Found before the download, which ended in an error of its last rename."""
    (place.cache / f"weights.bin{name}").mkdir(parents=True)
    with pytest.raises(DownloadError, match=rf"cache: .*weights\.bin{name}' is a directory"):
        place.fetch(whole)
    assert place.server.seen == []


@pytest.mark.parametrize("notes", ["[" * 10**5, "[1]", "{", '{"url": 1}', '{"a": 1, "a": 2}'])
def test_damaged_notes(place, notes):
    """Nested ones ended in RecursionError."""
    place.cache.mkdir(exist_ok=True)
    for name in ("weights.bin", "weights.bin.part"):
        (place.cache / name).write_bytes(b"old")
        (place.cache / f"{name}.json").write_text(notes)
    assert is_whole(place.fetch(whole))
    assert place.ranges == [None]


def test_a_web_page_in_parts(place):
    """A proxy that flushes after the first character."""

    def drips(handler: Handler) -> None:
        handler.send(200, b"<", say=5)
        handler.wfile.flush()
        handler.server.done.wait(0.1)
        handler.wfile.write(b"html>")

    with pytest.raises(DownloadError, match="the server sent a web page, perhaps that of a login"):
        place.fetch(drips)
    assert place.files == []


def _drips_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    with contextlib.suppress(OSError):
        while not handler.server.done.wait(0.02):
            handler.wfile.write(b"X: 1\r\n"[len(handler.server.seen) % 6 :][:1])


def _goes_on(handler: Handler) -> None:
    with contextlib.suppress(OSError):
        while not handler.server.done.is_set():
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("answer", [_drips_headers, _goes_on])
def test_headers_without_end(place, monkeypatch, answer):
    """A byte at a time within the timeout, and `100 Continue` again and again."""
    monkeypatch.setattr(http_transfer, "HEADER_SECONDS", 0.2)
    with pytest.raises(DownloadError, match="could not be fetched: the server sent nothing for"):
        place.fetch(answer)
    assert len(place.server.seen) == 3
    assert place.fetch(whole).sha256 == SHA256


def test_a_file_longer_than_its_kind_may_be(place):
    """Such as a config: with a length that is stated, and without one."""
    with pytest.raises(DownloadError, match=r"longer than the 0\.1 MB that are allowed"):
        place.fetch(whole, limit=100_000)

    def without_length(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            handler.wfile.write(BODY)
        handler.close_connection = True

    with pytest.raises(DownloadError, match=r"longer than the 0\.1 MB that are allowed"):
        place.fetch(without_length, limit=100_000)
    assert place.fetch(whole, limit=len(BODY)).sha256 == SHA256


def test_an_empty_file_is_not_cached(place):
    with pytest.raises(DownloadError, match="the server sent an empty file"):
        place.fetch(lambda handler: handler.send(200))
    assert "weights.bin" not in place.files


def test_a_transfer_that_is_compressed(place):
    with pytest.raises(DownloadError, match="the server compressed it by 'gzip, chunked', unasked"):
        place.fetch(lambda handler: handler.send(200, BODY, Transfer_Encoding="gzip, chunked"))


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_other_names_of_this_machine(place, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    class Server(http.server.ThreadingHTTPServer):
        address_family = family

    try:
        server = Server((host, 0), Handler)
    except OSError:
        pytest.skip(f"{host} is not an address here")
    server.daemon_threads, server.answers, server.seen = True, [whole], []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{server.server_address[1]}/weights.bin"
    try:
        for answer in (whole, redirects(f"{place.url}/weights.bin")):
            server.answers, place.server.answers = [answer], [whole]
            found = fetch(url, name=f"{len(server.seen)}.bin", cache_dir=place.cache)
            assert found.sha256 == SHA256
    finally:
        server.shutdown()
        server.server_close()


PAGES = (
    b"<!DOCTYPE html><title>Log in",
    b"\n <HTML>",
    b"<?xml ?>",
    b"<a>",
    b"<!-- proxy --><html>",
)


@pytest.mark.parametrize("page", [*PAGES, b"\xef\xbb\xbf<body>", b" " * 3000 + b"<script>"])
def test_a_web_page_is_not_cached(place, page):
    with pytest.raises(DownloadError, match="the server sent a web page, perhaps that of a login"):
        place.fetch(lambda handler: handler.send(200, page, ETag=ETAG))
    assert place.fetch(whole).from_cache is False


def test_the_line_of_a_server_is_printed_without_control_characters(place):
    def colours(handler: Handler) -> None:
        handler.send_response(404, "\x1b[31mgone\x07" + "x" * 500)
        handler.end_headers()

    with pytest.raises(DownloadError) as caught:
        place.fetch(colours)
    assert str(caught.value).isprintable()
    assert "404 ?[31mgone?x" in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_a_server_that_is_busy_is_asked_again(place, code):
    assert is_whole(place.fetch(status(code), whole))


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_server_that_refuses_is_asked_once(place, code):
    with pytest.raises(DownloadError, match=f"/weights.bin could not be .*answered {code} .*hand"):
        place.fetch(status(code))
    assert len(place.server.seen) == 1
    assert place.files == []


def test_a_server_that_compresses(place):
    with pytest.raises(DownloadError, match="compressed it by 'gzip', unasked"):
        place.fetch(functools.partial(whole, Content_Encoding="gzip"))


def test_chunks_that_break_off(place):
    def chunks(handler: Handler, end: bytes) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("ETag", ETAG)
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(BODY), BODY) + end)
        handler.close_connection = True

    broken, whole_chunks = (functools.partial(chunks, end=end) for end in (b"", b"0\r\n\r\n"))
    with pytest.raises(DownloadError, match="IncompleteRead"):
        place.fetch(broken)
    assert is_whole(place.fetch(whole_chunks))
    assert place.ranges == ["bytes=300000-"]


def test_redirects_are_followed(place):
    got = place.fetch(redirects("/b"), redirects(f"{place.url}/c"), whole)
    assert is_whole(got)
    assert [path for path, _ in place.server.seen] == ["/weights.bin", "/b", "/c"]
    assert got.url == f"{place.url}/weights.bin"


@pytest.mark.parametrize("to", ["/weights.bin", "/{}"])
def test_redirects_in_a_circle_or_without_end(place, to):
    def on(handler: Handler) -> None:
        redirects(to.format(len(place.server.seen)))(handler)

    with pytest.raises(DownloadError, match="302.*infinite loop"):
        place.fetch(on)
    assert len(place.server.seen) <= 10


def test_the_body_of_a_redirect_is_left_unread(place):
    def endless(handler: Handler) -> None:
        handler.send(302, b"there", Location="/b", say=10**12)
        handler.wfile.flush()
        handler.server.done.wait(5)

    assert is_whole(place.fetch(endless, whole, timeout=0.3))
    assert len(place.server.seen) == 2


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:,a"])
def test_redirects_that_leave_http(place, to):
    with pytest.raises(DownloadError, match="not allowed|redirects from http to ftp, .* refused"):
        place.fetch(redirects(to))
    assert place.files == []


def test_redirects_from_https_to_http_are_refused():
    import urllib.request

    request = urllib.request.Request("https://127.0.0.1/a")
    body = types.SimpleNamespace(close=lambda: None)
    with pytest.raises(DownloadError, match="redirects from https to http, which is refused"):
        http_transfer._Redirects().redirect_request(
            request, body, 302, "", {}, "http://127.0.0.1/a"
        )


def test_a_redirect_to_no_address(place):
    with pytest.raises(DownloadError, match="could not be fetched"):
        place.fetch(redirects(f"http://{'a' * 70}.invalid/"))
    assert len(place.server.seen) == 1


def test_a_redirect_does_not_take_the_proxy_password_along(place, monkeypatch):
    proxy = place.url.replace("http://", "http://me:secret@")
    monkeypatch.setenv("http_proxy", proxy)
    place.server.answers[:] = [redirects(f"{place.url}/beyond"), whole]
    got = fetch("http://origin.invalid/weights.bin", cache_dir=place.cache, progress=False)
    assert is_whole(got)
    asked = ["Proxy-Authorization" in headers for _, headers in place.server.seen]
    assert asked == [True, False]


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = f"http://127.0.0.1:{closed_port()}/weights.bin"
    path = tmp_path / "weights.bin"
    with pytest.raises(
        DownloadError, match=f"^{url} could not .* refused.* by hand at '{path}'$"
    ) as error:
        fetch(url, cache_dir=tmp_path)
    assert "\n" not in str(error.value)
    path.write_bytes(BODY)  # by hand
    assert fetch(url, cache_dir=tmp_path) == Download(str(path), SHA256, url, "none", True)
    assert fetch(url, cache_dir=tmp_path, hash=f"sha256:{SHA256}").verified_by == "pinned"
    with pytest.raises(DownloadError, match="refused"):
        fetch(url, cache_dir=tmp_path, hash=f"sha256:{'0' * 64}")
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("how", ["content", "sidecar", "url"])
def test_a_cached_file_that_is_not_what_its_sidecar_says(place, how):
    place.fetch(whole)
    path, sidecar = place.cache / "weights.bin", place.cache / "weights.bin.json"
    if how == "content":
        path.write_bytes(BODY[:-1])
    elif how == "sidecar":
        sidecar.write_text("{")
    else:
        sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "url": "http://b/c"}))
    got = place.fetch(whole)
    assert is_whole(got)
    assert not got.from_cache


def test_a_cached_file_that_is_not_what_is_pinned(place):
    path = pathlib.Path(place.fetch(whole).path)
    path.write_bytes(b"other")
    got = place.fetch(whole, hash=f"sha256:{SHA256}")
    assert is_whole(got)
    assert not got.from_cache


def test_a_stop_before_the_file_is_in_place(place, monkeypatch):
    """Then the older file, of another URL, is not taken for the new one."""
    place.server.answers[:] = [lambda handler: handler.send(200, b"older")]
    fetch(f"{place.url}/older", name="weights.bin", cache_dir=place.cache, progress=False)

    def move(source: str, target: str) -> None:
        if target.endswith("weights.bin"):
            raise KeyboardInterrupt("now")
        os.rename(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="now"):
        patch.setattr(download.os, "replace", move)
        place.fetch(whole)
    assert is_whole(place.fetch(whole))


def test_no_room(place, monkeypatch):
    monkeypatch.setattr(
        http_transfer.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000)
    )
    with pytest.raises(DownloadError, match="it needs 0.3 MB, 0.0 are free"):
        place.fetch(whole)


def test_a_disk_that_fills_up(place, monkeypatch):
    """Told at once, and not asked of the server again."""

    def full(file: Any, block: bytes) -> None:
        with http_transfer._on_disk():
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(http_transfer, "_write", full)
    with pytest.raises(DownloadError, match="cannot be written: No space left on device"):
        place.fetch(whole)
    assert len(place.server.seen) == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot be used as a cache: File exists"):
        fetch("http://127.0.0.1/a", cache_dir=tmp_path / "file")


def test_the_cache_is_beside_those_of_keras(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = tmp_path / "models" / "keras_resnet" / "my net.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert fetch("http://127.0.0.1/a/my%20net.bin?download=true").path == str(path)
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert download._folder(None) == str(tmp_path / "home" / ".keras" / "models" / "keras_resnet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"url": "file:///etc/hostname"},
            "`url` must be an http or https URL. Received: url='file:",
        ),
        ({"url": "ftp://a/b"}, "`url` must be an http or https URL"),
        ({"url": "weights.bin"}, "`url` must be an http or https URL"),
        ({"url": "https:///b"}, "`url` must be an http or https URL"),
        (
            {"url": "https://me:secret@a/b"},
            "`url` must not contain a user name. Received: one for host 'a'$",
        ),
        ({"url": "https://a/b\r\nHost: c"}, "`url` must contain printable ASCII characters only"),
        (
            {"url": "https://a/"},
            "`name`, by default the last part of `url`, must be a plain file name",
        ),
        ({"url": "https://a/..%2f..%2fb"}, "`name`, by default .* must be a plain file name"),
        ({"name": "../b"}, "`name`, by default .* Received: name='../b'"),
        ({"name": "b\0"}, "`name`, by default"),
        ({"name": ".."}, "`name`, by default"),
        ({"hash": SHA256}, "`hash` must be 'sha256:' and 8 to 64"),
        ({"hash": "sha256:1234567"}, "`hash` must be"),
        ({"hash": "md5:12345678"}, "`hash` must be"),
        ({"timeout": 0}, "`timeout` must be above 0. Received: timeout=0"),
    ],
)
def test_arguments_outside_their_range(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        fetch(**{"url": "https://127.0.0.1/b", "cache_dir": tmp_path, **arguments})
    assert os.listdir(tmp_path) == []


def test_progress_on_a_terminal_and_elsewhere(place, capsys, monkeypatch):
    place.fetch(whole)
    assert capsys.readouterr() == ("", "")
    os.remove(place.cache / "weights.bin")
    place.fetch(whole, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"Fetching weights.bin, 0.3 MB\nweights.bin: 0.3 of 0.3 MB, [\d.]+ MB/s\n", err
    )
    os.remove(place.cache / "weights.bin")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    place.fetch(whole, progress=True)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.endswith("\x1b[K\n")
    assert err.count("\r") >= 2


def test_threads_that_want_one_file_fetch_it_once(place):
    place.server.answers[:] = [whole]
    got: list[Download] = []

    def one() -> None:
        got.append(fetch(f"{place.url}/weights.bin", cache_dir=place.cache, progress=False))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(place.server.seen) == 1
    assert [is_whole(each) for each in got] == [True] * 4
    assert sorted(each.from_cache for each in got) == [False, True, True, True]
    assert place.files == ["weights.bin", "weights.bin.json"]


@pytest.mark.multi_process
def test_a_process_waits_for_another_until_it_ends(place, capsys):
    pytest.importorskip("fcntl", reason="this system has no such locks")
    place.cache.mkdir()
    place.server.answers[:] = [whole]
    held = (
        "import fcntl, os, sys\n"
        "lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    got: list[Download] = []
    with subprocess.Popen(
        [sys.executable, "-c", held, str(place.cache / "weights.bin.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        waits = threading.Thread(target=lambda: got.append(place.fetch(whole, progress=True)))
        waits.start()
        waits.join(0.2)
        assert waits.is_alive()
        waiting = "Waiting for another process that fetches weights.bin\n"
        assert capsys.readouterr().err == waiting
        assert not place.server.seen
        other.kill()
        waits.join(10)
    assert is_whole(got[0])
    assert place.files == ["weights.bin", "weights.bin.json"]


def test_without_locks_parts_have_names_of_their_own(place, monkeypatch):
    monkeypatch.setattr(download, "lock", lambda path, wait=True: None)
    with pytest.raises(DownloadError, match="Remote end closed [^;]*. The file may be put by hand"):
        place.fetch(breaks_at(1000), hangs_up)
    assert place.files == []
    assert is_whole(place.fetch(breaks_at(1000), whole))
    assert place.files == ["weights.bin", "weights.bin.json"]
