"""Trains on two CPU replicas, which must be made before TensorFlow uses the CPU: a process.

Prints, as JSON, by how much the weights of different runs differ; `test_replicas.py` reads it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import build
from keras_resnet.nets.batch_norm import BatchNormalization
from keras_resnet.nets.named_weights import read_weights
from keras_resnet.nets.precision import dtype_policy
from keras_resnet_train.agreement import largest_of_workers
from keras_resnet_train.checkpoint import Checkpoints
from keras_resnet_train.config import with_changes
from keras_resnet_train.console import Console
from keras_resnet_train.data import resolve_data
from keras_resnet_train.optimizers import SGD, make_optimizer
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.rundir import RunDirectory, open_run, spec_of
from keras_resnet_train.session import run_training
from keras_resnet_train.steps import TrainingSteps
from keras_resnet_train.strategies import make_strategy
from keras_resnet_train.trainer import Trainer

make_strategy("cpu:2")

# Two stages, so that a shortcut changes its shape.
BASE = get_recipe("digits").configure(
    "cifar_resnet8",
    {
        "model.spec.depths": [1, 1],
        "model.spec.widths": [4, 8],
        "schedule.warmup_epochs": 0,
        "schedule.learning_rate": 0.01,
        "batch_size": 64,
        "steps": 4,
        "data.image_size": 8,
    },
)
SYNC = {"runtime.sync_batch_norm": True}
TWO = {"runtime.strategy": "cpu:2"}
DROPS = {"model.spec.stochastic_depth": 0.5}
STEPWISE = {"checkpoint.every_steps": 1, "checkpoint.keep": 9, "runtime.steps_per_call": 1}
ONE_UNIT = {"model.spec.depths": [1], "model.spec.widths": [4]}
# Units of one kind, which a stacked net computes in a loop.
UNITS = DROPS | {
    "model.spec.depths": [3],
    "model.spec.widths": [4],
    "model.spec.head_dropout": 0.25,
    "steps": 2,
}

Weights = dict[str, Any]


def weights_after(config: Any) -> Weights:
    """The weights after all steps, by the names of the unrolled net."""
    data, preprocess = resolve_data(config, spec_of(config))
    runtime, unused = config.runtime, RunDirectory(Path("/none"))
    strategy = make_strategy(runtime.strategy, collective=runtime.collective)
    with dtype_policy(config.runtime.precision):
        trainer = Trainer(config, data, preprocess, unused, strategy, Console(quiet=True))
    trainer.train_steps(iter(trainer.batches()), config.steps)
    trainer.statistics.assign_means()
    return read_weights(trainer.model)


def initial_weights(config: Any) -> Weights:
    return read_weights(build(spec_of(config), classes=10, input_shape=(8, 8, 1), seed=config.seed))


def difference(one: Weights, other: Weights) -> float:
    assert one.keys() == other.keys()
    return max(
        float(np.abs(a - b).max())
        for name in one
        for a, b in zip(one[name], other[name], strict=True)
    )


class CutError(Exception):
    """Ends a run as if it were killed."""


class CutAt(keras.callbacks.Callback):
    """Ends a run after so many steps."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Is told of the last step of each call of the graph."""
        if batch + 1 >= self.step:
            raise CutError


def whole_runs(folder: Path) -> dict[str, Any]:
    """The same batches on one device, on two replicas, and first on two, then on one, then on two.

    Branches are dropped. There is a checkpoint at each step.
    """
    config = with_changes(BASE, SYNC | DROPS | STEPWISE)
    stepwise: dict[str, list[Weights]] = {}
    for name, changes in {"one": {}, "two": TWO}.items():
        run_training(with_changes(config, changes), folder / name)
        model = open_run(folder / name).model
        stepwise[name] = []
        for path in Checkpoints(folder / name / "checkpoints").steps():
            model.load_weights(path / "model.weights.h5")
            stepwise[name].append(read_weights(model))
    pairs = zip(stepwise["one"], stepwise["two"], strict=True)
    steps = [difference(one, two) for one, two in pairs]

    # The run on two replicas, as it was killed after its first step.
    elastic = Path(shutil.copytree(folder / "two", folder / "elastic"))
    (elastic / "model.keras").unlink()
    (elastic / "metrics.json").unlink()
    for path in (elastic / "checkpoints").iterdir():
        if path.name != "step_00000001":
            shutil.rmtree(path)
    with contextlib.suppress(CutError):
        run_training(config, elastic, callbacks=[CutAt(4)])
    newest = Checkpoints(elastic / "checkpoints").last_step()
    assert newest == 3, newest
    run_training(with_changes(config, TWO), elastic)
    return {
        "one step": steps[0],
        "four steps": steps[3],
        "two, one, two": difference(
            read_weights(open_run(elastic, "last").model), stepwise["one"][3]
        ),
        "metrics": RunDirectory(folder / "two").metrics,
    }


def forms() -> dict[str, float]:
    """Dropped branches and values, looped units, activations computed twice.

    What is dropped is keyed by the position in the global batch.
    """

    def weights(changes: dict[str, Any]) -> Weights:
        return weights_after(with_changes(BASE, UNITS | changes))

    stacked, remat = {"model.stacked": True}, {"runtime.remat": "unit"}
    one, two = weights(SYNC), weights(SYNC | TWO)
    looped, twice = weights(SYNC | TWO | stacked), weights(SYNC | TWO | remat)
    own, own_looped = weights(TWO), weights(TWO | stacked)
    kept = weights(SYNC | {"model.spec.stochastic_depth": 0.0, "model.spec.head_dropout": 0.0})
    start = initial_weights(with_changes(BASE, UNITS))
    return {
        "drops": difference(one, two),
        "drops, stacked": difference(one, looped),
        "drops, remat": difference(one, twice),
        "drops, none": difference(kept, two),
        "remat, sync": difference(two, twice),
        "remat, sync, update": difference(twice, start),
        "stacked, own": difference(own, own_looped),
        "own statistics": difference(own, one),
        "stacked, own and sync": difference(own_looped, one),
    }


def rematerialized_half() -> dict[str, float]:
    """With own statistics and loss scaling."""
    net = DROPS | ONE_UNIT
    half = net | TWO | {"runtime.precision": "mixed_float16"}
    plain, unit = (
        weights_after(with_changes(BASE, half | {"runtime.remat": remat}))
        for remat in ("none", "unit")
    )
    return {
        "remat, half": difference(plain, unit),
        "remat, half, update": difference(plain, initial_weights(with_changes(BASE, net))),
    }


def accumulated() -> dict[str, float]:
    """Equal to the whole batch without batch norm; with it, the parts have own statistics."""
    parts = {"optimizer.accumulate": 2}
    group = DROPS | {
        "model.spec.norm": "group",
        "model.spec.depths": [1],
        "model.spec.widths": [32],
        "steps": 2,
    }
    whole = weights_after(with_changes(BASE, group))
    quarters = {"optimizer.accumulate": 4}
    found = {
        "accumulated": difference(whole, weights_after(with_changes(BASE, group | TWO | quarters)))
    }
    looped = UNITS | {"model.stacked": True}
    for name, changes in {"sync": SYNC | ONE_UNIT, "own": looped}.items():
        config = with_changes(BASE, TWO | parts | changes)
        found[f"accumulated, {name}, update"] = difference(
            weights_after(config), initial_weights(config)
        )
    return found


def averages(folder: Path) -> dict[str, Any]:
    """Averages of weights and of each replica's own statistics, by LAMB with decaying rates.

    Of epochs of three steps, so that there is a best checkpoint where the cut run resumes. It is
    cut within the second epoch, and until then saved at every second step only.
    """
    config = with_changes(
        BASE,
        TWO
        | DROPS
        | ONE_UNIT
        | STEPWISE
        | {
            "batch_size": 420,
            "steps": 7,
            "optimizer.name": "lamb",
            "optimizer.layer_decay": 0.5,
            "optimizer.ema": 0.5,
            "optimizer.recompute_batch_norm": 100,
        },
    )
    run_training(config, folder / "averages")
    model = open_run(folder / "averages").model
    expected, seen = [np.zeros(1)] * len(model.weights), []
    whole = Checkpoints(folder / "averages/checkpoints")
    for step, path in enumerate(whole.steps()):
        model.load_weights(path / "model.weights.h5")
        decay = min(0.5, (1 + step) / (10 + step)) if step else 0.0
        expected = [
            decay * e + (1 - decay) * w for e, w in zip(expected, model.get_weights(), strict=True)
        ]
        model.load_weights(path / "averaged.weights.h5")
        pairs = zip(expected, model.get_weights(), strict=True)
        seen.append(max(float(np.abs(e - w).max()) for e, w in pairs))
    rarely = {"checkpoint.every_steps": 2, "runtime.steps_per_call": 2}
    with contextlib.suppress(CutError):
        run_training(with_changes(config, rarely), folder / "cut", callbacks=[CutAt(5)])
    cut = Checkpoints(folder / "cut/checkpoints")
    assert [path.name[-1] for path in cut.steps()] == ["2", "4"]
    assert (folder / "cut/checkpoints/best").is_dir()
    run_training(config, folder / "cut")
    last, final = (
        [read_weights(open_run(folder / name, which).model) for name in ("averages", "cut")]
        for which in ("last", "best")
    )
    # Before the end of an epoch, which assigns the means.
    rows = [each.replica_rows(5) for each in (whole, cut)]
    assert rows[0] is not None
    assert rows[1] is not None
    return {
        "averages": max(seen),
        "averages, resumed": difference(*last) + difference(*final),
        "averages, statistics anew": difference(last[0], final[0]),
        "statistics, resumed": float(np.abs(rows[0] - rows[1]).max()),
    }


def ring() -> dict[str, float]:
    """The way that several GPUs add their gradients, in parts of a kilobyte."""
    changes = TWO | SYNC | {"runtime.collective": "ring", "runtime.collective_pack": 1e-3}
    ring_weights = weights_after(with_changes(BASE, changes))
    return {"ring": difference(ring_weights, weights_after(with_changes(BASE, TWO | SYNC)))}


def numbers() -> dict[str, Any]:
    """Whole numbers that a sum in float32 does not hold."""
    largest = largest_of_workers(make_strategy("cpu:2"))
    return {"largest": largest([300_001, -300_001, 2**53 + 1])}


def dense_steps(changes: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, int]:
    """Two steps of a dense net, two classes from zero weights; one image on each replica.

    Returns:
        What the steps measured, the kernel after them, and the number of sums over replicas.
    """
    strategy = make_strategy("cpu:2")
    config = with_changes(BASE, {"batch_size": 2, "optimizer.label_smoothing": 0.0} | changes)
    with strategy.scope():
        dense = keras.layers.Dense(2, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((2,)), dense])
        optimizer = make_optimizer(config.optimizer, 0.1, config.runtime.precision)
        optimizer.build(model.trainable_variables)

    def batches(context: Any) -> Any:
        images = np.array([[[6.0, 8.0]], [[0.0, 0.0]]], "float32")
        return tf.data.Dataset.from_tensor_slices((images, np.zeros((2, 1), "int64"))).repeat()

    steps = TrainingSteps(model, optimizer, config, strategy)
    iterator = iter(strategy.distribute_datasets_from_function(batches))
    measured = steps(iterator, 2)
    graph = steps._loop.get_concrete_function(iterator, tf.constant(2), tf.constant(0, tf.int64))
    library = graph.graph.as_graph_def().library.function
    sums = sum(node.op == "AddN" for function in library for node in function.node_def)
    return measured, dense.kernel.numpy(), sums


def gradient_sums() -> dict[str, Any]:
    """Each gradient is summed over the replicas once, whatever needs the sum."""
    plain = {"optimizer.weight_decay": 0.5}
    cases = {
        "plain": plain,
        "logged": plain | {"runtime.log_gradient_norm": True},
        "far clip": plain | {"runtime.log_gradient_norm": True, "optimizer.clip_norm": 100.0},
        "clip": plain | {"runtime.log_gradient_norm": True, "optimizer.clip_norm": 0.5},
        "half": plain | {"runtime.precision": "mixed_float16"},
        "lamb": {"optimizer.name": "lamb", "optimizer.clip_norm": 0.5},
    }
    found = {name: dense_steps(changes) for name, changes in cases.items()}
    return {
        "gradient norms": [float(found[name][0][0, 2]) for name in ("logged", "clip")],
        "sums over replicas": {name: sums for name, (_, _, sums) in found.items()},
        "kernels": {name: kernel.tolist() for name, (_, kernel, _) in found.items()},
    }


def overflow() -> dict[str, bool]:
    """One replica's gradients are infinite under float16's loss scaling."""
    strategy = make_strategy("cpu:2")
    config = with_changes(BASE, {"batch_size": 8, "runtime.precision": "mixed_float16"})
    with strategy.scope():
        model = build(spec_of(config), input_shape=(8, 8, 1))
        optimizer = make_optimizer(config.optimizer, 0.1, "mixed_float16")
        optimizer.build(model.trainable_variables)
    steps = TrainingSteps(model, optimizer, config, strategy)
    scale = float(optimizer.scale_loss(1.0))
    before = [variable.numpy() for variable in model.trainable_variables]

    def batches(context: Any) -> Any:
        good = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
        images = np.stack([good, np.full_like(good, np.inf)])
        return tf.data.Dataset.from_tensor_slices((images, np.zeros((2, 4), "int64")))

    steps(iter(strategy.distribute_datasets_from_function(batches)), 1)
    pairs = zip(model.trainable_variables, before, strict=True)
    return {
        "weights kept": all(np.array_equal(variable.numpy(), value) for variable, value in pairs),
        "scale lowered": float(optimizer.scale_loss(1.0)) < scale,
    }


def norm_and_optimizer() -> dict[str, float]:
    """Ours and Keras's, on replicas that see different images."""
    strategy = make_strategy("cpu:2")
    images = np.random.default_rng(0).normal(1.0, 2.0, (2, 4, 6, 6, 8)).astype("float32")
    found = []
    for norm, sgd in (
        (keras.layers.BatchNormalization, keras.optimizers.SGD),
        (BatchNormalization, SGD),
    ):
        with strategy.scope():
            layer = norm()
            layer.build((4, 6, 6, 8))
            optimizer = sgd(0.1, momentum=0.9, nesterov=True)
            optimizer.build(layer.trainable_variables)

        def step(x: Any, layer: Any = layer, optimizer: Any = optimizer) -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((layer(x, training=True) - 1.0) ** 3)
            variables = layer.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)

        def run(x: Any, step: Any = step) -> None:
            strategy.run(step, args=(x,))

        data = strategy.distribute_datasets_from_function(
            lambda context: tf.data.Dataset.from_tensor_slices(images)
        )
        tf.function(run)(next(iter(data)))
        values = [v.value for v in (*layer.weights, *optimizer.variables)]
        local = strategy.experimental_local_results
        found.append([[part.numpy() for part in local(value)] for value in values])
    keras_values, ours = found
    excess = max(
        float((np.abs(b - a) - 1e-5 * np.abs(a)).max())
        for theirs, mine in zip(keras_values, ours, strict=True)
        for a, b in zip(theirs, mine, strict=True)
    )
    gamma, mean = ours[0][0], ours[2]
    return {
        "replicas": len(mean),
        "ours and Keras's": excess,
        "means of the replicas": float(np.abs(mean[0] - mean[1]).max()),
        "update of gamma": float(np.abs(gamma - 1.0).max()),
    }


if __name__ == "__main__":
    report = {
        **whole_runs(Path(sys.argv[1])),
        **forms(),
        **rematerialized_half(),
        **accumulated(),
        **averages(Path(sys.argv[1])),
        **numbers(),
        **gradient_sums(),
        **overflow(),
        **norm_and_optimizer(),
        **ring(),
    }
    print(json.dumps(report))
