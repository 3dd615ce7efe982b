"""Learning rates against literal values."""

from __future__ import annotations

from typing import Any

import keras
import pytest
import tensorflow as tf

from keras_resnet_train.config import ScheduleConfig
from keras_resnet_train.schedules import Schedule, make_schedule

pytestmark = pytest.mark.tf


def make(total: int = 100, per_epoch: float = 10.0, **fields: Any) -> Schedule:
    return make_schedule(ScheduleConfig(**fields), total_steps=total, steps_per_epoch=per_epoch)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"learning_rate": 0.3}, {0: 0.3, 50: 0.3, 99: 0.3, 500: 0.3}),
        (
            {"kind": "piecewise", "boundaries": (0.5, 0.75), "factor": 0.1},
            {0: 0.1, 49: 0.1, 50: 0.01, 51: 0.01, 74: 0.01, 75: 0.001, 99: 0.001},
        ),
        (
            {"kind": "piecewise", "boundaries": (0.2,), "factor": 0.5, "learning_rate": 4.0},
            {19: 4.0, 20: 2.0},
        ),
        (
            {"kind": "cosine", "learning_rate": 0.2},
            {0: 0.2, 25: 0.170710678, 50: 0.1, 75: 0.029289322, 100: 0.0, 120: 0.0},
        ),
        (
            {"kind": "cosine", "learning_rate": 0.2, "warmup_steps": 20},
            {0: 0.0, 10: 0.1, 19: 0.19, 20: 0.2, 60: 0.1, 100: 0.0},
        ),
        (
            {"warmup_steps": 10, "warmup_rate": 0.05},
            {0: 0.05, 1: 0.055, 5: 0.075, 9: 0.095, 10: 0.1, 11: 0.1},
        ),
        (
            {"warmup_steps": 10, "warmup": "constant", "warmup_rate": 0.01},
            {0: 0.01, 9: 0.01, 10: 0.1},
        ),
        (
            {"warmup_epochs": 2.0, "warmup_steps": 5, "warmup": "constant", "warmup_rate": 0.02},
            {24: 0.02, 25: 0.1},
        ),
        (
            {"kind": "piecewise", "boundaries": (0.5,), "warmup_steps": 60},
            {0: 0.0, 49: 0.1 * 49 / 60, 50: 0.1 * 50 / 60, 59: 0.1 * 59 / 60, 60: 0.01},
        ),
    ],
    ids=[
        "constant",
        "piecewise",
        "half at a fifth",
        "cosine",
        "cosine after warm-up",
        "linear",
        "constant warm-up",
        "epochs and steps add up",
        "a boundary within the warm-up",
    ],
)
def test_values(fields: dict[str, Any], expected: dict[int, float]) -> None:
    schedule = make(**fields)
    found = {step: float(schedule(step)) for step in expected}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_fractions_of_epochs_are_rounded() -> None:
    schedule = make(per_epoch=19.64, warmup_epochs=1.0, warmup="constant")
    assert [float(schedule(step)) for step in (19, 20)] == pytest.approx([0.0, 0.1])


@pytest.mark.parametrize("warmup", [100, 150])
def test_warm_up_must_be_shorter_than_the_run(warmup: int) -> None:
    message = f"shorter than the run of 100 steps.*schedule.warmup_steps.*Received: {warmup} warm"
    with pytest.raises(ValueError, match=message):
        make(warmup_steps=warmup)
    make(warmup_steps=99)


def test_in_a_graph_and_after_serialization() -> None:
    schedule = make(kind="cosine", warmup_steps=20, warmup_rate=0.01)
    traced = tf.function(schedule, input_signature=[tf.TensorSpec((), tf.int64)])
    optimizer = keras.optimizers.SGD(schedule)
    copy = keras.optimizers.SGD.from_config(optimizer.get_config())
    for step in (0, 5, 20, 77):
        assert float(traced(step)) == pytest.approx(float(schedule(step)), rel=1e-6)
        assert float(copy._learning_rate(step)) == float(schedule(step))
