"""The studies that look into nets: gradients by unit, layer responses, units and the identity."""

from __future__ import annotations

import csv
import json
import os
import signal
from typing import Any

import numpy as np
import pytest

from keras_resnet import build
from keras_resnet.analysis import (
    GradientFlow,
    gradient_flow,
    layer_responses,
    read_gradient_flow,
)
from keras_resnet.analysis.gradients import Gradients, UnitGradient
from keras_resnet.analysis.identity import IdentityReport, UnitDistance
from keras_resnet.analysis.responses import LayerResponse
from keras_resnet.nets.catalog import get_spec
from keras_resnet_train.rundir import open_run
from keras_resnet_train.studies import flow_findings, identity, responses
from keras_resnet_train.studies import gradient_flow as gradient_flow_study
from keras_resnet_train.studies.flow import InitialFlow, training_batch
from keras_resnet_train.studies.plan import Arm, Budget, trials

SMALL = ("--set", "data.image_size=8", "--set", "model.spec.widths=[4,8,8]", "--batch-size", 32)


def _results(path):
    return json.loads((path / "results.json").read_text())


# Gradient flow.


def test_gradient_flow_of_new_nets(command, tmp_path):
    words = (
        "study",
        "gradient-flow",
        "--depths",
        "8",
        "--seeds",
        2,
        "--images",
        8,
        *SMALL,
        "--output",
        tmp_path,
    )
    first = command(*words)
    assert first.status == 0, first.err
    assert "[4/4] ResNet-8, seed 1: measured in" in first.out
    plain, residual = _results(tmp_path)["tables"]["growth"]
    config = trials([Arm("resnet8", "ResNet-8", "cifar_resnet8")], _budget())[1].config
    batch = training_batch(config, 8)
    net = build(
        get_spec("cifar_resnet8").replace(widths=(4, 8, 8)),
        classes=10,
        input_shape=(8, 8, 1),
        seed=1,
    )
    growth = gradient_flow(net, batch.images, batch.labels).growth
    assert residual["net"] == "ResNet-8"
    assert residual["seeds"] == 2
    assert growth in (residual["lowest"], residual["highest"])
    middle = np.sqrt(residual["lowest"] * residual["highest"])
    assert residual["first / last"] == pytest.approx(middle)
    assert residual["per layer"] == pytest.approx(middle ** (1 / 4))  # two units of two layers
    assert f"{plain['first / last']:.3g} times that at the last" in first.out.replace("\n", " ")
    again = command(*words)
    assert again.status == 0
    assert "measured in" not in again.out
    assert _results(tmp_path)["tables"]["growth"] == [plain, residual]


def _budget(steps: int = 1) -> Budget:
    changes = {
        "data.image_size": 8,
        "model.spec.widths": [4, 8, 8],
        "optimizer.label_smoothing": 0.0,
    }
    return Budget("digits", "digits", (0, 1), steps, batch_size=32, settings=changes)


def test_gradient_flow_along_training_that_was_stopped_and_resumed(command, tmp_path, monkeypatch):
    words = (
        "study",
        "gradient-flow",
        "cifar_resnet8",
        "--steps",
        12,
        "--every",
        4,
        "--images",
        8,
        "--jacobian",
        "--set",
        "runtime.steps_per_call=2",
        *SMALL,
        "--output",
        tmp_path,
    )

    class Stopping(GradientFlow):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)
            if batch + 1 == 8:
                os.kill(os.getpid(), signal.SIGTERM)

    run = tmp_path / "runs" / "cifar_resnet8-seed0"
    with monkeypatch.context() as patch:
        patch.setattr(gradient_flow_study, "GradientFlow", Stopping)
        ended = command(*words)
    assert ended.status == 130
    assert "at step 8" in ended.err
    before = read_gradient_flow(run / "gradient_flow.csv")
    assert list(before) == [0, 4, 8]
    ended = command(*words)
    assert ended.status == 0, ended.err
    history = read_gradient_flow(run / "gradient_flow.csv")
    assert list(history) == [0, 4, 8, 12]
    assert {step: history[step] for step in before} == before
    # The last one is that of the weights after the last step.
    trained = open_run(run, "last")
    batch = training_batch(trained.config, 8)
    last = gradient_flow(trained.model, batch.images, batch.labels)
    assert history[12].growth == pytest.approx(last.growth, rel=1e-3)
    kept = json.loads((tmp_path / "starts" / "cifar_resnet8-seed0.json").read_text())
    assert kept["gradients"]["loss"] == pytest.approx(history[0].loss)
    assert list((run / "logs" / "gradient_flow").iterdir())
    (spectrum,) = _results(tmp_path)["tables"]["jacobian"]
    assert spectrum["net"] == "cifar_resnet8, seed 0"
    assert spectrum["largest"] > spectrum["median"]
    assert spectrum["all"] == 32
    with (tmp_path / "growth-along-training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["step"]) for row in rows] == [0, 4, 8, 12]
    assert [float(row["ratio"]) for row in rows] == pytest.approx(
        [found.growth for found in history.values()]
    )


def _start(model: str, first: float, last: float, seed: int = 0) -> InitialFlow:
    units = [
        UnitGradient(f"stage1_unit{i}", 1, i, norm, 1.0, 2.0)
        for i, norm in enumerate((first, 1.0, last), start=1)
    ]
    ends = [UnitGradient("stem", 0, 0, 1.0, 1.0, 1.0), UnitGradient("head", 4, 0, 1.0, 1.0, 1.0)]
    trial = trials([Arm(model, model, model)], _budget())[seed]
    return InitialFlow(trial, Gradients(2.3, (ends[0], *units, ends[1])), None)


def test_words_of_gradient_flow_follow_the_numbers():
    starts = [
        _start("cifar_plain8", 5.0e3, 1.0),
        _start("cifar_plain8", 2.0e4, 1.0, seed=1),
        _start("cifar_resnet8", 4.0, 2.0),
        _start("cifar_rezero8", 1e-5, 1.0),
        _start("cifar_fixup8", float("inf"), 1.0),
    ]
    found = flow_findings.findings(starts, {}, {})
    assert [sentence.split(": ")[-1] for sentence in found.words[:4]] == [
        "it explodes.",
        "it stays in range.",
        "it vanishes.",
        "the gradient exceeds the range of float32.",
    ]
    assert "is 1e+04 times that at the last (5e+03 to 2e+04 over seeds)" in found.words[0]
    assert "The growth of cifar_plain8 is 5e+03 times that of cifar_resnet8." in found.words
    assert all(np.isnan(found.plots[0].lines[3].y[0:1]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cifar_resnet8", "--depths", "8"), "Give either nets or --depths"),
        (("--images", 0), "`--images` must be at least 1. Received: 0"),
        (("--every", 5), "`--every` needs training"),
    ],
)
def test_wrong_options_of_gradient_flow_are_named(command, tmp_path, words, message):
    ended = command("study", "gradient-flow", *words, "--output", tmp_path / "new")
    assert ended.status == 1
    assert message in ended.err
    assert not (tmp_path / "new").exists()


# Layer responses.


def test_responses_of_runs(command, tmp_path, finished_run, copied_run):
    ended = command(
        "study",
        "responses",
        finished_run,
        copied_run,
        "--limit",
        50,
        "--batch-size",
        20,
        "--output",
        tmp_path,
    )
    assert ended.status == 0, ended.err
    assert "[2/2] run: 7 layers on 50 images" in ended.out
    run = open_run(finished_run)
    with (tmp_path / "responses.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["line"] == "tiny"]
    assert len(rows) == 7
    first, second = _results(tmp_path)["tables"]["responses-by-run"]
    assert (first["run"], second["run"]) == ("tiny", "run")
    assert first["median"] == second["median"]  # the one is a copy of the other
    data = responses.run_data(run, _Options())
    images, _ = responses.split_images(run, data, "test", 50)
    expected = [r.std for r in layer_responses(run.model, run.preprocess.normalize(images))]
    assert [float(row["standard deviation"]) for row in rows] == pytest.approx(expected, rel=1e-5)
    assert first["largest"] == pytest.approx(max(expected), rel=1e-5)


class _Options:
    dataset = data_dir = on_bad_image = None


def test_words_of_responses_follow_the_numbers():
    def run(label: str, model: str, *values: float) -> responses.RunResponses:
        layers = tuple(LayerResponse(f"conv{i}", 1, v, 0.0, True) for i, v in enumerate(values))
        return responses.RunResponses(label, get_spec(model), "model.keras", "digits", 10, layers)

    found = responses.findings(
        [
            run("p", "cifar_plain20", 1.0, 2.0, 3.0),
            run("r", "cifar_resnet20", 1.5, 0.5, 0.4),
            run("d", "cifar_resnet56", 0.2, 0.1, 0.3),
        ],
        {},
    )
    assert (
        "2 of 3 layers have smaller responses in r than in p; the ratio of the medians is 0.25."
        in found.words
    )
    assert any("of d (56 layers) is 0.4 times that of r" in w for w in found.words)
    assert [list(line.y) for line in found.plots[1].lines][2] == [0.3, 0.2, 0.1]


def test_runs_that_cannot_be_told_apart_are_refused(command, tmp_path, finished_run):
    ended = command("study", "responses", finished_run, finished_run, "--output", tmp_path)
    assert ended.status == 1
    assert "Give each run once" in ended.err


# Units and the identity.


def test_identity_study(command, tmp_path, monkeypatch):
    chosen = [s for s in identity.accepted_specs() if s.name.startswith("basic/post/")]
    monkeypatch.setattr(identity, "accepted_specs", lambda: iter(chosen))
    ended = command(
        "study", "identity", "cifar_rezero8", "cifar_resnet8", "--images", 4, "--output", tmp_path
    )
    assert ended.status == 0, ended.err
    rows = {row["unit"]: row for row in _results(tmp_path)["tables"]["units"]}
    assert rows["basic/post/add"]["largest error"] == 0
    assert rows["basic/post/rezero"]["distance when new"] == 0
    assert not rows["basic/post: shortcut times 0.5"]["identity?"]
    biases = [rows[f"basic/post: highway, gate bias {b}"]["distance when new"] for b in (0, -3, -6)]
    assert biases == sorted(biases, reverse=True)
    assert biases[-1] > 0
    said = " ".join(ended.out.split())
    assert "cifar_rezero8, new: the first unit that keeps the shape changes its input by 0" in said


def test_words_of_identity_follow_the_numbers():
    spec = get_spec("cifar_resnet8")
    units = {
        "good": [IdentityReport(spec, True, "", 0.0, 0.0)],
        "liar": [IdentityReport(spec, True, "", 0.0, 1.0), IdentityReport(spec, True, "", 0.1, 1)],
        "gate": [IdentityReport(spec, False, "a gate", 0.05, 0.2)],
    }
    nets = {"n": [[UnitDistance("a", 1, 1, 0.5), UnitDistance("b", 1, 2, 0.0)]]}
    found = identity.findings(units, nets, {})
    assert found.words[0].startswith("2 of 3 kinds of units should be the identity")
    assert "1 of these are, exactly" in found.words[0]
    assert found.words[1] == "These are not: liar."
    assert "1 others is 0.05 (gate)" in found.words[2]
    assert "Kinds that start as the identity: 1, good." in found.words
    assert not found.plots[0].log_y  # a zero has no place on a logarithmic axis
