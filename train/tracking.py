"""Runs sent to Weights & Biases or MLflow, where these libraries are installed."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import keras

from .config import RunConfig
from .files import read_object, write_json

_RECORD = "tracking.json"


def make_tracker(config: RunConfig, directory: Path) -> keras.callbacks.Callback | None:
    """Returns the callback of `runtime.track`, or None.

    Args:
        config: The run.
        directory: Its directory, whose name becomes the name of the tracked run.

    Raises:
        ModuleNotFoundError: If the library is not installed.
    """
    kind = config.runtime.track
    if kind == "none":
        return None
    try:
        module = importlib.import_module(kind)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"`--track {kind}` needs the library: pip install {kind}", name=kind
        ) from error
    return (WandbTracker if kind == "wandb" else MlflowTracker)(module, config, directory)


class _Tracker(keras.callbacks.Callback):
    """What both trackers do: each epoch's figures and, between them, those of the calls.

    The identity of the tracked run is kept in the run's directory, so that a run that resumes goes
    on with the same one.
    """

    def __init__(self, module: Any, config: RunConfig, directory: Path) -> None:
        super().__init__()
        self._module = module
        self._config = config
        self._directory = directory

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts the tracked run, or goes on with it."""
        file = self._directory / _RECORD
        record = read_object(file) if file.is_file() else {}
        identity = self._start(record.get(self._config.runtime.track))
        write_json(file, {**record, self._config.runtime.track: identity})

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Sends the figures of a call of the graph."""
        self._send({f"train/{name}": float(each) for name, each in (logs or {}).items()}, batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Sends the row of an epoch."""
        row = dict(logs or {})
        step = int(row.pop("step", 0))
        self._send({f"epoch/{name}": float(value) for name, value in row.items()}, step)

    def _start(self, identity: str | None) -> str:
        raise NotImplementedError

    def _send(self, values: dict[str, float], step: int) -> None:
        raise NotImplementedError


class WandbTracker(_Tracker):
    """Sends a run to Weights & Biases; its own environment variables choose project and server."""

    def _start(self, identity: str | None) -> str:
        self._run = self._module.init(
            id=identity,
            name=self._directory.name,
            config=dataclasses.asdict(self._config),
            resume="allow",
        )
        return str(self._run.id)

    def _send(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def on_train_end(self, logs: Any = None) -> None:
        """Ends the tracked run."""
        self._run.finish()


class MlflowTracker(_Tracker):
    """Sends a run to MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME choose the place."""

    def _start(self, identity: str | None) -> str:
        run = self._module.start_run(
            run_id=identity, run_name=None if identity else self._directory.name
        )
        if identity is None:
            self._module.log_params(_flat(dataclasses.asdict(self._config)))
        return str(run.info.run_id)

    def _send(self, values: dict[str, float], step: int) -> None:
        self._module.log_metrics(values, step=step)

    def on_train_end(self, logs: Any = None) -> None:
        """Ends the tracked run."""
        self._module.end_run()


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested values by dotted path."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
