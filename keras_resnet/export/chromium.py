"""A headless Chromium, driven over its debugging pipe by the standard library alone."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_MAC = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars"),
)
# Chromium reads commands from descriptor 3 and writes to 4, which Python cannot ask of a child.
_LAUNCH = """
import os, sys
source, sink = int(sys.argv[1]), int(sys.argv[2])
os.dup2(source, 3)
os.dup2(sink, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class ChromiumError(RuntimeError):
    """Chromium did not start or answer, or a script on its page failed."""


def find_chromium() -> str | None:
    """Returns the path of Chromium or Chrome; None where it is not found or cannot be driven."""
    if sys.platform == "win32":
        return None  # no descriptors 3 and 4
    return next(filter(None, map(shutil.which, (*_NAMES, *_MAC))), None)


@contextlib.contextmanager
def chromium(*, flags: tuple[str, ...] = (), timeout: float = 120.0) -> Iterator[ChromiumPage]:
    """Starts Chromium with an empty profile; gives a page.

    Args:
        flags: Further flags.
        timeout: Seconds to wait for each answer.

    Raises:
        ChromiumError: If it is not installed or does not start.
    """
    path = find_chromium()
    if path is None:
        raise ChromiumError("Chromium is not installed (or this is Windows)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        pipes = [*os.pipe(), *os.pipe()]  # for commands: read, write; for answers: read, write
        # Above 4, so that `dup2` in the child overwrites none of them.
        high = [_above_standard(each) for each in pipes]
        command = [path, *_FLAGS, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(high[0]), str(high[3]), *command],
            pass_fds=(high[0], high[3]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(high[0])
        os.close(high[3])
        try:
            page = ChromiumPage(high[2], high[1], timeout)
            yield page
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(high[1])
            os.close(high[2])


def _above_standard(descriptor: int) -> int:
    """Returns a descriptor above 9 in place of a lower one."""
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


class ChromiumPage:
    """A page of Chromium, under the Chrome DevTools Protocol.

    Attributes:
        messages: What the page wrote to its console, and its uncaught errors.
        requests: URLs that it asked for.
    """

    def __init__(self, source: int, sink: int, timeout: float) -> None:
        self._source, self._sink, self._timeout = source, sink, timeout
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.messages: list[str] = []
        self.requests: list[str] = []
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self.command(f"{domain}.enable")

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command of the protocol and returns its result.

        Raises:
            ChromiumError: If it fails, or there is no answer in time.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._sink, content) :]
        deadline = time.monotonic() + self._timeout
        while True:
            answer = self._read(deadline, method)
            if answer.get("id") != self._number:
                self._note(answer)
            elif "error" in answer:
                raise ChromiumError(f"{method}: {answer['error']['message']}")
            else:
                return dict(answer["result"])

    def visit(self, url: str) -> None:
        """Loads a page."""
        self.command("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, script: str) -> Any:
        """Returns the value of a JavaScript expression as JSON can carry it; awaits promises.

        Raises:
            ChromiumError: If it throws.
        """
        result = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise ChromiumError(_exception(result["exceptionDetails"]))
        return result["result"].get("value")

    def wait(self, script: str, timeout: float | None = None) -> None:
        """Waits until an expression is true.

        Raises:
            ChromiumError: If it does not become true in time.
        """
        deadline = time.monotonic() + (timeout or self._timeout)
        while not self.evaluate(f"Boolean({script})"):
            if time.monotonic() > deadline:
                said = "; ".join(self.messages[-3:])
                raise ChromiumError(f"timed out waiting for {script}. Console: {said or 'empty'}")
            time.sleep(0.05)

    def _read(self, deadline: float, method: str) -> dict[str, Any]:
        """Returns the next message, which ends with a zero byte."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._source], [], [], deadline - time.monotonic())
            if not ready:
                raise ChromiumError(f"{method}: no answer in {self._timeout:g} s")
            chunk = os.read(self._source, 1 << 20)
            if not chunk:
                raise ChromiumError(f"{method}: Chromium has ended")
            self._buffer += chunk
        content, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(content))

    def _note(self, event: dict[str, Any]) -> None:
        values = event.get("params", {})
        if event.get("method") == "Runtime.consoleAPICalled":
            parts = (str(a.get("value", a.get("description", ""))) for a in values["args"])
            self.messages.append(" ".join(parts))
        elif event.get("method") == "Runtime.exceptionThrown":
            self.messages.append(_exception(values["exceptionDetails"]))
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])


def _exception(details: dict[str, Any]) -> str:
    thrown = details.get("exception", {})
    return str(thrown.get("description") or thrown.get("value") or details.get("text"))
