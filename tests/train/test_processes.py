"""Runs in processes of their own: killed and resumed, on two replicas, on two workers."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import keras_resnet  # noqa: F401, so that Keras knows the class of the files

pytestmark = [pytest.mark.tf, pytest.mark.multi_process, pytest.mark.timeout(300)]

TRAIN = (
    "train",
    "--model",
    "cifar_resnet8",
    "--dataset",
    "digits",
    "--recipe",
    "digits",
    "--set",
    "model.spec.widths=[4,8,8]",
    "--set",
    "schedule.warmup_epochs=0",
)


def command(*arguments):
    return [sys.executable, "-m", "keras_resnet_train.cli", *map(str, arguments)]


def environment(**variables):
    return {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
        **variables,
    }


def run(*arguments, **variables):
    return subprocess.run(
        command(*arguments), env=environment(**variables), capture_output=True, text=True
    )


def start(*arguments, **variables):
    return subprocess.Popen(
        command(*arguments),
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def weights(directory: Path):
    """The raw weights of the newest checkpoint."""
    newest = max((directory / "checkpoints").glob("step_*"))
    found = {}
    with h5py.File(newest / "model.weights.h5") as file:
        file.visititems(
            lambda name, item: found.__setitem__(name, item[()]) if hasattr(item, "shape") else None
        )
    assert found
    return found


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def history(directory: Path):
    with (directory / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def wait_for(path: Path, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_a_run_killed_and_stopped_ends_as_one_that_never_was(tmp_path):
    options = (*TRAIN, "--epochs", 8, "--checkpoint-steps", 20, "--steps-per-call", 2)
    whole = run(*options, "--output", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr

    broken = tmp_path / "broken"
    killed = start(*options, "--output", broken)
    wait_for(broken / "checkpoints" / "step_00000020", killed)
    killed.kill()
    killed.communicate()
    assert not (broken / "model.keras").exists()

    stopped = start(*options, "--output", broken)
    wait_for(broken / "checkpoints" / "step_00000060", stopped)
    stopped.send_signal(signal.SIGTERM)
    said, _ = stopped.communicate()
    assert stopped.returncode == 130, said
    assert "Resuming at step 20 of" in said or "Resuming at step 40 of" in said
    assert "Stopped by SIGTERM at step" in said

    other = run(*options, "--seed", 9, "--output", broken)
    assert other.returncode == 1
    assert "differs in seed: 0 then, 9 now" in other.stderr

    last = run(*options, "--output", broken)
    assert last.returncode == 0, last.stderr
    assert "Resuming at step" in last.stdout
    assert largest_difference(weights(tmp_path / "whole"), weights(broken)) == 0.0
    assert history(tmp_path / "whole") == history(broken)
    ours, theirs = (
        json.loads((path / "metrics.json").read_text())["test"]
        for path in (tmp_path / "whole", broken)
    )
    assert ours == theirs


REPLICAS = """
import json, sys
from pathlib import Path
import numpy as np
from keras_resnet_train.config import with_changes
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.session import run_training
from keras_resnet_train.strategies import make_strategy

make_strategy("cpu:2")  # before anything touches a device
base = get_recipe("digits").configure("cifar_resnet8", {
    "model.spec.widths": [4, 8, 8], "schedule.warmup_epochs": 0, "schedule.learning_rate": 0.01,
    "batch_size": 64, "steps": int(sys.argv[2]),
})
for name, changes in {
    "one": {"runtime.sync_batch_norm": True},
    "two": {"runtime.strategy": "cpu:2", "runtime.sync_batch_norm": True},
    "own": {"runtime.strategy": "cpu:2"},
}.items():
    run_training(with_changes(base, changes), Path(sys.argv[1]) / name)
"""


@pytest.mark.parametrize(("steps", "tolerance"), [(1, 1e-5), (4, 1e-3)])
def test_two_replicas_train_as_one_device_does(tmp_path, steps, tolerance):
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(tmp_path), str(steps)],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    one, two, own = (weights(tmp_path / name) for name in ("one", "two", "own"))
    assert largest_difference(one, two) < tolerance
    # Without synchronised batch norm each replica normalises by its own half of the batch.
    assert largest_difference(one, own) > 1e-4
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["training"]["replicas"] == 2
    assert metrics["test"]["examples"] == 360  # each once, though 360 does not fill two batches


OVERFLOW = """
import numpy as np, tensorflow as tf, keras
from keras_resnet import build
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.optimizers import make_optimizer
from keras_resnet_train.rundir import spec_of
from keras_resnet_train.steps import TrainingSteps
from keras_resnet_train.strategies import make_strategy

strategy = make_strategy("cpu:2")
config = get_recipe("digits").configure("cifar_resnet8", {
    "model.spec.widths": [4, 4, 4], "batch_size": 8, "runtime.precision": "mixed_float16"})
with strategy.scope():
    model = build(spec_of(config), input_shape=(8, 8, 1))
    optimizer = make_optimizer(config.optimizer, 0.1, "mixed_float16")
    optimizer.build(model.trainable_variables)
steps = TrainingSteps(model, optimizer, config, strategy)
before, scale = model.get_weights(), float(optimizer.scale_loss(1.0))

def batches(context):
    good = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype("float32")
    images = np.stack([good, np.full_like(good, np.inf)])  # the second replica alone overflows
    return tf.data.Dataset.from_tensor_slices((images, np.zeros((2, 4), "int64")))

steps(iter(strategy.distribute_datasets_from_function(batches)), 1)
trainable = {v.path for v in model.trainable_variables}
for variable, value in zip(model.weights, before, strict=True):
    if variable.path in trainable:
        assert np.array_equal(variable.numpy(), value), variable.path
assert float(optimizer.scale_loss(1.0)) < scale
"""


def test_one_replicas_overflow_skips_the_step_for_all():
    done = subprocess.run(
        [sys.executable, "-c", OVERFLOW], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    found = run(
        *TRAIN, "--strategy", "cpu:2", "--batch-size", 33, "--steps", 2, "--output", tmp_path / "r"
    )
    assert found.returncode == 1
    assert found.stderr.strip().splitlines()[-1] == (
        "Error: `--batch-size` is the global batch and must divide by the 2 replicas. "
        "Received: 33; nearest: 32, 34"
    )
    assert not (tmp_path / "r").exists()


WORKER = """
import json, sys
from pathlib import Path
import keras, numpy as np
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.session import run_training

class Keep(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        values = {v.path: v.numpy() for v in self.model.weights}
        np.savez(sys.argv[2], **values)

config = get_recipe("digits").configure("cifar_resnet8", {
    "model.spec.widths": [4, 8, 8], "schedule.warmup_epochs": 0, "schedule.learning_rate": 0.01,
    "batch_size": 64, "steps": 12, "runtime.strategy": "multi-worker",
    "runtime.sync_batch_norm": sys.argv[3] == "sync", "checkpoint.every_steps": 4,
    "runtime.steps_per_call": 3, **json.loads(sys.argv[4]),
})
run_training(config, Path(sys.argv[1]), callbacks=[Keep()])
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def two_workers(tmp_path, batch_norm, directories=("run", "run"), status=(0, 0), **changes):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        kept = tmp_path / f"worker{index}.npz"
        given = json.dumps({name.replace("__", "."): value for name, value in changes.items()})
        arguments = [str(tmp_path / directories[index]), str(kept), batch_norm, given]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, *arguments],
                env=environment(TF_CONFIG=json.dumps(config)),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert tuple(process.returncode for process in processes) == status, said
    if any(status):
        return said
    return [dict(np.load(tmp_path / f"worker{index}.npz")) for index in range(2)]


def test_two_workers_end_with_identical_weights(tmp_path):
    chief, worker = two_workers(tmp_path, "sync")
    assert largest_difference(chief, worker) == 0.0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["training"]["replicas"] == 2
    assert metrics["test"]["examples"] == 360

    # The same run on one device, from the workers' checkpoint at step 8, sees the same batches.
    newest = max((tmp_path / "run" / "checkpoints").glob("step_*"))
    assert newest.name == "step_00000012"
    alone = tmp_path / "run"
    before = weights(alone)
    for path in (newest, alone / "model.keras", alone / "checkpoints" / "best"):
        subprocess.run(["rm", "-r", str(path)], check=True)
    found = run(
        "train", "--config", alone / "config.json", "--strategy", "one-device", "--output", alone
    )
    assert found.returncode == 0, found.stderr
    assert "Resuming at step 8 of 12" in found.stdout
    assert largest_difference(before, weights(alone)) < 2e-4


def test_workers_that_see_different_directories_do_not_go_on(tmp_path):
    two_workers(tmp_path, "sync")
    (tmp_path / "run" / "model.keras").unlink()
    newest = tmp_path / "run" / "checkpoints" / "step_00000012"
    subprocess.run(["rm", "-r", str(newest)], check=True)
    said = two_workers(tmp_path, "sync", ("run", "elsewhere"), (1, 1))
    # The one that ends first may cut the other off before it has its answer.
    refusals = [
        f"stand at different steps (this one at {step}): --output must be" for step in (8, 0)
    ]
    assert any(refusal in text for refusal, text in zip(refusals, said, strict=True)), said
    assert not (tmp_path / "run" / "checkpoints" / "step_00000012").exists()


def test_workers_with_their_own_statistics_save_the_average(tmp_path):
    chief, worker = two_workers(tmp_path, "own")
    # `on_train_end` comes after the last checkpoint, which averages the moving statistics.
    assert largest_difference(chief, worker) < 1e-6


def test_two_workers_train_stacked_and_rematerialized_nets_as_others(tmp_path):
    """Looped units, activations computed twice: the same run, up to rounding."""
    plain = {"model__spec__depths": [3, 2, 2], "steps": 4, "checkpoint__every_steps": 2}
    two_workers(tmp_path, "sync", ("plain", "plain"), **plain)
    own = {"model__stacked": True, "runtime__remat": "unit"}
    chief, worker = two_workers(tmp_path, "sync", ("own", "own"), **plain, **own)
    assert largest_difference(chief, worker) == 0.0
    assert any("units1to3" in name for name in chief), sorted(chief)
    unrolled = keras.models.load_model(tmp_path / "plain" / "model.keras")
    stacked = keras.models.load_model(tmp_path / "own" / "model.keras")
    images = np.random.default_rng(0).normal(size=(16, 16, 16, 1)).astype("float32")
    expected = np.asarray(unrolled(images, training=False))
    np.testing.assert_allclose(
        np.asarray(stacked(images, training=False)), expected, atol=1e-3 * np.abs(expected).max()
    )


def test_multi_worker_without_a_cluster_is_refused(tmp_path):
    found = run(
        *TRAIN, "--strategy", "multi-worker", "--steps", 2, "--output", tmp_path / "r", TF_CONFIG=""
    )
    assert found.returncode == 1
    assert "`--strategy multi-worker` needs TF_CONFIG" in found.stderr
