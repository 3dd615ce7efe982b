"""Runs with rematerialization, against runs without."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_resnet import build
from keras_resnet_train.checkpoint import Checkpoints
from keras_resnet_train.config import RunConfig, differences
from keras_resnet_train.rundir import open_run, spec_of
from keras_resnet_train.session import run_training

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("without_pictures")]

# Drops branches, so that drawing again for the second computation would show.
RUN = {
    "model__spec__depths": [1, 1],
    "model__spec__widths": [4, 8],
    "model__spec__stochastic_depth": 0.5,
    "runtime__steps_per_call": 2,
    "steps": 8,
}


def largest_difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def test_a_rematerialized_run_is_the_run(
    tiny: Callable[..., RunConfig],
    train_model: Callable[[RunConfig], Any],
    train_until: Callable[..., None],
    tmp_path: pathlib.Path,
) -> None:
    plain, unit, stage = (
        train_model(tiny(**RUN, runtime__remat=remat))[0].get_weights()
        for remat in ("none", "unit", "stage")
    )
    assert largest_difference(unit, plain) < 1e-5
    assert largest_difference(stage, plain) < 1e-5
    config = tiny(**RUN)
    new = build(spec_of(config), classes=10, input_shape=(8, 8, 1), seed=config.seed)
    assert largest_difference(new.get_weights(), plain) > 1e-2

    # A run may resume with another rematerialization.
    first, second = (
        tiny(**RUN, runtime__remat=remat, checkpoint__every_steps=2) for remat in ("unit", "none")
    )
    assert differences(first, second) == []
    train_until(4, first, tmp_path)
    assert len(Checkpoints(tmp_path / "checkpoints").steps()) == 1
    run_training(second, tmp_path)
    assert largest_difference(open_run(tmp_path, "last").model.get_weights(), plain) < 1e-5


def test_unknown_values_are_refused(
    tiny: Callable[..., RunConfig], command: Callable[..., Any], tmp_path: pathlib.Path
) -> None:
    with pytest.raises(
        ValueError, match="`runtime.remat` must be one of 'none', 'unit', 'stage'. Received"
    ):
        tiny(runtime__remat="layer")
    with pytest.raises(SystemExit):
        command("train", "--remat", "layer", "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()
