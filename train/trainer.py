"""The training loop, the same for one device, several devices and several machines."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import keras

from keras_resnet import PreprocessSpec

from .agreement import Agreement
from .augment import check_augmentation
from .batch_norm_statistics import recompute_batch_norm, statistics_batches
from .checkpoint import Checkpoints, Progress, bytes_needed
from .config import RunConfig
from .console import Console
from .data import ImageData
from .divergence import divergence_message, first_nonfinite
from .effective import changed_settings, check_settings
from .epoch_evaluation import EpochEvaluation
from .errors import TrainingDivergedError, TrainingStoppedError
from .feeding import feed
from .learner import Learner
from .length import length_of
from .profiler import StepProfiler
from .replica_statistics import ReplicaStatistics
from .reporting import Reporter
from .rundir import RunDirectory
from .saving import Saver
from .signals import StopSignals
from .starting_net import StartingNet
from .steps import TrainingSteps
from .strategies import is_chief
from .workers import Watch


class Trainer:
    """Trains one network in one run directory.

    The state of a run is `model`, `optimizer` and `progress`; a checkpoint holds all three.

    Args:
        config: The run.
        data: The images, already at the network's size where they are in memory.
        preprocess: The preprocessing, with the mean and standard deviation of each channel.
        directory: The directory that the run writes to.
        strategy: The `tf.distribute` strategy to train under.
        console: Prints progress and messages.
        callbacks: Keras callbacks. They receive `on_train_*`, `on_epoch_*`, and
            `on_train_batch_end` after the last step of each call of the graph. `on_train_begin`
            receives the `step` that the run resumes from and the `history` up to it. They may set
            `model.stop_training`.
        start: The net whose weights the run starts from; None starts from random ones.
        agreement: What the workers decide together; None for one worker.
        watch: Says for whom this worker waits.
    """

    def __init__(
        self,
        config: RunConfig,
        data: ImageData,
        preprocess: PreprocessSpec,
        directory: RunDirectory,
        strategy: Any,
        console: Console,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        start: StartingNet | None = None,
        *,
        agreement: Agreement | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.config = config
        self.data = data
        self.preprocess = preprocess
        self.directory = directory
        self.strategy = strategy
        self.console = console
        self.chief = is_chief(config.runtime.strategy)
        self.length = length_of(config, len(data.train))
        check_settings(config, self.length, validation=data.validation is not None)
        for line in changed_settings(config, self.length, len(data.train)):
            console.say(f"Note: {line}")
        self.learner = Learner(config, data, preprocess, strategy, console.say, self.length, start)
        check_augmentation(
            config.augment,
            size=preprocess.size,
            channels=data.channels,
            batch=config.batch_size,
            per_replica=config.batch_size // strategy.num_replicas_in_sync,
        )
        averages = self.learner.averages
        self.statistics = ReplicaStatistics(
            [*self.model.non_trainable_variables, *(averages.statistics if averages else ())],
            strategy,
        )
        self.progress = Progress()
        self.checkpoints = Checkpoints(directory.checkpoints, config.checkpoint.keep)
        self._saver = Saver(
            config.checkpoint, self.length, self.checkpoints, self.statistics, write=self.chief
        )
        self.evaluation = EpochEvaluation(
            self.learner,
            strategy,
            self.checkpoints,
            write=self.chief,
            submit=self._saver.background.submit,
            selects_best=data.validation is not None,
        )
        self._agreement = agreement or Agreement()
        self._watch = watch or Watch(())
        self.reporter = Reporter(config, self.length, console, callbacks, self.model)
        self._profiler = StepProfiler(
            config.runtime.profiled_steps if self.chief else None,
            directory.path / "logs",
            console.say,
        )

    @property
    def model(self) -> Any:
        """The net."""
        return self.learner.model

    @property
    def optimizer(self) -> Any:
        """The optimizer of the variables that are trained now."""
        return self.learner.optimizer

    @property
    def train_steps(self) -> TrainingSteps:
        """The training step of the variables that are trained now."""
        return self.learner.train_steps

    @property
    def checkpoint_bytes(self) -> int:
        """Approximate size of one checkpoint on disk."""
        return bytes_needed(self.model, self.optimizer, averaged=self.learner.averages is not None)

    @property
    def finished(self) -> bool:
        """Whether the last step is done, or the training was stopped early or by a callback."""
        ended = self.progress.step >= self.length.steps or bool(self.model.stop_training)
        return ended or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether too many epochs have passed without a better result; see `early_stop`.

        Epochs that train the classifier only do not count.
        """
        patience, history = self.config.early_stop, self.progress.history
        if not patience or not history:
            return False
        best = max(self.progress.best_epoch or 0, math.ceil(self.config.head_epochs))
        return int(history[-1]["epoch"]) - best >= patience

    def batches(self) -> Any:
        """Returns the distributed training batches from the current step on."""
        return feed(
            self.learner,
            self.config,
            self.strategy,
            self.console,
            step=self.progress.step,
            steps=self.length.steps,
            classes=len(self.data.class_names),
        )

    def fit(self) -> Progress:
        """Trains to the end, from the newest sound checkpoint if there is one.

        The model ends with the weights that did best on the validation images, or with the last
        ones where no images are held out; with averaged weights where the recipe averages.

        Raises:
            TrainingDivergedError: If the loss is no longer finite; names the step.
            TrainingStoppedError: After SIGTERM, SIGINT or SIGHUP, once the state is saved.
        """
        with self._watch.waiting("the other workers to read the last checkpoint"):
            self._restore()
            if self.progress.step == 0 and self.config.model.weights is not None:
                self._save()  # the run then resumes without the file that it started from
        self.model.stop_training = False
        self.reporter.begin(self.progress)
        with (
            StopSignals() as signals,
            self._saver.background,
            self.console.progress(self.length.steps, self.progress.step),
        ):
            batches = iter(self.batches())
            while not self.finished:
                self._advance(batches)
                with self._watch.waiting(f"the end of step {self.progress.step}", saves=True):
                    self.learner.start_phase_at(self.progress.step)
                    if self.length.ends_epoch(self.progress.step):
                        self._end_epoch()
                    save, stop = self._due(signals)
                    if save or stop or self.finished:
                        self._save()
                    if stop or self.finished:
                        self._wait_until_saved()
                if stop:
                    self._stop(signals)
        if self.stopped_early:
            self.console.say(
                f"Stopped at step {self.progress.step}: {self.config.early_stop} epoch(s) without "
                f"a better result than that of epoch {self.progress.best_epoch}"
            )
        self._profiler.stop()
        self.reporter.end()
        self._assign_final_weights()
        return self.progress

    def _restore(self) -> None:
        self._agreement.check_step(self.checkpoints.last_step())
        say = self.console.say
        with self.strategy.scope():
            progress = self.learner.restore(self.checkpoints)
            # One worker may have found a checkpoint damaged, or have another teacher.
            facts: dict[str, Any] = {"step": 0 if progress is None else progress.step}
            teacher = self.learner.teacher
            facts |= {} if teacher is None else {"teacher": teacher.identity}
            self._agreement.check_equal(facts, "states to start from")
            if progress is None:
                return
            self.progress = progress
            if progress.step:
                say(f"Resuming at step {progress.step} of {self.length.steps}")
            if self.evaluation.selects_best:  # passes the best weights through the model
                self.evaluation.best.resume(progress, say)
            self._saver.restore_replicas(progress.step, say)
        if self.chief:
            self.directory.write_history(progress.history)

    def _advance(self, batches: Iterator[Any]) -> None:
        """Trains for the steps of one call of the graph."""
        self._saver.background.check()
        if self.chief:
            self.directory.check_held()
        step = self.progress.step
        self.reporter.begin_steps(self.progress)
        count = self._next_stop() - step
        self._profiler.before(step)
        started = time.monotonic()
        with self._watch.waiting(f"step {step + count}", saves=True):
            metrics = self.train_steps(batches, count, step)
        seconds = time.monotonic() - started
        diverged = first_nonfinite(metrics[:, 0])
        if diverged is not None:
            self._raise_diverged(step + diverged, float(metrics[diverged, 0]))
        self._profiler.after(step + count)
        rate = float(self.learner.schedule(step + count - 1))
        self.reporter.add_steps(self.progress, metrics, seconds, rate)

    def _next_stop(self) -> int:
        """Returns the step at which the next call of the graph ends."""
        step, every = self.progress.step, self.config.checkpoint.every_steps
        epoch_end = self.length.end_of(self.length.epoch_of(step))
        stop = min(step + self.config.runtime.steps_per_call, epoch_end)
        if self.learner.head_only:
            stop = min(stop, self.learner.head_steps)
        stop = min(stop, self._profiler.next_border(step) or stop)
        return min(stop, (step // every + 1) * every) if every else stop

    def _end_epoch(self) -> None:
        progress, averages = self.progress, self.learner.averages
        epoch = self.length.epoch_of(progress.step - 1)
        self.statistics.assign_means()
        if averages is not None:
            averages.end_epoch(progress.step)
        figures = self.evaluation.evaluate(progress, epoch)
        rate = float(self.learner.schedule(progress.step - 1))
        row = self.reporter.row(progress, rate, figures)
        progress.history.append(row)
        if self.chief:
            self.directory.write_history(progress.history)
        self.reporter.end_epoch(progress, row)

    def _due(self, signals: StopSignals) -> tuple[bool, bool]:
        """Returns whether to save and whether to stop now, the same on all workers."""
        late = self.chief and self._saver.late
        late, stop = self._agreement.any(late, signals.received is not None)
        return late or self._saver.due(self.progress.step), stop

    def _save(self) -> None:
        """Begins to save the state, which this does not change."""
        if self.chief:
            self.directory.check_held()
        averages = self.evaluation.averages(self.progress.step)
        if not self._saver.save(self.learner, self.progress, averages):
            self._raise_diverged(self.progress.step, float("nan"))

    def _wait_until_saved(self) -> None:
        """Waits for what is being written; no worker ends before: schedulers kill what remains."""
        self._saver.background.wait()
        self._agreement.any(False)

    def _stop(self, signals: StopSignals) -> NoReturn:
        # Another worker may have received the signal.
        name = signal.Signals(signals.received or signal.SIGTERM).name
        raise TrainingStoppedError(
            f"Stopped by {name} at step {self.progress.step}; the state is saved. "
            "Give the same command again to resume"
        )

    def _raise_diverged(self, step: int, loss: float) -> NoReturn:
        with contextlib.suppress(OSError):  # what diverged is the error to report
            self._saver.background.wait()
        saved = self.checkpoints.steps()
        raise TrainingDivergedError(
            divergence_message(
                step,
                loss,
                config=self.config,
                length=self.length,
                learning_rate=float(self.learner.schedule(step)),
                checkpoint=saved[-1].name if saved else None,
            )
        )

    def _assign_final_weights(self) -> None:
        with self._watch.waiting("the other workers to end their training"):
            self.statistics.assign_means()
            self.evaluation.assign_final(self.progress.step)
        wanted = self.config.optimizer.recompute_batch_norm
        if wanted:
            batches = statistics_batches(self.config, self.data, self.preprocess, wanted)
            count = recompute_batch_norm(self.model, batches)
            self.console.say(f"Batch-norm statistics re-estimated on {count} training images")
