"""A run that lives in an object store: a local directory, and its copy there."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_resnet.weights.files.file_system import lock, unlock

from ..checkpoint import Checkpoints
from ..errors import NotUploadedError
from ..files import read_object, write_json
from ..signals import stopped_by_signals
from .address import home_folder, remote_url, short_name
from .layout import FOLDER, committed_steps
from .lease import Lease
from .pull import pull_state
from .store import Store
from .uploader import Uploader, file_mark

# Seconds at the end of a run that a store which fails is tried again.
GIVE_UP = 120.0


class Mirror:
    """The local directory of a run whose place is an object store.

    A run writes to its local directory as any run does. A thread uploads what it writes; see
    `Uploader`. A start on another machine downloads the last complete state and goes on from it.
    Use it as a context: at the end everything is uploaded, or an error says what is not.

    Args:
        url: The run's place.
        work_dir: Folder of local directories; None for the cache directory.
        worker: Index of this worker; only worker 0, the chief, locks and uploads.
        give_up: Seconds at the end that a store which fails is tried again.
        say: Prints messages.

    Attributes:
        path: The local directory.

    Example:
        >>> with Mirror("s3://bucket/runs/flowers") as mirror:
        ...     run_training(config, mirror.path, mirror=mirror)
    """

    def __init__(
        self,
        url: str,
        work_dir: Path | None = None,
        *,
        worker: int = 0,
        give_up: float = GIVE_UP,
        say: Callable[[str], None] = print,
    ) -> None:
        self.url = url
        self._chief = worker == 0
        name = short_name(url) + ("" if self._chief else f"-worker{worker}")
        self.path = (work_dir or work_folder()) / name
        self._give_up, self._say = give_up, say
        self._stack = contextlib.ExitStack()
        self._lease: Lease | None = None
        self._uploader: Uploader | None = None

    def __enter__(self) -> Mirror:
        """Checks the store, locks the run there, and brings its last complete state here.

        Raises:
            ModuleNotFoundError: If the store's driver is not installed.
            StoreError: If the store cannot be written: no credentials, no bucket.
            ValueError: If another process trains there, or the place holds other files.
        """
        with contextlib.ExitStack() as stack:
            self._store = Store(self.url)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            token = stack.enter_context(self._locked())
            if self._chief:
                self._say(f"The run is written to {self.path} and uploaded to {self.url}")
                self._lease = Lease(Store(self.url), token, self._say)
                stack.callback(self._lease.release)
            if not self._chief and self.path.is_dir():
                shutil.rmtree(self.path)  # only what is in the store counts
            pulled = pull_state(self._store, self.path, self._say)
            if self._chief:
                marks = {name: file_mark(self.path / name) for name in pulled}
                marks = {**self._known_marks(), **marks}
                self._uploader = Uploader(self.path, Store(self.url), self._say, marks)
                if self._lease is not None:
                    self._lease.on_lost = self._uploader.pause
                if (self.path / "config.json").is_file():
                    self._uploader.upload()  # a later state than there, before others look
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Uploads what is left.

        Raises:
            NotUploadedError: If some files could not be uploaded, and nothing else has failed.
        """
        with self._stack:
            if self._uploader is None:
                return
            if self._lease is not None and self._lease.lost:
                self._uploader.stop()
                if kind is None:
                    self._lease.check()
                return
            if not (self.path / "config.json").is_file():  # the run was refused
                self._uploader.stop()
                return
            missing = self._uploader.finish(self._give_up)
            write_json(self._marks_file, self._uploader.marks)
            if not missing:
                self._say(f"Uploaded to {self.url}: {self._uploader.count} file(s) in this session")
                return
            shown = ", ".join(missing[:6]) + (", ..." if len(missing) > 6 else "")
            text = (
                f"{len(missing)} file(s) of the run are not at {self.url}: {shown}. They are in "
                f"{self.path}; give the same command again on this machine to upload them. "
                f"{self._uploader.last_error}"
            )
            if kind is None:
                raise NotUploadedError(text)
            self._say(f"Warning: {text}")

    def start(self) -> None:
        """Starts to upload, when nothing else sweeps the local directory any more."""
        if self._uploader is not None:
            self._uploader.start()

    def check(self) -> None:
        """Checks that the run is still this process's.

        Raises:
            OSError: If another process has taken it over.
        """
        if self._lease is not None:
            self._lease.check()

    def refresh(self) -> None:
        """Brings a later state here, which the chief may have uploaded since this worker began."""
        if not self._chief:
            pull_state(self._store, self.path, self._say)

    def last_step(self) -> int:
        """Returns the step of the newest checkpoint, here or in the store, or 0."""
        steps = [Checkpoints(self.path / FOLDER).last_step()]
        with contextlib.suppress(OSError):  # the store cannot be reached
            found = committed_steps(self._store.entries(FOLDER))
            steps += [int(name.removeprefix("step_")) for name in found]
        return max(steps)

    @property
    def _marks_file(self) -> Path:
        return self.path.with_name(f".{self.path.name}.uploaded.json")

    def _known_marks(self) -> dict[str, tuple[int, int]]:
        """Returns the files that an earlier session uploaded, if the store has them still."""
        try:
            known = read_object(self._marks_file)
        except (OSError, ValueError):
            return {}
        entries = self._store.entries()
        return {
            name: (int(time), int(size))
            for name, (time, size) in known.items()
            if name in entries and entries[name].size == size
        }

    @contextlib.contextmanager
    def _locked(self) -> Iterator[str]:
        """Locks the local directory on this machine, and yields the token that names it."""
        file = self.path.with_name(f".{self.path.name}.lock")
        try:
            descriptor = lock(file, wait=False)
        except BlockingIOError:
            raise ValueError(f"Another process of this machine is training at {self.url}") from None
        try:
            token = self.path.with_name(f".{self.path.name}.token")
            if not token.is_file():
                token.write_text(uuid.uuid4().hex, encoding="utf-8", newline="\n")
            yield token.read_text(encoding="utf-8") if descriptor is not None else uuid.uuid4().hex
        finally:
            if descriptor is not None:
                unlock(descriptor, file, remove=False)


def work_folder() -> Path:
    """Returns the folder of local directories: `$KERAS_HOME/keras_resnet/runs`."""
    return home_folder() / "runs"


@contextlib.contextmanager
def run_output(
    output: Path | str | None,
    work_dir: Path | None = None,
    *,
    worker: int = 0,
    give_up: float = GIVE_UP,
    say: Callable[[str], None] = print,
) -> Iterator[tuple[Path | None, Mirror | None]]:
    """Yields the local directory of an output, and its mirror if the output is remote."""
    url = remote_url(output)
    if url is None:
        yield (None if output is None else Path(output)), None
        return
    with (
        stopped_by_signals(),
        Mirror(url, work_dir, worker=worker, give_up=give_up, say=say) as mirror,
    ):
        yield mirror.path, mirror


def worker_index(strategy: str) -> int:
    """Returns the index of this process among the workers of a run; 0 for the chief."""
    from ..strategies import is_chief, task_index

    return 0 if is_chief(strategy) else max(1, task_index())
