"""This package's contenders: the training loop, Keras's `fit`, inference, data and checkpoints."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from .keras_common import (
    fit_runner,
    repeated_batch,
    set_precision,
    time_batches,
    time_inference,
    time_save_and_load,
)
from .workload import PhaseTimer, Runner, Workload, random_batch


def train(workload: Workload, timer: PhaseTimer) -> Runner:
    """The loop of `keras-resnet train`: SGD with momentum 0.9 and L2 1e-4 in the gradient.

    Mode `stacked`: the equal units of a stage as one loop.
    """
    with timer("import"):
        import tensorflow as tf

        import keras_resnet  # noqa: F401
        from keras_resnet_train.config import (
            ModelConfig,
            OptimizerConfig,
            RunConfig,
            RuntimeConfig,
        )
        from keras_resnet_train.optimizers import make_optimizer
        from keras_resnet_train.steps import TrainingSteps
        from keras_resnet_train.strategies import make_strategy
    set_precision(workload)
    precision: Any = workload.precision
    config = RunConfig(
        ModelConfig(workload.net),
        optimizer=OptimizerConfig(momentum=0.9, weight_decay=1e-4),
        runtime=RuntimeConfig(precision=precision, xla=workload.xla, **workload.runtime),
        batch_size=workload.batch,
        steps=1,
    )
    strategy = make_strategy("auto" if tf.config.list_physical_devices("GPU") else "one-device")
    with timer("build"), strategy.scope():
        model = build_net(workload)
        optimizer = make_optimizer(config.optimizer, 1e-3, workload.precision)
    batches = iter(strategy.experimental_distribute_dataset(repeated_batch(workload)))
    with timer("first step"):
        with strategy.scope():  # here, because `fit` too makes its momentum in the first step
            optimizer.build(model.trainable_variables)
        steps = TrainingSteps(model, optimizer, config, strategy)
        steps(batches, 1)

    def run(count: int) -> None:
        per_call = min(count, workload.runtime.get("steps_per_call", count))
        for _ in range(count // per_call):
            steps(batches, per_call)

    return Runner(run)


def fit(workload: Workload, timer: PhaseTimer) -> Runner:
    """Our net under Keras's own `fit`, as any Keras model is trained."""
    with timer("import"):
        import keras_resnet  # noqa: F401
    return fit_runner(build_net, workload, timer)


def infer(workload: Workload, timer: PhaseTimer) -> Runner:
    """Our net in Keras; for the modes see `keras_common.time_inference`.

    Mode `function, folded`: batch norm is folded into the convolutions first, as in exports.
    """
    with timer("import"):
        import keras_resnet  # noqa: F401
        from keras_resnet.reparam import deploy
    set_precision(workload)
    with timer("build"):
        model = build_net(workload)
    mode = workload.mode.removesuffix(", folded")
    net = model if mode == workload.mode else deploy(model)
    return Runner(time_inference(net, dataclasses.replace(workload, mode=mode)))


def pipeline(workload: Workload, timer: PhaseTimer) -> Runner:
    """The input pipeline of `keras-resnet train`: shuffled, augmented, normalised batches.

    Mode `memory`: CIFAR's images, pad and crop; `jpeg`: files, Inception's crops.
    """
    with timer("import"):
        from keras_resnet import PreprocessSpec
        from keras_resnet_train.config import AugmentConfig
        from keras_resnet_train.data import Share, TrainingPlan, training_batches
        from keras_resnet_train.data.sources import ArraySource, FileSource

        from .images import MEAN, STD, jpeg_files, pixels
    source: ArraySource | FileSource
    if workload.mode == "memory":
        source, augment = ArraySource(*pixels(workload)), AugmentConfig("pad", flip=True)
    else:
        source = FileSource(*jpeg_files(workload))
        augment = AugmentConfig("resized", flip=True, **workload.augment)
    preprocess = PreprocessSpec((workload.size, workload.size), mean=MEAN, std=STD)
    plan = TrainingPlan(preprocess, augment, 3, 0, 0, 10**6, workload.classes)
    return Runner(time_batches(training_batches(source, plan, Share(workload.batch)), workload))


def mixing(workload: Workload, timer: PhaseTimer) -> Runner:
    """Mixup and cutmix of a batch, and the training step of that batch: processor time of each."""
    with timer("import"):
        import tensorflow as tf

        from keras_resnet import PreprocessSpec
        from keras_resnet_train.config import AugmentConfig
        from keras_resnet_train.data import Share, TrainingPlan, make_finish
        from keras_resnet_train.data.batch_changes import make_batch_change
    augment, preprocess = AugmentConfig(mixup=0.2, cutmix=1.0), PreprocessSpec(workload.shape[:2])
    plan = TrainingPlan(preprocess, augment, 3, 0, 0, 10**6, workload.classes)
    decide, finish = (
        make_batch_change(plan, Share(workload.batch)),
        make_finish(preprocess, augment),
    )
    images, labels = map(tf.constant, random_batch(workload))
    batch = {"images": images}, labels

    @tf.function
    def change(counter: Any, batch: Any) -> Any:
        pixels, mixed_labels = decide(counter, batch)
        return finish(pixels), mixed_labels

    change(tf.constant(0, tf.int64), batch)
    step = train(workload, timer).run

    def run(count: int) -> dict[str, float]:
        started = time.process_time()
        for index in range(20 * count):
            change(tf.constant(index, tf.int64), batch)
        mixed = time.process_time()
        step(count)
        return {"mix": (mixed - started) / 20, "step": time.process_time() - mixed}

    return Runner(run)


def checkpoint(workload: Workload, timer: PhaseTimer) -> Runner:
    """`Checkpoints`: weights, optimizer and progress with hashes, flushed to the disk, renamed."""
    with timer("import"):
        from pathlib import Path

        from keras_resnet_train.checkpoint import Checkpoints, Progress
        from keras_resnet_train.config import OptimizerConfig
        from keras_resnet_train.optimizers import make_optimizer
    model = build_net(workload)
    optimizer = make_optimizer(OptimizerConfig(), 1e-3, "float32")
    optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(Path(workload.folder, "ours"), keep=1)
    return Runner(
        time_save_and_load(
            lambda: checkpoints.save(model, optimizer, Progress(step=1)),
            lambda: checkpoints.restore(model, optimizer),
        )
    )


def build_net(workload: Workload) -> Any:
    """Builds this package's net, in mode `stacked` its stacked form."""
    from keras_resnet import build

    return build(
        workload.net,
        classes=workload.classes,
        input_shape=workload.shape,
        stacked=True if workload.mode == "stacked" else None,
        seed=0,
    )
