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
            {0: 0.01, 9: 0.1, 10: 0.11, 19: 0.2, 20: 0.2, 60: 0.1, 100: 0.0},
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
            {0: 0.1 / 60, 49: 0.1 * 50 / 60, 50: 0.1 * 51 / 60, 59: 0.1, 60: 0.01},
        ),
        (
            {"kind": "cosine", "learning_rate": 0.2, "final_rate": 0.02},
            {0: 0.2, 25: 0.173639610, 50: 0.11, 75: 0.046360390, 100: 0.02, 120: 0.02},
        ),
        (
            {"kind": "polynomial", "final_rate": 0.01},
            {0: 0.1, 10: 0.091, 50: 0.055, 99: 0.0109, 100: 0.01, 150: 0.01},
        ),
        (
            {"kind": "polynomial", "power": 2.0, "warmup_steps": 20},
            {0: 0.005, 19: 0.1, 20: 0.1, 60: 0.025, 80: 0.00625, 100: 0.0},
        ),
        (
            {"kind": "step", "every_epochs": 3.0, "factor": 0.5},
            {0: 0.1, 29: 0.1, 30: 0.05, 59: 0.05, 60: 0.025, 90: 0.0125, 99: 0.0125},
        ),
        (
            {"kind": "piecewise", "boundary_epochs": (3.0, 6.05), "factor": 0.2},
            {29: 0.1, 30: 0.02, 59: 0.02, 60: 0.004, 99: 0.004},
        ),
        (
            {"kind": "piecewise", "boundary_steps": (7, 99)},
            {6: 0.1, 7: 0.01, 98: 0.01, 99: 0.001},
        ),
        # PyTorch's OneCycleLR(max_lr=0.1, total_steps=100).
        (
            {"kind": "one_cycle"},
            {0: 0.004, 10: 0.0295163948, 29: 0.1, 64: 0.050000200, 99: 4e-7, 200: 4e-7},
        ),
        (
            {"kind": "one_cycle", "cycle_shape": "linear", "cycle_rise": 0.5},
            {0: 0.004, 7: 0.017714286, 49: 0.1, 74: 0.0500002, 99: 4e-7},
        ),
        (
            {"kind": "cosine", "swa_start": 0.75, "swa_rate": 0.05},
            {0: 0.1, 50: 0.05, 79: 0.010492249, 80: 0.05, 99: 0.05},
        ),
        ({"kind": "cosine", "swa_start": 0.5}, {49: 0.051570538, 50: 0.05, 75: 0.05, 99: 0.05}),
        # Two cycles of two epochs of ten steps: the last step of each has the lowest rate.
        (
            {"swa_start": 0.6, "swa_rate": 0.05, "swa_cycle": 2, "swa_low_rate": 0.01},
            {59: 0.1, 60: 0.048, 69: 0.03, 78: 0.012, 79: 0.01, 80: 0.048, 99: 0.01},
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
        "cosine to a rate",
        "linear decay",
        "squared decay",
        "every three epochs",
        "at epochs",
        "at steps",
        "one cycle",
        "one cycle, linear",
        "weight averaging",
        "weight averaging at the rate reached",
        "weight averaging in cycles",
    ],
)
def test_values(fields: dict[str, Any], expected: dict[int, float]) -> None:
    schedule = make(**fields)
    found = {step: float(schedule(step)) for step in expected}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_fractions_of_epochs_are_rounded() -> None:
    schedule = make(per_epoch=19.64, warmup_epochs=1.0, warmup="constant", warmup_rate=0.03)
    assert [float(schedule(step)) for step in (19, 20)] == pytest.approx([0.03, 0.1])
    schedule = make(per_epoch=19.64, kind="step", every_epochs=1.0)
    rates = [float(schedule(step)) for step in (19, 20, 38, 39, 97, 98)]
    assert rates == pytest.approx([0.1, 0.01, 0.01, 0.001, 1e-5, 1e-6])


@pytest.mark.parametrize("warmup", [100, 150])
def test_warm_up_must_be_shorter_than_the_run(warmup: int) -> None:
    message = f"shorter than the run of 100 steps.*schedule.warmup_steps.*Received: {warmup} warm"
    with pytest.raises(ValueError, match=message):
        make(warmup_steps=warmup)
    make(warmup_steps=99)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warmup": "constant", "warmup_steps": 5}, "`schedule.warmup_rate` above 0. Received: 0"),
        ({"kind": "one_cycle", "warmup_steps": 5}, "by itself: leave out `schedule.warmup_steps`"),
        (
            {"kind": "piecewise", "boundary_epochs": (3, 10)},
            r"`schedule.boundary_epochs` must lie within the run of 100 steps \(10 epochs\)",
        ),
        (
            {"kind": "piecewise", "boundary_steps": (100,)},
            r"`schedule.boundary_steps` must lie within .*Received: \(100,\)",
        ),
        (
            {"kind": "piecewise", "boundaries": (0.5,), "boundary_steps": (3,)},
            "once.*Received: `schedule.boundaries` and `schedule.boundary_steps`",
        ),
    ],
)
def test_schedules_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**fields)


@pytest.mark.parametrize("kind", ["cosine", "piecewise", "one_cycle"])
def test_in_a_graph_and_after_serialization(kind: str) -> None:
    warm = {} if kind == "one_cycle" else {"warmup_steps": 20, "warmup_rate": 0.01}
    schedule = make(kind=kind, swa_start=0.8, swa_cycle=1, swa_rate=0.05, **warm)
    traced = tf.function(schedule, input_signature=[tf.TensorSpec((), tf.int64)])
    optimizer = keras.optimizers.SGD(schedule)
    copy = keras.optimizers.SGD.from_config(optimizer.get_config())
    for step in (0, 5, 20, 77, 85, 99):
        assert float(traced(step)) == pytest.approx(float(schedule(step)), rel=1e-6)
        assert float(copy._learning_rate(step)) == float(schedule(step))
