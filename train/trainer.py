"""The training loop, the same for one device, several devices and several machines."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import keras
import numpy as np

from keras_resnet import PreprocessSpec, build

from .agreement import Agreement, sum_over_workers
from .best_weights import BestWeights
from .checkpoint import Checkpoints, Progress, bytes_needed
from .config import RunConfig
from .console import Console
from .data import ImageData, Share, TrainingPlan, training_batches
from .divergence import divergence_message, first_nonfinite
from .errors import TrainingDivergedError, TrainingStoppedError
from .evaluation.classify import Evaluator
from .length import length_of
from .optimizers import averaged_weights, make_optimizer
from .recipes import fit_warmup
from .rundir import RunDirectory, spec_of
from .schedules import make_schedule
from .signals import StopSignals
from .steps import TrainingSteps
from .strategies import is_chief
from .throughput import Throughput


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
    ) -> None:
        self.config = config
        self.data = data
        self.preprocess = preprocess
        self.directory = directory
        self.strategy = strategy
        self.console = console
        self.chief = is_chief(config.runtime.strategy)
        self.length = length_of(config, len(data.train))
        steps, per_epoch = self.length.steps, self.length.steps_per_epoch
        schedule, note = fit_warmup(config, total_steps=steps, steps_per_epoch=per_epoch)
        if note:
            console.say(f"Note: {note}")
        self.schedule = make_schedule(schedule, total_steps=steps, steps_per_epoch=per_epoch)
        with strategy.scope():
            self.model = build(
                spec_of(config),
                classes=len(data.class_names),
                input_shape=(*preprocess.size, data.channels),
                stacked=config.model.stacked,
                seed=config.seed,
            )
            self.optimizer = make_optimizer(
                config.optimizer, self.schedule, config.runtime.precision
            )
            self.optimizer.build(self.model.trainable_variables)
        self.progress = Progress()
        self.throughput = Throughput()
        self.train_steps = TrainingSteps(self.model, self.optimizer, config, strategy)
        self.checkpoints = Checkpoints(directory.checkpoints, config.checkpoint.keep)
        self.best = BestWeights(self.model, self.checkpoints, write=self.chief)
        # Without a validation split each epoch reports on the test split, which chooses nothing.
        self.selects_best = data.validation is not None
        self.evaluators = {
            split: Evaluator(self.model, source, preprocess, strategy=strategy)
            for split, source in (("validation", data.validation), ("test", data.test))
            if source is not None
        }
        several_workers = config.runtime.strategy == "multi-worker"
        self._agreement = Agreement(sum_over_workers(strategy) if several_workers else None)
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), add_history=False, model=self.model
        )
        self._saved_at = time.monotonic()

    @property
    def checkpoint_bytes(self) -> int:
        """Approximate size of one checkpoint on disk."""
        return bytes_needed(self.model, self.optimizer, averaged=self.config.optimizer.ema > 0)

    @property
    def finished(self) -> bool:
        """Whether the last step is done or a callback has stopped the training."""
        return self.progress.step >= self.length.steps or bool(self.model.stop_training)

    def batches(self) -> Any:
        """Returns the distributed training batches from the current step on."""
        plan = TrainingPlan(
            self.preprocess,
            self.config.augment,
            self.data.channels,
            self.config.seed,
            self.progress.step,
            self.length.steps,
        )
        replicas = self.strategy.num_replicas_in_sync

        def batches(context: Any) -> Any:
            share = Share.of(context, self.config.batch_size, replicas)
            return training_batches(self.data.train, plan, share)

        return self.strategy.distribute_datasets_from_function(batches)

    def fit(self) -> Progress:
        """Trains to the end, from the newest sound checkpoint if there is one.

        The model ends with the weights that did best on the validation images, or with the last
        ones where no images are held out; with averaged weights where the recipe averages.

        Raises:
            TrainingDivergedError: If the loss is no longer finite; names the step.
            TrainingStoppedError: After SIGTERM or SIGINT, once the state is saved.
        """
        self._restore()
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
                if self.length.ends_epoch(self.progress.step):
                    self._end_epoch()
                save, stop = self._due(signals)
                if save or stop or self.finished:
                    self._save()
                if stop:
                    self._stop(signals)
        self._callbacks.on_train_end()
        self._assign_final_weights()
        return self.progress

    def _restore(self) -> None:
        self._agreement.check_step(self.checkpoints.last_step())
        with self.strategy.scope():
            progress = self.checkpoints.restore(self.model, self.optimizer, self.console.say)
            if progress is None:
                return
            self.progress = progress
            self.console.say(f"Resuming at step {progress.step} of {self.length.steps}")
            if self.selects_best:
                self.best.resume(progress, self.console.say)
        if self.chief:
            self.directory.write_history(progress.history)

    def _advance(self, batches: Iterator[Any]) -> None:
        """Trains for the steps of one call of the graph."""
        progress, batch_size = self.progress, self.config.batch_size
        if progress.epoch_sums[2] == 0:
            self._callbacks.on_epoch_begin(self.length.epoch_of(progress.step) - 1)
        count = self._next_stop() - progress.step
        started = time.monotonic()
        metrics = self.train_steps(batches, count)
        seconds = time.monotonic() - started
        diverged = first_nonfinite(metrics[:, 0])
        if diverged is not None:
            self._raise_diverged(progress.step + diverged, float(metrics[diverged, 0]))
        images = count * batch_size
        loss, correct = metrics.astype("float64").sum(axis=0) * batch_size
        sums = progress.epoch_sums
        progress.epoch_sums = [sums[0] + loss, sums[1] + correct, sums[2] + images]
        progress.step += count
        progress.seconds += seconds
        self.throughput.add(images, seconds)
        means = {"loss": loss / images, "accuracy": correct / images}
        self.console.advance(count, **means, images_per_second=self.throughput.images_per_second)
        self._callbacks.on_train_batch_end(progress.step - 1, means)

    def _next_stop(self) -> int:
        """Returns the step at which the next call of the graph ends."""
        step, every = self.progress.step, self.config.checkpoint.every_steps
        epoch_end = self.length.end_of(self.length.epoch_of(step))
        stop = min(step + self.config.runtime.steps_per_call, epoch_end)
        return min(stop, (step // every + 1) * every) if every else stop

    def _end_epoch(self) -> None:
        progress = self.progress
        epoch = self.length.epoch_of(progress.step - 1)
        loss, correct, images = progress.epoch_sums
        row = {
            "epoch": epoch,
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "learning_rate": float(self.schedule(progress.step - 1)),
            "loss": loss / images,
            "accuracy": correct / images,
            **self._evaluate(epoch),
        }
        progress.history.append(row)
        progress.epoch_sums = [0.0, 0.0, 0.0]
        if self.chief:
            self.directory.write_history(progress.history)
        self.console.epoch(row, self.length.epochs)
        self._callbacks.on_epoch_end(epoch - 1, dict(row))

    def _evaluate(self, epoch: int) -> dict[str, float]:
        """Evaluates with the weights that a user would get, and keeps the best ones."""
        evaluator = self.evaluators.get("validation") or self.evaluators.get("test")
        if evaluator is None:
            return {}
        self.train_steps.average_statistics()
        with self._evaluation_weights():
            measured = evaluator()
            if self.selects_best:
                self.best.update(self.progress, epoch, measured.accuracy, measured.loss)
        split = "val" if self.selects_best else "test"
        return {f"{split}_loss": measured.loss, f"{split}_accuracy": measured.accuracy}

    def _evaluation_weights(self) -> contextlib.AbstractContextManager[None]:
        """Puts the averaged weights in the model for a while, where the recipe averages."""
        if self.config.optimizer.ema:
            return averaged_weights(self.model, self.optimizer)
        return contextlib.nullcontext()

    def _due(self, signals: StopSignals) -> tuple[bool, bool]:
        """Returns whether to save and whether to stop now, the same on all workers."""
        config, step = self.config.checkpoint, self.progress.step
        late = time.monotonic() - self._saved_at >= 60 * config.every_minutes > 0
        late, stop = self._agreement.any(self.chief and late, signals.received is not None)
        if config.every_steps:
            return late or step % config.every_steps == 0, stop
        return late or self.length.ends_epoch(step), stop

    def _save(self) -> None:
        self.train_steps.average_statistics()
        # The last loss may be finite and its update not: such weights must not replace sound ones.
        if not all(np.isfinite(variable.numpy()).all() for variable in self.model.weights):
            self._raise_diverged(self.progress.step, float("nan"))
        averaged = self._evaluation_weights() if self.config.optimizer.ema else None
        if self.chief:
            self.checkpoints.save(self.model, self.optimizer, self.progress, averaged)
        elif averaged is not None:  # all workers assign variables together
            with averaged:
                pass
        self._saved_at = time.monotonic()

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
                learning_rate=float(self.schedule(step)),
                checkpoint=saved[-1].name if saved else None,
            )
        )

    def _assign_final_weights(self) -> None:
        with self.strategy.scope():
            if not self.best.assign():
                self.optimizer.finalize_variable_values(self.model.trainable_variables)
