"""A run's configuration: JSON and back, checks, changes and differences."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import re
from typing import Any

import pytest

from keras_resnet_train.config import (
    ModelConfig,
    RunConfig,
    differences,
    load_config,
    with_changes,
)

pytestmark = pytest.mark.tf

# Every field away from its default, so that a field lost on the way is noticed.
OTHER = {
    "model.name": "resnet50",
    "model.stacked": True,
    "model.spec": {"shortcut": "C", "widths": [4, 8, 8, 8], "zero_init_residual": True},
    "data.dataset": "cifar10",
    "data.data_dir": "/data",
    "data.validation": 0.1,
    "data.image_size": 40,
    "data.crop_fraction": 0.875,
    "data.mean": [1.5, 2.0, 3.0],
    "data.std": [0.1, 2.0, 1e-3],
    "data.on_bad_image": "skip",
    "data.cache": "none",
    "data.classes": 10,
    "augment.crop": "scale",
    "augment.pad": 3,
    "augment.min_area": 0.25,
    "augment.shorter_side": [1.0, 1.1],
    "augment.flip": True,
    "optimizer.name": "adamw",
    "optimizer.momentum": 0.8,
    "optimizer.nesterov": True,
    "optimizer.weight_decay": 1 / 3,
    "optimizer.decay_all": False,
    "optimizer.label_smoothing": 0.1,
    "optimizer.ema": 0.99,
    "optimizer.clip_norm": 5.0,
    "schedule.kind": "piecewise",
    "schedule.learning_rate": 0.3,
    "schedule.boundaries": [0.1, 2 / 3],
    "schedule.factor": 0.2,
    "schedule.warmup_steps": 7,
    "schedule.warmup_epochs": 1.5,
    "schedule.warmup": "constant",
    "schedule.warmup_rate": 0.01,
    "runtime.strategy": "cpu:2",
    "runtime.precision": "mixed_bfloat16",
    "runtime.xla": True,
    "runtime.remat": "unit",
    "runtime.steps_per_call": 3,
    "runtime.sync_batch_norm": True,
    "runtime.deterministic": True,
    "checkpoint.every_steps": 5,
    "checkpoint.every_minutes": 0.5,
    "checkpoint.keep": 4,
    "recipe": "mine",
    "batch_size": 96,
    "epochs": None,
    "steps": 12,
    "seed": 3,
}
FREE = {
    "data.data_dir",
    "runtime.strategy",
    "runtime.steps_per_call",
    "runtime.xla",
    "runtime.remat",
    "checkpoint.every_steps",
    "checkpoint.every_minutes",
    "checkpoint.keep",
    "recipe",
}


def config(**changes: Any) -> RunConfig:
    return with_changes(RunConfig(epochs=1), {k.replace("__", "."): v for k, v in changes.items()})


def fields(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted fields; the net's changes count as one."""
    found = {}
    for key, value in values.items():
        if isinstance(value, dict) and f"{prefix}{key}" != "model.spec":
            found |= fields(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def written(path: pathlib.Path, values: Any) -> pathlib.Path:
    path.write_text(json.dumps(values))
    return path


# JSON.


def test_json_and_back(tmp_path: pathlib.Path) -> None:
    before = config(**OTHER)
    default = fields(dataclasses.asdict(RunConfig(epochs=1)))
    assert OTHER.keys() == default.keys()
    assert all(value != default[name] for name, value in OTHER.items())
    path = tmp_path / "config.json"
    path.write_text(before.to_json())
    after = load_config(path)
    assert after == before
    assert after.to_json() == before.to_json()
    assert isinstance(after.data.mean, tuple)
    assert differences(before, after) == []


def test_missing_keys_take_the_defaults(tmp_path: pathlib.Path) -> None:
    path = written(tmp_path / "c.json", {"steps": 5, "model": {"name": "resnet18"}})
    assert load_config(path) == RunConfig(steps=5, model=ModelConfig("resnet18"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 1, "speed": 2}, "has no key 'speed'. Keys: model, data, .*seed"),
        ({"epochs": 1, "data": {"datset": "x"}}, "json: data has no key 'datset'"),
        ({"epochs": 1, "data": []}, r"json: data must be an object. Received: \[\]"),
        ([], r"json must be an object. Received: \[\]"),
        ({"epochs": "1"}, "epochs must be a number. Received: '1'"),
        ({"epochs": True}, "epochs must be a number. Received: True"),
        ({"steps": 1.0}, "steps must be an integer. Received: 1.0"),
        ({"steps": True}, "steps must be an integer. Received: True"),
        ({"epochs": 1, "recipe": 3}, "recipe must be a string. Received: 3"),
        ({"epochs": 1, "augment": {"flip": 1}}, "flip must be true or false. Received: 1"),
        ({"epochs": 1, "augment": {"crop": "x"}}, "crop must be one of 'none', 'pad', 'resized'"),
        ({"epochs": 1, "data": {"mean": 3}}, "mean must be a list. Received: 3"),
        ({"epochs": 1, "data": {"mean": ["3"]}}, "mean must be a number. Received: '3'"),
        ({"epochs": 1, "model": {"spec": 3}}, "model: spec must be an object. Received: 3"),
        ({"epochs": 1, "model": {"name": None}}, "name must be a string. Received: None"),
    ],
)
def test_wrong_files(values: Any, message: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(written(tmp_path / "config.json", values))


@pytest.mark.parametrize("content", [b"{", b"\xff\xd8\xff\xe0 a JPEG"])
def test_no_json(content: bytes, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is no JSON"):
        load_config(path)


def test_no_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="none.json"):
        load_config(tmp_path / "none.json")


# Rules.


@pytest.mark.parametrize(("epochs", "steps"), [(None, None), (1.0, 5)], ids=["neither", "both"])
def test_one_length(epochs: float | None, steps: int | None) -> None:
    with pytest.raises(
        ValueError, match=f"`epochs` or as `steps`, one of the two.*epochs={epochs}, steps={steps}"
    ):
        RunConfig(epochs=epochs, steps=steps)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("batch_size", 0, "at least 1"),
        ("epochs", 0.0, "above 0"),
        ("epochs", math.nan, "above 0"),
        ("epochs", math.inf, "above 0 and finite"),
        ("data.validation", 1.0, r"in \[0, 1\)"),
        ("data.validation", -0.1, r"in \[0, 1\)"),
        ("data.image_size", 0, "above 0"),
        ("data.classes", 0, "at least 1"),
        ("data.crop_fraction", 0.0, r"in \(0, 1\]"),
        ("data.crop_fraction", 1.1, r"in \(0, 1\]"),
        ("schedule.learning_rate", 0.0, "above 0"),
        ("schedule.learning_rate", math.inf, "above 0 and finite"),
        ("schedule.boundaries", [0.5, 0.25], "rising fractions of the run"),
        ("schedule.boundaries", [0.0], "rising fractions of the run"),
        ("schedule.boundaries", [1.0], "rising fractions of the run"),
        ("schedule.factor", 0.0, "above 0"),
        ("schedule.warmup_steps", -1, "at least 0"),
        ("schedule.warmup_epochs", -1.0, "at least 0"),
        ("schedule.warmup_epochs", math.inf, "at least 0 and finite"),
        ("schedule.warmup_rate", -0.1, "at least 0"),
        ("optimizer.momentum", 1.0, r"in \[0, 1\)"),
        ("optimizer.label_smoothing", 1.0, r"in \[0, 1\)"),
        ("optimizer.ema", 1.0, r"in \[0, 1\)"),
        ("optimizer.weight_decay", -1e-4, "at least 0"),
        ("optimizer.clip_norm", -1.0, "at least 0"),
        ("runtime.steps_per_call", 0, "at least 1"),
        ("checkpoint.keep", 0, "at least 1"),
        ("checkpoint.every_steps", -5, "at least 0"),
        ("checkpoint.every_minutes", -1.0, "at least 0"),
        ("augment.pad", -1, "at least 0"),
        ("augment.min_area", 0.0, r"in \(0, 1\]"),
        ("augment.shorter_side", [1.2], "a range from 1 on"),
        ("augment.shorter_side", [1.2, 1.1], "a range from 1 on"),
        ("augment.shorter_side", [0.9, 1.1], "a range from 1 on"),
        ("seed", -1, "in 0..2147483647"),
        ("seed", 2**31, "in 0..2147483647"),
    ],
)
def test_rules(field: str, value: Any, rule: str) -> None:
    name = field.split(".")[-1]
    with pytest.raises(ValueError, match=f"`{name}` must be {rule}.* Received: {name}="):
        config(**{field: value})


def test_steps_above_zero() -> None:
    with pytest.raises(ValueError, match="`steps` must be above 0. Received: steps=0"):
        RunConfig(steps=0)


def test_mean_and_std_go_together() -> None:
    with pytest.raises(ValueError, match="`mean` and `std` both or neither"):
        config(data__mean=[1.0])


# Changes.


def test_with_changes() -> None:
    before = config()
    after = with_changes(
        before,
        {
            "optimizer.momentum": 0.95,
            "model.spec.shortcut": "C",
            "model.spec.depths": [1, 1],
            "schedule.learning_rate": 1,
            "seed": 4,
        },
    )
    assert after.optimizer.momentum == 0.95
    assert after.model.spec == {"shortcut": "C", "depths": [1, 1]}
    assert after.schedule.learning_rate == 1.0
    assert isinstance(after.schedule.learning_rate, float)
    assert after.seed == 4
    assert before == config()  # not changed
    again = with_changes(after, {"model.spec.shortcut": "A"})
    assert again.model.spec == {"shortcut": "A", "depths": [1, 1]}
    assert after.model.spec["shortcut"] == "C"


@pytest.mark.parametrize(
    "field", ["momentum", "optimizer.speed", "a.b.c", "seed.x", "model.spce.x"]
)
def test_unknown_field(field: str) -> None:
    with pytest.raises(ValueError, match=f"no field '{field}'. Fields: model.name, .*seed"):
        with_changes(config(), {field: 1})


def test_change_of_the_wrong_type() -> None:
    with pytest.raises(ValueError, match="optimizer: nesterov must be true or false. .*'yes'"):
        with_changes(config(), {"optimizer.nesterov": "yes"})
    with pytest.raises(ValueError, match="model: spec must be an object. Received: 3"):
        with_changes(config(), {"model.spec": 3})


# Differences.


def test_every_field_counts_unless_it_is_free() -> None:
    before = config()
    for name, value in OTHER.items():
        if name in ("epochs", "steps", "data.mean", "data.std"):
            continue  # not free to change alone
        found = differences(before, config(**{name: value}))
        if name in FREE:
            assert found == []
        elif name == "model.spec":
            assert [line.split(":")[0] for line in found] == [
                "model.spec",
                "model.spec.shortcut",
                "model.spec.widths",
                "model.spec.zero_init_residual",
            ]
        else:
            assert [line.split(":")[0] for line in found] == [name]


def test_differences_tell_both_values() -> None:
    found = differences(config(), config(seed=2, epochs=None, steps=9))
    assert found == [
        "epochs: 1.0 then, None now",
        "seed: 0 then, 2 now",
        "steps: None then, 9 now",
    ]
