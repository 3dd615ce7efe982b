"""A run's configuration: JSON and back, checks, changes and differences."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import re
from typing import Any

import pytest

from keras_resnet_train.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    RuntimeConfig,
    ScheduleConfig,
    all_fields,
    describe,
    differences,
    load_config,
    unused_settings,
    with_changes,
)
from keras_resnet_train.config.unused import NEEDS as NEEDS_OF_SETTINGS
from keras_resnet_train.files import read_json

pytestmark = pytest.mark.tf

# A quantise-aware run excludes several of the others.
NOT_BESIDE_OTHERS = {"quantize.scheme"}
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
    "data.test_size": 0.3,
    "data.split_by": "position",
    "data.folds": 4,
    "data.fold": 2,
    "data.task": "multilabel",
    "data.label_separator": ";",
    "data.sampling": "balanced",
    "data.orientation": "stored",
    "data.decoding": "fast",
    "data.large_jpeg": "whole",
    "data.stream_order": "window",
    "data.shuffle_window": 100,
    "data.classes": 10,
    "augment.crop": "scale",
    "augment.pad": 3,
    "augment.min_area": 0.25,
    "augment.shorter_side": [1.0, 1.1],
    "augment.flip": True,
    "augment.policy": "augmix",
    "augment.policy_magnitude": 2.5,
    "augment.policy_levels": "original",
    "augment.policy_spread": 0.25,
    "augment.policy_operations": 3,
    "augment.policy_probability": 0.75,
    "augment.color_jitter": 0.3,
    "augment.pca_noise": 0.1,
    "augment.pixels": "float32",
    "augment.erasing": 0.25,
    "augment.erasing_mode": "const",
    "augment.mixup": 0.2,
    "augment.cutmix": 1.0,
    "augment.repeats": 3,
    "augment.train_size": 32,
    "augment.start_size": 24,
    "augment.full_size_at": 0.5,
    "augment.size_multiple": 4,
    "optimizer.name": "adamw",
    "optimizer.momentum": 0.8,
    "optimizer.momentum_form": "pytorch",
    "optimizer.nesterov": True,
    "optimizer.beta_1": 0.8,
    "optimizer.beta_2": 0.98,
    "optimizer.epsilon": 1e-5,
    "optimizer.trust": 0.01,
    "optimizer.weight_decay": 1 / 3,
    "optimizer.decay_all": False,
    "optimizer.decay_biases": True,
    "optimizer.label_smoothing": 0.1,
    "optimizer.layer_decay": 0.75,
    "optimizer.layer_decay_per": "unit",
    "optimizer.head_factor": 10.0,
    "optimizer.accumulate": 2,
    "optimizer.ema": 0.99,
    "optimizer.average_last": 3,
    "optimizer.recompute_batch_norm": 1000,
    "optimizer.clip_norm": 5.0,
    "schedule.kind": "piecewise",
    "schedule.learning_rate": 0.3,
    "schedule.boundaries": [0.1, 2 / 3],
    "schedule.factor": 0.2,
    "schedule.boundary_epochs": [1.5, 3.0],
    "schedule.boundary_steps": [7, 9],
    "schedule.every_epochs": 2.5,
    "schedule.final_rate": 1e-5,
    "schedule.power": 2.0,
    "schedule.cycle_rise": 0.5,
    "schedule.cycle_start_divisor": 10.0,
    "schedule.cycle_end_divisor": 100.0,
    "schedule.cycle_shape": "linear",
    "schedule.warmup_steps": 7,
    "schedule.warmup_epochs": 1.5,
    "schedule.warmup": "constant",
    "schedule.warmup_rate": 0.01,
    "schedule.swa_start": 0.75,
    "schedule.swa_rate": 0.05,
    "schedule.swa_cycle": 2,
    "schedule.swa_low_rate": 0.01,
    "model.weights": "torchvision/v2",
    "model.freeze": "2",
    "model.head_std": 0.01,
    "loss.kind": "bce",
    "loss.target_threshold": 0.2,
    "loss.focal_gamma": 1.0,
    "loss.class_weights": "balanced",
    "loss.teacher": "teacher.keras",
    "loss.teacher_net": "resnet50",
    "loss.teacher_input": "pixels",
    "loss.teacher_temperature": 2.0,
    "loss.teacher_alpha": 0.25,
    "runtime.track": "wandb",
    "runtime.profile": "3:5",
    "runtime.log_gradient_norm": True,
    "head_epochs": 0.5,
    "early_stop": 3,
    "runtime.strategy": "cpu:2",
    "runtime.worker_timeout": 60,
    "runtime.collective": "ring",
    "runtime.data_service": "local",
    "runtime.collective_pack": 2.5,
    "runtime.collective_timeout": 60.0,
    "runtime.precision": "mixed_bfloat16",
    "runtime.xla": True,
    "runtime.remat": "unit",
    "runtime.steps_per_call": 3,
    "runtime.sync_batch_norm": True,
    "runtime.deterministic": True,
    "checkpoint.every_steps": 5,
    "checkpoint.every_minutes": 0.5,
    "checkpoint.keep": 4,
    "quantize.bits": 4,
    "quantize.calibration": 64,
    "quantize.observe": 0.25,
    "quantize.momentum": 0.9,
    "recipe": "mine",
    "batch_size": 96,
    "epochs": None,
    "steps": 12,
    "seed": 3,
}
# Fields that can only be changed beside others.
NEEDS = {
    "model.freeze": {"model.weights": "torchvision/v2"},
    "head_epochs": {"model.weights": "torchvision/v2"},
    "data.fold": {"data.folds": 5},
    "loss.target_threshold": {"loss.kind": "bce"},
}
FREE = {
    "data.dataset",
    "data.data_dir",
    "runtime.worker_timeout",
    "runtime.log_gradient_norm",
    "runtime.profile",
    "runtime.track",
    "runtime.strategy",
    "runtime.collective",
    "runtime.data_service",
    "runtime.collective_pack",
    "runtime.collective_timeout",
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
    before = config(**{**OTHER, "data.sampling": "uniform"})  # several labels: not balanced
    default = fields(dataclasses.asdict(RunConfig(epochs=1)))
    assert OTHER.keys() | NOT_BESIDE_OTHERS == default.keys()
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
        ({"epochs": 1, "speed": 2}, "The configuration has no key 'speed'. Keys: model, .*seed"),
        ({"epochs": 1, "data": {"datset": "x"}}, "`data` has no key 'datset'. Keys: dataset, "),
        ({"epochs": 1, "data": []}, r"`data` must be an object. Received: \[\]"),
        ([], r"The configuration must be an object. Received: \[\]"),
        ({"epochs": "1"}, "`epochs` must be a number. Received: epochs='1'"),
        ({"epochs": True}, "`epochs` must be a number. Received: epochs=True"),
        ({"steps": 1.0}, "`steps` must be an integer. Received: steps=1.0"),
        ({"steps": True}, "`steps` must be an integer. Received: steps=True"),
        ({"epochs": 1, "recipe": 3}, "`recipe` must be a string. Received: recipe=3"),
        (
            {"epochs": 1, "augment": {"flip": 1}},
            "`augment.flip` must be true or false. Received: augment.flip=1",
        ),
        (
            {"epochs": 1, "augment": {"crop": "x"}},
            "`augment.crop` must be one of 'none', 'pad', 'resized', 'scale'. .*crop='x'",
        ),
        ({"epochs": 1, "data": {"mean": 3}}, "`data.mean` must be a list of numbers. .*mean=3"),
        ({"epochs": 1, "data": {"mean": ["3"]}}, r"`data.mean\[0\]` must be a number. .*='3'"),
        ({"epochs": 1, "model": {"spec": 3}}, "`model.spec` must be an object. .*spec=3"),
        ({"epochs": 1, "model": {"name": None}}, "`model.name` must be a string. .*name=None"),
        # A rule that is broken names the file too.
        ({"epochs": 0}, "`epochs` must be above 0. Received: epochs=0"),
    ],
)
def test_wrong_files(values: Any, message: str, tmp_path: pathlib.Path) -> None:
    path = written(tmp_path / "config.json", values)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: {message}"):
        load_config(path)


def test_files_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(FileNotFoundError, match="config.json"):
        load_config(path)
    for content in (b"{", b"\xff\xd8\xff\xe0 a JPEG"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{re.escape(str(path))} is not JSON"):
            load_config(path)


# Rules.


@pytest.mark.parametrize(("epochs", "steps"), [(None, None), (1.0, 5)], ids=["neither", "both"])
def test_one_length(epochs: float | None, steps: int | None) -> None:
    with pytest.raises(
        ValueError, match=f"`epochs` or as `steps`, one of the two.*epochs={epochs}, steps={steps}"
    ):
        RunConfig(epochs=epochs, steps=steps)


# Values just outside the bounds, and a value inside.
@pytest.mark.parametrize(
    ("field", "wrong", "right", "rule"),
    [
        ("batch_size", [0], 1, "at least 1"),
        ("epochs", [0.0, -1], 0.5, "above 0"),
        ("seed", [-1, 2**31], 2**31 - 1, "in [0, 2147483647]"),
        ("data.validation", [1.0, -0.1], 0.9, "in [0, 1)"),
        ("data.image_size", [0], 1, "at least 1"),
        ("data.classes", [0], 1, "at least 1"),
        ("data.crop_fraction", [0.0, 1.1], 1.0, "in (0, 1]"),
        ("data.std", [[1.0, 0.0]], None, "a list of numbers above 0"),
        ("schedule.learning_rate", [0.0], 1e-9, "above 0"),
        (
            "schedule.boundaries",
            [[0.5, 0.25], [0.0], [1.0]],
            [0.25, 0.25],
            "a list of numbers in (0, 1), in ascending order",
        ),
        ("schedule.factor", [0, -1.0], 2.0, "above 0"),
        ("schedule.warmup_steps", [-1], 0, "at least 0"),
        ("schedule.warmup_epochs", [-1.0], 0, "at least 0"),
        ("schedule.warmup_rate", [-0.1], 0, "at least 0"),
        ("optimizer.momentum", [1.0], 0.0, "in [0, 1)"),
        ("optimizer.label_smoothing", [1.0], 0.0, "in [0, 1)"),
        ("optimizer.ema", [1.0], 0.0, "in [0, 1)"),
        ("optimizer.weight_decay", [-1e-4], 0.0, "at least 0"),
        ("optimizer.clip_norm", [-1.0], 0.0, "at least 0"),
        ("runtime.steps_per_call", [0], 1, "at least 1"),
        ("checkpoint.keep", [0], 1, "at least 1"),
        ("checkpoint.every_steps", [-5], 0, "at least 0"),
        ("checkpoint.every_minutes", [-1.0], 0, "at least 0"),
        ("augment.pad", [-1], 0, "at least 0"),
        ("augment.min_area", [0.0], 1.0, "in (0, 1]"),
        (
            "augment.shorter_side",
            [[1.2, 1.1], [0.9, 1.1]],
            [1.0, 1.0],
            "a list of 2 numbers at least 1, in ascending order",
        ),
        ("augment.shorter_side", [[1.2]], [1, 2], "a list of 2 numbers"),
    ],
)
def test_rules(field: str, wrong: list[Any], right: Any, rule: str) -> None:
    for value in wrong:
        text = re.escape(f"`{field}` must be {rule}. Received: {field}={value}")
        with pytest.raises(ValueError, match=f"^{text}$"):
            config(**{field: value})
    config(**{field: right})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, 10**400])
def test_numbers_are_finite(value: float) -> None:
    """Also in float32, in which 1e300 is infinite."""
    default = fields(dataclasses.asdict(RunConfig(epochs=1)))
    rule = "must be a finite number of float32, at most 3.4e38"
    for name, usual in default.items():
        if isinstance(usual, float):
            with pytest.raises(ValueError, match=rf"^`{name}` {rule}. Received: {name}="):
                config(**{name: value})
    with pytest.raises(ValueError, match=rf"`data.mean\[1\]` {rule}"):
        config(data__mean=[0.0, value])


@pytest.mark.parametrize("value", [2**63, 10**4000])
def test_integers_have_64_bits(value: int) -> None:
    """Larger ones ended in OverflowError where an error wanted to print gigabytes."""
    default = fields(dataclasses.asdict(RunConfig(epochs=1)))
    for name, usual in default.items():
        if type(usual) is int:
            with pytest.raises(ValueError, match=rf"^`{name}` must be .*Received: {name}=[19]"):
                config(**{name: value})


def test_a_key_given_twice_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "c.json").write_text('{"epochs": 1, "batch_size": 4, "batch_size": 8}')
    with pytest.raises(ValueError, match="not JSON: an object has the key 'batch_size' 2 times"):
        load_config(tmp_path / "c.json")


def test_each_class_checks_itself() -> None:
    """Without a `RunConfig` around it, and with the path all the same."""
    for make, message in (
        (lambda: ScheduleConfig(factor=-1), "`schedule.factor` must be above 0. .*factor=-1"),
        (lambda: OptimizerConfig(name="x"), "`optimizer.name` must be one of 'sgd', 'adamw'"),  # type: ignore[arg-type]
        (lambda: RuntimeConfig(strategy="tpu"), "`--strategy` must be auto, .*: 'tpu'"),
        (lambda: RunConfig(steps=0), "`steps` must be above 0. Received: steps=0"),
        (lambda: DataConfig(mean=(1.0,)), "both `data.mean` and `data.std`, or neither"),
        (lambda: DataConfig(std=(1.0,)), r"neither. Received: data.mean=None, data.std=\(1.0,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    assert ScheduleConfig(learning_rate=1, boundaries=[0.5]).boundaries == (0.5,)  # type: ignore[arg-type]


# Descriptions.


def test_descriptions() -> None:
    """Every field says what it is for, and each option belongs to one."""
    rows = {row.path: row for row in describe(RunConfig)}
    assert rows.keys() == OTHER.keys() | NOT_BESIDE_OTHERS
    defaults = fields(json.loads(RunConfig(epochs=1).to_json())) | {"epochs": None}
    for row in rows.values():
        assert row.help.endswith(".")
        assert json.loads(row.default) == defaults[row.path]
    options = [row.option for row in rows.values() if row.option]
    assert len(set(options)) == len(options)
    assert rows["schedule.boundaries"][1:4] == (
        "list of numbers",
        "[]",
        "a list of numbers in (0, 1), in ascending order",
    )
    assert rows["data.classes"][1:4] == ("integer or null", "null", "at least 1")
    assert rows["runtime.remat"][1:4] == ("string", '"none"', "one of 'none', 'unit', 'stage'")
    assert rows["model.spec"][1:4] == ("object", "{}", "")


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
    with pytest.raises(ValueError, match=f"no field '{field}'. (Nearest|Known): "):
        with_changes(config(), {field: 1})


def test_a_misspelt_field_gets_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"'optimizer.momentun'. Nearest: optimizer.momentum\b"):
        with_changes(config(), {"optimizer.momentun": 0.9})


def test_fixup_as_a_merge_is_read_as_a_norm(tmp_path: pathlib.Path) -> None:
    """Configurations of versions in which Fixup was a merge resume as the same run."""
    old = json.loads(config().to_json())
    old["model"]["spec"] = {"merge": "fixup", "norm": "none"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(old))
    loaded = load_config(path)
    new = with_changes(config(), {"model.spec.norm": "fixup", "model.spec.merge": "add"})
    assert loaded == new
    assert differences(loaded, new) == []


def test_change_of_the_wrong_type() -> None:
    with pytest.raises(ValueError, match="^`optimizer.nesterov` must be true or false. .*'yes'"):
        with_changes(config(), {"optimizer.nesterov": "yes"})
    with pytest.raises(ValueError, match="^`model.spec` must be an object. .*=3"):
        with_changes(config(), {"model.spec": 3})


# Differences.


def test_every_field_counts_unless_it_is_free() -> None:
    for name, value in OTHER.items():
        if name in ("epochs", "steps", "data.mean", "data.std", "data.fold"):
            continue  # not free to change alone
        needed = NEEDS.get(name, {})
        found = differences(config(**needed), config(**needed, **{name: value}))
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


def test_differences_name_both_values() -> None:
    found = differences(config(), config(seed=2, epochs=None, steps=9))
    assert found == [
        "epochs: 1.0 then, None now",
        "seed: 0 then, 2 now",
        "steps: None then, 9 now",
    ]


def test_settings_without_effect() -> None:
    """Each setting of the table is a field, has no effect by itself, and is named once."""
    paths = {field.path for field in all_fields(RunConfig)}
    base = RunConfig(epochs=1)
    for path, need in NEEDS_OF_SETTINGS.items():
        assert path in paths
        optimizers = {"optimizer.momentum": "adamw", "optimizer.momentum_form": "adamw"}
        optimizers["optimizer.nesterov"] = "lars"
        changed = with_changes(base, {"optimizer.name": optimizers.get(path, "sgd")})
        assert unused_settings(changed, [path]) == [f"`{path}` has no effect without {need.words}"]
    focal = config(**{"loss.kind": "focal", "augment.crop": "pad", "schedule.swa_start": 0.5})
    assert not unused_settings(focal, ["loss.focal_gamma", "augment.pad", "schedule.swa_rate"])


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"model":' * 100_000,
        "9" * 5000,
        '{"schedule": {"learning_rate": 1' + "0" * 400 + "}}",
        '{"model": {"spec": 3}}',
        "3",
    ],
)
def test_absurd_files_of_a_configuration(text: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="config.json"):
        load_config(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_configuration(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    for read in (load_config, read_json):
        with pytest.raises(ValueError, match="regular file"):
            read(tmp_path / "config.json")
