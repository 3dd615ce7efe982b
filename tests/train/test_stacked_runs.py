"""Runs of stacked nets, against the same runs of unrolled nets."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_resnet.nets.named_weights import read_weights
from keras_resnet_train.config import RunConfig
from keras_resnet_train.rundir import open_run
from keras_resnet_train.session import run_training

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("without_pictures")]

# Both kinds of stacks: with and without the first unit. Drops branches, so that a lost state of
# the random numbers would show.
NET = {
    "model__spec__depths": [2, 3],
    "model__spec__widths": [4, 8],
    "model__spec__stochastic_depth": 0.5,
    "schedule__learning_rate": 0.01,
    "steps": 4,
}


def largest_difference(one: keras.Model, other: keras.Model) -> float:
    ours, theirs = read_weights(one), read_weights(other)
    assert ours.keys() == theirs.keys()
    return max(
        float(np.abs(a - b).max())
        for name in ours
        for a, b in zip(ours[name], theirs[name], strict=True)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer__decay_all": False, "optimizer__weight_decay": 0.1, "optimizer__clip_norm": 1},
        {
            "optimizer__name": "lamb",
            "optimizer__weight_decay": 0.5,
            "optimizer__ema": 0.5,
            "schedule__learning_rate": 1e-3,
        },
        {"optimizer__name": "muon", "schedule__learning_rate": 1e-3},
    ],
    ids=["sgd", "lamb", "muon"],
)
def test_a_stacked_run_is_the_unrolled_run(
    changes: dict[str, Any],
    tiny: Callable[..., RunConfig],
    train_model: Callable[[RunConfig], Any],
) -> None:
    """Also where norms and rates are those of single units."""
    by_unit = {"optimizer__layer_decay": 0.5, "optimizer__layer_decay_per": "unit"}
    stacked, unrolled = (
        train_model(tiny(**{**NET, **by_unit, **changes, "model__stacked": form}))
        for form in (True, False)
    )
    assert (stacked[0].stacked, unrolled[0].stacked) == (True, False)
    assert largest_difference(stacked[0], unrolled[0]) < 2e-4
    np.testing.assert_allclose(stacked[1][:, 0], unrolled[1][:, 0], rtol=1e-4)


def test_a_stacked_run_resumes_and_is_exported_unrolled(
    tiny: Callable[..., RunConfig],
    train_model: Callable[[RunConfig], Any],
    train_until: Callable[..., None],
    command: Callable[..., Any],
    tmp_path: pathlib.Path,
) -> None:
    net = {**NET, "model__spec__depths": [3], "model__spec__widths": [4], "model__stacked": True}
    config = tiny(**net, checkpoint__every_steps=2, runtime__steps_per_call=2)
    whole, _ = train_model(config)
    train_until(4, config, tmp_path)
    run_training(config, tmp_path)
    last = open_run(tmp_path, "last").model
    assert last.stacked
    assert largest_difference(whole, last) == 0.0

    ended = command("export", tmp_path, "--evaluation-images", 40, "--formats", "tflite")
    assert ended.status == 0, ended.err
    made = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]
    assert made.keys() == {"model.tflite"}
    assert made["model.tflite"]["verification"]["max_difference"] < 1e-4
