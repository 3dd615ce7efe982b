"""This package's contenders: the training loop, Keras's `fit`, inference, data and checkpoints."""

from __future__ import annotations

import dataclasses
from typing import Any

from .job import Clock, Job, Ready
from .keras_runs import (
    compile_as_all,
    feed,
    fit_turns,
    inference_turns,
    save_and_load,
    set_precision,
    steady,
)


def train(job: Job, clock: Clock) -> Ready:
    """The loop of `keras-resnet train`: SGD with momentum 0.9 and L2 1e-4 in the gradient.

    Route `stacked`: the equal units of a stage as one loop.
    """
    with clock("import"):
        import tensorflow as tf

        import keras_resnet  # noqa: F401

        from ..config import ModelConfig, OptimizerConfig, RunConfig, RuntimeConfig
        from ..optimizers import make_optimizer
        from ..steps import TrainingSteps
        from ..strategies import make_strategy
    set_precision(job)
    precision: Any = job.precision
    config = RunConfig(
        ModelConfig(job.net),
        optimizer=OptimizerConfig(momentum=0.9, weight_decay=1e-4),
        runtime=RuntimeConfig(precision=precision, xla=job.xla),
        batch_size=job.batch,
        steps=1,
    )
    strategy = make_strategy("auto" if tf.config.list_physical_devices("GPU") else "one-device")
    with clock("build"), strategy.scope():
        model = net(job)
        optimizer = make_optimizer(config.optimizer, 1e-3, job.precision)
    batches = iter(strategy.experimental_distribute_dataset(feed(job)))
    with clock("first step"):
        with strategy.scope():  # here, because `fit` too makes its momentum in the first step
            optimizer.build(model.trainable_variables)
        steps = TrainingSteps(model, optimizer, config, strategy)
        steps(batches, 1)

    def turn(count: int) -> None:
        steps(batches, count)

    return Ready(turn)


def fit(job: Job, clock: Clock) -> Ready:
    """Our net under Keras's own `fit`, as any Keras model is trained."""
    with clock("import"):
        import keras_resnet  # noqa: F401
    set_precision(job)
    with clock("build"):
        model = net(job)
        compile_as_all(model, job, from_logits=True)
    batches = feed(job)
    with clock("first step"):
        model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0)
    return Ready(fit_turns(model, batches))


def infer(job: Job, clock: Clock) -> Ready:
    """Our net in Keras; the routes are those of `keras_runs.inference_turns`.

    Route `function, folded`: batch norm folded into the convolutions first, as exports are.
    """
    with clock("import"):
        import keras_resnet  # noqa: F401
        from keras_resnet.reparam import deploy
    set_precision(job)
    with clock("build"):
        model = net(job)
    route = job.route.removesuffix(", folded")
    final = model if route == job.route else deploy(model)
    return Ready(inference_turns(final, dataclasses.replace(job, route=route)))


def pipeline(job: Job, clock: Clock) -> Ready:
    """The input pipeline of `keras-resnet train`: shuffled, augmented, normalised batches.

    Route `memory`: CIFAR's images, pad and crop; `jpeg`: files, Inception's crops.
    """
    with clock("import"):
        from keras_resnet import PreprocessSpec

        from ..config import AugmentConfig
        from ..data import Share, TrainingPlan, training_batches
        from ..data.sources import ArraySource, FileSource
        from .images import MEAN, STD, jpeg_files, pixels
    source: ArraySource | FileSource
    if job.route == "memory":
        source, augment = ArraySource(*pixels(job)), AugmentConfig("pad", flip=True)
    else:
        source, augment = FileSource(*jpeg_files(job)), AugmentConfig("resized", flip=True)
    preprocess = PreprocessSpec((job.size, job.size), mean=MEAN, std=STD)
    plan = TrainingPlan(preprocess, augment, 3, 0, 0, 10**6)
    return Ready(steady(training_batches(source, plan, Share(job.batch))))


def checkpoint(job: Job, clock: Clock) -> Ready:
    """`Checkpoints`: weights, optimizer and progress with hashes, flushed to the disk, renamed."""
    with clock("import"):
        from pathlib import Path

        from ..checkpoint import Checkpoints, Progress
        from ..config import OptimizerConfig
        from ..optimizers import make_optimizer
    model = net(job)
    optimizer = make_optimizer(OptimizerConfig(), 1e-3, "float32")
    optimizer.build(model.trainable_variables)
    kept = Checkpoints(Path(job.folder, "ours"), keep=1)
    return Ready(
        save_and_load(
            lambda: kept.save(model, optimizer, Progress(step=1)),
            lambda: kept.restore(model, optimizer),
        )
    )


def net(job: Job) -> Any:
    """Builds this package's net, its stacked form on the route of that name."""
    from keras_resnet import build

    return build(
        job.net,
        classes=job.classes,
        input_shape=job.shape,
        stacked=True if job.route == "stacked" else None,
        seed=0,
    )
