"""A web server on 127.0.0.1 for the files of one folder."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Not from the system's table, which lacks or misnames these on some machines.
_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".txt": "text/plain; charset=utf-8",
}


class StaticServer(http.server.ThreadingHTTPServer):
    """Serves the files of a folder on 127.0.0.1.

    Args:
        folder: The folder.
        port: Port to listen on; 0 for a free one.

    Raises:
        ValueError: If the port is taken or out of range.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        handler = functools.partial(_Handler, directory=str(folder))
        try:
            super().__init__(("127.0.0.1", port), handler)
        except (OSError, OverflowError) as error:
            raise ValueError(f"Port {port} cannot be used: {error}") from error

    @property
    def url(self) -> str:
        """Address of the folder."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


@contextlib.contextmanager
def served(folder: Path, port: int = 0) -> Iterator[str]:
    """Serves a folder in a thread while a block runs; gives its address."""
    server = StaticServer(folder, port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        """Adds what threads in WebAssembly need, and that files may change."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def guess_type(self, path: Any) -> str:
        """Returns the type of a file by its suffix."""
        return _TYPES.get(Path(path).suffix.lower(), "application/octet-stream")

    def list_directory(self, path: Any) -> None:
        """Refuses to list a folder."""
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing."""
