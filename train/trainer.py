"""The training loop, the same for one device, several devices and several machines."""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import keras
import numpy as np

from keras_resnet import PreprocessSpec

from .agreement import Agreement
from .augment import check_augmentation
from .averaging import WeightAverages
from .batch_norm_statistics import recompute_batch_norm, statistics_batches
from .best_weights import BestWeights
from .checkpoint import Checkpoints, Progress, bytes_needed
from .config import RunConfig
from .console import Console
from .data import ImageData, Share, TrainingPlan, pixel_batches, reading_notes
from .divergence import divergence_message, first_nonfinite
from .effective import changed_settings
from .errors import TrainingDivergedError, TrainingStoppedError
from .evaluation.classify import Evaluator
from .learner import Learner
from .length import length_of
from .profiler import StepProfiler
from .replica_statistics import ReplicaStatistics
from .rundir import RunDirectory
from .signals import StopSignals
from .starting_net import StartingNet
from .steps import TrainingSteps
from .strategies import is_chief
from .throughput import Throughput
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
        self.throughput = Throughput()
        self.checkpoints = Checkpoints(directory.checkpoints, config.checkpoint.keep)
        self.best = BestWeights(self.model, self.checkpoints, write=self.chief)
        # Without a validation split each epoch reports on the test split, which chooses nothing.
        self.selects_best = data.validation is not None
        if config.early_stop and not self.selects_best:
            raise ValueError("`--early-stop` needs validation images: give --validation 0.1")
        profiled = config.runtime.profiled_steps
        if profiled is not None and profiled[0] >= self.length.steps:
            raise ValueError(
                f"`--profile` must begin within the run of {self.length.steps} steps, counted from "
                f"0. Received: {config.runtime.profile}"
            )
        self._agreement = agreement or Agreement()
        self._watch = watch or Watch(())
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), add_history=False, model=self.model
        )
        self._profiler = StepProfiler(
            profiled if self.chief else None,
            directory.path / "logs",
            console.say,
        )
        self._saved_at = time.monotonic()

    @functools.cached_property
    def evaluators(self) -> dict[str, Evaluator]:
        """The evaluators of the splits that the data has."""
        data, preprocess, model = self.learner.trained
        return {
            split: Evaluator(model, source, preprocess, strategy=self.strategy)
            for split, source in (("validation", data.validation), ("test", data.test))
            if source is not None
        }

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
        data, preprocess, _ = self.learner.trained
        plan = TrainingPlan(
            preprocess,
            self.config.augment,
            data.channels,
            self.config.seed,
            self.progress.step,
            self.length.steps,
            len(self.data.class_names),
        )
        replicas = self.strategy.num_replicas_in_sync

        def batches(context: Any) -> Any:
            share = Share.of(context, self.config.batch_size, replicas)
            for line in reading_notes(data.train, plan, share):
                self.console.say(f"Note: {line}")
            return pixel_batches(data.train, plan, share)

        return self.strategy.distribute_datasets_from_function(batches)

    def fit(self) -> Progress:
        """Trains to the end, from the newest sound checkpoint if there is one.

        The model ends with the weights that did best on the validation images, or with the last
        ones where no images are held out; with averaged weights where the recipe averages.

        Raises:
            TrainingDivergedError: If the loss is no longer finite; names the step.
            TrainingStoppedError: After SIGTERM, SIGINT or SIGHUP, once the state is saved.
        """
        self._restore()
        if self.progress.step == 0 and self.config.model.weights is not None:
            self._save()  # the run then resumes without the file that it started from
        self.model.stop_training = False
        self._callbacks.on_train_begin(
            {"step": self.progress.step, "history": self.progress.history}
        )
        with (
            StopSignals() as signals,
            self.console.progress(self.length.steps, self.progress.step),
        ):
            batches = iter(self.batches())
            while not self.finished:
                self._advance(batches)
                self.learner.start_phase_at(self.progress.step)
                with self._watch.waiting(f"the end of step {self.progress.step}", saves=True):
                    if self.length.ends_epoch(self.progress.step):
                        self._end_epoch()
                    save, stop = self._due(signals)
                    if save or stop or self.finished:
                        self._save()
                if stop:
                    self._stop(signals)
        if self.stopped_early:
            self.console.say(
                f"Stopped at step {self.progress.step}: {self.config.early_stop} epoch(s) without "
                f"a better result than that of epoch {self.progress.best_epoch}"
            )
        self._profiler.stop()
        self._callbacks.on_train_end()
        self._assign_final_weights()
        return self.progress

    def _restore(self) -> None:
        self._agreement.check_step(self.checkpoints.last_step())
        with self.strategy.scope():
            progress = self.learner.restore(self.checkpoints)
            if progress is None:
                return
            self.progress = progress
            if progress.step:
                self.console.say(f"Resuming at step {progress.step} of {self.length.steps}")
            if self.selects_best:  # passes the best weights through the model
                self.best.resume(progress, self.console.say)
            rows = self.checkpoints.replica_rows(progress.step)
            if rows is not None and self.statistics.fits(rows):
                self.statistics.write(rows)
            elif rows is not None:
                self.console.say(
                    f"Note: the checkpoint is of {len(rows)} replicas; each of these takes the "
                    "mean of their batch-norm statistics"
                )
        if self.chief:
            self.directory.write_history(progress.history)

    def _advance(self, batches: Iterator[Any]) -> None:
        """Trains for the steps of one call of the graph."""
        progress, batch_size = self.progress, self.config.batch_size
        if progress.epoch_sums[2] == 0:
            self._callbacks.on_epoch_begin(self.length.epoch_of(progress.step) - 1)
        count = self._next_stop() - progress.step
        self._profiler.before(progress.step)
        started = time.monotonic()
        with self._watch.waiting(f"step {progress.step + count}", saves=True):
            metrics = self.train_steps(batches, count, progress.step)
        seconds = time.monotonic() - started
        diverged = first_nonfinite(metrics[:, 0])
        if diverged is not None:
            self._raise_diverged(progress.step + diverged, float(metrics[diverged, 0]))
        images = count * batch_size
        loss, correct, *_ = metrics.astype("float64").sum(axis=0) * batch_size
        sums = progress.epoch_sums
        progress.epoch_sums = [sums[0] + loss, sums[1] + correct, sums[2] + images]
        progress.step += count
        progress.seconds += seconds
        self.throughput.add(images, seconds)
        self._profiler.after(progress.step)
        means = {"loss": loss / images, "accuracy": correct / images}
        self.console.advance(
            count, **means, images_per_second=self.throughput.images_per_second, left=self._left()
        )
        speed = images / max(seconds, 1e-9)
        rate = float(self.learner.schedule(progress.step - 1))
        logs = {**means, "learning_rate": rate, "images_per_second": speed}
        if self.config.runtime.log_gradient_norm:
            logs["gradient_norm"] = float(metrics[:, 2].astype("float64").mean())
        self._callbacks.on_train_batch_end(progress.step - 1, logs)

    def _left(self) -> float | None:
        """Returns the seconds that the remaining steps take at the speed so far, or None."""
        speed = self.throughput.images_per_second
        images = (self.length.steps - self.progress.step) * self.config.batch_size
        return images / speed if speed else None

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
        loss, correct, images = progress.epoch_sums
        self.statistics.assign_means()
        if averages is not None:
            averages.end_epoch(progress.step)
        row = {
            "epoch": epoch,
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "learning_rate": float(self.learner.schedule(progress.step - 1)),
            "loss": loss / images,
            "accuracy": correct / images,
            **self._evaluate(epoch),
        }
        progress.history.append(row)
        progress.epoch_sums = [0.0, 0.0, 0.0]
        if self.chief:
            self.directory.write_history(progress.history)
        speed = self.throughput.images_per_second
        self.console.epoch(row, self.length.epochs, images_per_second=speed, left=self._left())
        self._callbacks.on_epoch_end(epoch - 1, dict(row))

    def _evaluate(self, epoch: int) -> dict[str, float]:
        """Evaluates with the weights that a user would get, and keeps the best ones."""
        evaluator = self.evaluators.get("validation") or self.evaluators.get("test")
        if evaluator is None:
            return {}
        with self._evaluation_weights():
            measured = evaluator()
            if self.selects_best:
                self.best.update(self.progress, epoch, measured.score, measured.loss)
        split = "val" if self.selects_best else "test"
        return {f"{split}_{name}": value for name, value in measured.figures.items()}

    def _evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        """Puts the averaged weights in the model for a while, where the recipe averages."""
        averages = self._averages()
        return contextlib.nullcontext() if averages is None else averages.assigned(self.model)

    def _averages(self) -> WeightAverages | None:
        """Returns the averages; None if there are none yet."""
        averages = self.learner.averages
        if averages is None or not averages.holds(self.progress.step):
            return None
        return averages

    def _due(self, signals: StopSignals) -> tuple[bool, bool]:
        """Returns whether to save and whether to stop now, the same on all workers."""
        config, step = self.config.checkpoint, self.progress.step
        late = time.monotonic() - self._saved_at >= 60 * config.every_minutes > 0
        late, stop = self._agreement.any(self.chief and late, signals.received is not None)
        if config.every_steps:
            return late or step % config.every_steps == 0, stop
        return late or self.length.ends_epoch(step), stop

    def _save(self) -> None:
        """Saves the state, which it does not change: each replica keeps its own statistics."""
        with self.statistics.averaged() as rows:
            self._write_checkpoint(rows)
        # No worker ends before the chief has written: schedulers kill what then remains.
        self._agreement.any(False)
        self._saved_at = time.monotonic()

    def _write_checkpoint(self, rows: np.ndarray | None) -> None:
        # The last loss may be finite and its update not: such weights must not replace sound ones.
        if not all(np.isfinite(variable.numpy()).all() for variable in self.model.weights):
            self._raise_diverged(self.progress.step, float("nan"))
        averages = self._averages()
        if self.chief:
            self.directory.check_held()
            self.checkpoints.save(self.model, self.optimizer, self.progress, averages, rows)
        elif averages is not None:  # all workers assign variables together
            with averages.assigned(self.model):
                pass

    def _stop(self, signals: StopSignals) -> NoReturn:
        # Another worker may have received the signal.
        name = signal.Signals(signals.received or signal.SIGTERM).name
        raise TrainingStoppedError(
            f"Stopped by {name} at step {self.progress.step}; the state is saved. "
            "Give the same command again to resume"
        )

    def _raise_diverged(self, step: int, loss: float) -> NoReturn:
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
        self.statistics.assign_means()
        with self.strategy.scope():
            averages = self._averages()
            if not self.best.assign() and averages is not None:
                averages.assign(self.model)
        wanted = self.config.optimizer.recompute_batch_norm
        if wanted:
            batches = statistics_batches(self.config, self.data, self.preprocess, wanted)
            count = recompute_batch_norm(self.model, batches)
            self.console.say(f"Batch-norm statistics re-estimated on {count} training images")
