"""The directory of a run: its files, its lock, and reading a run from it."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import os
import re
import shutil
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_resnet import PreprocessSpec, ResNetSpec, get_spec
from keras_resnet.texts import label_text
from keras_resnet.weights.files.file_system import lock, replace, unlock

from .checkpoint import Checkpoints
from .config import RunConfig, differences, load_config
from .data import ImageData, Listing, read_listing
from .files import flush, read_object, write_bytes, write_json, write_text
from .quantization import quantized_net

Resume = Literal["auto", "never"]
Which = Literal["auto", "best", "last"]

# Temporary files of training, and of commands that may be at work in the directory now.
_OWN_TEMPORARY = re.compile(
    r"\.(history\.csv|metrics\.json|config\.json|dataset\.json|weights\.json|labels\.txt|"
    r"samples\.npz|data_files\.csv\.gz|data_index\.csv\.gz)\.[a-z0-9_]{8}$|\.[a-z0-9_]{8}\.keras$"
)
_TEMPORARY = re.compile(r"\.(export\.tmp.*|.*\.[a-z0-9_]{8})$")
_SECONDS_IN_USE = 3600
_MOST_CHANNELS = 65_536  # as a spec allows
# Files of a run that was killed before it had written its config.json.
_EARLY_FILES = re.compile(r"\.lock$|\.config\.json\.")


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """The directory of a run. A directory with a `config.json` is a run.

    Attributes:
        path: The directory.
    """

    path: Path
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
                raise ValueError(
                    f"{self.path} holds another run, which differs in {'; '.join(changed[:6])}. "
                    "Give the same settings to resume it, or choose another --output"
                )
            return
        if self.path.is_dir() and any(not _EARLY_FILES.match(p.name) for p in self.path.iterdir()):
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
        write_json(self.path / "dataset.json", _dataset_record(data, preprocess))
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
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / ".lock"
        try:
            descriptor = lock(file, wait=False)
        except BlockingIOError:
            raise ValueError(f"Another process is training in {self.path}") from None
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
            elif refused:
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
        before, now = read_object(file), _dataset_record(data, preprocess)
        keys = ["class_names", "channels", "examples", "preprocessing"]
        keys += [key for key in ("task", "identity") if key in before]
        if "identity" not in before and not (data.listing or Path(data.name).is_dir()):
            keys.append("name")
        changed = [
            f"{key}: {before.get(key)} then, {now[key]} now"
            for key in keys
            if before.get(key) != now[key]
        ]
        changed += data.changes
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

    def drop_damaged_model(self, say: Callable[[str], None]) -> None:
        """Removes a `model.keras` that a crash has cut off, so that the run ends once more."""
        if not self.model.is_file():
            return
        try:
            with zipfile.ZipFile(self.model) as archive:
                damaged = archive.testzip() is not None
        except (zipfile.BadZipFile, OSError, zlib.error, ValueError):
            damaged = True
        if damaged:
            say(f"{self.model} is damaged; the run is finished once more from its checkpoint")
            self.model.unlink()

    def check_held(self) -> None:
        """Checks that the directory is still there, and locked by this process.

        Raises:
            OSError: If somebody has removed or replaced it, or its lock.
        """
        if not self._held:  # this process has not locked it
            return
        held = self._held["lock"]
        try:
            config, now = (self.path / "config.json").is_file(), os.stat(self.path / ".lock")
        except FileNotFoundError:
            config, now = (self.path / "config.json").is_file(), None
        if not config:
            raise OSError(f"{self.path} was removed while the run trained in it")
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


@dataclasses.dataclass(frozen=True)
class Run:
    """A run opened for reading, with its model in float32, to evaluate, predict or export.

    Attributes:
        directory: The run's directory.
        config: The run's configuration.
        spec: The network.
        preprocess: The preprocessing, with the measured mean and standard deviation.
        class_names: In the order of the logits.
        model: The model, which returns logits.
        weights: The origin of the weights: `model.keras`, `best checkpoint` or `last checkpoint`.
    """

    directory: RunDirectory
    config: RunConfig
    spec: ResNetSpec
    preprocess: PreprocessSpec
    class_names: tuple[str, ...]
    model: Any
    weights: str


def open_run(path: Path, which: Which = "auto") -> Run:
    """Opens a run: its finished model, or a checkpoint.

    Args:
        path: The run's directory.
        which: `best` or `last` opens that checkpoint. `auto` opens `model.keras`; before the run
            has ended, the best checkpoint; without a best checkpoint, the last.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights yet.
        ValueError: If one of its files is damaged.
    """
    import keras_resnet
    from keras_resnet.nets.precision import dtype_policy
    from keras_resnet.weights import load

    directory = RunDirectory(path)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} is not a run: it has no config.json")
    config = load_config(path / "config.json")
    spec = spec_of(config)
    if not (path / "dataset.json").is_file():
        raise FileNotFoundError(f"{path} has not begun to train: it has no dataset.json")
    record = read_object(path / "dataset.json")
    try:
        preprocess = PreprocessSpec.from_dict(record["preprocessing"])
        names, channels = _class_names(record["class_names"]), int(record["channels"])
        if not 1 <= channels <= _MOST_CHANNELS:
            raise ValueError(f"channels={channels}")
        moved_to = Path(record.get("path") or "")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path / 'dataset.json'} is not what was written: {error!r}") from error
    # The data may have moved since, and a relative path means another folder elsewhere.
    if moved_to.is_absolute() and moved_to.exists():
        moved = dataclasses.replace(config.data, dataset=record["path"])
        config = dataclasses.replace(config, data=moved)
    with dtype_policy("float32"):
        model = keras_resnet.build(
            spec.replace(norm_sync=False),
            classes=len(names),
            input_shape=(*preprocess.size, channels),
            stacked=config.model.stacked,
        )
        if config.quantize.enabled:
            model = quantized_net(model, config, preprocess)
    if which == "auto" and directory.model.is_file():
        if config.quantize.enabled:
            model.load_weights(directory.model)
        else:
            load(model, directory.model)
        return Run(directory, config, spec, preprocess, names, model, "model.keras")
    if which == "auto":
        which = "best" if (directory.checkpoints / "best").is_dir() else "last"
    Checkpoints(directory.checkpoints).load_weights(model, which)
    return Run(directory, config, spec, preprocess, names, model, f"{which} checkpoint")


def _class_names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise ValueError("class_names is no list of names")
    return tuple(values)


def spec_of(config: RunConfig) -> ResNetSpec:
    """Returns the network of a configuration.

    Raises:
        ValueError: If there is no such network or field.
    """
    spec = get_spec(config.model.name)
    changes = dict(config.model.spec)
    if config.runtime.sync_batch_norm:
        changes["norm_sync"] = True
    return spec.replace(**changes) if changes else spec


def data_facts(data: ImageData, preprocess: PreprocessSpec) -> dict[str, Any]:
    """Returns what tells two data sets apart, wherever they lie: the record and the files."""
    facts = _dataset_record(data, preprocess)
    del facts["path"], facts["notes"]
    if data.listing is not None:
        del facts["name"]
        facts["files"] = hashlib.sha256(data.listing.to_bytes()).hexdigest()
    return facts


def _dataset_record(data: ImageData, preprocess: PreprocessSpec) -> dict[str, Any]:
    """Returns the content of `dataset.json`."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "name": data.name,
        "class_names": list(data.class_names),
        "channels": data.channels,
        "examples": {key: len(part) for key, part in parts.items() if part is not None},
        "preprocessing": preprocess.to_dict(),
        "notes": list(data.notes),
        "task": data.task,
        "identity": data.identity,
        "path": data.path,
    }
