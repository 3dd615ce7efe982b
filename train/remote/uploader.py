"""Uploads of a run's files while it trains, in a thread of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from ..checkpoint import Checkpoints
from ..checkpoint_files import STATE
from .layout import FOLDER, Frozen, committed_best, committed_steps, frozen, is_plain, plain_files
from .store import Store

# Seconds: between looks at the local directory; until a file that changes is uploaded again, and a
# large one; the longest wait after a failure.
_LOOK, _AGAIN, _LARGE_AGAIN, _LONGEST_WAIT = 2.0, 30.0, 300.0, 60.0
_LARGE = 8 * 2**20

_Mark = tuple[int, int]


class Uploader:
    """Copies what a run writes to a store, in an order that leaves a usable run at every moment.

    First `config.json` and the other files beside the checkpoints; then the best checkpoint, then
    the newest one, of each the arrays first and `state.json` last; then what is no longer there is
    removed; last of all the finished model. If checkpoints are written faster than they are
    uploaded, those in between are left out.

    A store that fails is tried again after 1, 2, 4, ... up to 60 seconds, while the run goes on.

    Args:
        local: The run's directory.
        store: Where to; for this thread alone, which may connect it anew.
        say: Prints a message.
        uploaded: Names of the files that are in the store already as they are here.

    Attributes:
        count: Number of files that were uploaded.
    """

    def __init__(
        self,
        local: Path,
        store: Store,
        say: Callable[[str], None],
        uploaded: Mapping[str, _Mark] | None = None,
    ) -> None:
        self._local, self._store, self._say = local, store, say
        self._done: dict[str, _Mark] = dict(uploaded or {})
        self._at: dict[str, float] = {}
        self._names: set[str] | None = None
        self._failures, self._failing_since, self._ended_at = 0, 0.0, 0.0
        self._last_error, self._refused = "", False
        self._paused = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._give_up = 0.0
        self.count = 0

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, daemon=True, name="uploader")
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread without uploading what is left."""
        self.pause()
        self.finish(0)

    def pause(self) -> None:
        """Uploads nothing more after the file in progress: the place is another process's."""
        self._paused.set()
        self._ending.set()

    def finish(self, give_up: float) -> list[str]:
        """Uploads what is left, and ends the thread.

        Args:
            give_up: Seconds after which a store that goes on failing is given up.

        Returns:
            The files that are not in the store.
        """
        self._give_up, self._ended_at = give_up, time.monotonic()
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        return [] if self._paused.is_set() else self.missing()

    @property
    def marks(self) -> dict[str, _Mark]:
        """The files beside the checkpoints that are in the store, as they were uploaded."""
        return {name: mark for name, mark in self._done.items() if is_plain(name)}

    @property
    def last_error(self) -> str:
        """The error of the last request that failed; "" if none has."""
        return self._last_error

    def missing(self) -> list[str]:
        """Returns the local files that are not in the store as they are now."""
        left = [name for name in plain_files(self._local) if self._changed(name)]
        newest = self._newest()
        for directory in ([newest] if newest else []) + [self._local / FOLDER / "best"]:
            with frozen(directory) as checkpoint:
                if checkpoint is not None and not self._has(checkpoint, ask=False):
                    left.append(f"{FOLDER}/{directory.name}")
        return left

    def upload(self, *, all_files: bool = False) -> None:
        """Uploads what has changed since the last call.

        Args:
            all_files: Also files that change often and were uploaded a moment ago.

        Raises:
            StoreError: If the store fails.
        """
        if self._names is None:
            self._names = set(self._store.entries(FOLDER))
        names = plain_files(self._local)
        all_files = all_files or self._changed("model.keras")
        self._upload_plain([n for n in names if n != "model.keras"], all_files=all_files)
        self._upload_checkpoints()
        self._upload_plain([n for n in names if n == "model.keras"], all_files=True)

    def _run(self) -> None:
        wait = 0.0
        while not self._paused.is_set():
            ending = self._ending.wait(wait)
            if self._paused.is_set():
                return
            try:
                if self._refused:
                    self._store.connect()  # credentials that have expired may be new
                self.upload(all_files=ending)
            except Exception as error:  # the thread must not end before the run
                wait = self._failed(error)
                since = max(self._failing_since, self._ended_at)
                if ending and time.monotonic() - since + wait > self._give_up:
                    return
                if ending:
                    time.sleep(wait)
                continue
            if self._failures:
                self._say(f"{self._store.url} is reached again after {self._failures} failure(s)")
                self._failures, self._refused = 0, False
            if ending:
                return
            wait = _LOOK

    def _failed(self, error: Exception) -> float:
        """Notes a failure and returns how long to wait."""
        self._failures += 1
        self._last_error = str(error)
        self._refused = getattr(error, "refused", False)
        self._names = None  # what is there is asked for again
        if self._failures == 1:
            self._failing_since = time.monotonic()
            self._say(
                f"Warning: {error}. The run goes on in {self._local}; {len(self.missing())} "
                "file(s) wait and the upload is tried again"
            )
        return float(min(_LONGEST_WAIT, 2.0 ** min(self._failures - 1, 6)))

    def _upload_plain(self, names: list[str], *, all_files: bool) -> None:
        for name in names:
            path = self._local / name
            if self._paused.is_set():
                return
            if not self._changed(name) or not (all_files or self._is_due(name, path)):
                continue
            try:
                mark = file_mark(path)
                self._store.put(path, name)
            except FileNotFoundError:  # it was replaced or removed at this moment
                continue
            self._done[name], self._at[name] = mark, time.monotonic()
            self.count += 1

    def _is_due(self, name: str, path: Path) -> bool:
        if name not in self._at:
            return True
        try:
            large = path.stat().st_size > _LARGE
        except FileNotFoundError:
            return False
        return time.monotonic() - self._at[name] > (_LARGE_AGAIN if large else _AGAIN)

    def _changed(self, name: str) -> bool:
        try:
            return self._done.get(name) != file_mark(self._local / name)
        except FileNotFoundError:
            return False

    def _newest(self) -> Path | None:
        steps = Checkpoints(self._local / FOLDER).steps()
        return steps[-1] if steps else None

    def _upload_checkpoints(self) -> None:
        """Uploads the newest checkpoint and the best one, which must be as new as the other says.

        The best one is frozen after the newest and uploaded before it.
        """
        newest = self._newest()
        with ExitStack() as stack:
            step = None if newest is None else stack.enter_context(frozen(newest))
            best = stack.enter_context(frozen(self._local / FOLDER / "best"))
            added = False
            for checkpoint in (best, step):
                if checkpoint is not None and not self._has(checkpoint):
                    self._put(checkpoint)
                    added = True
        if added:
            self._remove_old(step, best)

    def _has(self, checkpoint: Frozen, *, ask: bool = True) -> bool:
        name = f"{checkpoint.name}/{STATE}"
        content = checkpoint.files[STATE].read_bytes()
        if self._done.get(name) == _content_mark(content):
            return True
        if not ask or self._names is None or name not in self._names:
            return False
        if self._store.read(name) != content:  # of an earlier session, and another
            return False
        self._done[name] = _content_mark(content)
        return True

    def _put(self, checkpoint: Frozen) -> None:
        names = self._names if self._names is not None else set()
        state = f"{checkpoint.name}/{STATE}"
        if state in names:  # another of this name: not complete while its files change
            self._store.remove(state)
            names.discard(state)
        for file, path in checkpoint.files.items():
            self._store.put(path, f"{checkpoint.name}/{file}")
            names.add(f"{checkpoint.name}/{file}")
            self.count += 1
        self._done[state] = _content_mark(checkpoint.files[STATE].read_bytes())

    def _remove_old(self, step: Frozen | None, best: Frozen | None) -> None:
        """Removes earlier checkpoints, `state.json` of each first, and logs of earlier sessions.

        As many steps remain as the run keeps, those that have been uploaded.
        """
        entries = self._store.entries(FOLDER)
        local = Checkpoints(self._local / FOLDER).steps()
        last = local[-1].name if local else ""
        steps = [each for each in committed_steps(entries) if int(each[5:]) <= int(last[5:] or 0)]
        kept = {*steps[-max(1, len(local)) :], *(committed_best(entries) if best is None else ())}
        kept |= {each.name.split("/")[-1] for each in (step, best) if each is not None}
        for name in sorted(entries, key=lambda name: (not name.endswith(STATE), name)):
            folder = name.split("/")[1]
            if folder.startswith(("step_", "best_")) and folder not in kept:
                self._store.remove(name)
        for name in self._store.entries("logs"):
            if not (self._local / name).is_file():
                self._store.remove(name)
        self._names = set(self._store.entries(FOLDER))


def file_mark(path: Path) -> _Mark:
    """Returns what differs when a file has changed: its time and its size."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _content_mark(content: bytes) -> _Mark:
    return hash(content), len(content)
