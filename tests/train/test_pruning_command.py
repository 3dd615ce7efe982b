"""`keras-resnet prune` and `study lesion`: runs made smaller, and runs without some units."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_resnet import get_spec
from keras_resnet.analysis import count
from keras_resnet_train.evaluation import open_member
from keras_resnet_train.files import read_json
from keras_resnet_train.studies.lesion import kendall
from keras_resnet_train.studies.lesion_findings import NetLesions, findings

pytestmark = pytest.mark.tf

Command = Callable[..., Any]


def test_prune_and_finetune(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    """The output is a run as any other, and so is the net before its fine-tuning."""
    output, pruned = tmp_path / "small", tmp_path / "small-pruned"
    ended = command("prune", finished_run, "--macs", 0.6, "--output", output, "--json")
    assert ended.status == 0, ended.err
    record = json.loads(ended.out)
    run, small = open_member(str(finished_run)), open_member(str(output))
    whole = count(run.model).multiply_adds
    assert record["before"]["multiply_adds"] == whole
    assert count(small.model).multiply_adds == record["pruned"]["multiply_adds"]
    assert 0.45 * whole < record["pruned"]["multiply_adds"] <= 0.6 * whole
    assert small.spec.inner_widths == tuple(record["pruned"]["inner_widths"])
    assert small.spec.widths == run.spec.widths
    before = read_json(finished_run / "metrics.json")["test"]["accuracy"]
    assert record["before"]["accuracy"] == pytest.approx(before, abs=1 / 360)
    assert record["finetuned"]["accuracy"] > record["pruned"]["accuracy"]
    assert read_json(output / "prune.json") == record
    stored = read_json(output / "config.json")
    assert stored["steps"] == 10  # a quarter of the run's 40
    assert stored["schedule"]["learning_rate"] == pytest.approx(0.02)
    # Both are runs.
    ended = command("evaluate", pruned, "--json")
    assert ended.status == 0, ended.err
    assert json.loads(ended.out)["accuracy"] == pytest.approx(record["pruned"]["accuracy"])
    assert command("evaluate", output).status == 0
    # The same command again has nothing to do.
    ended = command("prune", finished_run, "--macs", 0.6, "--output", output)
    assert ended.status == 0, ended.err
    assert "holds this pruned net already" in ended.out
    assert "nothing to train" in ended.out
    assert "fine-tuned" in ended.out
    assert not list(tmp_path.glob(".*"))


def test_errors_of_prune(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").touch()
    for words, message in (
        (("--macs", 1), "`--macs` must be above 0 and below 1"),
        (("--no-finetune", "--epochs", 3), "`--epochs` applies to the fine-tuning"),
        (("--method", "depth", "--no-finetune"), "channels can be pruned too (method='both')"),
        (("--images", 0), "`--images` must be at least 1"),
        (("--no-finetune", "--output", full), "holds other files than this pruned net"),
        (("--output", finished_run), "`--output` must be another directory than RUN"),
    ):
        words = words if "--output" in words else (*words, "--output", tmp_path / "new")
        ended = command("prune", finished_run, *words)
        assert ended.status == 1
        assert message in ended.err
        assert len(ended.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_the_lesion_study(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    output = tmp_path / "lesion"
    ended = command(
        "study", "lesion", finished_run, "--limit", 100, "--draws", 2, "--output", output
    )
    assert ended.status == 0, ended.err
    table = read_json(output / "results.json")["tables"]["lesions-by-unit"]
    assert [row["Deleted"] for row in table] == ["stage1_unit1"]
    assert (output / "lesion-single.svg").read_text().count("<svg") == 1
    ended = command("study", "lesion", finished_run, finished_run, "--output", output)
    assert "Give each net once" in ended.err


def test_the_findings_of_lesions() -> None:
    assert kendall([0, 1, 2, 3]) == 1
    assert kendall([3, 2, 1, 0]) == -1
    assert kendall([1, 0, 2]) == pytest.approx(1 / 3)
    residual = NetLesions(
        "r",
        get_spec("cifar_resnet20"),
        100,
        0.1,
        ((0.0, "stage1_unit1", 0.12), (1.0, "stage1_unit2", 0.2)),
        {1: (0.12, 0.2), 2: (0.5,)},
        ((1.0, 0.1),),
        0.9,
    )
    plain = NetLesions(
        "p",
        get_spec("cifar_plain20"),
        100,
        0.15,
        ((0.0, "stage1_unit1", 0.8),),
        {1: (0.8,)},
        ((1.0, 0.15),),
        0.9,
    )
    found = findings([residual, plain], {})
    assert found.words == (
        "r (residual): the error is 10.0 %; without one of 2 units it is 16.0 % in the mean and "
        "20.0 % at most (90.0 % is a constant guess).",
        "p (plain): the error is 15.0 %; without one of 1 units it is 80.0 % in the mean and "
        "80.0 % at most (90.0 % is a constant guess).",
        "The deletion of one unit raises the error by up to 6.0 points in the mean of a residual "
        "net, and 65.0 of a plain one.",
    )
    assert np.isclose(found.tables[0].records()[0]["Error (%)"], 10.0)
