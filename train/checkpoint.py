"""Checkpoints of a run: written atomically and verified by hash when they are read."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import read_arrays
from .checkpoint_files import (
    AVERAGED,
    MODEL,
    OPTIMIZER,
    RANDOM,
    REPLICAS,
    STATE,
    CheckpointWriter,
    read_optimizer,
    read_random,
    read_state,
)
from .checkpoint_files import CorruptCheckpointError as CorruptCheckpointError
from .checkpoint_files import EarlierCheckpointError as EarlierCheckpointError
from .files import check_room, new_directory
from .snapshot import (
    Averages,
    Progress,
    Snapshot,
    Values,
    bytes_of,
    saved_variables,
    take_snapshot,
    write_weights,
)


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
        return self.write(take_snapshot(model, optimizer, progress, averages, replica_rows))

    def write(self, snapshot: Snapshot) -> Path:
        """Writes a checkpoint of a snapshot and removes the oldest ones; in any thread.

        Raises:
            OSError: If it cannot be written. No part of it remains; older checkpoints do.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        step = int(snapshot.state["step"])
        path = self.directory / f"step_{step:08d}"
        values: dict[str, Any] = {str(i): value for i, value in enumerate(snapshot.optimizer)}
        random: dict[str, Any] = dict(snapshot.random)
        rows, model = snapshot.rows, snapshot.model
        with new_directory(path) as temporary, CheckpointWriter(temporary) as writer:
            check_room(temporary, snapshot.size)
            writer.write(OPTIMIZER, lambda file: np.savez(file, **values))
            if random:
                writer.write(RANDOM, lambda file: np.savez(file, **random))
            if rows is not None:
                writer.write(REPLICAS, lambda file: np.savez(file, rows=rows))
            write_weights(model, snapshot.weights, temporary / MODEL)
            writer.add(MODEL)
            if snapshot.averaged is not None:
                write_weights(model, snapshot.averaged, temporary / AVERAGED)
                writer.add(AVERAGED)
            writer.close(snapshot.state)
        # Checkpoints of later steps are damaged ones that `restore` has passed over.
        steps = [each for each in self.steps() if each.name != path.name]
        earlier = [each for each in steps if _step(each) < step]
        kept = earlier[-(self.keep - 1) :] if self.keep > 1 else []
        for old in steps:
            if old not in kept:
                shutil.rmtree(old, ignore_errors=True)
        return path

    def save_best(
        self, model: Any, figures: Mapping[str, Any], values: Values | None = None
    ) -> None:
        """Writes the `best` checkpoint; in any thread, where `values` are given.

        Args:
            model: The model.
            figures: Epoch and validation figures of the weights that did best.
            values: These weights, as `model.get_weights()` returned them; the model's own where
                None.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "best"
        with new_directory(path) as temporary, CheckpointWriter(temporary) as writer:
            check_room(temporary, bytes_of(model.get_weights() if values is None else values))
            if values is None:
                model.save_weights(str(temporary / MODEL))
            else:
                write_weights(model, values, temporary / MODEL)
            writer.add(MODEL)
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
                state = _progress(path)
                values = read_optimizer(path, model, optimizer)
                states = read_random(path, model)
                if averages is not None and averages.holds(state["step"]):
                    model.load_weights(str(path / AVERAGED))
                    averages.read(model)
                model.load_weights(str(path / MODEL))
            except (CorruptCheckpointError, OSError, KeyError) as error:
                say(f"Checkpoint {path.name} is damaged and skipped: {error}")
                continue
            for variable, value in zip(saved_variables(optimizer), values, strict=True):
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
        path = self.directory / f"step_{step:08d}" / REPLICAS
        if not path.is_file():
            return None
        return read_arrays(path)["rows"]

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
                state = read_state(path)
            except CorruptCheckpointError as error:
                problem = CorruptCheckpointError(f"{error} ({path})")
                continue
            averaged = (path / AVERAGED).is_file()
            model.load_weights(str(path / (AVERAGED if averaged else MODEL)))
            return state
        raise problem


def bytes_needed(model: Any, optimizer: Any, *, averaged: bool = False) -> int:
    """Returns the approximate size of one checkpoint on disk, in bytes.

    Args:
        model: The built model.
        optimizer: The built optimizer.
        averaged: Whether averaged weights are written beside the others.
    """
    variables = [*model.weights * (2 if averaged else 1), *saved_variables(optimizer)]
    return 4 * sum(int(np.prod(variable.shape)) for variable in variables) + 2**20


def _progress(path: Path) -> dict[str, Any]:
    """Returns the fields of `Progress` in a checkpoint; see `read_state`."""
    state = read_state(path)
    unknown = sorted(state.keys() - {field.name for field in dataclasses.fields(Progress)})
    if unknown:
        raise CorruptCheckpointError(f"{STATE} has the unknown field {unknown[0][:40]!r}")
    if state.get("step") != _step(path):
        raise CorruptCheckpointError(f"{STATE} states step {state.get('step')}")
    return state


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))
