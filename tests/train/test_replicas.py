"""Training on two CPU replicas against one device; all in one further process."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.tf, pytest.mark.multi_process, pytest.mark.timeout(600)]

WORKER = pathlib.Path(__file__).with_name("replica_worker.py")
# What differs by rounding only, and what really differs.
BELOW = {
    "one step": 1e-5,
    "four steps": 1e-3,
    "remat, sync": 1e-5,
    "remat, half": 1e-3,
    "stacked, own": 1e-4,
    "drops": 1e-4,
    "drops, stacked": 1e-4,
    "drops, remat": 1e-4,
    "accumulated": 1e-5,
    "averages": 1e-5,
    "two, one, two": 1e-3,
    "ring": 1e-5,
    "ours and Keras's": 1e-6,
}
ABOVE = {
    # Without synchronised batch norm each replica normalises by its own half of the batch.
    "own statistics": 1e-4,
    "stacked, own and sync": 1e-4,
    "drops, none": 1e-2,
    "accumulated, sync, update": 1e-3,
    "accumulated, own, update": 1e-3,
    "remat, sync, update": 1e-3,
    "remat, half, update": 1e-3,
    "averages, statistics anew": 1e-3,
    "means of the replicas": 1e-3,
    "update of gamma": 1e-4,
}


def test_two_replicas_train_as_one_device_does(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, str(WORKER), str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert {name: report[name] for name, limit in BELOW.items() if not report[name] < limit} == {}
    assert {name: report[name] for name, limit in ABOVE.items() if not report[name] > limit} == {}
    assert report["replicas"] == report["metrics"]["training"]["replicas"] == 2
    # Each image counts once, though 360 images do not fill two batches.
    test = report["metrics"]["test"]
    assert test["examples"] == sum(map(sum, test["confusion"])) == 360
    right = sum(row[index] for index, row in enumerate(test["confusion"]))
    assert right / 360 == test["accuracy"]
    # To the bit: a checkpoint keeps each replica's statistics, and saving does not change them,
    # as the run that was cut had saved less often.
    assert report["averages, resumed"] == 0.0
    assert report["statistics, resumed"] == 0.0
    assert report["largest"] == [300_001, -300_001, 2**53 + 1]
    # The mean gradient of the weights is 3 and 4 times -1/2 and 1/2, that of the biases the latter.
    assert report["gradient norms"] == pytest.approx([3.6055513] * 2, rel=1e-5)
    # Two variables, and what the step measures: before, clipping and loss scaling summed twice.
    assert set(report["sums over replicas"].values()) == {3}
    kernels = {name: kernel[0][0] for name, kernel in report["kernels"].items()}
    far = dict.fromkeys(("plain", "logged", "far clip", "half"), 0.27931795)
    assert kernels == pytest.approx(far | {"clip": 0.05906037, "lamb": 0.10999874}, rel=1e-6)
    # An overflow on one replica skips the step on both.
    assert report["weights kept"]
    assert report["scale lowered"]
