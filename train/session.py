"""A whole run: open the data, train, evaluate, and write the model."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.nets.precision import dtype_policy
from keras_resnet.weights.rebuild import clone_as_float32

from .config import RunConfig
from .console import Console
from .data import resolve_data
from .provenance import environment
from .rundir import Resume, RunDirectory, spec_of
from .samples import pick_samples
from .strategies import check_name, check_strategy, is_chief, make_strategy
from .tensorboard import TensorBoardHistory
from .trainer import Trainer


def run_training(
    config: RunConfig,
    output: Path,
    *,
    resume: Resume = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> RunDirectory:
    """Trains a network, or resumes training it, and leaves a finished run in `output`.

    Args:
        config: The run.
        output: The run's directory: new, empty, or with this run in it.
        resume: `auto` resumes a run of the same configuration; `never` refuses it.
        callbacks: Keras callbacks, as `Trainer` takes them.

    Raises:
        ValueError: If configuration, data and directory do not fit; before training.
        TrainingDivergedError: If the loss is no longer finite.
        TrainingStoppedError: After SIGTERM or SIGINT, once the state is saved.

    Example:
        >>> config = RunConfig(epochs=2)  # the digits, with a CIFAR ResNet-20
        >>> directory = run_training(config, Path("saved_models/digits"))
        >>> directory.model.is_file()
        True
    """
    _check_keras()
    check_name(config.runtime.strategy)
    spec_of(config)
    chief = is_chief(config.runtime.strategy)
    directory, console = RunDirectory(output), Console(quiet=not chief)
    with directory.locked() if chief else contextlib.nullcontext():
        directory.check(config, resume)
        if chief:
            directory.sweep()
        if directory.model.is_file():
            console.say(f"{output} holds this run, finished; nothing to train")
            return directory
        trainer = _prepare(config, directory, console, callbacks)
        trainer.fit()
        _finish(trainer)
    return directory


def _prepare(
    config: RunConfig,
    directory: RunDirectory,
    console: Console,
    callbacks: Sequence[keras.callbacks.Callback],
) -> Trainer:
    """Opens the data and builds the network; from here on the directory is a run."""
    import tensorflow as tf

    started = time.monotonic()
    keras.utils.set_random_seed(config.seed)
    if config.runtime.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(config.runtime.strategy)
    check_strategy(strategy, batch_size=config.batch_size, xla=config.runtime.xla)
    spec = spec_of(config)
    data, preprocess = resolve_data(config, spec)
    if not len(data.train):
        raise ValueError(f"Data set {data.name!r} has no train split to train on")
    directory.check_data(data, preprocess)
    for note in data.notes:
        console.say(f"Note: {note}")
    if is_chief(config.runtime.strategy):
        callbacks = [TensorBoardHistory(directory.path / "logs"), *callbacks]
    with dtype_policy(config.runtime.precision):
        trainer = Trainer(config, data, preprocess, directory, strategy, console, callbacks)
    if trainer.chief:
        # Beside those that are kept: the best one, and the one that is being written.
        directory.check_space(trainer.checkpoint_bytes * (config.checkpoint.keep + 2))
        directory.begin(config, data, preprocess)
    console.say(
        f"{spec.name} on {data.name}: {len(data.train)} training images, "
        f"{trainer.length.steps} steps of {config.batch_size} on "
        f"{strategy.num_replicas_in_sync} replica(s); ready in {time.monotonic() - started:.1f} s"
    )
    return trainer


def _finish(trainer: Trainer) -> None:
    """Evaluates the final weights and writes metrics, samples and, last of all, the model."""
    data, preprocess = trainer.data, trainer.preprocess
    measured = {split: evaluator().to_dict() for split, evaluator in trainer.evaluators.items()}
    if not trainer.chief:
        return
    directory = trainer.directory
    directory.update_metrics(
        training=_training_metrics(trainer), environment=environment(), **measured
    )
    model = clone_as_float32(trainer.model)
    model.preprocess = preprocess
    shown = data.test if data.test is not None else data.validation
    if shown is not None:
        directory.write_samples(pick_samples(model, shown, preprocess))
    directory.write_model(model)
    best_epoch = trainer.progress.best_epoch
    if best_epoch is not None:
        trainer.console.say(f"Final weights: epoch {best_epoch}, the best on the validation images")
    for name, values in measured.items():
        low, high = values["accuracy_interval"]
        trainer.console.say(
            f"{name}: accuracy {values['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}), "
            f"loss {values['loss']:.4f}, {values['examples']} images"
        )


def _training_metrics(trainer: Trainer) -> dict[str, Any]:
    progress = trainer.progress
    speed = trainer.throughput.images_per_second
    if speed is None:  # a single call of the graph
        images = progress.step * trainer.config.batch_size
        speed = images / max(progress.seconds, 1e-9)
    return {
        "steps": progress.step,
        "epochs": len(progress.history),
        "seconds": round(progress.seconds, 1),
        "images_per_second": round(speed, 1),
        "replicas": trainer.strategy.num_replicas_in_sync,
        "best_epoch": progress.best_epoch,
        "chosen_by": "validation accuracy" if trainer.selects_best else "end of training",
    }


def _check_keras() -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise ModuleNotFoundError("Training needs TensorFlow", name="tensorflow")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Training needs TensorFlow: set KERAS_BACKEND=tensorflow. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Training needs channels_last images. "
            "Received: image_data_format=channels_first in Keras's configuration"
        )
