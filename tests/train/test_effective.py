"""Settings that the length of a run or the number of its images changes: said, with numbers."""

from __future__ import annotations

from typing import Any

import pytest

from keras_resnet_train.config import RunConfig, with_changes
from keras_resnet_train.effective import changed_settings
from keras_resnet_train.length import length_of

WEIGHTS = {"model.weights": "torchvision/v2", "model.name": "resnet50"}


def lines(changes: dict[str, Any], images: int = 640) -> list[str]:
    """Of a run of 4 epochs of 10 steps, unless changed."""
    given = {"batch_size": 64, "epochs": 4.0} | changes
    config = with_changes(RunConfig(epochs=1), given)
    return changed_settings(config, length_of(config, images), images)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"optimizer.average_last": 9},
            "`optimizer.average_last=9` is longer than the run: the weights of all 4 epochs are "
            "averaged",
        ),
        ({"early_stop": 4}, "`early_stop=4` cannot end a run of 4 epochs early"),
        (
            {"early_stop": 2, "head_epochs": 2.0} | WEIGHTS,
            "`early_stop=2` cannot end a run of 2 epochs after 2 of the classifier alone early",
        ),
        ({"head_epochs": 0.04} | WEIGHTS, "`head_epochs=0.04` is less than half a step and has no"),
        ({"schedule.warmup_epochs": 0.04}, "`schedule.warmup_epochs=0.04` is less than half a"),
        ({"epochs": 0.02}, "`epochs=0.02` is 0.2 steps of 64 images and becomes 1"),
        (
            {"schedule.kind": "step"},
            "`schedule.every_epochs=30` is not shorter than the run of 4 epochs: the rate does not",
        ),
        (
            {"schedule.kind": "piecewise", "schedule.boundaries": [0.5, 0.99]},
            "`schedule.boundaries`: 0.99 of a run of 40 step(s) is its end",
        ),
        (
            {"schedule.swa_start": 0.25, "schedule.swa_cycle": 2},
            "`schedule.swa_cycle=2`: the last 1 epoch(s) are no whole cycle and enter no average",
        ),
        (
            {"optimizer.recompute_batch_norm": 700},
            "`optimizer.recompute_batch_norm=700` takes all 640 training images",
        ),
        (
            {"augment.repeats": 2},
            "`augment.repeats=2`: an epoch has 1 / 2 of the training images, each 2 times; the run "
            "of 4 epochs takes each image 4 times, in 2 batches",
        ),
        ({"runtime.profile": "30:50"}, "`runtime.profile=30:50` ends at step 39, the last of the"),
    ],
)
def test_what_is_cut_is_said(changes: dict[str, Any], line: str) -> None:
    (found,) = lines(changes)
    assert found.startswith(line)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer.average_last": 4, "early_stop": 3, "optimizer.recompute_batch_norm": 640},
        {"early_stop": 1, "head_epochs": 2.0} | WEIGHTS,
        {"schedule.kind": "step", "schedule.every_epochs": 3.0, "schedule.warmup_epochs": 0.1},
        {"schedule.kind": "piecewise", "schedule.boundaries": [0.5, 0.98]},
        {"schedule.swa_start": 0.5, "schedule.swa_cycle": 2, "runtime.profile": "30:39"},
    ],
)
def test_what_has_its_full_effect_is_not(changes: dict[str, Any]) -> None:
    assert lines(changes) == []


def test_a_batch_larger_than_the_data() -> None:
    """A run of 10 epochs of 20 images becomes two steps."""
    assert lines({"epochs": 10.0}, images=20) == [
        "a batch of 64 is larger than the 20 training images: each step takes each image about 3.2 "
        "times, and an epoch is one step"
    ]
    assert lines({"epochs": 2.0}, images=20) == [
        "a batch of 64 is larger than the 20 training images: each step takes each image about 3.2 "
        "times, and an epoch is one step",
        "`epochs=2` is 0.625 steps of 64 images and becomes 1",
    ]
