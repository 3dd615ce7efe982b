"""The state of a run on disk: whole or absent, checked when read, the newest sound one wins."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .files import new_directory, read_json, write_json

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
        with new_directory(path) as temporary:
            model.save_weights(str(temporary / _MODEL))
            values: dict[str, Any] = {
                str(index): variable.numpy() for index, variable in enumerate(optimizer.variables)
            }
            np.savez(temporary / _OPTIMIZER, **values)
            states: dict[str, Any] = _random_states(model)
            if states:
                np.savez(temporary / _RANDOM, **states)
            if averaged is not None:
                with averaged:
                    model.save_weights(str(temporary / _AVERAGED))
            _seal(temporary, dataclasses.asdict(progress))
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def save_best(self, model: Any, facts: Mapping[str, Any]) -> None:
        """Writes the weights that did best on the validation images."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with new_directory(self.directory / "best") as temporary:
            model.save_weights(str(temporary / _MODEL))
            _seal(temporary, facts)

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


def _seal(directory: Path, state: Mapping[str, Any]) -> None:
    digests = {file.name: _digest(file) for file in sorted(directory.iterdir())}
    write_json(
        directory / _STATE,
        {"sha256": digests, "state_sha256": _digest_of(state), "state": dict(state)},
    )


def _open(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's state, its files checked."""
    try:
        sealed = read_json(path / _STATE)
        digests, digest, state = sealed["sha256"], sealed["state_sha256"], sealed["state"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpointError(f"{_STATE} is unreadable ({error})") from error
    if _digest_of(state) != digest:
        raise CorruptCheckpointError(f"{_STATE} is not what was written")
    for name, wanted in digests.items():
        if not (path / name).is_file() or _digest(path / name) != wanted:
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def bytes_needed(model: Any, slots: int) -> int:
    """Returns about how many bytes one checkpoint takes on disk."""
    size = sum(int(np.prod(variable.shape)) for variable in model.weights)
    return 4 * size * (1 + slots) + 2**20
