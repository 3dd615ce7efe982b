"""Speed of the training loop under its options, side by side in one process.

    python benchmarks/loop_options.py [--rounds 5] [--steps 20]

Trains CIFAR ResNet-20 at batch 128 on random images, input pipeline included, and prints for each
option the median images a second, the range, and the ratio to the defaults. The options take turns,
so that whatever else the machine does falls on all of them. Last come numbers of threads, which
TensorFlow takes from its environment: in processes of their own, on one batch in memory, that take
turns too. The defaults of `RuntimeConfig` follow from this table.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import PreprocessSpec, build
from keras_resnet_train.benchmark import ours
from keras_resnet_train.benchmark.setting import FULL, Setting
from keras_resnet_train.benchmark.turns import Contender, take_turns
from keras_resnet_train.config import RuntimeConfig
from keras_resnet_train.data import ArraySource, Share, TrainingPlan, training_batches
from keras_resnet_train.optimizers import make_optimizer
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.steps import TrainingSteps

_BATCH = 128


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="steps a round; a multiple of 20")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4096, 32, 32, 3), dtype="uint8")
    source = ArraySource(images, rng.integers(0, 10, 4096))
    default = RuntimeConfig().steps_per_call
    base = f"defaults ({default} steps a call)"
    options: dict[str, dict[str, Any]] = {base: {}}
    options |= {f"{n} steps a call": {"runtime.steps_per_call": n} for n in (1, 5, 20)}
    options |= {
        "XLA": {"runtime.xla": True},
        "mixed_bfloat16": {"runtime.precision": "mixed_bfloat16"},
    }
    runs = {name: prepare(source, changes) for name, changes in options.items()}
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run(args.steps)
            speeds[name].append(args.steps * _BATCH / (time.perf_counter() - started))
    _print(speeds, base)
    runs.clear()
    _print(by_threads(args.rounds, args.steps), f"{os.cpu_count()} threads")


def by_threads(rounds: int, steps: int) -> dict[str, list[float]]:
    """Returns images a second of each round, for 1, 2, 4 ... threads and as many as cores."""
    cores = os.cpu_count() or 1
    counts = [*(2**power for power in range(cores.bit_length()) if 2**power < cores), cores]
    setting = Setting(FULL, cores, "")
    job = setting.job("cifar_resnet20", 32, _BATCH, 10)
    contenders = [
        Contender(
            "threads", str(count), f"{ours.__name__}:train", dataclasses.replace(job, threads=count)
        )
        for count in counts
    ]
    measured = take_turns(contenders, rounds=rounds, units=steps, limit=600, say=lambda line: None)
    return {
        f"{count} threads": [steps * _BATCH / turn[""] for turn in done.turns]
        for count, done in zip(counts, measured, strict=True)
    }


def _print(speeds: Mapping[str, list[float]], base: str) -> None:
    reference = statistics.median(speeds[base])
    for name, values in speeds.items():
        median = statistics.median(values)
        print(
            f"{name:<28}{median:8.1f} images/s  ({min(values):.0f} to {max(values):.0f})"
            f"  x {median / reference:.2f}",
            flush=True,
        )


def prepare(source: ArraySource, changes: Mapping[str, Any]) -> Callable[[int], None]:
    """Builds and traces a loop; the function it returns takes so many steps."""
    config = get_recipe("he2015-cifar").configure("cifar_resnet20", changes)
    keras.config.set_dtype_policy(config.runtime.precision)
    model = build("cifar_resnet20", seed=0)
    keras.config.set_dtype_policy("float32")
    optimizer = make_optimizer(config.optimizer, 0.1, config.runtime.precision)
    optimizer.build(model.trainable_variables)
    steps = TrainingSteps(model, optimizer, config, tf.distribute.get_strategy())
    preprocess = PreprocessSpec((32, 32), mean=(120.0,) * 3, std=(60.0,) * 3)
    plan = TrainingPlan(preprocess, config.augment, 3, 0, 0, 10**6)
    batches = iter(training_batches(source, plan, Share(_BATCH)))
    per_call = config.runtime.steps_per_call

    def run(count: int) -> None:
        for _ in range(count // per_call):
            steps(batches, per_call)

    run(per_call)
    return run


if __name__ == "__main__":
    main()
