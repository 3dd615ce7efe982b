"""Time of a training step by operation, and with this package's layers replaced by Keras's.

    python benchmarks/step_profile.py [--model cifar_resnet20] [--batch 128] [--rounds 15]
    python benchmarks/step_profile.py --model cifar_resnet110 --batch 32

Trains a CIFAR net on random images, without an input pipeline. Prints for each contender the nodes
of its graph, the seconds and CPU seconds of its first step, the median images/s, and its speed
relative to the same net in bare TensorFlow operations with a hand-written momentum update (median
of the rounds' ratios, by the clock and by CPU time). The contenders are measured in turn in each
round, so that other load affects all of them; it affects CPU time less. Then prints the operations
of the package's own step by the time that they take.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import build, get_spec
from keras_resnet_train.config import ModelConfig, RunConfig
from keras_resnet_train.optimizers import make_optimizer
from keras_resnet_train.steps import TrainingSteps

Steps = Callable[[int], Any]
# Classes of the package and those of Keras that they replace.
NORM = ("keras_resnet.nets.primitives.BatchNormalization", keras.layers.BatchNormalization)
SGD = (
    "keras_resnet_train.optimizers.SGD",
    lambda momentum_form, factors, **options: keras.optimizers.SGD(**options),
)
CONTENDERS = {
    "bare TensorFlow": None,
    "this package": (),
    "with Keras's batch norm": (NORM,),
    "with Keras's SGD": (SGD,),
    "with both": (NORM, SGD),
}


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cifar_resnet20", help="a post-activation CIFAR net")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=3, help="steps per round")
    args = parser.parse_args()
    firsts, contenders = {}, {}
    for name, parts in CONTENDERS.items():
        firsts[name], contenders[name] = prepare(args.model, args.batch, parts)
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(args.rounds):
        for name, steps in contenders.items():
            started = time.perf_counter(), time.process_time()
            steps(args.steps)
            spent[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    print(f"{args.model}, batch {args.batch}; load {os.getloadavg()[0]:.1f}")
    print(f"{'':<26}{'nodes':>7}{'first s':>9}{'cpu s':>7}{'images/s':>10}   ratio   of cpu")
    reference = spent["bare TensorFlow"]
    for name, values in spent.items():
        pairs = list(zip(values, reference, strict=True))
        by_clock, by_cpu = (statistics.median(b[i] / v[i] for v, b in pairs) for i in (0, 1))
        nodes, wall, cpu = firsts[name]
        speed = args.steps * args.batch / statistics.median(seconds for seconds, _ in values)
        print(
            f"{name:<26}{nodes:>7}{wall:>9.1f}{cpu:>7.1f}{speed:>10.1f}"
            f"  x {by_clock:.2f}  x {by_cpu:.2f}"
        )
    print_operations(contenders["this package"], args.steps)


def prepare(
    model: str, batch: int, parts: tuple[Any, ...] | None
) -> tuple[tuple[int, float, float], Steps]:
    """Prepares a contender and takes its first step.

    Returns:
        Nodes of its graph, seconds and CPU seconds of the first step with its tracing; and a
        function that takes a number of further steps.
    """
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, 32, 32, 3)).astype("float32")
    batches = iter(tf.data.Dataset.from_tensors((images, rng.integers(0, 10, batch))).repeat())
    with patched(parts or ()):
        trace = bare(model) if parts is None else package(model, batch)
        started = time.perf_counter(), time.process_time()
        loop, run = trace()
        run(batches, 1)
        ended = time.perf_counter(), time.process_time()
    graph = loop.get_concrete_function(batches, tf.constant(1)).graph.as_graph_def()
    nodes = sum(len(function.node_def) for function in graph.library.function)

    def steps(count: int) -> None:
        with patched(parts or ()):
            run(batches, count)

    return (nodes, ended[0] - started[0], ended[1] - started[1]), steps


@contextlib.contextmanager
def patched(parts: tuple[Any, ...]) -> Iterator[None]:
    """Replaces classes of the package by Keras's."""
    with contextlib.ExitStack() as stack:
        for place, own in parts:
            stack.enter_context(mock.patch(place, own))
        yield


def package(name: str, batch: int) -> Callable[[], tuple[Any, Any]]:
    """Builds the net; returns a function that builds the steps of `keras-resnet train`."""
    config = RunConfig(ModelConfig(name), batch_size=batch, steps=1)
    model = build(name, seed=0)

    def trace() -> tuple[Any, Any]:
        optimizer = make_optimizer(config.optimizer, 0.01, "float32")
        optimizer.build(model.trainable_variables)
        steps = TrainingSteps(model, optimizer, config, tf.distribute.get_strategy())
        return steps._loop, steps

    return trace


def bare(name: str) -> Callable[[], tuple[Any, Any]]:
    """Builds the net with shortcuts of option A in bare TensorFlow; returns as `package` does."""
    spec, rng = get_spec(name), np.random.default_rng(0)
    trained: list[tf.Variable] = []
    margins = [[0, 0], [1, 1], [1, 1], [0, 0]]

    def variable(value: Any) -> tf.Variable:
        trained.append(tf.Variable(tf.cast(value, tf.float32)))
        return trained[-1]

    def conv(inputs: int, outputs: int, stride: int) -> Callable[[Any], Any]:
        kernel = variable(rng.normal(0, (2 / 9 / inputs) ** 0.5, (3, 3, inputs, outputs)))
        gamma, beta = variable(tf.ones(outputs)), variable(tf.zeros(outputs))
        moving = [tf.Variable(tf.zeros(outputs)), tf.Variable(tf.ones(outputs))]

        def apply(x: Any) -> Any:
            if stride > 1 and spec.padding == "symmetric":
                x = tf.nn.conv2d(tf.pad(x, margins), kernel, stride, "VALID")
            else:
                x = tf.nn.conv2d(x, kernel, stride, "SAME")
            x, *found = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-5)
            for average, value in zip(moving, found, strict=True):
                average.assign_sub(0.1 * (average - value))
            return x

        return apply

    channels, units = spec.widths[0], []
    stem = conv(3, channels, 1)
    for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True)):
        for index in range(depth):
            stride = 2 if stage and not index else 1
            units.append((conv(channels, width, stride), conv(width, width, 1), stride, width))
            channels = width
    kernel, bias = variable(rng.normal(0, 0.1, (channels, 10))), variable(tf.zeros(10))
    momenta = [tf.Variable(tf.zeros_like(value)) for value in trained]

    def forward(x: Any) -> Any:
        x = tf.nn.relu(stem(x))
        for first, second, stride, width in units:
            added = second(tf.nn.relu(first(x)))
            half = (width - x.shape[-1]) // 2
            if stride > 1:
                x = tf.pad(x[:, ::stride, ::stride], [[0, 0]] * 3 + [[half, half]])
            x = tf.nn.relu(x + added)
        return tf.reduce_mean(x, [1, 2]) @ kernel + bias

    def step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, forward(images))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, trained)
        for value, momentum, gradient in zip(trained, momenta, gradients, strict=True):
            momentum.assign(0.9 * momentum - 0.01 * (gradient + 1e-4 * value))
            value.assign_add(momentum)
        return loss

    def loop(iterator: Any, count: Any) -> Any:
        losses = tf.TensorArray(tf.float32, size=count, element_shape=())
        for index in tf.range(count):
            losses = losses.write(index, step(*next(iterator)))
        return losses.stack()

    def trace() -> tuple[Any, Any]:
        run = tf.function(loop)
        return run, lambda batches, count: run(batches, tf.constant(count)).numpy()

    return trace


def print_operations(steps: Steps, count: int) -> None:
    """Prints the operations that take the most CPU time, milliseconds per step."""
    # Part of TensorFlow, which has no public reader of its own profiles.
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as directory:
        options = tf.profiler.experimental.ProfilerOptions(
            host_tracer_level=2, python_tracer_level=0
        )
        tf.profiler.experimental.start(directory, options=options)
        steps(count)
        tf.profiler.experimental.stop()
        file = next(pathlib.Path(directory).rglob("*.xplane.pb"))
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    spent: collections.Counter[str] = collections.Counter()
    known = {name for name in dir(tf.raw_ops) if name[0].isupper()}
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            name = plane.event_metadata[event.metadata_id].name.rpartition(":")[2]
            name = name.removeprefix("_MklNative").removeprefix("_Mkl").removeprefix("_")
            if name in known:
                spent[name] += event.duration_ps / 1e9 / count
    total = sum(spent.values())
    print(f"\noperations of this package's step, ms (all: {total:.1f})")
    for name, milliseconds in spent.most_common(16):
        print(f"{name:<28}{milliseconds:>8.1f}{milliseconds / total:>8.1%}")


if __name__ == "__main__":
    main()
