"""Runs that an earlier version began: the same command resumes them, with what they meant."""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import pytest

from keras_resnet_train.config import RunConfig
from keras_resnet_train.run_options import add_run_options, configuration, resumed
from keras_resnet_train.rundir import RunDirectory

# config.json of `--model cifar_resnet8 --dataset DATA --epochs 2 --batch-size 64`, as version
# e089a8f wrote it.
STORED: dict[str, Any] = {
    "model": {"name": "cifar_resnet8", "spec": {}, "stacked": None},
    "data": {
        **{"dataset": "flowers", "data_dir": None, "validation": 0.0, "image_size": None},
        **{"crop_fraction": 1.0, "mean": None, "std": None, "on_bad_image": "fail"},
        **{"cache": "auto", "classes": None},
    },
    "augment": {
        **{"crop": "pad", "pad": 4, "min_area": 0.08, "flip": True},
        "shorter_side": [1.1428571428571428, 2.142857142857143],
    },
    "optimizer": {
        **{"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0001},
        **{"decay_all": True, "label_smoothing": 0.0, "ema": 0.0, "clip_norm": 0.0},
    },
    "schedule": {
        **{"kind": "piecewise", "learning_rate": 0.1, "boundaries": [0.5, 0.75], "factor": 0.1},
        **{"warmup_steps": 0, "warmup_epochs": 0.0, "warmup": "linear", "warmup_rate": 0.0},
    },
    "runtime": {
        **{"strategy": "auto", "precision": "float32", "xla": False, "steps_per_call": 10},
        **{"remat": "none", "sync_batch_norm": False, "deterministic": False},
    },
    "checkpoint": {"every_steps": 1000, "every_minutes": 10.0, "keep": 2},
    **{"recipe": "he2015-cifar", "batch_size": 64, "epochs": 2.0, "steps": None, "seed": 0},
}
WORDS = ("--model", "cifar_resnet8", "--dataset", "flowers", "--epochs", "2", "--batch-size", "64")


def config(output: pathlib.Path, *words: str) -> RunConfig:
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    args = parser.parse_args([*WORDS, *words])
    return resumed(configuration(args), args, output)


def test_the_same_command_resumes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(STORED))
    found = config(tmp_path)
    run.check(found, "auto")
    data = found.data
    assert (data.split_by, data.orientation, data.decoding) == ("position", "stored", "fast")
    assert "goes on as then: data.split_by='position', data.orient" in capsys.readouterr().out
    # What the user gives is not replaced, and what the run has must be the same.
    for words, message in (
        (("--set", "data.split_by=name"), "data.split_by: 'position' then, 'name' now"),
        (("--set", "data.decoding=accurate"), "data.decoding: 'fast' then, 'accurate' now"),
        (("--learning-rate", "0.2"), "schedule.learning_rate: 0.1 then, 0.2 now"),
    ):
        with pytest.raises(ValueError, match=message):
            run.check(config(tmp_path, *words), "auto")


def test_fields_of_recipes(tmp_path: pathlib.Path) -> None:
    """A recipe that has gained a field does not give it to a run that was begun without."""
    words = ("--recipe", "goyal2017", "--learning-rate", "0.1")
    new = config(tmp_path / "none", *words)
    assert (new.optimizer.momentum_form, new.model.head_std) == ("pytorch", 0.01)
    stored = json.loads(new.to_json())
    for section, names in (
        ("optimizer", ("momentum_form", "decay_biases")),
        ("model", ("head_std",)),
    ):
        for name in names:
            del stored[section][name]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    old = config(tmp_path, *words)
    assert (old.optimizer.momentum_form, old.model.head_std) == ("keras", None)
    RunDirectory(tmp_path).check(old, "auto")
    # A run of today's version is as it was.
    (tmp_path / "config.json").write_text(new.to_json())
    assert config(tmp_path, *words) == new
