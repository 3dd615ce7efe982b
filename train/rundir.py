"""A run's directory: what it holds, who may write in it, and how a run is opened again."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keras_resnet import PreprocessSpec, ResNetSpec, get_spec

from .checkpoint import Checkpoints
from .config import RunConfig, differences, load_config
from .data import ImageData
from .files import read_json, write_bytes, write_json, write_text

Resume = Literal["auto", "never"]
Which = Literal["auto", "best", "last"]

# What a run leaves that was killed before its config.json stood.
_OWN = re.compile(r"\.lock$|\.config\.json\.")


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """Paths and small files of a run.

    `config.json` is written first; whatever holds one is a run.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The finished model; stands only after the run has ended."""
        return self.path / "model.keras"

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured so far."""
        path = self.path / "metrics.json"
        return dict(read_json(path)) if path.is_file() else {}

    def check(self, config: RunConfig, resume: Resume) -> None:
        """Checks that the directory is free, or that the run in it is this one.

        Raises:
            ValueError: If it holds another run, a run that must not be resumed, or other files.
        """
        file = self.path / "config.json"
        if file.is_file():
            if resume == "never":
                raise ValueError(
                    f"{self.path} holds a run already and --resume is never. Choose another "
                    "--output, or remove it"
                )
            changed = differences(load_config(file), config)
            if changed:
                raise ValueError(
                    f"{self.path} holds another run, which differs in {'; '.join(changed[:6])}. "
                    "Give the same settings to resume it, or choose another --output"
                )
            return
        if self.path.is_dir() and any(not _OWN.match(p.name) for p in self.path.iterdir()):
            raise ValueError(
                f"{self.path} holds files and no config.json, so it is no run. "
                "Choose another --output"
            )

    def begin(self, config: RunConfig, data: ImageData, preprocess: PreprocessSpec) -> None:
        """Makes the directory a run: from here on it holds a `config.json`.

        Called when nothing is left to go wrong before the first step, so that a command that was
        refused leaves no run behind.
        """
        if not (self.path / "config.json").is_file():
            write_text(self.path / "config.json", config.to_json())
        self._write_facts(data, preprocess)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this directory.

        Raises:
            ValueError: If another process is doing so.
        """
        import fcntl

        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"`--output` must be a directory. Received: {self.path}")
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self.path / ".lock"
        with lock.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"Another process is training in {self.path}") from None
            try:
                yield
            finally:
                if not (self.path / "config.json").is_file():  # nothing came of it
                    lock.unlink()
                    if not any(self.path.iterdir()):
                        self.path.rmdir()

    def check_data(self, data: ImageData, preprocess: PreprocessSpec) -> None:
        """Checks that a run goes on with the data that it began with.

        Raises:
            ValueError: If the data has changed; names the difference.
        """
        file = self.path / "dataset.json"
        if not file.is_file():
            return
        before, now = read_json(file), _facts(data, preprocess)
        changed = [
            f"{key}: {before.get(key)} then, {now[key]} now"
            for key in ("class_names", "channels", "examples", "preprocessing")
            if before.get(key) != now[key]
        ]
        if changed:
            raise ValueError(
                f"The data of {self.path} has changed since the run began: {'; '.join(changed)}. "
                "Give it back, or choose another --output"
            )

    def sweep(self) -> None:
        """Removes what processes killed while they wrote have left; call it under the lock."""
        for path in self.path.glob(".*"):
            if re.match(r"\.(export\.tmp|.*\.keras$)", path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        Checkpoints(self.checkpoints).sweep()

    def _write_facts(self, data: ImageData, preprocess: PreprocessSpec) -> None:
        """Writes what a user of the model needs to know of the data: `dataset.json`, `labels.txt`.

        The preprocessing stands there as measured on the training images.
        """
        write_json(self.path / "dataset.json", _facts(data, preprocess))
        write_text(self.path / "labels.txt", "".join(f"{name}\n" for name in data.class_names))

    def write_history(self, history: Sequence[Mapping[str, float]]) -> None:
        """Writes the rows of all epochs as CSV."""
        text = io.StringIO()
        if history:
            writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        write_text(self.path / "history.csv", text.getvalue())

    def write_samples(self, samples: Mapping[str, np.ndarray]) -> None:
        """Writes the predictions that the report pictures."""
        content = io.BytesIO()
        np.savez_compressed(content, **dict(samples))  # type: ignore[arg-type]
        write_bytes(self.path / "samples.npz", content.getvalue())

    def update_metrics(self, **parts: Any) -> None:
        """Replaces parts of `metrics.json`."""
        write_json(self.path / "metrics.json", {**self.metrics, **parts})


@dataclasses.dataclass(frozen=True)
class Run:
    """A run opened for reading: its model in float32, ready to evaluate, predict or export."""

    directory: RunDirectory
    config: RunConfig
    spec: ResNetSpec
    preprocess: PreprocessSpec
    class_names: tuple[str, ...]
    model: Any
    weights: str


def open_run(path: Path, which: Which = "auto") -> Run:
    """Opens a run: the finished model, or a checkpoint of one that has not ended.

    Args:
        path: The run's directory.
        which: `auto` takes `model.keras` or, before the end, the best and else the last
            checkpoint; `best` and `last` take that checkpoint.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights yet.
        ValueError: If a file of it is damaged.
    """
    import keras_resnet
    from keras_resnet.nets.precision import dtype_policy
    from keras_resnet.weights import load

    directory = RunDirectory(path)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} is no run: it has no config.json")
    config = load_config(path / "config.json")
    spec = spec_of(config)
    if not (path / "dataset.json").is_file():
        raise FileNotFoundError(f"{path} has not begun to train: it has no dataset.json")
    facts = read_json(path / "dataset.json")
    try:
        preprocess = PreprocessSpec.from_dict(facts["preprocessing"])
        names, channels = tuple(facts["class_names"]), int(facts["channels"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path / 'dataset.json'} is not what was written: {error!r}") from error
    with dtype_policy("float32"):
        model = keras_resnet.build(
            spec.replace(norm_sync=False),
            classes=len(names),
            input_shape=(*preprocess.size, channels),
            stacked=config.model.stacked,
        )
    if which == "auto" and directory.model.is_file():
        load(model, directory.model)
        return Run(directory, config, spec, preprocess, names, model, "model.keras")
    checkpoints = Checkpoints(directory.checkpoints)
    has_best = (directory.checkpoints / "best").is_dir()
    chosen = which if which != "auto" else ("best" if has_best else "last")
    checkpoints.load_weights(model, chosen)
    return Run(directory, config, spec, preprocess, names, model, f"{chosen} checkpoint")


def spec_of(config: RunConfig) -> ResNetSpec:
    """Returns the net that a configuration names, with its changes.

    Raises:
        ValueError: If there is no such net or field.
    """
    spec = get_spec(config.model.name)
    changes = dict(config.model.spec)
    if config.runtime.sync_batch_norm:
        changes["norm_sync"] = True
    return spec.replace(**changes) if changes else spec


def _facts(data: ImageData, preprocess: PreprocessSpec) -> dict[str, Any]:
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "name": data.name,
        "class_names": list(data.class_names),
        "channels": data.channels,
        "examples": {key: len(part) for key, part in parts.items() if part is not None},
        "preprocessing": preprocess.to_dict(),
        "notes": list(data.notes),
    }
