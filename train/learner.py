"""The net of a run with its optimizer and averages, in the phase that the run is in."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_resnet import PreprocessSpec, build
from keras_resnet.quantize import calibrate

from .augment import is_progressive
from .averaging import make_averages
from .batch_norm_statistics import statistics_batches
from .checkpoint import Checkpoints, CorruptCheckpointError, Progress
from .config import RunConfig
from .data import ImageData, make_finish
from .length import Length
from .linear_probe import LinearProbe, why_not_cached
from .losses import Loss, make_loss
from .optimizers import make_optimizer, rate_factors
from .phases import HeadFirst, head_steps, set_trainable
from .quantization import quantized_net
from .recipes import fit_warmup
from .rundir import spec_of
from .schedules import make_schedule
from .starting_net import StartingNet, draw_classifier
from .steps import TrainingSteps
from .teacher import open_teacher


class Learner:
    """The net of a run, what trains it, and the averages of its weights.

    Args:
        config: The run.
        data: Its images.
        preprocess: Their preprocessing.
        strategy: The `tf.distribute` strategy.
        say: Prints a message.
        length: The length of the run.
        start: The net whose weights the run starts from; None starts from random ones.

    Attributes:
        model: The net.
        averages: Averages of its weights, or None.
        teacher: The net that it learns from beside the labels, or None.
        schedule: The learning rate as a function of the step of the run.
        head_steps: Number of steps at the beginning that train the classifier only.
        head_only: Whether the run is in these steps.
        optimizer: The optimizer of the variables that are trained now.
        train_steps: Their training step.
    """

    optimizer: Any
    train_steps: TrainingSteps

    def __init__(
        self,
        config: RunConfig,
        data: ImageData,
        preprocess: PreprocessSpec,
        strategy: Any,
        say: Callable[[str], None],
        length: Length,
        start: StartingNet | None = None,
    ) -> None:
        self._config = config
        self._data = data
        self._preprocess = preprocess
        self._strategy = strategy
        self._say = say
        self.head_steps = head_steps(config, length)
        self.head_only = self.head_steps > 0
        self.schedule = self._make_schedule(length)
        # Growing training images need a net for any size; its weights are the same.
        size = (None, None) if is_progressive(config.augment) else preprocess.size
        with strategy.scope():
            self.model = build(
                spec_of(config),
                classes=len(data.class_names),
                input_shape=(*size, data.channels),
                stacked=config.model.stacked,
                seed=config.seed,
            )
            if config.model.head_std is not None:
                draw_classifier(self.model, config.model.head_std, config.seed)
            if start is not None:
                start.assign(self.model)
            if config.quantize.enabled:
                self.model = quantized_net(self.model, config, preprocess, length.steps)
                self._calibrate(start)
            self.averages = make_averages(self.model, config, length)
            self.teacher = open_teacher(config.loss, data, preprocess)
        self._probe = self._make_probe()
        self._start_phase()

    @functools.cached_property
    def trained(self) -> tuple[ImageData, PreprocessSpec, Any]:
        """What is trained: images and the net, or their features and its classifier."""
        if self._probe is None:
            return self._data, self._preprocess, self.model
        self._say("Computing the features of the frozen net once")
        features = self._probe.data_of(self._data, self._preprocess)
        return features, self._probe.preprocess, self._probe.head

    def start_phase_at(self, step: int) -> None:
        """Starts to train the layers below the classifier, if `step` is the first to do so."""
        if self.head_only and step >= self.head_steps:
            self._say(f"From step {self.head_steps} on, the layers below the classifier train too")
            self.head_only = False
            self._start_phase()

    def restore(self, checkpoints: Checkpoints) -> Progress | None:
        """Restores the newest sound checkpoint, in the phase that it belongs to.

        Raises:
            CorruptCheckpointError: If there are checkpoints and none is sound.
        """
        first_phase = self.head_only
        self.start_phase_at(checkpoints.last_step())
        try:
            return checkpoints.restore(
                self.model, self.optimizer, self._say, averages=self.averages
            )
        except CorruptCheckpointError:
            if first_phase == self.head_only:
                raise
        self.head_only = True  # an older checkpoint, of the first phase, may be sound
        self._start_phase()
        return checkpoints.restore(self.model, self.optimizer, self._say, averages=self.averages)

    def _calibrate(self, start: StartingNet | None) -> None:
        """Sets the ranges of a quantise-aware net, unless a checkpoint of the run has them."""
        if start is None or start.net is None:
            return
        wanted = self._config.quantize.calibration
        count = calibrate(
            self.model, statistics_batches(self._config, self._data, self._preprocess, wanted)
        )
        self._say(f"Ranges of activations: calibrated on {count} training images")

    def _make_schedule(self, length: Length) -> Callable[[Any], Any]:
        steps, per_epoch = length.steps - self.head_steps, length.steps_per_epoch
        fitted, note = fit_warmup(self._config, total_steps=steps, steps_per_epoch=per_epoch)
        if note:
            self._say(f"Note: {note}")
        schedule = make_schedule(fitted, total_steps=steps, steps_per_epoch=per_epoch)
        if not self.head_steps:
            return schedule
        return HeadFirst(schedule, self._config.schedule.learning_rate, self.head_steps)

    def _make_probe(self) -> LinearProbe | None:
        """Returns the classifier as a model of its own, if it alone is trained on fixed features.

        Says why not where the features cannot be computed once.
        """
        if self._config.model.freeze != "all":
            return None
        reason = "the teacher takes images" if self.teacher is not None else ""
        reason = reason or why_not_cached(
            self._config, self._data, LinearProbe.features_of(self.model)
        )
        if reason:
            self._say(f"Note: features are not computed once, because {reason}")
            return None
        return LinearProbe(self.model)

    def _start_phase(self) -> None:
        """Makes the optimizer and the training step of the variables to train."""
        config, settings = self._config, self._config.optimizer
        with self._strategy.scope():
            if config.model.weights is not None and not config.quantize.enabled:
                set_trainable(self.model, config.model.freeze, head_only=self.head_only)
            factors = None
            if settings.layer_decay != 1 or settings.head_factor != 1:
                factors = rate_factors(
                    self.model,
                    settings.layer_decay,
                    settings.head_factor,
                    settings.layer_decay_per,
                )
            # The step of the run sets the rate, not the optimizer's own count.
            rate, precision = float(self.schedule(0)), config.runtime.precision
            self.optimizer = make_optimizer(settings, rate, precision, factors)
            self.optimizer.build(self.model.trainable_variables)
        preprocess = self._preprocess
        if self._probe is not None:  # there is nothing to recompute
            preprocess = self._probe.preprocess
            runtime = dataclasses.replace(config.runtime, remat="none")
            config = dataclasses.replace(config, runtime=runtime)
        self.train_steps = TrainingSteps(
            self.model if self._probe is None else self._probe.head,
            self.optimizer,
            config,
            self._strategy,
            schedule=self.schedule,
            averages=self.averages,
            loss=_loss_of(config, self._data),
            teacher=self.teacher,
            finish=make_finish(preprocess, config.augment),
        )


def _loss_of(config: RunConfig, data: ImageData) -> Loss:
    """Returns the loss, with the counts of classes where it is weighted by them."""
    task = getattr(data, "task", "classification")
    labels = getattr(data.train, "labels", None)
    if config.loss.class_weights == "none" or labels is None:
        return make_loss(config, task=task)
    if task == "multilabel":
        counts = [len(labels), *(labels > 0).sum(axis=0).tolist()]
    else:
        counts = np.bincount(labels, minlength=len(data.class_names)).tolist()
    return make_loss(config, task=task, counts=counts)
