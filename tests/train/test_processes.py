"""Runs in processes of their own: killed, stopped and resumed, and on two workers."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.nets.named_weights import read_weights
from keras_resnet_train.config import RunConfig, load_config, with_changes
from keras_resnet_train.rundir import RunDirectory, open_run
from keras_resnet_train.session import run_training
from keras_resnet_train.strategies import check_strategy, is_chief, make_strategy

pytestmark = [
    pytest.mark.tf,
    pytest.mark.multi_process,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("without_pictures"),
]

WORKER = pathlib.Path(__file__).with_name("multi_worker.py")


def environment(**variables: str) -> dict[str, str]:
    return {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
        **variables,
    }


def start(*words: object, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(path: pathlib.Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def stop_at(path: pathlib.Path, seconds: float = 120) -> None:
    """Sends SIGTERM to this process once there is a file."""
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)


def final_weights(directory: pathlib.Path) -> dict[str, Any]:
    """The raw weights of the newest checkpoint, by the names of the unrolled net."""
    model = open_run(directory).model
    model.load_weights(max((directory / "checkpoints").glob("step_*")) / "model.weights.h5")
    return read_weights(model)


def largest_difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    assert one.keys() == other.keys()
    return max(
        float(np.abs(a - b).max())
        for name in one
        for a, b in zip(one[name], other[name], strict=True)
    )


def test_a_run_killed_and_stopped_ends_as_one_that_never_was(
    tiny: Callable[..., RunConfig], command: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    net = {"model__spec__depths": [1], "model__spec__widths": [4]}
    every = {"checkpoint__every_steps": 20, "runtime__steps_per_call": 2}
    config = tiny(**net, epochs=8, steps=None, **every)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_training(config, whole)
    words = ("-m", "keras_resnet_train.cli", "train", "--config", whole / "config.json")

    killed = start(*words, "--output", broken)
    wait_for(broken / "checkpoints" / "step_00000020", killed)
    killed.kill()
    killed.communicate()
    assert not (broken / "model.keras").exists()

    # Stopped in this process, which is quicker.
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # should the run end too early
    stop = threading.Thread(target=stop_at, args=(broken / "checkpoints" / "step_00000060",))
    stop.start()
    stopped = command(*words[2:], "--output", broken)
    stop.join()
    signal.signal(signal.SIGTERM, before)
    assert stopped.status == 130, stopped
    assert "Resuming at step 20 of" in stopped.out or "Resuming at step 40 of" in stopped.out
    assert "Stopped by SIGTERM at step" in stopped.err
    assert not (broken / "model.keras").exists()

    run_training(config, broken)
    assert largest_difference(final_weights(whole), final_weights(broken)) == 0.0
    rows = [
        [line.split(",")[:2] + line.split(",")[3:] for line in path.read_text().splitlines()]
        for path in (whole / "history.csv", broken / "history.csv")
    ]
    assert rows[0][0][:3] == ["epoch", "step", "learning_rate"]  # all but the seconds
    assert rows[0] == rows[1]
    assert RunDirectory(whole).metrics["test"] == RunDirectory(broken).metrics["test"]


# Two workers.

# Replicas with own statistics; then common ones, with looped units computed twice.
OWN = {
    "data.image_size": 8,
    "model.spec.depths": [1],
    "model.spec.widths": [4],
    "schedule.warmup_epochs": 0,
    "schedule.learning_rate": 0.01,
    "batch_size": 64,
    "steps": 4,
    "runtime.strategy": "multi-worker",
    "runtime.sync_batch_norm": False,
}
SYNC = {
    **OWN,
    "model.spec.depths": [3],
    "model.stacked": True,
    "steps": 9,
    "checkpoint.every_steps": 3,
    "runtime.remat": "unit",
    "runtime.steps_per_call": 2,
    "runtime.sync_batch_norm": True,
}
Runs = list[tuple[pathlib.Path, dict[str, Any]]]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def two_workers(folder: pathlib.Path, *runs: Runs) -> list[tuple[int, str]]:
    """Status and output of two workers that train a list of runs each."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index, own_runs in enumerate(runs):
        task = {"type": "worker", "index": index}
        cluster = json.dumps({"cluster": {"worker": addresses}, "task": task})
        described = json.dumps([(str(path), changes) for path, changes in own_runs])
        kept = folder / f"worker{index}.npz"
        processes.append(start(WORKER, kept, described, TF_CONFIG=cluster))
    said = [process.communicate(timeout=500)[0] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.mark.slow
def test_two_workers(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Identical weights, and those of one device; with all forms of nets and statistics."""
    sync, rates = tmp_path / "sync", tmp_path / "rates"
    runs: Runs = [(sync, SYNC), (tmp_path / "own", OWN)]
    # Then workers with different directories, and workers with different settings.
    other = {**OWN, "schedule.learning_rate": 0.02}
    first: Runs = [*runs, (tmp_path / "here", OWN), (rates, OWN)]
    second: Runs = [*runs, (tmp_path / "elsewhere", OWN), (rates, other)]
    ended = two_workers(tmp_path, first, second)
    assert [status for status, _ in ended] == [0, 0], ended
    for (_, said), name in zip(ended, ("here", "elsewhere"), strict=True):
        (line,) = [line for line in said.splitlines() if line.startswith(f"{name} refused: ")]
        assert "--output must be one directory that all workers share" in line
        (line,) = [line for line in said.splitlines() if line.startswith("rates refused: ")]
        assert "different settings: schedule.learning_rate (here" in line
    assert not list(tmp_path.glob("*here/checkpoints"))
    assert not rates.exists()

    chief, worker = (dict(np.load(tmp_path / f"worker{index}.npz")) for index in range(2))
    assert chief.keys() == worker.keys()
    assert {name.partition("/")[0] for name in chief} == {"sync", "own"}
    for name, value in chief.items():
        # The average of the workers' own statistics is rounded.
        tolerance = 1e-6 if name.startswith("own/") else 0.0
        np.testing.assert_allclose(value, worker[name], rtol=0, atol=tolerance, err_msg=name)
    assert any("units1to3" in name for name in chief if name.startswith("sync/"))
    metrics = RunDirectory(sync).metrics
    assert metrics["training"]["replicas"] == 2
    assert metrics["test"]["examples"] == 360

    # On one device the same run, up to rounding, without loops and second computations.
    expected, looped = final_weights(sync), keras.models.load_model(sync / "model.keras")
    one_device = {"runtime.strategy": "one-device"}
    plain, changes = tmp_path / "plain", {"model.stacked": False, "runtime.remat": "none"}
    config = load_config(sync / "config.json")
    run_training(with_changes(config, one_device | changes), plain)
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 1)).astype("float32")
    unrolled = keras.models.load_model(plain / "model.keras")
    expected_logits = np.asarray(unrolled(images, training=False))
    np.testing.assert_allclose(
        np.asarray(looped(images, training=False)),
        expected_logits,
        atol=1e-3 * np.abs(expected_logits).max(),
    )

    # From the workers' checkpoint at step 6, one device reads the same batches.
    for path in (sync / "checkpoints" / "step_00000009", sync / "checkpoints" / "best"):
        shutil.rmtree(path)
    (sync / "model.keras").unlink()
    run_training(with_changes(config, one_device), sync)
    assert "Resuming at step 6 of 9" in capsys.readouterr().out
    assert largest_difference(final_weights(sync), expected) < 2e-4


# Refusals, which need no further process.


class Strategy:
    num_replicas_in_sync = 2


def test_a_batch_that_does_not_divide_is_refused() -> None:
    check_strategy(Strategy(), batch_size=32, xla=False)
    message = (
        "`--batch-size` is the global batch and must divide by the 2 replicas. "
        "Received: {}; nearest: {}$"
    )
    with pytest.raises(ValueError, match=message.format(33, "32, 34")):
        check_strategy(Strategy(), batch_size=33, xla=False)
    with pytest.raises(ValueError, match=message.format(1, "2")):
        check_strategy(Strategy(), batch_size=1, xla=False)


def test_strategies_that_this_process_cannot_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="XLA cannot compile a step of 2 replicas: drop --xla"):
        check_strategy(Strategy(), batch_size=32, xla=True)
    one = Strategy()
    one.num_replicas_in_sync = 1
    check_strategy(one, batch_size=32, xla=True)
    with pytest.raises(ValueError, match="drop --xla or --deterministic"):
        check_strategy(one, batch_size=32, xla=True, deterministic=True)
    cluster = {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ValueError, match="`--collective nccl` adds gradients of GPUs"):
        make_strategy("multi-worker", collective="nccl")
    assert float(tf.reduce_sum(tf.ones(3))) == 3.0  # TensorFlow has used the CPU
    with pytest.raises(ValueError, match="`--strategy cpu:2` must split the CPU before TensorFlow"):
        make_strategy("cpu:2")


def test_multi_worker_without_a_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", '{"task": {"type": "worker", "index": 0}}'):
        monkeypatch.setenv("TF_CONFIG", value)
        with pytest.raises(ValueError, match="`--strategy multi-worker` needs TF_CONFIG"):
            make_strategy("multi-worker")


@pytest.mark.parametrize(
    ("task", "cluster", "chief"),
    [
        ({"type": "worker", "index": 0}, {"worker": ["a", "b"]}, True),
        ({"type": "worker", "index": 1}, {"worker": ["a", "b"]}, False),
        ({"type": "worker", "index": 0}, {"worker": ["a"], "chief": ["b"]}, False),
        ({"type": "chief", "index": 0}, {"worker": ["a"], "chief": ["b"]}, True),
    ],
)
def test_the_chief(
    task: dict[str, Any], cluster: dict[str, Any], chief: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"task": task, "cluster": cluster}))
    assert is_chief("multi-worker") is chief
    assert is_chief("one-device")
