"""The state of a run on disk: whole or absent, checked when read, the newest sound one wins."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .files import flush, new_directory, read_json, write_json

_MODEL, _AVERAGED = "model.weights.h5", "averaged.weights.h5"
_RANDOM = "random.npz"
_OPTIMIZER, _STATE = "optimizer.npz", "state.json"


class CorruptCheckpointError(ValueError):
    """A checkpoint that is not what was written."""


@dataclasses.dataclass
class Progress:
    """How far a run is: all that the loop knows beside weights and optimizer.

    Attributes:
        step: Updates done.
        seconds: Time spent training, over all sessions.
        history: One row an epoch.
        epoch_sums: Loss, right answers and images since the epoch began.
        best_value: Best validation accuracy so far, or None.
        best_loss: Validation loss of it; the lower one wins among equal accuracies.
        best_epoch: Epoch of it.
    """

    step: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    epoch_sums: list[float] = dataclasses.field(default_factory=lambda: [0.0, 0.0, 0.0])
    best_value: float | None = None
    best_loss: float | None = None
    best_epoch: int | None = None


class Checkpoints:
    """The checkpoints of one run: `step_00001000/`, the last few, and `best/`.

    Each is a directory with the model's weights (Keras's `.weights.h5`), the optimizer's
    variables, the state of the layers that draw at random, and a `state.json` that holds the
    progress and a SHA-256 of the other files.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory = directory
        self.keep = keep

    def save(
        self,
        model: Any,
        optimizer: Any,
        progress: Progress,
        averaged: contextlib.AbstractContextManager[None] | None = None,
    ) -> Path:
        """Writes a checkpoint and removes those that are no longer kept.

        Args:
            model: The model, with the weights that training goes on from.
            optimizer: Its variables are written too.
            progress: How far the run is.
            averaged: Puts averaged weights in the model while it is entered; they are then
                written beside the others, for evaluation.

        Raises:
            OSError: If it cannot be written; nothing half-written is left and older ones stand.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"step_{progress.step:08d}"
        # Read here: variables of several devices belong to the thread that the strategy is in.
        values = {str(i): variable.numpy() for i, variable in enumerate(optimizer.variables)}
        states: dict[str, Any] = _random_states(model)
        with new_directory(path) as temporary, _Seal(temporary) as seal:
            seal.write(_OPTIMIZER, lambda file: np.savez(file, **values))
            if states:
                seal.write(_RANDOM, lambda file: np.savez(file, **states))
            model.save_weights(str(temporary / _MODEL))
            seal.add(_MODEL)
            if averaged is not None:
                with averaged:
                    model.save_weights(str(temporary / _AVERAGED))
                seal.add(_AVERAGED)
            seal.close(dataclasses.asdict(progress))
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def save_best(self, model: Any, facts: Mapping[str, Any]) -> None:
        """Writes the weights that did best on the validation images."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with new_directory(self.directory / "best") as temporary, _Seal(temporary) as seal:
            model.save_weights(str(temporary / _MODEL))
            seal.add(_MODEL)
            seal.close(facts)

    def sweep(self) -> None:
        """Removes what a process killed while it wrote has left, and puts back what it moved."""
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
        found = self.directory.iterdir()
        steps = (p for p in found if re.fullmatch(r"step_\d{8,}", p.name) and p.is_dir())
        return sorted(steps, key=lambda path: int(path.name.removeprefix("step_")))

    def restore(
        self, model: Any, optimizer: Any, say: Callable[[str], None] = print
    ) -> Progress | None:
        """Restores the newest checkpoint that is sound.

        Args:
            model: Built; its weights are replaced.
            optimizer: Built; its variables are replaced.
            say: Told of each damaged checkpoint that was passed over.

        Returns:
            The progress, or None where there is no checkpoint.

        Raises:
            CorruptCheckpointError: If there are checkpoints and none is sound.
        """
        found = self.steps()[::-1]
        for path in found:
            try:
                state = _open(path)
                values = _read_optimizer(path, optimizer)
                states = _read_random(path, model)
                model.load_weights(str(path / _MODEL))
            except (CorruptCheckpointError, OSError, KeyError) as error:
                say(f"Checkpoint {path.name} is damaged and passed over: {error}")
                continue
            for variable, value in zip(optimizer.variables, values, strict=True):
                variable.assign(value)
            for layer, value in states:
                layer.seed_generator.state.assign(value)
            return Progress(**state)
        if found:
            raise CorruptCheckpointError(
                f"None of the {len(found)} checkpoints in {self.directory} is sound. "
                "Start anew in another directory"
            )
        return None

    def load_weights(self, model: Any, which: str = "best") -> Mapping[str, Any]:
        """Loads weights alone, from `best` or from the `last` sound checkpoint.

        They are those that the run would evaluate: averaged ones where it keeps an average.

        Raises:
            FileNotFoundError: If there is no such checkpoint.
            CorruptCheckpointError: If it is damaged.
        """
        steps = self.steps()[::-1]
        candidates = [self.directory / "best"] if which == "best" else steps
        problem: Exception = FileNotFoundError(f"No {which} checkpoint in {self.directory}")
        for path in candidates:
            if not path.is_dir():
                continue
            try:
                state = _open(path)
            except CorruptCheckpointError as error:
                problem = error
                continue
            averaged = (path / _AVERAGED).is_file()
            model.load_weights(str(path / (_AVERAGED if averaged else _MODEL)))
            return state
        raise problem


class _Seal:
    """Puts `state.json` with a SHA-256 of each file into a new checkpoint.

    Files are flushed to the disk and hashed, and where they are told how also written, in a second
    thread while Keras writes the model's: all of it is work that Python's lock is free for.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._digests: dict[str, Future[str]] = {}

    def __enter__(self) -> _Seal:
        """Starts the thread."""
        self._pool = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for the thread: what is under way ends, what has not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def write(self, name: str, write: Callable[[Path], None]) -> None:
        """Has a file written and added."""
        self._submit(name, write)

    def add(self, name: str) -> None:
        """Adds a file that has been written."""
        self._submit(name, lambda path: None)

    def close(self, state: Mapping[str, Any]) -> None:
        """Writes `state.json`.

        Raises:
            OSError: If a file could not be written.
        """
        digests = {name: digest.result() for name, digest in sorted(self._digests.items())}
        write_json(
            self._directory / _STATE,
            {"sha256": digests, "state_sha256": _digest_of(state), "state": dict(state)},
        )

    def _submit(self, name: str, write: Callable[[Path], None]) -> None:
        def settle() -> str:
            write(path)
            flush(path)
            return _digest(path)

        path = self._directory / name
        self._digests[name] = self._pool.submit(settle)


def _open(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's state, its files checked."""
    try:
        sealed = read_json(path / _STATE)
        digests, digest, state = sealed["sha256"], sealed["state_sha256"], sealed["state"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpointError(f"{_STATE} is unreadable ({error})") from error
    if _digest_of(state) != digest:
        raise CorruptCheckpointError(f"{_STATE} is not what was written")
    with ThreadPoolExecutor() as pool:
        found = dict(zip(digests, pool.map(lambda name: _found(path / name), digests), strict=True))
    for name, wanted in digests.items():
        if found[name] != wanted:
            raise CorruptCheckpointError(f"{name} is not what was written")
    return dict(state)


def _read_optimizer(path: Path, optimizer: Any) -> Sequence[np.ndarray]:
    with np.load(path / _OPTIMIZER) as stored:
        values = [stored[str(index)] for index in range(len(stored.files))]
    shapes = [tuple(value.shape) for value in values]
    wanted = [tuple(variable.shape) for variable in optimizer.variables]
    if shapes != wanted:
        raise CorruptCheckpointError(
            f"{_OPTIMIZER} holds {len(shapes)} variables that do not fit the optimizer's "
            f"{len(wanted)}"
        )
    return values


def _random_states(model: Any) -> dict[str, np.ndarray]:
    """Returns how far the layers that draw have drawn, which Keras's weight files leave out."""
    return {layer.name: layer.seed_generator.state.numpy() for layer in _drawing(model)}


def _drawing(model: Any) -> list[Any]:
    return [layer for layer in model.layers if getattr(layer, "seed_generator", None) is not None]


def _read_random(path: Path, model: Any) -> list[tuple[Any, np.ndarray]]:
    layers = _drawing(model)
    if not layers:
        return []
    with np.load(path / _RANDOM) as stored:
        if set(stored.files) != {layer.name for layer in layers}:
            raise CorruptCheckpointError(f"{_RANDOM} is of another model's layers")
        return [(layer, stored[layer.name]) for layer in layers]


def _found(path: Path) -> str | None:
    return _digest(path) if path.is_file() else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def bytes_needed(model: Any, slots: int) -> int:
    """Returns about how many bytes one checkpoint takes on disk."""
    size = sum(int(np.prod(variable.shape)) for variable in model.weights)
    return 4 * size * (1 + slots) + 2**20
