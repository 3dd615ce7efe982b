"""What saving the state of a run costs: at once, or in a second thread."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def run(net: str, size: int, batch: int, steps: int, repeats: int) -> int:
    """Times steps with and without saves, in turns, and prints a table.

    Args:
        net: A net of the catalog.
        size: Height and width of the images.
        batch: Images per step.
        steps: Steps after each save that are timed.
        repeats: Number of turns; medians are printed.
    """
    import keras_resnet
    from keras_resnet_train.background import Background
    from keras_resnet_train.checkpoint import Checkpoints, Progress
    from keras_resnet_train.config import OptimizerConfig
    from keras_resnet_train.optimizers import make_optimizer
    from keras_resnet_train.snapshot import take_snapshot

    model = keras_resnet.build(net, classes=1000, input_shape=(size, size, 3), seed=0)
    optimizer = make_optimizer(OptimizerConfig(), 1e-3, "float32")
    optimizer.build(model.trainable_variables)
    step = _step(model, optimizer, size, batch)
    step()
    pauses: dict[str, list[float]] = {"none": [], "at once": [], "in a thread": []}
    after: dict[str, list[float]] = {name: [] for name in pauses}
    writing: list[float] = []
    with tempfile.TemporaryDirectory(dir=".") as folder, Background() as background:
        checkpoints = Checkpoints(Path(folder), keep=1)

        def in_thread() -> None:
            snapshot = take_snapshot(model, optimizer, Progress(step=2))

            def write() -> None:
                started = time.perf_counter()
                checkpoints.write(snapshot)
                writing.append(time.perf_counter() - started)

            background.submit(write)

        saves: dict[str, Callable[[], object]] = {
            "none": lambda: None,
            "at once": lambda: checkpoints.save(model, optimizer, Progress(step=1)),
            "in a thread": in_thread,
        }
        for turn in range(repeats):
            for name, save in saves.items():
                with _timed(pauses[name]):
                    save()
                with _timed(after[name]):
                    for _ in range(steps):
                        step()
                background.wait()
            print(f"turn {turn + 1} of {repeats}", file=sys.stderr, flush=True)
        written = sum(f.stat().st_size for f in checkpoints.steps()[-1].iterdir())
    plain = statistics.median(after["none"]) / steps
    print(f"{net}, {size} x {size}, batch {batch}: {written / 2**20:.0f} MiB a checkpoint")
    print("| save | pause (s) | step after it (s) | at one save a minute |")
    print("| --- | --- | --- | --- |")
    for name in pauses:
        pause, mean = statistics.median(pauses[name]), statistics.median(after[name]) / steps
        cost = pause + max(0.0, mean - plain) * steps
        print(f"| {name} | {pause:.3f} | {mean:.3f} | {cost / 60:.2%} |")
    print(f"Writing in the thread: {statistics.median(writing):.2f} s")
    return 0


def _step(model: Any, optimizer: Any, size: int, batch: int) -> Callable[[], object]:
    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(batch, size, size, 3)), tf.float32)
    labels = tf.constant(rng.integers(0, 1000, size=batch))

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
            )
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda: step().numpy()


@contextmanager
def _timed(times: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times.append(time.perf_counter() - started)
