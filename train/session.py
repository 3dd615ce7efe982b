"""A whole run: open the data, train, evaluate, and write the model."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.weights.rebuild import clone_as_float32, copy_weights, rebuild

from .checkpoint import Checkpoints
from .config import RunConfig
from .console import Console
from .data import naming_files
from .data.index import keep_beside
from .evaluation.splits import describe_metrics, save_confusions, split_metrics
from .leaving import leave, telling_others
from .preparation import Prepared, prepare
from .pretrained import open_pretrained, with_pretrained
from .provenance import environment
from .quantization import detached_copy
from .remote.address import remote_url
from .remote.mirror import Mirror, run_output, worker_index
from .rundir import Resume, RunDirectory, spec_of
from .samples import pick_samples
from .signals import stopped_by_signals
from .strategies import check_name, is_chief, tf_config
from .trainer import Trainer
from .workers import Watch, naming_lost_peers, peers


def run_training(
    config: RunConfig,
    output: Path | str,
    *,
    resume: Resume = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    mirror: Mirror | None = None,
) -> RunDirectory:
    """Trains a network, or resumes training it, and leaves a finished run in `output`.

    Args:
        config: The run.
        output: The run's directory: new, empty, or with this run in it. It may be in an object
            store, `s3://bucket/run`; the returned directory is then the local copy.
        resume: `auto` resumes a run of the same configuration; `never` refuses it.
        callbacks: Keras callbacks, as `Trainer` takes them.
        mirror: The open mirror whose local directory `output` is; None opens one if needed.

    Raises:
        NotUploadedError: If the run has ended and its object store lacks some of its files.
        ValueError: If configuration, data and directory do not fit; before training.
        TrainingDivergedError: If the loss is no longer finite.
        TrainingStoppedError: After SIGTERM, SIGINT or SIGHUP, once the state is saved.

    Example:
        >>> config = RunConfig(epochs=2)  # the digits, with a CIFAR ResNet-20
        >>> directory = run_training(config, Path("saved_models/digits"))
        >>> directory.model.is_file()
        True
    """
    _check_keras()
    check_name(config.runtime.strategy)
    if mirror is None and remote_url(output) is not None:
        with run_output(output, worker=worker_index(config.runtime.strategy)) as (path, opened):
            assert path is not None
            return run_training(config, path, resume=resume, callbacks=callbacks, mirror=opened)
    output = Path(output)
    several, chief = config.runtime.strategy == "multi-worker", is_chief(config.runtime.strategy)
    directory = RunDirectory(output, None if mirror is None else mirror.check)
    console = Console(quiet=not chief)
    others = peers() if several else []
    saved_step = Checkpoints(directory.checkpoints).last_step
    if mirror is not None:  # each worker's own directory has what it started from
        saved_step = mirror.last_step
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped_by_signals())
        watch = stack.enter_context(Watch(others, config.runtime.worker_timeout))
        stack.enter_context(naming_lost_peers(others, saved_step))
        cluster = tf_config() if several else {}
        with telling_others(cluster):
            pretrained = open_pretrained(config, output)
            config = with_pretrained(config, pretrained)
            spec_of(config)
            if chief:
                stack.enter_context(directory.locked())
            directory.check(config, resume)
            if chief:
                directory.sweep()
                directory.drop_damaged_model(console.say)
            if mirror is not None:
                mirror.start()
        if directory.has_sound_model():  # the chief may not have removed a damaged one yet
            console.say(f"{output} holds this run, finished; nothing to train")
            leave(
                cluster,
                f"found the run finished in {output}; --output must be one directory that all "
                "workers share",
            )
            return directory
        prepared = _begin(
            prepare(
                config,
                directory,
                console,
                pretrained=pretrained,
                callbacks=callbacks,
                watch=watch,
                mirror=mirror,
            )
        )
        trainer = prepared.trainer
        with naming_files(trainer.data.train, trainer.data.validation, trainer.data.test):
            trainer.fit()
            with watch.waiting("the evaluation of the final weights"):
                _finish(prepared)
    return directory


def train_and_report(
    config: RunConfig,
    output: Path,
    *,
    resume: Resume = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    mirror: Mirror | None = None,
) -> bool:
    """Trains as `run_training` does and writes the report of a run that was measured.

    Args:
        config: The run.
        output: The run's directory.
        resume: As in `run_training`.
        callbacks: As in `run_training`.
        mirror: As in `run_training`.

    Returns:
        Whether this process has done its part: the chief has written the model.
    """
    from .run_report import write_run_report

    directory = run_training(config, output, resume=resume, callbacks=callbacks, mirror=mirror)
    if not is_chief(config.runtime.strategy):
        return True
    report = output / "report.html"
    # A report needs images that the run was measured on.
    if directory.metrics.keys() & {"validation", "test"} and not report.is_file():
        write_run_report(output)
        print(f"Report: {report}")
    return directory.model.is_file()


def _begin(prepared: Prepared) -> Prepared:
    """Makes the directory a run."""
    trainer = prepared.trainer
    if trainer.chief:
        directory, config = trainer.directory, trainer.config
        # Beside those that are kept: the best one, and the one that is being written.
        directory.check_space(trainer.checkpoint_bytes * (config.checkpoint.keep + 2))
        directory.begin(config, trainer.data, trainer.preprocess, prepared.weights)
        keep_beside(trainer.data.index, directory.path)
        if trainer.learner.teacher is not None:
            trainer.learner.teacher.record(directory.path)
    return prepared


def _finish(prepared: Prepared) -> None:
    """Evaluates the final weights and writes metrics, samples and, last of all, the model."""
    trainer = prepared.trainer
    data, preprocess = trainer.data, trainer.preprocess
    evaluated = {split: evaluator() for split, evaluator in trainer.evaluation.evaluators.items()}
    measured = split_metrics(evaluated)
    if not trainer.chief:
        return
    directory = trainer.directory
    directory.update_metrics(
        training=_training_metrics(trainer), environment=environment(), **measured
    )
    save_confusions(evaluated, directory.path)
    if trainer.config.quantize.enabled:
        model = detached_copy(trainer.model)
    else:
        model = clone_as_float32(trainer.model)
    if model.inputs[0].shape[1] is None:  # a net for training images of several sizes
        sized = rebuild(model, shape=(*preprocess.size, data.channels))
        copy_weights(model, sized)
        model = sized
    model.preprocess = preprocess
    shown = data.test if data.test is not None else data.validation
    images, labels = prepared.examples()
    samples = {"augmented_images": images, "augmented_labels": labels}
    if shown is not None:
        samples |= pick_samples(model, shown, preprocess)
    directory.write_samples(samples)
    directory.write_model(model)
    best_epoch = trainer.progress.best_epoch
    if best_epoch is not None:
        trainer.console.say(f"Final weights: epoch {best_epoch}, the best on the validation images")
    for name, values in measured.items():
        trainer.console.say(f"{name}: {describe_metrics(values)}")


def _training_metrics(trainer: Trainer) -> dict[str, Any]:
    progress = trainer.progress
    speed = trainer.reporter.throughput.images_per_second
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
        "stopped_early": trainer.stopped_early,
        "chosen_by": _score_name(trainer) if trainer.evaluation.selects_best else "end of training",
    }


def _score_name(trainer: Trainer) -> str:
    several = getattr(trainer.data, "task", "classification") == "multilabel"
    return "validation mean average precision" if several else "validation accuracy"


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
