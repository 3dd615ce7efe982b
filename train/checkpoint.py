"""Checkpoints of a run: written atomically and verified by hash when they are read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .files import flush, new_directory, read_json, write_json

_MODEL, _AVERAGED = "model.weights.h5", "averaged.weights.h5"
_RANDOM = "random.npz"
_REPLICAS = "replicas.npz"
_OPTIMIZER, _STATE = "optimizer.npz", "state.json"


class CorruptCheckpointError(ValueError):
    """A checkpoint does not hold what was written to it."""


class EarlierCheckpointError(ValueError):
    """A checkpoint of an earlier version, which cannot be continued."""


class Averages(Protocol):
    """What a checkpoint needs of `averaging.WeightAverages`."""

    def holds(self, step: int) -> bool:
        """Whether there is an average when `step` steps are done."""

    def assigned(self, model: Any) -> AbstractContextManager[None]:
        """Assigns the averages to the model while a block runs."""

    def read(self, model: Any) -> None:
        """Takes the model's weights as the averages."""


@dataclasses.dataclass
class Progress:
    """The state of the training loop, apart from weights and optimizer.

    Attributes:
        step: Number of updates done.
        seconds: Time spent in training steps, over all sessions.
        history: One row per epoch.
        epoch_sums: Sums since the epoch began: loss, correct predictions, images.
        best_value: Best validation accuracy so far, or None.
        best_loss: Validation loss of that epoch.
        best_epoch: That epoch.
    """

    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    epoch_sums: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0, 0.0])
    best_value: float | None = None
    best_loss: float | None = None
    best_epoch: int | None = None


class Checkpoints:
    """The checkpoints of one run: the last few, such as `step_00001000/`, and `best/`.

    Each one is a directory with the model's weights and, where the run averages them, the averages
    (Keras's `.weights.h5`), the optimizer's variables, the states of the layers with random
    numbers, and a `state.json` with the progress and the SHA-256 of each other file. The learning
    rate is none of the optimizer's variables here: it is a function of the step.

    Args:
        directory: The directory of the checkpoints.
        keep: Number of checkpoints that are kept beside `best`.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory = directory
        self.keep = keep

    def save(
        self,
        model: Any,
        optimizer: Any,
        progress: Progress,
        averages: Averages | None = None,
        replica_rows: np.ndarray | None = None,
    ) -> Path:
        """Writes a checkpoint and removes the oldest ones.

        Args:
            model: The model, with the weights that training resumes from.
            optimizer: The optimizer.
            progress: The state of the training loop.
            averages: The averages of the weights; None if there are none yet.
            replica_rows: The values of variables that each replica has of its own, `(replicas,
                values)`; the model and the averages then hold their means. None if there are none.

        Raises:
            OSError: If it cannot be written. No part of it remains; older checkpoints do.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"step_{progress.step:08d}"
        # Variables of several devices can only be read in the thread that entered the strategy.
        saved = enumerate(_saved_variables(optimizer))
        values = {str(index): variable.numpy() for index, variable in saved}
        states: dict[str, Any] = {
            layer.name: layer.seed_generator.state.numpy() for layer in _random_layers(model)
        }
        with new_directory(path) as temporary, _CheckpointWriter(temporary) as writer:
            writer.write(_OPTIMIZER, lambda file: np.savez(file, **values))
            if states:
                writer.write(_RANDOM, lambda file: np.savez(file, **states))
            if replica_rows is not None:
                writer.write(_REPLICAS, lambda file: np.savez(file, rows=replica_rows))
            model.save_weights(str(temporary / _MODEL))
            writer.add(_MODEL)
            if averages is not None:
                with averages.assigned(model):
                    model.save_weights(str(temporary / _AVERAGED))
                writer.add(_AVERAGED)
            writer.close(dataclasses.asdict(progress))
        # Checkpoints of later steps are damaged ones that `restore` has passed over.
        steps = [each for each in self.steps() if each.name != path.name]
        earlier = [each for each in steps if _step(each) < progress.step]
        kept = earlier[-(self.keep - 1) :] if self.keep > 1 else []
        for old in steps:
            if old not in kept:
                shutil.rmtree(old, ignore_errors=True)
        return path

    def save_best(self, model: Any, figures: Mapping[str, Any]) -> None:
        """Writes the `best` checkpoint.

        Args:
            model: The model, with the weights that did best on the validation images.
            figures: Its epoch and validation figures.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "best"
        with new_directory(path) as temporary, _CheckpointWriter(temporary) as writer:
            model.save_weights(str(temporary / _MODEL))
            writer.add(_MODEL)
            writer.close(figures)

    def sweep(self) -> None:
        """Removes temporary files of killed processes and restores what they had moved away."""
        if not self.directory.is_dir():
            return
        for path in self.directory.glob(".*.old.*"):
            name = path.name.removeprefix(".").split(".old.")[0]
            if (path / "replaced").is_dir() and not (self.directory / name).exists():
                (path / "replaced").rename(self.directory / name)
        for path in self.directory.glob(".*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def steps(self) -> list[Path]:
        """Returns the checkpoints by step, oldest first."""
        if not self.directory.is_dir():
            return []
        paths = (
            path
            for path in self.directory.iterdir()
            if re.fullmatch(r"step_\d{8,}", path.name) and path.is_dir()
        )
        return sorted(paths, key=_step)

    def last_step(self) -> int:
        """Returns the step of the newest checkpoint, sound or not, or 0."""
        return max(map(_step, self.steps()), default=0)

    def restore(
        self,
        model: Any,
        optimizer: Any,
        say: Callable[[str], None] = print,
        averages: Averages | None = None,
    ) -> Progress | None:
        """Restores the newest sound checkpoint.

        Args:
            model: The built model; its weights are replaced.
            optimizer: The built optimizer; its variables are replaced.
            say: Called with a message for each damaged checkpoint that is skipped.
            averages: The averages of the weights, where the run keeps them; they are replaced.

        Returns:
            The progress, or None if there is no checkpoint.

        Raises:
            CorruptCheckpointError: If there are checkpoints and none is sound.
            EarlierCheckpointError: If the newest sound one was written by a version that averaged
                weights without batch norm's statistics.
        """
        paths = self.steps()[::-1]
        for path in paths:
            try:
                state = _read_state(path)
                values = _read_optimizer(path, model, optimizer)
                states = _read_random(path, model)
                if averages is not None and averages.holds(state["step"]):
                    model.load_weights(str(path / _AVERAGED))
                    averages.read(model)
                model.load_weights(str(path / _MODEL))
            except (CorruptCheckpointError, OSError, KeyError) as error:
                say(f"Checkpoint {path.name} is damaged and skipped: {error}")
                continue
            for variable, value in zip(_saved_variables(optimizer), values, strict=True):
                variable.assign(value)
            for layer, value in states:
                layer.seed_generator.state.assign(value)
            return Progress(**state)
        if paths:
            raise CorruptCheckpointError(
                f"None of the {len(paths)} checkpoints in {self.directory} is sound. "
                "Start again in another directory"
            )
        return None

    def replica_rows(self, step: int) -> np.ndarray | None:
        """Returns what each replica had of its own at a step; None if nothing is stored.

        The checkpoint must have been verified, as `restore` does.
        """
        path = self.directory / f"step_{step:08d}" / _REPLICAS
        if not path.is_file():
            return None
        with np.load(path) as stored:
            return stored["rows"]

    def load_weights(self, model: Any, which: str = "best") -> Mapping[str, Any]:
        """Loads the weights of a checkpoint, without optimizer and progress.

        They are the weights that the run evaluates: averaged ones where it keeps an average.

        Args:
            model: The built model; its weights are replaced.
            which: `best`, or `last` for the newest sound checkpoint.

        Returns:
            The checkpoint's state.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            CorruptCheckpointError: If it is damaged.
        """
        best = self.directory / "best"
        paths = self.steps()[::-1] if which == "last" else [best] if best.is_dir() else []
        problem: Exception = FileNotFoundError(f"No {which} checkpoint in {self.directory}")
        for path in paths:
            try:
                state = _read_state(path)
            except CorruptCheckpointError as error:
                problem = error
                continue
            averaged = (path / _AVERAGED).is_file()
            model.load_weights(str(path / (_AVERAGED if averaged else _MODEL)))
            return state
        raise problem


def bytes_needed(model: Any, optimizer: Any, *, averaged: bool = False) -> int:
    """Returns the approximate size of one checkpoint on disk, in bytes.

    Args:
        model: The built model.
        optimizer: The built optimizer.
        averaged: Whether averaged weights are written beside the others.
    """
    variables = [*model.weights * (2 if averaged else 1), *_saved_variables(optimizer)]
    return 4 * sum(int(np.prod(variable.shape)) for variable in variables) + 2**20


class _CheckpointWriter:
    """Writes `state.json` with a SHA-256 of each file of a new checkpoint.

    A second thread flushes the files to the disk and hashes them, and writes those given to
    `write`, while Keras writes the model's file. Python's lock is free during most of this work.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._digests: dict[str, Future[str]] = {}

    def __enter__(self) -> _CheckpointWriter:
        """Starts the thread."""
        self._pool = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for the file in progress and drops those that have not begun."""
        self._pool.shutdown(cancel_futures=True)

    def write(self, name: str, write: Callable[[Path], None]) -> None:
        """Writes a file in the second thread, and adds it."""

        def write_and_hash(path: Path) -> str:
            write(path)
            return _flush_and_hash(path)

        self._digests[name] = self._pool.submit(write_and_hash, self._directory / name)

    def add(self, name: str) -> None:
        """Adds a file that is already written."""
        self._digests[name] = self._pool.submit(_flush_and_hash, self._directory / name)

    def close(self, state: Mapping[str, Any]) -> None:
        """Writes `state.json`.

        Raises:
            OSError: If a file could not be written.
        """
        digests = {name: digest.result() for name, digest in sorted(self._digests.items())}
        content = {"sha256": digests, "state_sha256": _state_digest(state), "state": dict(state)}
        write_json(self._directory / _STATE, content)


def _flush_and_hash(path: Path) -> str:
    flush(path)
    return _file_digest(path)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def _read_state(path: Path) -> dict[str, Any]:
    """Verifies the files of a checkpoint and returns its state."""
    try:
        content = read_json(path / _STATE)
        digests, digest, state = content["sha256"], content["state_sha256"], content["state"]
        if not isinstance(digests, dict):
            raise ValueError("its hashes are no object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpointError(f"{_STATE} is unreadable ({error})") from error
    if _state_digest(state) != digest:
        raise CorruptCheckpointError(f"{_STATE} is not what was written")
    with ThreadPoolExecutor() as pool:
        actual = list(pool.map(lambda name: _file_digest(path / name), digests))
    for (name, expected), digest in zip(digests.items(), actual, strict=True):
        if digest != expected:
            raise CorruptCheckpointError(f"{name} is not what was written")
    return dict(state)


def _saved_variables(optimizer: Any) -> list[Any]:
    """Returns the optimizer's variables without the learning rate, which the step sets."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate = inner.learning_rate  # a variable, unless a schedule computes it
    return [variable for variable in optimizer.variables if variable is not rate]


def _read_optimizer(path: Path, model: Any, optimizer: Any) -> Sequence[np.ndarray]:
    with np.load(path / _OPTIMIZER) as stored:
        values = [stored[str(index)] for index in range(len(stored.files))]
    shapes = [tuple(value.shape) for value in values]
    expected = [tuple(variable.shape) for variable in _saved_variables(optimizer)]
    if shapes == expected:
        return values
    averages = [tuple(variable.shape) for variable in model.trainable_variables]
    if (path / _AVERAGED).is_file() and sorted(shapes) == sorted(expected + averages):
        raise EarlierCheckpointError(
            f"Checkpoint {path} is of an earlier version, which averaged the weights without batch "
            "norm's statistics: the average cannot be continued. Start again in another directory"
        )
    raise CorruptCheckpointError(
        f"{_OPTIMIZER} holds {len(shapes)} variables that do not fit the optimizer's "
        f"{len(expected)}"
    )


def _random_layers(model: Any) -> list[Any]:
    """Returns the layers with a seed generator, whose state Keras's weight files leave out."""
    return [layer for layer in model.layers if getattr(layer, "seed_generator", None) is not None]


def _read_random(path: Path, model: Any) -> list[tuple[Any, np.ndarray]]:
    layers = _random_layers(model)
    if not layers:
        return []
    with np.load(path / _RANDOM) as stored:
        if set(stored.files) != {layer.name for layer in layers}:
            raise CorruptCheckpointError(f"{_RANDOM} belongs to another model's layers")
        return [(layer, stored[layer.name]) for layer in layers]


def _file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, or an empty string if there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state_digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
