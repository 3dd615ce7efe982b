"""A whole run: open the data, train, choose the weights, measure, write the model."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_resnet import PreprocessSpec, ResNetSpec
from keras_resnet.nets.precision import dtype_policy
from keras_resnet.weights.rebuild import clone_as_float32

from .checkpoint import Progress
from .config import RunConfig
from .data import ImageData, at_size, load_data, measure_channels, raw_images
from .evaluation import evaluate
from .reporting import Reporter, TensorBoardHistory
from .rundir import Resume, RunDirectory, spec_of
from .strategies import check_name, is_chief, make_strategy
from .trainer import Trainer


def run_training(
    config: RunConfig,
    output: Path,
    *,
    resume: Resume = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> RunDirectory:
    """Trains a net, or goes on training it, and leaves a finished run in `output`.

    Args:
        config: The run.
        output: Its directory: new, empty, or holding this very run.
        resume: `auto` goes on where a run of the same configuration stopped; `never` refuses.
        callbacks: Keras callbacks beside the run's own.

    Raises:
        ValueError: If the configuration, the data or the directory is not fit; before training.
        TrainingDivergedError: If the loss is no longer finite.
        TrainingStoppedError: After SIGTERM or SIGINT, once the state is saved.
    """
    _check_backend()
    check_name(config.runtime.strategy)
    spec = spec_of(config)
    chief = config.runtime.strategy != "multi-worker" or is_chief()
    directory = RunDirectory(output)
    with directory.locked() if chief else contextlib.nullcontext():
        directory.check(config, resume)
        if chief:
            directory.sweep()
        reporter = Reporter(quiet=not chief)
        if directory.model.is_file():
            reporter.say(f"{output} holds this run, finished; nothing to train")
            return directory
        _train(config, spec, directory, chief, reporter, callbacks)
    return directory


def resolve_data(config: RunConfig, spec: ResNetSpec) -> tuple[ImageData, PreprocessSpec]:
    """Opens a run's data at the net's size and resolves its preprocessing.

    Raises:
        ValueError: If the data does not fit the net.
    """
    size = config.data.image_size or spec.input_size
    if size < spec.smallest_input:
        raise ValueError(
            f"{spec.name} needs images of at least {spec.smallest_input} x {spec.smallest_input} "
            f"pixels. Received: image_size={size}"
        )
    data = load_data(config.data, spec)
    preprocess = PreprocessSpec((size, size), crop_fraction=config.data.crop_fraction)
    data = at_size(data, preprocess, config.augment, config.data.cache)
    mean, std = config.data.mean, config.data.std
    if mean is None or std is None:
        if not len(data.train):
            raise ValueError(f"Data set {data.name!r} has no training images to measure")
        mean, std = measure_channels(data.train, preprocess, data.channels)
    if len(mean) not in (1, data.channels):
        raise ValueError(
            f"`mean` needs one value for each channel ({data.channels}). Received: mean={mean}"
        )
    return data, dataclasses.replace(preprocess, mean=mean, std=std)


def _train(
    config: RunConfig,
    spec: ResNetSpec,
    directory: RunDirectory,
    chief: bool,
    reporter: Reporter,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    import tensorflow as tf

    keras.utils.set_random_seed(config.seed)
    if config.runtime.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(config.runtime.strategy)
    _check_runtime(config, strategy)
    started = time.monotonic()
    data, preprocess = resolve_data(config, spec)
    if not len(data.train):
        raise ValueError(f"Data set {data.name!r} has no train split to train on")
    directory.check_data(data, preprocess)
    for note in data.notes:
        reporter.say(f"Note: {note}")
    board = TensorBoardHistory(directory.path / "logs", lambda: trainer.progress.history)
    with dtype_policy(config.runtime.precision):
        trainer = Trainer(
            config,
            spec,
            data,
            preprocess,
            directory,
            strategy=strategy,
            chief=chief,
            reporter=reporter,
            callbacks=[*([board] if chief else []), *callbacks],
        )
    if chief:
        _check_disk(directory, trainer.checkpoint_bytes * (config.checkpoint.keep + 2))
        directory.begin(config, data, preprocess)
    reporter.say(
        f"{spec.name} on {data.name}: {len(data.train)} training images, "
        f"{trainer.length.steps} steps of {config.batch_size} on "
        f"{strategy.num_replicas_in_sync} replica(s); ready in {time.monotonic() - started:.1f} s"
    )
    progress = trainer.fit()
    _finish(trainer, data, preprocess, progress)


def _finish(
    trainer: Trainer, data: ImageData, preprocess: PreprocessSpec, progress: Progress
) -> None:
    """Measures the chosen weights and writes the model last: it says that the run is finished."""
    measured = {
        name: evaluate(trainer.model, source, preprocess, strategy=trainer.strategy).to_dict()
        for name, source in (("validation", data.validation), ("test", data.test))
        if source is not None
    }
    if not trainer.chief:
        return
    images = progress.step * trainer.config.batch_size
    trainer.directory.update_metrics(
        training={
            "steps": progress.step,
            "epochs": len(progress.history),
            "seconds": round(progress.seconds, 1),
            "images_per_second": round(
                trainer.images_per_second or images / max(progress.seconds, 1e-9), 1
            ),
            "replicas": trainer.strategy.num_replicas_in_sync,
            "best_epoch": progress.best_epoch,
            "chosen_by": "validation accuracy" if trainer.selects else "end of training",
        },
        environment=environment(),
        **measured,
    )
    model = clone_as_float32(trainer.model)
    model.preprocess = preprocess
    split = "test" if data.test is not None else "validation"
    if split in measured:
        trainer.directory.write_samples(pick_samples(model, data, split, preprocess))
    save_model(model, trainer.directory.model)
    for name, values in measured.items():
        low, high = values["accuracy_interval"]
        trainer.reporter.say(
            f"{name}: accuracy {values['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}), "
            f"loss {values['loss']:.4f}, {values['examples']} images"
        )


def pick_samples(
    model: Any, data: ImageData, split: str, preprocess: PreprocessSpec, count: int = 24
) -> dict[str, np.ndarray]:
    """Picks predictions for the report: wrong ones, the most confident first, then right ones.

    Returns:
        `images` (uint8), `true`, `predicted` and `probability`, `count` of each or fewer.
    """
    images, labels = raw_images(data.split(split), preprocess, data.channels, 1024)
    logits = np.asarray(model.predict(preprocess.normalize(images), verbose=0))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    predicted, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-sure[wrong])][: count // 2]
    right = np.flatnonzero(predicted == labels)
    spread = np.linspace(0, len(right) - 1, min(len(right), count - len(wrong))).astype("int64")
    chosen = np.concatenate([wrong, right[spread]])
    return {
        "images": images[chosen],
        "true": labels[chosen],
        "predicted": predicted[chosen],
        "probability": sure[chosen],
    }


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a `.keras` file whole or not at all."""
    handle, temporary = tempfile.mkstemp(suffix=".keras", prefix=".", dir=path.parent)
    os.close(handle)
    try:
        model.save(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def environment() -> dict[str, Any]:
    """Returns what a result's reader must know of where it was measured."""
    import tensorflow as tf

    import keras_resnet

    return {
        "keras_resnet": keras_resnet.__version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "gpus": [
            tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
            for gpu in tf.config.list_physical_devices("GPU")
        ],
    }


def _check_backend() -> None:
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Training runs on TensorFlow: set KERAS_BACKEND=tensorflow. "
            f"Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "Training takes images as channels_last. "
            "Received: image_data_format=channels_first in Keras's configuration"
        )


def _check_runtime(config: RunConfig, strategy: Any) -> None:
    import tensorflow as tf

    replicas = strategy.num_replicas_in_sync
    if config.batch_size % replicas:
        low = config.batch_size // replicas * replicas
        near = ", ".join(str(n) for n in (low, low + replicas) if n)
        raise ValueError(
            f"`--batch-size` is the global batch and must divide by the {replicas} replicas. "
            f"Received: {config.batch_size}; nearest: {near}"
        )
    if config.runtime.xla and replicas > 1 and not tf.config.list_physical_devices("GPU"):
        raise ValueError("XLA cannot compile for CPU replicas: drop --xla or use one-device")


def _check_disk(directory: RunDirectory, needed: int) -> None:
    held = sum(f.stat().st_size for f in directory.checkpoints.rglob("*") if f.is_file())
    free = shutil.disk_usage(directory.path).free
    if free < needed - held:
        raise OSError(
            f"{directory.path} has {free / 2**20:.0f} MiB free and the run's checkpoints need "
            f"about {(needed - held) / 2**20:.0f} MiB more"
        )
