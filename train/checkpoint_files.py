"""The files of one checkpoint: written with a SHA-256 of each, verified when they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import read_arrays
from .files import flush, read_json, write_json
from .snapshot import checked_state, random_layers, saved_variables

MODEL, AVERAGED = "model.weights.h5", "averaged.weights.h5"
RANDOM, REPLICAS = "random.npz", "replicas.npz"
OPTIMIZER, STATE = "optimizer.npz", "state.json"


class CorruptCheckpointError(ValueError):
    """A checkpoint does not hold what was written to it."""


class EarlierCheckpointError(ValueError):
    """A checkpoint of an earlier version, which cannot be continued."""


class CheckpointWriter:
    """Writes `state.json` with a SHA-256 of each file of a new checkpoint.

    A second thread flushes the files to the disk and hashes them, and writes those given to
    `write`, while Keras writes the model's file. Python's lock is free during most of this work.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._digests: dict[str, Future[str]] = {}

    def __enter__(self) -> CheckpointWriter:
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
        write_json(self._directory / STATE, content)


def _flush_and_hash(path: Path) -> str:
    flush(path)
    return _file_digest(path)


def read_state(path: Path) -> dict[str, Any]:
    """Verifies the files of a checkpoint and returns its state."""
    try:
        content = read_json(path / STATE)
        digests, digest, state = content["sha256"], content["state_sha256"], content["state"]
        if not isinstance(digests, dict):
            raise ValueError("its hashes are no object")
        if _state_digest(state) != digest:
            raise CorruptCheckpointError(f"{STATE} is not what was written")
        state = checked_state(state)
    except CorruptCheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpointError(f"{STATE} is unreadable ({error})") from error
    with ThreadPoolExecutor() as pool:
        actual = list(pool.map(lambda name: _file_digest(path / name), digests))
    for (name, expected), digest in zip(digests.items(), actual, strict=True):
        if digest != expected:
            raise CorruptCheckpointError(f"{name} is not what was written")
    return state


def read_optimizer(path: Path, model: Any, optimizer: Any) -> Sequence[np.ndarray]:
    """Reads the values of the optimizer's variables.

    Raises:
        CorruptCheckpointError: If they do not fit the optimizer.
        EarlierCheckpointError: If they are of a version that averaged weights in the optimizer.
    """
    stored = _arrays(path / OPTIMIZER)
    values = [stored[str(index)] for index in range(len(stored)) if str(index) in stored]
    shapes = [tuple(value.shape) for value in values]
    expected = [tuple(variable.shape) for variable in saved_variables(optimizer)]
    if shapes == expected:
        return values
    averages = [tuple(variable.shape) for variable in model.trainable_variables]
    if (path / AVERAGED).is_file() and sorted(shapes) == sorted(expected + averages):
        raise EarlierCheckpointError(
            f"Checkpoint {path} is of an earlier version, which averaged the weights without batch "
            "norm's statistics: the average cannot be continued. Start again in another directory"
        )
    raise CorruptCheckpointError(
        f"{OPTIMIZER} holds {len(stored)} variables that do not fit the optimizer's {len(expected)}"
    )


def read_random(path: Path, model: Any) -> list[tuple[Any, np.ndarray]]:
    """Reads the states of the layers with random numbers, each with its layer.

    Raises:
        CorruptCheckpointError: If they are of other layers.
    """
    layers = random_layers(model)
    if not layers:
        return []
    stored = _arrays(path / RANDOM)
    if set(stored) != {layer.name for layer in layers}:
        raise CorruptCheckpointError(f"{RANDOM} belongs to another model's layers")
    return [(layer, stored[layer.name]) for layer in layers]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a checkpoint, all of them numbers.

    Raises:
        CorruptCheckpointError: If the file is damaged, or an array holds something else.
    """
    try:
        stored = read_arrays(path)
    except ValueError as error:
        raise CorruptCheckpointError(str(error)) from error
    other = next((name for name, array in stored.items() if array.dtype.kind not in "fiub"), None)
    if other is not None:
        raise CorruptCheckpointError(f"{path.name} holds {stored[other].dtype} as {other!r}")
    return stored


def _file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, or an empty string if there is no such file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state_digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
