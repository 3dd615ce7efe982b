"""Memory and time of a training step under `--remat none`, `unit` and `stage`, beside each other.

    python benchmarks/remat.py [--rounds 5] [--model cifar_resnet56] [--batch 512]

Each measurement is a process of its own, because a peak of memory is a process's; the three take
turns, so that whatever else the machine does falls on all of them. Printed are medians over the
rounds: the peak of resident memory over what the process held before its first step, the time of a
step (the processor's too, which a busy machine stretches less), and their ratios to `none`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MODES = ("none", "unit", "stage")
_MEASURES = ("peak_mb", "step_seconds", "cpu_seconds", "first_seconds")


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="timed steps a process")
    parser.add_argument("--model", default="cifar_resnet56")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--only", choices=MODES, help="measure one here, and print it as JSON")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args)))
        return
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for number in range(args.rounds):
        for mode in MODES:
            done = subprocess.run(
                [sys.executable, *sys.argv, "--only", mode],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            found[mode].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}, {mode}: {found[mode][-1]}", file=sys.stderr, flush=True)
    medians = {
        mode: {key: statistics.median(row[key] for row in rows) for key in _MEASURES}
        for mode, rows in found.items()
    }
    print(f"{args.model}, batch {args.batch}, {args.rounds} rounds of {args.steps} steps")
    print(f"{'':8}{'peak':>9}{'ratio':>7}{'step':>9}{'ratio':>7}{'CPU':>9}{'ratio':>7}{'first':>9}")
    for mode, row in medians.items():
        cells = [f"{row['peak_mb']:6.0f} MB", f"{row['peak_mb'] / medians['none']['peak_mb']:7.2f}"]
        for key in ("step_seconds", "cpu_seconds"):
            cells += [f"{row[key]:7.2f} s", f"{row[key] / medians['none'][key]:7.2f}"]
        print(f"{mode:8}{''.join(cells)}{row['first_seconds']:7.1f} s")


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Runs steps of one kind in this process."""
    import numpy as np
    import tensorflow as tf

    from keras_resnet import build
    from keras_resnet_train.optimizers import make_optimizer
    from keras_resnet_train.recipes import get_recipe
    from keras_resnet_train.steps import TrainingSteps

    config = get_recipe("he2015-cifar").configure(
        args.model,
        {"batch_size": args.batch, "runtime.remat": args.only, "runtime.xla": args.xla},
    )
    model = build(args.model, seed=0)
    optimizer = make_optimizer(config.optimizer, 0.01, config.runtime.precision)
    optimizer.build(model.trainable_variables)
    steps = TrainingSteps(model, optimizer, config, tf.distribute.get_strategy())
    rng = np.random.default_rng(0)
    shape = (args.batch, *model.input_shape[1:])
    images = rng.normal(size=shape).astype("float32")
    labels = rng.integers(0, model.output_shape[-1], args.batch)
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
    next(batches)
    before, started = _peak_mb(), time.perf_counter()
    steps(batches, 1)
    first = time.perf_counter() - started
    walls, works = [], []
    for _ in range(args.steps):
        started, work = time.perf_counter(), time.process_time()
        steps(batches, 1)
        walls.append(time.perf_counter() - started)
        works.append(time.process_time() - work)
    return {
        "peak_mb": _peak_mb() - before,
        "step_seconds": statistics.median(walls),
        "cpu_seconds": statistics.median(works),
        "first_seconds": first,
    }


def _peak_mb() -> float:
    """Returns the largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
