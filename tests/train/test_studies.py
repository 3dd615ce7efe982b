"""Studies that train: their plans, their runs, what they find, and the command."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import pathlib
import xml.etree.ElementTree
from collections.abc import Callable
from typing import Any

import keras
import pytest

from keras_resnet import build, get_spec
from keras_resnet.analysis import count, count_spec
from keras_resnet_train.errors import TrainingStoppedError
from keras_resnet_train.presentation import Findings, Line, Plot, Table, write_findings
from keras_resnet_train.presentation.formats import cell_text
from keras_resnet_train.studies import (
    alternatives,
    bottleneck,
    degradation,
    probe,
    rates,
    shortcuts,
)
from keras_resnet_train.studies import comparison as comparison_module
from keras_resnet_train.studies.comparison import Comparison
from keras_resnet_train.studies.cost import CostQuery, measure_cost
from keras_resnet_train.studies.curve import StepCurve, read_curve
from keras_resnet_train.studies.plan import Arm, Budget, Trial, trials
from keras_resnet_train.studies.spread import Spread, beyond_spread, compared
from keras_resnet_train.studies.trials import TrialResult, read_result, run_trials

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("without_pictures")]

TINY = {
    "data.image_size": 8,
    "model.spec.widths": [2, 2, 2],
    "augment.pad": 1,
    "optimizer.label_smoothing": 0.0,
}
ONE_UNIT = {"model.spec.depths": [1], "model.spec.widths": [2]}
BUDGET = Budget("digits", "digits", (0,), steps=30, batch_size=64, settings=TINY)
ARMS = (
    Arm("plain8", "plain-8", "cifar_plain8", group="plain"),
    Arm("resnet8", "ResNet-8", "cifar_resnet8", group="residual"),
)


# Spread.


def test_a_spread_by_hand() -> None:
    spread = Spread.of([1.0, 3.0, math.nan, math.inf])
    assert spread.values == (1.0, 3.0)
    assert (spread.mean, spread.low, spread.high) == (2.0, 1.0, 3.0)
    assert spread.deviation == pytest.approx(math.sqrt(2))
    assert spread.text(2) == "2.00 ± 1.41"
    assert Spread((0.25,)).text(1, percent=True) == "25.0 %"
    assert Spread(()).text() == "–"


@pytest.mark.parametrize(
    ("one", "other", "beyond"),
    [
        ((1.0, 1.1), (2.0, 2.1), True),
        ((1.0, 2.0), (1.5, 2.5), False),  # they overlap
        ((1.0, 2.0), (2.1, 3.1), False),  # apart, but by less than two deviations
        ((1.0,), (2.0, 2.1), None),
    ],
)
def test_what_is_beyond_the_spread(
    one: tuple[float, ...], other: tuple[float, ...], beyond: bool | None
) -> None:
    assert beyond_spread(Spread(one), Spread(other)) is beyond
    assert beyond_spread(Spread(other), Spread(one)) is beyond
    said = compared(Spread(one), Spread(other))
    assert "higher" in said
    assert {None: "with one seed each", True: "beyond", False: "within"}[beyond] in said


# Plans.


def test_all_arms_get_one_budget() -> None:
    plan = trials(ARMS, dataclasses.replace(BUDGET, seeds=(0, 1)))
    assert [trial.name for trial in plan] == [
        "plain8-seed0",
        "resnet8-seed0",
        "plain8-seed1",
        "resnet8-seed1",
    ]
    plain, residual = plan[0].config, plan[1].config
    assert plain.model.name == "cifar_plain8"
    assert dataclasses.replace(plain, model=residual.model) == residual
    assert (plan[2].config.seed, plain.steps, plain.epochs) == (1, 30, None)
    assert plain.schedule.warmup_steps == 3  # a tenth, in place of the recipe's
    papers = dataclasses.replace(BUDGET, recipe="he2015-cifar", warmup=False)
    assert papers.configure(Arm("a", "a", "cifar_resnet110"), 0).schedule.warmup_steps == 400


def test_two_arms_of_one_name() -> None:
    with pytest.raises(
        ValueError, match="Each arm of a study needs a unique name. Received twice: plain8"
    ):
        trials((ARMS[0], ARMS[0]), BUDGET)


def test_depths_of_degradation_are_twins() -> None:
    arms = degradation.arms((20, 56))
    assert [arm.label for arm in arms] == ["plain-20", "ResNet-20", "plain-56", "ResNet-56"]
    for plain, residual in zip(arms[::2], arms[1::2], strict=True):
        assert plain.net.replace(name="x", merge="add") == residual.net.replace(name="x")
    with pytest.raises(ValueError, match="'cifar_plain21' has no such depth"):
        [arm.net for arm in degradation.arms((21,))]


def test_every_kind_of_shortcut_is_a_net_of_its_own() -> None:
    arms = shortcuts.arms(20, tuple(shortcuts.GROUPS))
    assert arms[0].net == get_spec("cifar_resnet20")
    assert len({arm.net.replace(name="x") for arm in arms}) == len(arms) == 14
    assert len({arm.name for arm in arms}) == len(arms)
    assert all(arm.cited for arm in arms)
    assert next(arm.name for arm in shortcuts.arms(20, ("activation",))) == "original"
    with pytest.raises(ValueError, match="Unknown group 'kind'. Nearest: kinds"):
        shortcuts.groups_of("options,kind")


def test_bottlenecks_of_equal_depth_and_of_nearest_cost() -> None:
    basic, same, equal = bottleneck.arms((56,))
    assert basic.net.layers == same.net.layers == 56
    wanted = count_spec(basic.net).multiply_adds
    layers = equal.net.layers
    assert layers > 56
    away = {
        n: abs(count_spec(f"cifar_resnet{n}_bottleneck").multiply_adds - wanted)
        for n in (layers - 9, layers, layers + 9)
    }
    assert min(away, key=lambda n: away[n]) == layers
    with pytest.raises(ValueError, match=r"needs 18k\+2 layers.*Received: 32; nearest: 20, 38"):
        bottleneck.arms((32,))


def test_alternatives_have_one_depth() -> None:
    arms = alternatives.arms(20)
    assert [arm.net.layers for arm in arms] == [20] * 8
    assert len({arm.net.replace(name="x") for arm in arms}) == 8


# Running.


def test_a_trial_resumes_where_it_was_interrupted(tmp_path: pathlib.Path) -> None:
    """Killed inside a run, it ends with the curve of one that was not."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch >= 19:
                raise TrainingStoppedError("as a signal does")

    settings = TINY | ONE_UNIT | {"checkpoint.every_steps": 10}
    plan = trials(ARMS[1:], dataclasses.replace(BUDGET, settings=settings))
    with pytest.raises(TrainingStoppedError, match="as a signal does"):
        run_trials(plan, tmp_path / "cut", callbacks=lambda trial, path: [Stop()])
    assert not (tmp_path / "cut/runs/resnet8-seed0/model.keras").exists()
    (cut,) = run_trials(plan, tmp_path / "cut")
    (whole,) = run_trials(plan, tmp_path / "whole")
    assert [row[0] for row in cut.curve] == [10, 20, 30]
    assert cut.curve == whole.curve
    assert cut.training_loss == whole.training_loss < 2.5
    assert cut.finished
    assert 0 < cut.test_error < 1


def test_divergence_is_recorded_and_not_retried(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = dataclasses.replace(
        BUDGET, settings=TINY | ONE_UNIT | {"schedule.learning_rate": 1e30}
    )
    plan = trials(ARMS[1:], budget)
    (result,) = run_trials(plan, tmp_path)
    assert not result.finished
    assert "The loss" in result.diverged
    assert capsys.readouterr().out.startswith("[1/1] ResNet-8, seed 0")
    (again,) = run_trials(plan, tmp_path)
    assert again.diverged == result.diverged
    assert capsys.readouterr().out == ""


def test_another_study_is_refused_before_anything_is_trained(tmp_path: pathlib.Path) -> None:
    plan = trials(ARMS, BUDGET)
    other = tmp_path / "runs" / plan[1].name
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files and no config.json"):
        run_trials(plan, tmp_path)
    assert not (tmp_path / "runs" / plan[0].name).exists()


def test_a_torn_curve_is_mended(tmp_path: pathlib.Path) -> None:
    """A process that was killed while it wrote leaves half a line."""
    path = tmp_path / "steps.csv"
    path.write_text("step,loss,accuracy\n10,2.0,0.1\n20,1.5,0.2\n30,1.2,0.")
    curve = StepCurve(path)
    curve.on_train_batch_end(19, {"loss": 1.25, "accuracy": 0.5})
    assert read_curve(path) == [(10, 2.0, 0.1), (20, 1.25, 0.5)]  # on disk before the end
    curve.on_train_end()


def test_damaged_curve(tmp_path: pathlib.Path) -> None:
    (tmp_path / "steps.csv").write_text("step,loss\n1,x\n")
    with pytest.raises(ValueError, match="is not a training curve of a study"):
        read_curve(tmp_path / "steps.csv")
    with pytest.raises(FileNotFoundError, match="has not ended"):
        read_result(trials(ARMS, BUDGET)[0], tmp_path)


# The largest rate, with runs whose end is known.


@pytest.mark.parametrize(("edge", "largest"), [(0.9, 0.8), (0.06, 0.05), (0.0, math.nan)])
def test_the_largest_rate(
    edge: float, largest: float, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def run(plan: list[Trial], output: pathlib.Path) -> list[TrialResult]:
        (trial,) = plan
        assert (trial.config.schedule.kind, trial.config.steps) == ("constant", 50)
        rate = trial.config.schedule.learning_rate
        tried.append(rate)
        return [_result(trial, loss=1.0 if rate <= edge else 2.3)]

    monkeypatch.setattr(rates, "run_trials", run)
    found = rates.largest_rate(trials(ARMS, BUDGET)[0], 10, 50, tmp_path)
    assert found.largest == pytest.approx(largest, nan_ok=True)
    assert [rate for rate, _ in found.tried] == sorted(tried)
    assert tried[0] == 0.1


# What is found.


def _result(trial: Trial, *, loss: float, error: float = 0.1, diverged: str = "") -> TrialResult:
    curve = ((10, 2.0, 0.3), (20, loss, 1 - error))
    return TrialResult(
        trial, diverged, loss, error, loss, error, curve, ((20, loss, 1 - error),), 100.0, 1.0
    )


def _two_seeds(arms: list[Arm], loss: Callable[[Arm], float], **changes: Any) -> Comparison:
    """Two seeds of each arm; the second one's loss is 0.01 higher."""
    plan = trials(arms, dataclasses.replace(BUDGET, seeds=(0, 1)))
    results = [_result(t, loss=loss(t.arm) + 0.01 * t.seed, **changes) for t in plan]
    return Comparison(results, BUDGET)


def _degraded(plain: float, residual: float, seeds: int = 2) -> Comparison:
    """Results in which depth adds to the losses of either kind."""
    budget = dataclasses.replace(BUDGET, seeds=tuple(range(seeds)))
    results = [
        _result(
            trial,
            loss=1.0
            + 0.01 * trial.seed
            + (trial.arm.net.layers > 8) * (plain if trial.arm.group == "plain" else residual),
        )
        for trial in trials(degradation.arms((8, 14)), budget)
    ]
    return Comparison(results, budget)


@pytest.mark.parametrize(
    ("comparison", "last"),
    [
        (_degraded(0.3, -0.1), "trains worse than the shallower one, and the deeper residual"),
        (_degraded(0.3, 0.004), "trains worse than the shallower one, and the deeper residual"),
        (_degraded(0.3, 0.2), "trains worse both without and with shortcuts"),
        (_degraded(-0.3, 0.2), "trains worse only with shortcuts"),
        (_degraded(0.0, -0.1), "No degradation"),
        (_degraded(0.3, -0.1, seeds=1), "The spread is unknown with one seed"),
    ],
    ids=["degradation", "within the spread", "both", "residual", "none", "one seed"],
)
def test_the_verdict_of_degradation(comparison: Comparison, last: str) -> None:
    words = degradation.verdict(comparison)
    assert len(words) == 5
    assert last in words[-1]


def test_the_verdict_says_the_numbers() -> None:
    words = degradation.verdict(_degraded(0.3, -0.1))
    assert words[0] == (
        "Plain nets: the training loss of plain-14 is 1.305 ± 0.007, that of plain-8 "
        "1.005 ± 0.007: 0.3 higher, beyond the spread of 2 seeds."
    )


def test_nets_that_diverge_are_named_and_left_out() -> None:
    results = list(_degraded(0.3, -0.1, seeds=1).results)
    results[2] = dataclasses.replace(results[2], diverged="The loss is nan at step 7")
    comparison = Comparison(results, BUDGET)
    found = degradation.findings(comparison)
    assert "Fewer than two depths of plain nets finished training: no verdict." in found.words
    assert "plain-14 (seed 0) diverged: The loss is nan at step 7" in found.words
    assert comparison_module.arms_table(comparison).rows[2][3:5] == ("0 of 1", "–")


def test_curves_average_over_seeds(tmp_path: pathlib.Path) -> None:
    comparison = _degraded(0.3, -0.1)
    plot = comparison_module.error_curves("e", "t", comparison, comparison.arms[:1])
    training, test = plot.lines
    assert (training.dashed, test.dashed) == (True, False)
    assert list(training.x) == [10.0, 20.0]
    assert list(training.y) == pytest.approx([70.0, 10.0])
    final = comparison_module.final_plot("f", "t", "y", comparison, "test_error", 100)
    assert final.categories[0] == "plain-8"
    assert list(final.lines[0].y) == pytest.approx([10.0] * 4)
    write_findings(tmp_path, Findings("t", (), (final,)))
    assert json.loads((tmp_path / "f.json").read_text())["lines"][0]["x"] == [0, 1, 2, 3]


def test_the_verdict_of_shortcuts_and_bottlenecks() -> None:
    comparison = _two_seeds(
        shortcuts.arms(20, ("options",)), lambda arm: 2.0 if arm.net.merge == "none" else 1.0
    )
    words = shortcuts.verdict(comparison)
    assert len(words) == 4
    assert words[-1].startswith("no shortcut: training loss 2.005 ± 0.007, 1 higher, beyond")
    words = bottleneck.verdict(_two_seeds(bottleneck.arms((20,)), lambda arm: 1.0))
    assert words[0].startswith("bottleneck-20 against basic-20, at 0.76 times the multiply-adds")
    assert "0.00 points lower, within the spread" in words[0]


def test_the_verdict_of_alternatives() -> None:
    arms = alternatives.arms(8)
    losses = {"resnet": 1.0, "rezero": 1.005, "fixup": 0.9, "plain": 3.0}
    comparison = _two_seeds(arms, lambda arm: losses.get(arm.name, 2.0))
    comparison = Comparison(
        [
            dataclasses.replace(result, diverged="nan")
            if result.trial.arm.name == "delta_orthogonal"
            else result
            for result in comparison.results
        ],
        BUDGET,
    )
    search = rates.RateSearch(0.4, ((0.1, 1.0), (0.4, 1.5), (0.8, math.nan)))
    cost = {"step_seconds": 0.1}
    measured = {
        arm.name: alternatives.ArmMeasurement((0.5, math.nan), cost, search) for arm in arms
    }
    measured["fixup"] = dataclasses.replace(measured["fixup"], growth=(math.nan, 0.25))
    words = alternatives.verdict(comparison, measured)
    assert "delta-orthogonal: no run finished training; gradient ratio 0.5" in words[2]
    assert "; no gradient reaches its units before the first step, 0.25 after; t" in words[6]
    assert words[-1] == (
        "Training loss not above the addition's at this depth and budget: ReZero, Fixup."
    )
    found = alternatives.findings(comparison, measured)
    assert [plot.name for plot in found.plots][:2] == ["gradient-growth", "rates"]
    assert found.tables[1].rows[0][5] == 100.0
    diverged = [dataclasses.replace(each, diverged="nan") for each in comparison.results]
    for verdict in (lambda c: alternatives.verdict(c, measured), shortcuts.verdict):
        assert verdict(Comparison(diverged, BUDGET)) == [
            "add did not finish training, so there is no reference."
        ]


# Files.


def test_findings_on_disk(tmp_path: pathlib.Path) -> None:
    line = Line("<a> & $b$", [1, 2, 3], [1.0, math.nan, 3.0], [0.9, math.nan, 2.5], [1.1, 0, 3.5])
    many = [float(n) for n in range(1, 21)]
    band = Line("band", many, many, [0.9 * n for n in many], [1.1 * n for n in many])
    points = [
        Line(f"{n}", [1.0, 2e4], [n, 2 * n], form=form, names=("$a$", "b"))
        for n, form in enumerate(("points", "steps", "ring", "line", "points"), start=1)
    ]
    plots = (
        Plot("lines", "Lines", "x", "y", (line, Line("b", [1, 2], [5.0, 6.0], dashed=True))),
        Plot("bars", "Bars", "", "y", (Line("c", range(2), [1, 2]),), categories=("p", "q")),
        Plot("band", "Band", "x", "y", (band, *points), log_x=True, log_y=True, ticks=(1, 20)),
    )
    table = Table("table", "A table", ("Net", "Loss"), (("one", 1.5), ("two", math.nan)))
    long = Table("long", "Long", ("n",), tuple((n,) for n in range(60)), shown=False)
    report = write_findings(
        tmp_path / "study",
        Findings(
            "Title",
            ("A sentence.",),
            plots,
            (table, long),
            {"Command": "keras-resnet <x>"},
            {"Best run": "{1 < 2}"},
        ),
    )
    names = {path.name for path in report.parent.iterdir()}
    assert names == {
        "results.json",
        "report.html",
        "table.csv",
        "long.csv",
        "lines.svg",
        "lines.csv",
        "lines.json",
        "bars.svg",
        "bars.csv",
        "bars.json",
        "band.svg",
        "band.csv",
        "band.json",
    }
    results = json.loads((report.parent / "results.json").read_text())
    assert results["tables"]["table"][1] == {"Net": "two", "Loss": None}
    with (report.parent / "lines.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["line", "x", "y", "low", "high"]
    assert rows[2] == ["<a> & $b$", "2", "", "", "0"]
    with (report.parent / "bars.csv").open() as file:
        assert [row[1] for row in csv.reader(file)] == ["", "p", "q"]
    for name in ("lines.svg", "bars.svg", "band.svg"):
        root = xml.etree.ElementTree.parse(report.parent / name).getroot()
        assert root.tag.endswith("svg")
    page = report.read_text()
    assert "keras-resnet &lt;x&gt;" in page
    assert "{1 &lt; 2}" in page
    assert "<summary>Long: 60 rows</summary>" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 3
    assert "$a$" in page


def test_a_row_of_the_wrong_length() -> None:
    with pytest.raises(ValueError, match="Each row of 'table' needs 2 values"):
        Table("table", "", ("a", "b"), ((1,),))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (math.nan, "–"), (True, "yes"), (1234567, "1,234,567"), (0.123456, "0.1235")],
)
def test_cells(value: object, text: str) -> None:
    assert cell_text(value) == text


# Cost, each in a process of its own.


@pytest.mark.multi_process
def test_cost_of_a_net(tmp_path: pathlib.Path) -> None:
    query = CostQuery(
        "cifar_repvgg5", {"widths": [4, 8, 8]}, batch_size=4, size=8, steps=2, inference=True
    )
    cost = measure_cost(query, 120.0, tmp_path / "cost.json")
    assert cost.keys() == {
        "build_seconds",
        "first_step_seconds",
        "step_seconds",
        "peak_bytes",
        "training_bytes",
        "inference_seconds",
        "deployed_multiply_adds",
        "deployed_parameters",
    }
    assert 0 < cost["step_seconds"] < cost["first_step_seconds"]
    spec = get_spec("cifar_repvgg5").replace(widths=(4, 8, 8))
    before = count_spec(spec, input_shape=(8, 8, 3)).multiply_adds
    assert cost["deployed_multiply_adds"] < before
    kept = (tmp_path / "cost.json").read_text()
    assert measure_cost(query, 5.0, tmp_path / "cost.json") == cost  # not measured again
    assert (tmp_path / "cost.json").read_text() == kept


@pytest.mark.parametrize("model", ["cifar_resnet8", "cifar_repvgg5"])
def test_cost_of_inference(model: str) -> None:
    """Of a net whose norms are folded, which has no spec any more."""
    net = build(get_spec(model).replace(widths=(2, 2, 2)), classes=10, input_shape=(8, 8, 1))
    cost = probe._inference(net, (8, 8, 1))
    assert 0 < cost["deployed_multiply_adds"] <= count(net).multiply_adds
    assert cost["inference_seconds"] > 0


@pytest.mark.multi_process
def test_cost_beyond_its_limit(tmp_path: pathlib.Path) -> None:
    cost = measure_cost(CostQuery("cifar_resnet20"), 0.5, tmp_path / "cost.json")
    assert cost == {"stopped_after": 0.5}


@pytest.mark.multi_process
def test_cost_of_a_net_that_fails(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        RuntimeError,
        match="cifar_resnet20 could not be measured: .*3x3 convolution of a bottleneck",
    ):
        measure_cost(CostQuery("cifar_resnet20", {"base_width": 3}), 60.0, tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()


# The command.

Command = Callable[..., Any]


def test_study_degradation(command: Command, tmp_path: pathlib.Path) -> None:
    words = [
        "study",
        "degradation",
        "--depths",
        "8",
        "--steps",
        6,
        "--set",
        "data.image_size=8",
        "--set",
        "model.spec.widths=[2]",
        "--set",
        "model.spec.depths=[1]",
        "--output",
        tmp_path / "study",
    ]
    ended = command(*words)
    assert (ended.status, ended.err) == (0, "")
    assert "Fewer than two depths of plain nets finished training: no verdict." in ended.out
    assert "[2/2] ResNet-8, seed 0" in ended.out
    results = json.loads((tmp_path / "study/results.json").read_text())
    rows = results["tables"]["runs"]
    assert [row["Net"] for row in rows] == ["plain-8", "ResNet-8"]
    assert all(row["Diverged"] == "no" for row in rows)
    assert (tmp_path / "study/error-by-depth.svg").is_file()
    again = command(*words)
    assert again.status == 0
    assert "[2/2]" not in again.out  # nothing was left to train
    changed = command(*words, "--batch-size", 32)
    assert changed.status == 1
    assert "holds another run, which differs in batch_size: 64 then, 32 now" in changed.err


def test_study_alternatives(
    command: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the cost, which has tests of its own, for real."""
    asked: list[CostQuery] = []

    def cost(query: CostQuery, limit: float, cache: pathlib.Path) -> dict[str, float]:
        asked.append(query)
        return {"step_seconds": 0.25, "stopped_after": limit}

    monkeypatch.setattr(alternatives, "measure_cost", cost)
    ended = command(
        "study",
        "alternatives",
        "--depth",
        8,
        "--compare",
        "highway",
        "--steps",
        8,
        "--rate-steps",
        3,
        "--set",
        "data.image_size=8",
        "--set",
        "model.spec.widths=[2]",
        "--set",
        "model.spec.depths=[2]",
        "--set",
        "schedule.learning_rate=1.5e-4",
        "--output",
        tmp_path / "study",
    )
    assert (ended.status, ended.err) == (0, "")
    assert [(query.size, query.channels, query.classes) for query in asked] == [(8, 1, 10)] * 2
    assert asked[0].spec["widths"] == [2]
    results = json.loads((tmp_path / "study/results.json").read_text())
    add, highway = results["tables"]["alternatives"]
    assert (add["Net"], highway["Net"], add["Step (ms)"]) == ("add", "highway", 250.0)
    assert 0 < add["Gradient at start"] != highway["Gradient at start"] > 0
    assert (tmp_path / "study/rates/runs").is_dir()
    assert (tmp_path / "study/gradient-growth.svg").is_file()


@pytest.mark.parametrize(
    ("words", "arms", "plot"),
    [
        (("shortcuts", "--depth", "8"), 14, "training-loss"),
        (("shortcuts", "--depth", "8", "--compare", "options"), 4, "final-loss"),
        (("bottleneck", "--depths", "20"), 3, "error-by-cost"),
        (("degradation", "--depths", "8,14"), 4, "error-by-depth"),
    ],
)
def test_studies_that_only_train(
    words: tuple[str, ...],
    arms: int,
    plot: str,
    command: Command,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From options to files, with known results in place of training."""

    def run(plan: list[Trial], output: pathlib.Path) -> list[TrialResult]:
        return [_result(trial, loss=1.5) for trial in plan]

    monkeypatch.setattr(comparison_module, "run_trials", run)
    ended = command("study", *words, "--output", tmp_path)
    assert (ended.status, ended.err) == (0, "")
    tables = json.loads((tmp_path / "results.json").read_text())["tables"]
    assert len(tables["arms"]) == arms
    assert (tmp_path / f"{plot}.svg").is_file()
    assert "with one seed each, so the spread is unknown" in " ".join(ended.out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("alternatives", "--compare", "fixupp"), "Unknown alternative 'fixupp'. Nearest: fixup"),
        (("degradation", "--depths", "20,x"), "`--depths` takes numbers of layers"),
        (("degradation", "--depths", "20,20"), "`--depths` takes numbers of layers, each once"),
        (("degradation", "--depths", "21"), "'cifar_plain21' has no such depth"),
        (("degradation", "--seeds", "0"), "`--seeds` must be at least 1"),
        (("degradation", "--epochs", "1", "--steps", "5"), "one of the two"),
        (("degradation", "--strategy", "gpus"), "`--strategy` must be auto"),
        (("degradation", "--set", "optimizer.momentun=1"), "no field 'optimizer.momentun'"),
        (("alternatives", "--rate-steps", "-1"), "`--rate-steps` must be at least 0"),
        (("depth-cost", "--family", "resnet50"), "`--family` needs {}"),
        (("depth-cost", "--limit", "0"), "`--limit` must be above 0"),
    ],
)
def test_study_bad_options(
    words: tuple[str, ...], message: str, command: Command, tmp_path: pathlib.Path
) -> None:
    ended = command("study", *words, "--output", tmp_path / "study")
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert message in line
    assert not (tmp_path / "study").exists()


def test_an_unknown_study(capsys: pytest.CaptureFixture[str], command: Command) -> None:
    for words, message in (
        (("degradatoin",), "invalid choice: 'degradatoin' (choose from 'degradation', "),
        ((), "the following arguments are required: COMMAND"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command("study", *words)
        assert message in capsys.readouterr().err
