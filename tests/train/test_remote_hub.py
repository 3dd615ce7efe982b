"""Buckets of the Hugging Face hub, by a server of this machine that answers as the hub's API does.

What is uploaded goes by the hub's own protocol (Xet) to another server, which is not played: the
call that adds files is replaced. Listing, asking, reading and deleting are HTTP requests.
Source: `huggingface_hub` 2.4, `hf_api.py` (`bucket_info`, `list_bucket_tree`,
`get_bucket_paths_info`, `batch_bucket_files`) and `_buckets.py` (`BucketInfo`, `BucketFile`).
"""

from __future__ import annotations

import http.server
import json
import pathlib
import threading
import time
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from keras_resnet_train.remote.layout import committed_steps
from keras_resnet_train.remote.pull import pull_state
from keras_resnet_train.remote.store import Store
from keras_resnet_train.remote.store_errors import StoreError
from keras_resnet_train.remote.uploader import Uploader

hub = pytest.importorskip("huggingface_hub")
pytestmark = [pytest.mark.tf, pytest.mark.network]

_API = "/api/buckets/me/runs"


class _Bucket(http.server.BaseHTTPRequestHandler):
    files: dict[str, tuple[bytes, float]]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _facts(self, name: str) -> dict[str, Any]:
        content, written = self.files[name]
        stamp = datetime.fromtimestamp(written, UTC).isoformat().replace("+00:00", "Z")
        return {
            "type": "file",
            "path": name,
            "size": len(content),
            "xetHash": f"{hash(content) & (2**64 - 1):064x}",
            "mtime": stamp,
            "uploadedAt": stamp,
        }

    def _tree(self, prefix: str, *, recursive: bool) -> list[dict[str, Any]]:
        inside = f"{prefix}/" if prefix else ""
        found: dict[str, dict[str, Any]] = {}
        for name in sorted(self.files):
            rest = name.removeprefix(inside)
            if not name.startswith(inside):
                continue
            folder, deeper, _ = rest.partition("/")
            if deeper and not recursive:
                path = inside + folder
                found[path] = {"type": "directory", "path": path, "uploadedAt": None}
            else:
                found[name] = self._facts(name)
        return list(found.values())

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        path = urllib.parse.unquote(path)
        if path == _API:
            facts = {"id": "me/runs", "private": True, "createdAt": "2026-01-01T00:00:00.000Z"}
            self._answer({**facts, "size": 0, "totalFiles": len(self.files)})
        elif path.startswith(f"{_API}/tree"):
            prefix = path.removeprefix(f"{_API}/tree").strip("/")
            self._answer(self._tree(prefix, recursive="recursive=true" in query.lower()))
        elif path.startswith("/buckets/me/runs/resolve/"):
            name = path.removeprefix("/buckets/me/runs/resolve/")
            self._send(self.files[name][0]) if name in self.files else self._answer({}, 404)
        else:
            self._answer({"error": "Bucket not found"}, 404, "RepoNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == f"{_API}/paths-info":
            names = [name for name in json.loads(body)["paths"] if name in self.files]
            return self._answer([self._facts(name) for name in names])
        for line in body.splitlines():
            operation = json.loads(line)
            assert operation["type"] == "deleteFile"
            self.files.pop(operation["path"], None)
        return self._answer({"success": True, "failed": []})

    def _answer(self, value: object, status: int = 200, code: str = "") -> None:
        self._send(json.dumps(value).encode(), status, code)

    def _send(self, content: bytes, status: int = 200, code: str = "") -> None:
        total, wanted = len(content), self.headers.get("Range", "")
        if wanted and status == 200:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last or total - 1), total - 1)
            content, status = content[int(first) : end + 1], 206
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of the hub at 127.0.0.1."""
    files: dict[str, tuple[bytes, float]] = {}
    handler = type("Handler", (_Bucket,), {"files": files})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(
        "huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    delete = hub.HfApi.batch_bucket_files

    def batch(self: Any, bucket_id: str, *, add: Any = None, **others: Any) -> None:
        assert bucket_id == "me/runs"
        for source, name in add or ():
            content = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
            files[name] = content, time.time()
        if not add:
            delete(self, bucket_id, **others)

    monkeypatch.setattr(hub.HfApi, "batch_bucket_files", batch)
    yield "hf://buckets/me/runs"
    server.shutdown()
    server.server_close()


def test_a_bucket(place: str, finished_run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    said: list[str] = []
    store = Store(f"{place}/deep/run")
    assert store.entries() == {}
    assert store.check_writable() == pytest.approx(time.time(), abs=60)
    assert store.create("lock/1", b"one")
    assert not store.create("lock/1", b"two")
    assert store.read("lock/1") == b"one"
    assert store.has("lock/1")
    assert not store.has("lock")
    store.remove("lock/1")
    store.remove("lock/1")
    assert not store.has("lock/1")
    one = Uploader(finished_run, store, said.append)
    one.upload(all_files=True)
    assert one.missing() == []
    found = store.listing()
    assert {"checkpoints", "logs"} <= {*found.folders}
    assert found.files["config.json"] == pytest.approx(time.time(), abs=60)
    assert committed_steps(store.entries())[-1] == "step_00000040"
    pull_state(store, tmp_path / "pulled", said.append)
    pulled = tmp_path / "pulled" / "model.keras"
    assert pulled.read_bytes() == (finished_run / "model.keras").read_bytes()
    with pytest.raises(FileNotFoundError, match="has no nothing"):
        store.read("nothing")
    with pytest.raises(StoreError, match="Create the bucket|cannot be"):
        Store("hf://buckets/me/none/run").check_writable()
