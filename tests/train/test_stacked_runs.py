"""Runs of stacked nets: the runs of unrolled ones, on one device and on two."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_resnet.nets.named_weights import read_weights
from keras_resnet_train.rundir import open_run
from keras_resnet_train.session import run_training

pytestmark = pytest.mark.tf

# Three units a stage; drops branches, so that a state that is lost would show.
NET = {
    "model__name": "cifar_resnet20",
    "model__spec__widths": [4, 8, 8],
    "model__spec__stochastic_depth": 0.5,
    "schedule__learning_rate": 0.01,
}


class PowerCutError(Exception):
    """Stands for whatever ends a process."""


class CutAt(keras.callbacks.Callback):
    """Ends the run after the call that reaches step 4."""

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if batch + 1 >= 4:
            raise PowerCutError(batch)


def largest_difference(one: pathlib.Path, other: pathlib.Path) -> float:
    ours, theirs = (read_weights(open_run(path, "auto").model) for path in (one, other))
    assert ours.keys() == theirs.keys()
    return max(
        float(np.abs(a - b).max())
        for name in ours
        for a, b in zip(ours[name], theirs[name], strict=True)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer__decay_all": False, "optimizer__weight_decay": 0.1, "optimizer__clip_norm": 1},
        {
            "optimizer__name": "adamw",
            "optimizer__decay_all": False,
            "optimizer__weight_decay": 0.5,
            "optimizer__ema": 0.5,
        },
    ],
    ids=["sgd", "no-decay-of-norms", "adamw"],
)
def test_a_stacked_run_is_the_unrolled_run(tiny, tmp_path, changes):
    if changes.get("optimizer__name") == "adamw":
        changes = {**changes, "schedule__learning_rate": 1e-4}
    settings = {**NET, "steps": 4, "checkpoint__every_steps": 0, **changes}
    for stacked in (True, False):
        config = tiny(**{**settings, "model__stacked": stacked})
        run_training(config, tmp_path / str(stacked))
        assert open_run(tmp_path / str(stacked), "auto").model.stacked is stacked
    assert largest_difference(tmp_path / "True", tmp_path / "False") < 2e-4
    histories = [
        np.genfromtxt(tmp_path / str(stacked) / "history.csv", delimiter=",", names=True)
        for stacked in (True, False)
    ]
    np.testing.assert_allclose(*(history["loss"] for history in histories), rtol=1e-4)


def test_a_stacked_run_goes_on_as_if_never_broken(tiny, tmp_path):
    config = tiny(
        **NET, steps=8, model__stacked=True, checkpoint__every_steps=2, runtime__steps_per_call=2
    )
    run_training(config, tmp_path / "whole")
    with pytest.raises(PowerCutError):
        run_training(config, tmp_path / "broken", callbacks=[CutAt()])
    run_training(config, tmp_path / "broken")
    assert largest_difference(tmp_path / "whole", tmp_path / "broken") == 0.0


def test_a_stacked_run_is_exported_unrolled(tiny, command, tmp_path):
    run = tmp_path / "run"
    config = tiny(**{**NET, "model__spec__stochastic_depth": 0.0}, steps=4, model__stacked=True)
    run_training(config, run)
    ended = command("export", run, "--evaluation-images", 40)
    assert ended.status == 0, ended.err
    made = json.loads((run / "manifest.json").read_text())["artifacts"]
    assert {"saved_model", "model.tflite"} <= made.keys()
    assert made["model.tflite"]["verification"]["max_difference"] < 1e-4


REPLICAS = """
import sys
from pathlib import Path
from keras_resnet_train.config import with_changes
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.session import run_training
from keras_resnet_train.strategies import make_strategy

make_strategy("cpu:2")  # before anything touches a device
base = get_recipe("digits").configure("cifar_resnet20", {
    "model.spec.widths": [4, 8, 8], "schedule.warmup_epochs": 0, "schedule.learning_rate": 0.01,
    "batch_size": 64, "steps": 2, "model.stacked": True,
})
for name, changes in {
    "one": {"model.stacked": False, "runtime.sync_batch_norm": True},
    "two": {"runtime.strategy": "cpu:2", "runtime.sync_batch_norm": True},
    "own": {"runtime.strategy": "cpu:2"},
    "unrolled": {"runtime.strategy": "cpu:2", "model.stacked": False},
}.items():
    run_training(with_changes(base, changes), Path(sys.argv[1]) / name)
"""


@pytest.mark.multi_process
@pytest.mark.timeout(300)
def test_replicas_of_stacked_nets(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert largest_difference(tmp_path / "two", tmp_path / "one") < 1e-4
    assert largest_difference(tmp_path / "own", tmp_path / "unrolled") < 1e-4
    assert largest_difference(tmp_path / "own", tmp_path / "one") > 1e-4
