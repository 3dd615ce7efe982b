"""The directory of a run: its files, its lock, and what it checks."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import os
import re
import shutil
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_resnet import PreprocessSpec
from keras_resnet.texts import label_text
from keras_resnet.weights.files.file_system import lock, replace, unlock

from .checkpoint import Checkpoints
from .config import RunConfig, differences, load_config
from .data import ImageData, Listing, read_listing
from .data_record import changes, dataset_record
from .files import flush, naming_full_disks, read_object, write_bytes, write_json, write_text

Resume = Literal["auto", "never"]

# Temporary files of training, and of commands that may be at work in the directory now.
_OWN_TEMPORARY = re.compile(
    r"\.(upload|history\.csv|metrics\.json|config\.json|dataset\.json|weights\.json|labels\.txt|"
    r"samples\.npz|data_files\.csv\.gz|data_index\.csv\.gz)\.[a-z0-9_]{8}$|\.[a-z0-9_]{8}\.keras$|"
    r"\.\.data_index\.csv\.gz\.[a-z0-9_]{8}\.[a-z0-9_]{8}$|\.token$"  # of several workers
)
_TEMPORARY = re.compile(r"\.(export\.tmp.*|.*\.[a-z0-9_]{8})$")
_SECONDS_IN_USE = 3600


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """The directory of a run. A directory with a `config.json` is a run.

    Attributes:
        path: The directory.
        check_mirror: Raises an error if the copy in an object store is no longer this process's.
    """

    path: Path
    check_mirror: Callable[[], None] | None = dataclasses.field(
        default=None, compare=False, repr=False
    )
    _held: dict[str, os.stat_result | None] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """File of the finished model; written last, so it exists only after the run has ended."""
        return self.path / "model.keras"

    @property
    def listing(self) -> Listing | None:
        """The files of each split as the run began with them; None for data without files.

        Raises:
            ValueError: If the file is damaged.
        """
        return read_listing(self.path / "data_files.csv.gz")

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of `metrics.json`; empty before the run has ended."""
        path = self.path / "metrics.json"
        return read_object(path) if path.is_file() else {}

    def check(self, config: RunConfig, resume: Resume) -> None:
        """Checks that the directory is free or holds this run.

        Args:
            config: The run.
            resume: `never` refuses a directory that holds a run.

        Raises:
            ValueError: If it holds another run, a run that must not be resumed, or other files.
        """
        file = self.path / "config.json"
        if file.is_file():
            if resume == "never":
                raise ValueError(
                    f"{self.path} holds a run already and --resume is never. Choose another "
                    "--output, or remove the run"
                )
            changed = differences(load_config(file), config)
            if changed:
                more = f"; and {len(changed) - 6} more" if len(changed) > 6 else ""
                raise ValueError(
                    f"{self.path} holds another run, which differs in "
                    f"{'; '.join(changed[:6])}{more}. "
                    "Give the same settings to resume it, or choose another --output"
                )
            return
        # A run that was killed before it had written its config.json leaves a lock and temporaries.
        names = [path.name for path in self.path.iterdir()] if self.path.is_dir() else []
        if any(name != ".lock" and not _OWN_TEMPORARY.match(name) for name in names):
            raise ValueError(
                f"{self.path} holds files and no config.json, so it is not a run. "
                "Choose another --output"
            )

    def begin(
        self,
        config: RunConfig,
        data: ImageData,
        preprocess: PreprocessSpec,
        weights: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes `config.json`, which makes the directory a run, then `dataset.json` and labels.

        Call it after all checks, so that a refused command leaves no run behind. `dataset.json`
        holds the preprocessing as measured on the training images.

        Args:
            config: The run.
            data: Its data.
            preprocess: Its preprocessing.
            weights: Origin of the weights that it starts from, for `weights.json`; None where it
                starts from random ones or resumes.
        """
        if not (self.path / "config.json").is_file():
            write_text(self.path / "config.json", config.to_json())
        if weights is not None:
            write_json(self.path / "weights.json", weights)
        if data.listing is not None and self.listing is None:
            write_bytes(self.path / "data_files.csv.gz", data.listing.to_bytes())
        write_json(self.path / "dataset.json", dataset_record(data, preprocess))
        write_text(self.path / "labels.txt", label_text(data.class_names))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the directory against other training processes while the block runs.

        A directory without a run is removed again if it is empty at the end.

        Raises:
            ValueError: If another process has locked it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`--output` must be a directory. Received: {self.path}")
        file = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            _check_writable(self.path)
            descriptor = lock(file, wait=False)
        except BlockingIOError:
            raise ValueError(f"Another process is training in {self.path}") from None
        except OSError as error:
            raise OSError(
                error.errno,
                f"`--output` cannot be written: {error.strerror}. Choose another directory, or "
                "change its permissions",
                str(self.path),
            ) from error
        if descriptor is None:
            warnings.warn(
                f"{self.path} is on a file system without locks: start no second process that "
                "trains in it",
                stacklevel=3,
            )
        self._held["lock"] = None if descriptor is None else os.fstat(descriptor)
        try:
            yield
        finally:
            self._held.clear()
            refused = not (self.path / "config.json").is_file()
            if descriptor is not None:
                unlock(descriptor, file, remove=refused)
            with contextlib.suppress(OSError):  # the error on its way counts, not this one
                if refused and descriptor is None:
                    file.unlink(missing_ok=True)
                if refused and self.path.is_dir() and not any(self.path.iterdir()):
                    self.path.rmdir()

    def check_data(self, data: ImageData, preprocess: PreprocessSpec) -> None:
        """Checks that the data is the same as when the run began, wherever it lies now.

        Files are compared by name, label and content, data sets of TFDS by name and version. Runs
        of earlier versions stored the number of examples only.

        Raises:
            ValueError: If the data has changed; names the difference.
        """
        file = self.path / "dataset.json"
        if not file.is_file():
            return
        changed = changes(read_object(file), data, preprocess)
        if changed:
            raise ValueError(
                f"The data of {self.path} has changed since the run began: {'; '.join(changed)}. "
                "Restore the data, or choose another --output"
            )

    def sweep(self) -> None:
        """Removes temporary files of killed processes. Call it under the lock."""
        for path in self.path.rglob(".*"):
            own = path.parent == self.path and _OWN_TEMPORARY.match(path.name)
            try:
                old = time.time() - path.stat().st_mtime > _SECONDS_IN_USE
            except FileNotFoundError:
                continue
            if own or (old and _TEMPORARY.match(path.name)):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        Checkpoints(self.checkpoints).sweep()

    def has_sound_model(self) -> bool:
        """Whether there is a `model.keras`, and no crash has cut it off."""
        try:
            with zipfile.ZipFile(self.model) as archive:
                return archive.testzip() is None
        except Exception:  # zipfile and zlib raise errors of many types
            return False

    def drop_damaged_model(self, say: Callable[[str], None]) -> None:
        """Removes a `model.keras` that a crash has cut off, so that the run ends once more."""
        if self.model.is_file() and not self.has_sound_model():
            say(f"{self.model} is damaged; the run is finished once more from its checkpoint")
            self.model.unlink()

    def check_held(self) -> None:
        """Checks that the directory is still there, and locked by this process.

        Raises:
            OSError: If somebody has removed or replaced it, or its lock.
        """
        if self.check_mirror is not None:
            self.check_mirror()
        if not self._held:  # this process has not locked it
            return
        held = self._held["lock"]
        try:
            config, now = (self.path / "config.json").is_file(), os.stat(self.path / ".lock")
        except FileNotFoundError:
            config, now = (self.path / "config.json").is_file(), None
        if not config:
            raise OSError(
                f"{self.path} was removed while the run trained in it. If it was moved, give the "
                "same command with its new place to go on from its last checkpoint"
            )
        if held is not None and (now is None or not os.path.samestat(held, now)):
            raise OSError(
                f"{self.path / '.lock'} was removed while the run trained: another process may "
                "train in the same directory"
            )

    def check_space(self, needed: int) -> None:
        """Checks that the disk has room for the run's checkpoints.

        Args:
            needed: Size of all checkpoints in bytes; those on the disk already count as room.

        Raises:
            OSError: If there is not enough room.
        """
        used = sum(f.stat().st_size for f in self.checkpoints.rglob("*") if f.is_file())
        free = shutil.disk_usage(self.path).free
        if free < needed - used:
            raise OSError(
                f"{self.path} has {free / 2**20:.0f} MiB free and the run's checkpoints need "
                f"about {(needed - used) / 2**20:.0f} MiB more"
            )

    def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Writes `history.csv`, one row per epoch."""
        text = io.StringIO()
        if history:
            writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        write_text(self.path / "history.csv", text.getvalue())

    def write_samples(self, samples: Mapping[str, np.ndarray]) -> None:
        """Writes `samples.npz`, the predictions that the report shows."""
        content = io.BytesIO()
        np.savez_compressed(content, **dict(samples))  # type: ignore[arg-type]
        write_bytes(self.path / "samples.npz", content.getvalue())

    def update_metrics(self, **parts: Any) -> None:
        """Adds or replaces parts of `metrics.json`."""
        write_json(self.path / "metrics.json", {**self.metrics, **parts})

    def write_model(self, model: Any) -> None:
        """Writes `model.keras` atomically."""
        with naming_full_disks(self.model):
            handle, temporary = tempfile.mkstemp(suffix=".keras", prefix=".", dir=self.path)
            os.close(handle)
            try:
                model.save(temporary)
                os.chmod(temporary, 0o644)
                flush(Path(temporary))
                replace(temporary, self.model)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise


def _check_writable(path: Path) -> None:
    """Writes a file into a directory and removes it, as a lock may be there already."""
    with tempfile.NamedTemporaryFile(prefix=".config.json.", dir=path) as file:
        file.write(b"0")
