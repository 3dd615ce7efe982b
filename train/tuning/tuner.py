"""KerasTuner's loop over trials, each an ordinary training run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from ..config import RunConfig
from ..console import Console
from ..errors import TrainingDivergedError, TrainingStoppedError
from ..rundir import RunDirectory
from ..session import run_training
from .directory import SearchDirectory, TrialRecord, role
from .oracles import OBJECTIVE, Bounds, make_oracle
from .plan import PreparedSearch

# So many failures in a row have a common cause, which the next trial shares.
_FAILURES = 5
_PAUSE_SECONDS = 0.5


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Suppresses KerasTuner's output about reloading and messages between workers."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


class SearchStopped(keras_tuner.errors.FatalError):
    """A signal ended a trial, whose state is saved; KerasTuner does not catch this error."""


class TrialTuner(keras_tuner.Tuner):
    """KerasTuner's loop over trials, each an ordinary training run."""

    def __init__(
        self,
        prepared: PreparedSearch,
        directory: SearchDirectory,
        bounds: Bounds,
        console: Console,
    ) -> None:
        self.prepared = prepared
        self.runs = directory
        self.clock = bounds.clock
        self.console = console
        self._failures = 0
        self._idle = False
        oracle = make_oracle(prepared, bounds)
        alone = role() != "worker"
        with silent():
            super().__init__(oracle=oracle, directory=str(directory.path), project_name="tuner")
        # KerasTuner reloads only if a trial has ended; a search killed in its first resumes too.
        state = Path(self.project_dir) / "oracle.json"
        if alone and state.is_file() and not oracle.start_order:
            oracle.reload()

    def pre_create_trial(self) -> None:
        """Waits if there was no trial: Hyperband has none while a round is incomplete."""
        if self._idle:
            time.sleep(_PAUSE_SECONDS)
        self._idle = True

    def on_trial_end(self, trial: Any) -> None:
        """Reports the end of a trial to the oracle."""
        with silent():
            super().on_trial_end(trial)

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trains a candidate.

        Returns:
            The objective, which is 0 for a net that diverged: KerasTuner does not learn from
            failed trials, and should learn the rates at which nets diverge.
        """
        self._idle = False
        values = dict(trial.hyperparameters.values)
        config = self.prepared.trial(values, values.get("tuner/epochs"))
        self.console.say(
            f"Trial {trial.trial_id} at {self.clock.seconds:.0f} s, {length_text(config)}: "
            f"{self.prepared.candidates.difference(values)}"
        )
        record = self._train(TrialRecord(trial.trial_id, values, "unfinished"), config)
        self.runs.keep(record)
        if record.status != "failed":
            self._failures = 0
            return {OBJECTIVE: record.accuracy or 0.0}
        self.console.say(f"Trial {record.id} failed: {record.reason}")
        self._failures += 1
        if self._failures == _FAILURES:
            raise keras_tuner.errors.FatalRuntimeError(
                f"{_FAILURES} trials in a row failed; the last one: {record.reason}"
            )
        raise keras_tuner.errors.FailedTrialError(record.reason)

    def _train(self, record: TrialRecord, config: RunConfig) -> TrialRecord:
        started = time.monotonic()
        tick = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self.clock.save())
        try:
            run = run_training(config, self.runs.trial(record.id), callbacks=[tick])
        except TrainingStoppedError as stop:
            raise SearchStopped(str(stop)) from stop
        except OSError as error:  # a full disk is not the candidate's fault
            raise keras_tuner.errors.FatalRuntimeError(str(error)) from error
        except TrainingDivergedError as error:
            reason = str(error).split(". Try")[0]
            self.console.say(f"Trial {record.id} diverged: {reason}")
            record = dataclasses.replace(record, status="diverged", reason=reason)
        except (
            Exception
        ) as error:  # any error of TensorFlow for a net that does not fit into memory
            reason = " ".join(str(error).split())[:500]
            reason = f"{type(error).__name__}: {reason}"
            record = dataclasses.replace(record, status="failed", reason=reason)
        else:
            record = _measured(record, run)
        finally:
            keras.backend.clear_session()
        seconds = record.seconds or round(time.monotonic() - started, 1)
        epochs = config.epochs or (config.steps or 0) * config.batch_size / self.prepared.examples
        return dataclasses.replace(record, seconds=seconds, epochs=round(epochs, 2))


def _measured(record: TrialRecord, run: RunDirectory) -> TrialRecord:
    """Adds the validation metrics of a finished run; the test metrics are not used."""
    metrics = run.metrics["validation"]
    return dataclasses.replace(
        record,
        status="finished",
        accuracy=metrics["accuracy"],
        interval=tuple(metrics["accuracy_interval"]),
        loss=metrics["loss"],
        seconds=run.metrics["training"]["seconds"],
    )


def length_text(config: RunConfig) -> str:
    """Returns the length of a run as text."""
    return f"{config.epochs:g} epochs" if config.epochs is not None else f"{config.steps} steps"
