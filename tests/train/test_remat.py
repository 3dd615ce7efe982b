"""Runs that compute activations twice: the same runs."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_resnet_train.checkpoint import Checkpoints
from keras_resnet_train.config import differences
from keras_resnet_train.session import run_training

pytestmark = pytest.mark.tf

# Drops branches, so that drawing anew where one recomputes would show.
DROPS = {"model__spec__stochastic_depth": 0.5, "model__spec__widths": [4, 8, 8]}


class PowerCutError(Exception):
    """Stands for whatever ends a process."""


class CutAt(keras.callbacks.Callback):
    """Ends the run after the call that reaches a step."""

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if batch + 1 >= 4:
            raise PowerCutError(batch)


def weights(path: pathlib.Path) -> list[np.ndarray]:
    return keras.models.load_model(path / "model.keras").get_weights()


def largest_difference(one: pathlib.Path, other: pathlib.Path) -> float:
    pairs = zip(weights(one), weights(other), strict=True)
    return max(float(np.abs(value - expected).max()) for value, expected in pairs)


@pytest.fixture(scope="module")
def ordinary_run(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("remat") / "none"
    run_training(tiny(steps=8, runtime__steps_per_call=2, **DROPS), path)
    return path


@pytest.mark.parametrize("remat", ["unit", "stage"])
def test_a_rematerialized_run_is_the_run(tiny, ordinary_run, tmp_path, remat):
    config = tiny(steps=8, runtime__steps_per_call=2, runtime__remat=remat, **DROPS)
    run_training(config, tmp_path / remat)
    assert largest_difference(tmp_path / remat, ordinary_run) < 1e-5
    other = tiny(steps=8, seed=1, **DROPS)
    run_training(other, tmp_path / "other")
    assert largest_difference(tmp_path / "other", ordinary_run) > 1e-2


def test_a_run_may_go_on_with_another_rematerialization(tiny, ordinary_run, tmp_path):
    changes = {"steps": 8, "runtime__steps_per_call": 2, "checkpoint__every_steps": 2, **DROPS}
    first, second = (tiny(runtime__remat=remat, **changes) for remat in ("unit", "none"))
    assert differences(first, second) == []
    with pytest.raises(PowerCutError):
        run_training(first, tmp_path / "run", callbacks=[CutAt()])
    assert Checkpoints(tmp_path / "run" / "checkpoints", 2).steps()
    run_training(second, tmp_path / "run")
    assert largest_difference(tmp_path / "run", ordinary_run) < 1e-5


def test_unknown_values_are_refused(tiny, command, tmp_path):
    with pytest.raises(
        ValueError, match="`runtime.remat` must be one of 'none', 'unit', 'stage'. Received"
    ):
        tiny(runtime__remat="layer")
    with pytest.raises(SystemExit):
        command("train", "--remat", "layer", "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


REPLICAS = """
import sys
from pathlib import Path
from keras_resnet_train.config import with_changes
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.session import run_training
from keras_resnet_train.strategies import make_strategy

make_strategy("cpu:2")  # before anything touches a device
base = get_recipe("digits").configure("cifar_resnet8", {
    "model.spec.widths": [4, 8, 8], "model.spec.stochastic_depth": 0.5,
    "schedule.warmup_epochs": 0, "schedule.learning_rate": 0.01, "batch_size": 64, "steps": 4,
    "runtime.strategy": "cpu:2", "runtime.steps_per_call": 2,
})
for name, changes in {
    "own": {}, "own unit": {"runtime.remat": "unit"},
    "sync": {"runtime.sync_batch_norm": True},
    "sync unit": {"runtime.sync_batch_norm": True, "runtime.remat": "unit"},
    "half": {"runtime.precision": "mixed_float16"},
    "half unit": {"runtime.precision": "mixed_float16", "runtime.remat": "unit"},
}.items():
    run_training(with_changes(base, changes), Path(sys.argv[1]) / name)
"""


@pytest.mark.slow
@pytest.mark.multi_process
def test_replicas_rematerialize(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name, tolerance in (("own", 1e-5), ("sync", 1e-5), ("half", 1e-3)):
        assert largest_difference(tmp_path / name, tmp_path / f"{name} unit") < tolerance
    assert largest_difference(tmp_path / "own", tmp_path / "sync") > 1e-4
