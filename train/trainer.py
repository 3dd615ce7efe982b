"""The training loop: one for one device, many, and many machines."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import PreprocessSpec, ResNetSpec, build

from .checkpoint import Checkpoints, Progress, bytes_needed
from .config import RunConfig
from .data import ImageData, Share, Source, TrainingPlan, training_batches
from .errors import TrainingDivergedError, TrainingStoppedError
from .evaluation.classify import Evaluation, Evaluator
from .length import length_of
from .optimizers import make_optimizer
from .reporting import Reporter
from .rundir import RunDirectory
from .schedules import make_schedule
from .steps import TrainingSteps


class Trainer:
    """Trains one net on one data set in one run directory.

    Args:
        config: The run.
        spec: The net.
        data: The images, already at the net's size where they lie in memory.
        preprocess: Resolved: with the channels' mean and standard deviation.
        directory: Where the run writes.
        strategy: Where it runs.
        chief: Whether this process writes files.
        reporter: Told of what happens.
        callbacks: Keras callbacks; they get `on_train_*` and `on_epoch_*`, and `on_train_batch_end`
            after the last step of each call. `on_train_begin` is told the step that the run goes
            on from. They may set `model.stop_training`.
    """

    def __init__(
        self,
        config: RunConfig,
        spec: ResNetSpec,
        data: ImageData,
        preprocess: PreprocessSpec,
        directory: RunDirectory,
        *,
        strategy: Any,
        chief: bool = True,
        reporter: Reporter,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        self.config = config
        self.data = data
        self.preprocess = preprocess
        self.directory = directory
        self.strategy = strategy
        self.chief = chief
        self.reporter = reporter
        self.length = length_of(config, len(data.train))
        self.schedule = make_schedule(
            config.schedule,
            total_steps=self.length.steps,
            steps_per_epoch=self.length.steps_per_epoch,
        )
        self.checkpoints = Checkpoints(directory.checkpoints, config.checkpoint.keep)
        with strategy.scope():
            self.model = build(
                spec,
                classes=len(data.class_names),
                input_shape=(*preprocess.size, data.channels),
                stacked=config.model.stacked,
                seed=config.seed,
            )
            self.optimizer = make_optimizer(
                config.optimizer, self.schedule, config.runtime.precision
            )
            self.optimizer.build(self.model.trainable_variables)
        self.steps = TrainingSteps(self.model, self.optimizer, config, strategy)
        # Without a validation split the test split is watched, but nothing is chosen by it.
        self.selects = data.validation is not None
        self._watched = data.validation or data.test
        self._evaluator: Evaluator | None = None
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), add_history=False, model=self.model
        )
        self._saved_at = time.monotonic()
        self._asked: int | None = None  # a signal that this process got
        self._stop: int | None = None  # a signal that all processes act on
        self._best: list[np.ndarray] | None = None
        self._rated: tuple[int, float] | None = None  # images and seconds after the first call
        self.progress = Progress()

    @property
    def checkpoint_bytes(self) -> int:
        """About what one checkpoint takes on disk."""
        optimizer = self.config.optimizer
        return bytes_needed(self.model, 1 + (optimizer.name == "adamw") + (optimizer.ema > 0))

    @property
    def images_per_second(self) -> float | None:
        """Speed of this session's steps, without the call that traced the graph."""
        images, seconds = self._rated or (0, 0.0)
        return images / seconds if images else None

    def fit(self) -> Progress:
        """Trains to the end, from the newest sound checkpoint where there is one.

        The model ends with the weights that did best on the validation images, or with the last
        ones where none are held out; averaged ones where the recipe averages.

        Raises:
            TrainingDivergedError: If the loss is no longer finite; says at which step.
            TrainingStoppedError: After SIGTERM or SIGINT, once the state is saved.
        """
        self._check_agreement()
        self._restore()
        self.model.stop_training = False
        self._callbacks.on_train_begin({"step": self.progress.step})
        with self._signals(), self.reporter.session(self.length.steps, self.progress.step):
            batches = iter(self._batches())
            while self.progress.step < self.length.steps and not self.model.stop_training:
                self._turn(batches)
            if self._asked is not None and not self._several_machines():
                self._stop = self._asked
                self._interrupt()  # behind the last step too: a study has more runs to come
            self._save()
        self._callbacks.on_train_end()
        if self._best is not None:
            with self.strategy.scope():
                self.model.set_weights(self._best)
        else:
            self.optimizer.finalize_variable_values(self.model.trainable_variables)
        return self.progress

    def _batches(self) -> Any:
        plan = TrainingPlan(
            self.preprocess,
            self.config.augment,
            self.data.channels,
            self.config.seed,
            self.progress.step,
            self.length.steps,
        )
        replicas = self.strategy.num_replicas_in_sync

        def share_of(context: Any) -> Any:
            share = Share.of(context, self.config.batch_size, replicas)
            return training_batches(self.data.train, plan, share)

        return self.strategy.distribute_datasets_from_function(share_of)

    def _turn(self, batches: Iterator[Any]) -> None:
        """One call of the graph, and what is due after it."""
        progress, every = self.progress, self.config.checkpoint.every_steps
        epoch = self.length.epoch_of(progress.step)
        end = self.length.end_of(epoch)
        if progress.epoch_sums[2] == 0:
            self._callbacks.on_epoch_begin(epoch - 1)
        stop = min(end, progress.step + self.config.runtime.steps_per_call)
        if every:
            stop = min(stop, (progress.step // every + 1) * every)
        self._advance(batches, stop - progress.step)
        if progress.step >= end:
            self._end_epoch(epoch)
        if progress.step < self.length.steps:
            if self._agreed(progress.step % every == 0 if every else progress.step >= end):
                self._save()
            if self._stop is not None:
                self._interrupt()

    def _advance(self, batches: Iterator[Any], count: int) -> None:
        started = time.monotonic()
        first = self.progress.step
        measured = self.steps(batches, count)
        seconds = time.monotonic() - started
        self.progress.seconds += seconds
        if self._rated is None:  # the first call traces the graph
            self._rated = (0, 0.0)
        else:
            images, before = self._rated
            self._rated = (images + count * self.config.batch_size, before + seconds)
        broken = np.flatnonzero(~np.isfinite(measured[:, 0]))
        if len(broken):
            self._diverged(first + int(broken[0]), float(measured[broken[0], 0]))
        self.progress.step += count
        images = count * self.config.batch_size
        loss, right = measured.astype("float64").sum(axis=0) * self.config.batch_size
        sums = self.progress.epoch_sums
        self.progress.epoch_sums = [sums[0] + loss, sums[1] + right, sums[2] + images]
        self.reporter.advance(count, images, loss / images, right / images)
        self._callbacks.on_train_batch_end(
            self.progress.step - 1, {"loss": loss / images, "accuracy": right / images}
        )

    def _end_epoch(self, epoch: int) -> None:
        progress = self.progress
        loss, right, images = progress.epoch_sums
        row = {
            "epoch": epoch,
            "step": progress.step,
            "seconds": round(progress.seconds, 3),
            "learning_rate": float(self.schedule(progress.step - 1)),
            "loss": loss / images,
            "accuracy": right / images,
        }
        if self._watched is not None:
            row |= self._watch(epoch, self._watched)
        progress.history.append(row)
        progress.epoch_sums = [0.0, 0.0, 0.0]
        if self.chief:
            self.directory.write_history(progress.history)
        self.reporter.epoch(row, self.length.epochs)
        self._callbacks.on_epoch_end(epoch - 1, dict(row))

    def _watch(self, epoch: int, source: Source) -> dict[str, float]:
        """Evaluates with the weights a user would get, and remembers the best."""
        self.steps.average_statistics()
        with self._averaged_weights():
            self._evaluator = self._evaluator or Evaluator(
                self.model, source, self.preprocess, strategy=self.strategy
            )
            found = self._evaluator()
            if self.selects and self._is_best(found):
                self.progress.best_value, self.progress.best_loss = found.accuracy, found.loss
                self.progress.best_epoch = epoch
                self._best = self.model.get_weights()
                if self.chief:
                    facts = {"val_accuracy": found.accuracy, "val_loss": found.loss}
                    self.checkpoints.save_best(self.model, {"epoch": epoch, **facts})
        name = "val" if self.selects else "test"
        return {f"{name}_loss": found.loss, f"{name}_accuracy": found.accuracy}

    def _is_best(self, found: Evaluation) -> bool:
        best, loss = self.progress.best_value, self.progress.best_loss
        if best is None or loss is None:
            return True
        return (found.accuracy, -found.loss) > (best, -loss)

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Puts the averaged weights, where the recipe keeps them, in the model for a while."""
        if not self.config.optimizer.ema:
            yield
            return
        variables = self.model.trainable_variables
        raw = [variable.numpy() for variable in variables]
        self.optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, raw, strict=True):
                variable.assign(value)

    def _restore(self) -> None:
        with self.strategy.scope():
            found = self.checkpoints.restore(self.model, self.optimizer, self.reporter.say)
            if found is None:
                return
            self.progress = found
            self.reporter.say(f"Resuming at step {found.step} of {self.length.steps}")
            if self.selects and found.best_value is not None:
                now = self.model.get_weights()
                try:
                    facts = self.checkpoints.load_weights(self.model, "best")
                    self._best = self.model.get_weights()
                    # They may be newer than the checkpoint that the run goes on from.
                    found.best_value, found.best_loss = facts["val_accuracy"], facts["val_loss"]
                    found.best_epoch = facts["epoch"]
                except (FileNotFoundError, ValueError) as error:
                    self.reporter.say(f"The best checkpoint is lost and chosen anew: {error}")
                    self.progress.best_value = self.progress.best_epoch = None
                self.model.set_weights(now)
        if self.chief:
            self.directory.write_history(found.history)

    def _check_agreement(self) -> None:
        """Checks that all machines see the same checkpoints, before they begin to differ."""
        if not self._several_machines():
            return
        saved = self.checkpoints.steps()
        step = int(saved[-1].name.removeprefix("step_")) if saved else 0
        (total,) = self.steps.total([float(step)])
        if total != float(step) * self.strategy.num_replicas_in_sync:
            raise ValueError(
                f"The workers stand at different steps (this one at {step}): --output must be one "
                "directory that all of them share"
            )

    def _several_machines(self) -> bool:
        import tensorflow as tf

        return isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def _save(self) -> None:
        self.steps.average_statistics()
        # A last finite loss may have left weights that are not: they must not replace sound ones.
        if not all(np.isfinite(variable.numpy()).all() for variable in self.model.weights):
            self._diverged(self.progress.step, float("nan"))
        averaged = self._averaged_weights() if self.config.optimizer.ema else None
        if self.chief:
            self.checkpoints.save(self.model, self.optimizer, self.progress, averaged)
        elif averaged is not None:  # assigning is an act of all machines together
            with averaged:
                pass
        self._saved_at = time.monotonic()

    def _agreed(self, due: bool) -> bool:
        """Whether to save now. Machines have different clocks and signals: the chief's counts."""
        minutes = self.config.checkpoint.every_minutes
        late = bool(minutes) and time.monotonic() - self._saved_at >= 60 * minutes
        if not self._several_machines():
            self._stop = self._asked
            return due or late
        own = [float(late and self.chief), float(self._asked is not None)]
        late_votes, stop_votes = self.steps.total(own)
        if stop_votes:
            self._stop = self._asked or signal.SIGTERM
        return due or bool(late_votes)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turns the first SIGINT or SIGTERM into a checkpoint and an orderly end."""

        def ask(number: int, frame: Any) -> None:
            if self._asked is not None:  # asked twice: do not wait
                raise KeyboardInterrupt
            self._asked = number

        try:
            before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals are the caller's business
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupt(self) -> None:
        self._save()
        name = signal.Signals(self._stop or signal.SIGTERM).name
        raise TrainingStoppedError(
            f"Stopped by {name} at step {self.progress.step}; the state is saved. "
            "Give the same command again to go on"
        )

    def _diverged(self, step: int, loss: float) -> None:
        peak = self.config.schedule.learning_rate
        warmup = min(1000, self.length.steps // 10)
        saved = self.checkpoints.steps()
        raise TrainingDivergedError(
            f"The loss became {loss} at step {step} (epoch {self.length.epoch_of(step)}), at "
            f"learning rate {float(self.schedule(step)):.3g}. Try, with another --output, a lower "
            f"one (--learning-rate {peak / 10:.3g}), a longer warm-up (--set "
            f"schedule.warmup_steps={warmup}), clipping (--set optimizer.clip_norm=1), or "
            "--precision float32. "
            + (f"The last checkpoint is {saved[-1].name}" if saved else "No checkpoint was written")
        )
