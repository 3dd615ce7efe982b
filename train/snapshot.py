"""The state of a run between two steps, copied into the host's memory.

A snapshot can be written while training goes on: no variable is read any more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Values = Sequence[np.ndarray]
_NOTHING: Mapping[int, np.ndarray] = {}


class Averages(Protocol):
    """What a checkpoint needs of `averaging.WeightAverages`."""

    def holds(self, step: int) -> bool:
        """Whether there is an average when `step` steps are done."""

    def pairs(self, model: Any) -> list[tuple[Any, Any]]:
        """Returns the weights that are averaged, each with the variable of its average."""

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


def checked_state(state: Any) -> dict[str, Any]:
    """Returns the state of a checkpoint: the fields of `Progress`, or the figures of an epoch.

    Args:
        state: What the file holds.

    Raises:
        ValueError: If a value has another type than the loop needs; names the first one.

    Example:
        >>> checked_state({"step": 100, "seconds": 2.5})
        {'step': 100, 'seconds': 2.5}
    """
    if not isinstance(state, dict):
        raise ValueError("its state is no object")
    for name, value in state.items():
        rule, holds = _RULES.get(name, ("a number", _is_number))
        if not holds(value) and not (value is None and name not in _NEVER_NONE):
            raise ValueError(f"its {name[:40]!r} must be {rule}. Received: {str(value)[:80]}")
    return dict(state)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < _LARGEST)


def _is_time(value: Any) -> bool:
    return _is_number(value) and 0 <= value < _LARGEST


def _is_sums(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict) and all(v is None or _is_number(v) for v in row.values())
        for row in value
    )


_LARGEST = 2**63
_COUNT = ("a whole number of 64 bits, not negative", _is_count)
_RULES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "step": _COUNT,
    "epoch": _COUNT,
    "best_epoch": _COUNT,
    "seconds": ("a number of seconds", _is_time),
    "epoch_sums": ("a list of 3 numbers", _is_sums),
    "history": ("a list of objects of numbers", _is_history),
}
_NEVER_NONE = ("step", "seconds", "epoch_sums", "history")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds, as arrays.

    Attributes:
        model: The model; its variables may change meanwhile.
        state: The fields of `Progress`.
        weights: Values of `model.weights`.
        averaged: Values of `model.weights` with the averages in their places; None without any.
        optimizer: Values of the optimizer's variables.
        random: States of the layers with random numbers, by the name of the layer.
        rows: What each replica has of its own, `(replicas, values)`; None if nothing.
    """

    model: Any
    state: Mapping[str, Any]
    weights: Values
    averaged: Values | None
    optimizer: Values
    random: Mapping[str, np.ndarray]
    rows: np.ndarray | None

    @property
    def size(self) -> int:
        """Size of the checkpoint's files in bytes, at most."""
        parts = [self.weights, self.averaged or (), self.optimizer, list(self.random.values())]
        rows = () if self.rows is None else (self.rows,)
        return sum(bytes_of(part) for part in [*parts, rows]) + len(str(self.state))

    @property
    def finite(self) -> bool:
        """Whether all weights are finite."""
        return all(np.isfinite(value).all() for value in self.weights)


def take_snapshot(
    model: Any,
    optimizer: Any,
    progress: Progress,
    averages: Averages | None = None,
    rows: np.ndarray | None = None,
    means: Mapping[int, np.ndarray] = _NOTHING,
) -> Snapshot:
    """Copies the state of a run; nothing is assigned.

    Call it in the thread that entered the strategy: others cannot read variables of several
    devices.

    Args:
        model: The model, with the weights that training resumes from.
        optimizer: The optimizer.
        progress: The state of the training loop.
        averages: The averages of the weights; None if there are none yet.
        rows: The values of variables that each replica has of its own.
        means: Their means over the replicas, by the `id` of the variable.

    Example:
        >>> snapshot = take_snapshot(model, optimizer, Progress(step=100))
        >>> checkpoints.write(snapshot)  # in any thread, at any later time
    """

    def value(variable: Any) -> np.ndarray:
        known = means.get(id(variable))
        return np.array(variable.numpy() if known is None else known)

    weights = [value(variable) for variable in model.weights]
    averaged = None
    if averages is not None:
        means_of = {id(source): value(mean) for source, mean in averages.pairs(model)}
        averaged = [
            means_of.get(id(variable), current)
            for variable, current in zip(model.weights, weights, strict=True)
        ]
    return Snapshot(
        model,
        dataclasses.asdict(progress),
        weights,
        averaged,
        [np.array(variable.numpy()) for variable in saved_variables(optimizer)],
        {layer.name: np.array(layer.seed_generator.state) for layer in random_layers(model)},
        rows,
    )


def write_weights(model: Any, values: Values, path: Path) -> None:
    """Writes a `.weights.h5` file of a model with other values than its variables have now.

    Keras reads the values of a `StatelessScope`, which is the thread's own, in place of the
    variables.
    """
    import keras
    import tensorflow as tf

    with tf.device("CPU:0"):
        pairs = list(zip(model.weights, values, strict=True))
        scope = keras.StatelessScope(pairs, initialize_variables=False)
        with scope:
            model.save_weights(str(path))


def bytes_of(values: Values) -> int:
    """Returns the size of a file of arrays in bytes, at most."""
    return sum(value.nbytes + 4096 for value in values) + 2**16


def saved_variables(optimizer: Any) -> list[Any]:
    """Returns the optimizer's variables without the learning rate, which the step sets."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate = inner.learning_rate  # a variable, unless a schedule computes it
    return [variable for variable in optimizer.variables if variable is not rate]


def random_layers(model: Any) -> list[Any]:
    """Returns the layers with a seed generator, whose state Keras's weight files leave out."""
    return [layer for layer in model.layers if getattr(layer, "seed_generator", None) is not None]
