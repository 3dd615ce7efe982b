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

from keras_resnet import get_spec
from keras_resnet.analysis import count_spec
from keras_resnet_train.errors import TrainingStoppedError
from keras_resnet_train.presentation.findings import Findings, Table, cell_text, write_findings
from keras_resnet_train.presentation.plots import Line, Plot
from keras_resnet_train.studies import (
    alternatives,
    bottleneck,
    comparison,
    degradation,
    rates,
    shortcuts,
)
from keras_resnet_train.studies.cost import CostQuery, measure_cost
from keras_resnet_train.studies.curve import StepCurve, read_curve
from keras_resnet_train.studies.plan import Arm, Budget, Trial, trials
from keras_resnet_train.studies.spread import Spread, beyond_spread, compared
from keras_resnet_train.studies.trials import Outcome, read_outcome, run_trials

pytestmark = pytest.mark.tf

TINY = {
    "data.image_size": 8,
    "model.spec.widths": [4, 8, 8],
    "augment.pad": 1,
    "optimizer.label_smoothing": 0.0,
}
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
    assert {None: "of one seed each", True: "beyond", False: "within"}[beyond] in said


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
    with pytest.raises(ValueError, match="Each arm of a study needs a name of its own"):
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


def test_a_study_goes_on_where_it_was_interrupted(tmp_path: pathlib.Path) -> None:
    """Killed inside its second run, it ends with the curve of one that was not."""

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch >= 19:
                raise TrainingStoppedError("as a signal does")

    settings = TINY | {"checkpoint.every_steps": 10}
    plan = trials(ARMS, dataclasses.replace(BUDGET, settings=settings))
    with pytest.raises(TrainingStoppedError, match="as a signal does"):
        run_trials(
            plan,
            tmp_path / "cut",
            callbacks=lambda trial, path: [Stop()] if trial.arm.name == "resnet8" else [],
        )
    first = tmp_path / "cut/runs/plain8-seed0/model.keras"
    written = first.stat().st_mtime_ns
    assert not (tmp_path / "cut/runs/resnet8-seed0/model.keras").exists()
    cut = run_trials(plan, tmp_path / "cut")
    assert first.stat().st_mtime_ns == written
    whole = run_trials(plan[1:], tmp_path / "whole")
    assert [row[0] for row in cut[1].curve] == [10, 20, 30]
    assert cut[1].curve == whole[0].curve
    assert cut[1].training_loss == whole[0].training_loss < 2.5
    assert cut[0].finished
    assert 0 < cut[0].test_error < 1


def test_divergence_is_a_result(tmp_path: pathlib.Path) -> None:
    budget = dataclasses.replace(BUDGET, settings=TINY | {"schedule.learning_rate": 1e30})
    plan = trials(ARMS[1:], budget)
    said: list[str] = []
    (outcome,) = run_trials(plan, tmp_path, say=said.append)
    assert not outcome.finished
    assert "The loss" in outcome.diverged
    assert said[0] == "[1/1] ResNet-8, seed 0"
    (again,) = run_trials(plan, tmp_path, say=said.append)
    assert again.diverged == outcome.diverged
    assert len(said) == 2  # it is not tried again


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
    with pytest.raises(ValueError, match="is no curve of a study's run"):
        read_curve(tmp_path / "steps.csv")
    with pytest.raises(FileNotFoundError, match="has not ended"):
        read_outcome(trials(ARMS, BUDGET)[0], tmp_path)


# The largest rate, with runs whose end is known.


@pytest.mark.parametrize(("edge", "largest"), [(0.9, 0.8), (0.06, 0.05), (0.0, math.nan)])
def test_the_largest_rate(
    edge: float, largest: float, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def run(plan: list[Trial], output: pathlib.Path) -> list[Outcome]:
        (trial,) = plan
        assert (trial.config.schedule.kind, trial.config.steps) == ("constant", 50)
        rate = trial.config.schedule.learning_rate
        tried.append(rate)
        return [_outcome(trial, loss=1.0 if rate <= edge else 2.3)]

    monkeypatch.setattr(rates, "run_trials", run)
    found = rates.largest_rate(trials(ARMS, BUDGET)[0], 10, 50, tmp_path)
    assert found.largest == pytest.approx(largest, nan_ok=True)
    assert [rate for rate, _ in found.tried] == sorted(tried)
    assert tried[0] == 0.1


# What is found.


def _outcome(trial: Trial, *, loss: float, error: float = 0.1, diverged: str = "") -> Outcome:
    curve = ((10, 2.0, 0.3), (20, loss, 1 - error))
    return Outcome(
        trial, diverged, loss, error, loss, error, curve, ((20, loss, 1 - error),), 100.0, 1.0
    )


def _degraded(plain: float, residual: float, seeds: int = 2) -> list[Outcome]:
    """Outcomes in which depth adds to the losses of either kind."""
    budget = dataclasses.replace(BUDGET, seeds=tuple(range(seeds)))
    return [
        _outcome(
            trial,
            loss=1.0
            + 0.01 * trial.seed
            + (trial.arm.net.layers > 20) * (plain if trial.arm.group == "plain" else residual),
        )
        for trial in trials(degradation.arms((20, 56)), budget)
    ]


@pytest.mark.parametrize(
    ("outcomes", "last"),
    [
        (_degraded(0.3, -0.1), "Deeper is worse in training without shortcuts, and not with them"),
        (_degraded(0.3, 0.004), "Deeper is worse in training without shortcuts, and not with"),
        (_degraded(0.3, 0.2), "Deeper is worse in training without shortcuts, and with them too"),
        (_degraded(-0.3, 0.2), "Deeper is worse in training with shortcuts alone"),
        (_degraded(0.0, -0.1), "No degradation showed"),
        (_degraded(0.3, -0.1, seeds=1), "One seed, so the spread is not known"),
    ],
    ids=["degradation", "within the spread", "both", "residual", "none", "one seed"],
)
def test_the_verdict_of_degradation(outcomes: list[Outcome], last: str) -> None:
    words = degradation.verdict(outcomes)
    assert len(words) == 5
    assert last in words[-1]


def test_the_verdict_says_the_numbers() -> None:
    words = degradation.verdict(_degraded(0.3, -0.1))
    assert words[0] == (
        "Plain nets: the training loss of plain-56 is 1.305 ± 0.007, that of plain-20 "
        "1.005 ± 0.007: 0.3 higher, beyond the spread of 2 seeds."
    )


def test_nets_that_diverge_are_named_and_left_out() -> None:
    outcomes = _degraded(0.3, -0.1, seeds=1)
    broken = dataclasses.replace(outcomes[2], diverged="The loss is nan at step 7")
    found = degradation.findings([*outcomes[:2], broken, outcomes[3]], BUDGET)
    assert "Fewer than two depths of plain nets trained to the end: no verdict." in found.words
    assert any("plain-56 (seed 0) did not train to the end" in text for text in found.words)
    arms = comparison.arms_table([*outcomes[:2], broken, outcomes[3]])
    assert arms.rows[2][3:5] == ("0 of 1", "–")


def test_curves_average_over_seeds() -> None:
    outcomes = _degraded(0.3, -0.1)
    plot = comparison.error_curves("e", "t", outcomes, [outcomes[0].trial.arm])
    training, test = plot.lines
    assert (training.dashed, test.dashed) == (True, False)
    assert list(training.x) == [10.0, 20.0]
    assert list(training.y) == pytest.approx([70.0, 10.0])
    final = comparison.final_plot("f", "t", "y", outcomes, comparison.test_error, factor=100)
    assert final.categories[0] == "plain-20"
    assert list(final.lines[0].y) == pytest.approx([10.0] * 4)


def test_places_of_named_values_are_numbers_in_json(tmp_path: pathlib.Path) -> None:
    outcomes = _degraded(0.3, -0.1)
    final = comparison.final_plot("f", "t", "y", outcomes, comparison.test_error)
    write_findings(tmp_path, Findings("t", (), (final,)))
    assert json.loads((tmp_path / "f.json").read_text())["lines"][0]["x"] == [0, 1, 2, 3]


def test_the_verdict_of_shortcuts_and_bottlenecks() -> None:
    plan = trials(shortcuts.arms(20, ("options",)), dataclasses.replace(BUDGET, seeds=(0, 1)))
    outcomes = [
        _outcome(t, loss=(2.0 if t.arm.net.merge == "none" else 1.0) + 0.01 * t.seed) for t in plan
    ]
    words = shortcuts.verdict(outcomes)
    assert len(words) == 4
    assert words[-1].startswith("no shortcut: training loss 2.005 ± 0.007, 1 higher, beyond")
    plan = trials(bottleneck.arms((20,)), dataclasses.replace(BUDGET, seeds=(0, 1)))
    words = bottleneck.verdict([_outcome(t, loss=1.0, error=0.1 + t.seed / 100) for t in plan])
    assert words[0].startswith("bottleneck-20 against basic-20, at 0.83 times the multiply-adds")
    assert "0.00 points lower, within the spread" in words[0]


def test_the_verdict_of_alternatives() -> None:
    plan = trials(alternatives.arms(20), dataclasses.replace(BUDGET, seeds=(0, 1)))
    losses = {"resnet": 1.0, "rezero": 1.005, "fixup": 0.9, "plain": 3.0}
    outcomes = [
        _outcome(
            t,
            loss=losses.get(t.arm.name, 2.0) + 0.01 * t.seed,
            diverged="nan" if t.arm.name == "delta_orthogonal" else "",
        )
        for t in plan
    ]
    search = rates.RateSearch(0.4, ((0.1, 1.0), (0.4, 1.5), (0.8, math.nan)))
    measured = {
        arm.name: alternatives.Measured((0.5, math.nan), {"step_seconds": 0.1}, search)
        for arm in alternatives.arms(20)
    }
    measured["fixup"] = dataclasses.replace(measured["fixup"], growth=(math.nan, 0.25))
    words = alternatives.verdict(outcomes, measured)
    assert "delta-orthogonal: no run trained to the end; gradient ratio 0.5" in words[2]
    assert "; no gradient reaches its units before the first step, 0.25 after; t" in words[6]
    assert words[-1] == (
        "Not above the addition in training loss at this depth and budget: ReZero, Fixup."
    )
    found = alternatives.findings(outcomes, BUDGET, measured)
    assert [plot.name for plot in found.plots][:2] == ["gradient-growth", "rates"]
    assert found.tables[1].rows[0][5] == 100.0


# Files.


def test_findings_on_disk(tmp_path: pathlib.Path) -> None:
    line = Line("<a> & $b$", [1, 2, 3], [1.0, math.nan, 3.0], [0.9, math.nan, 2.5], [1.1, 0, 3.5])
    plots = (
        Plot("lines", "Lines", "x", "y", (line, Line("b", [1, 2], [5.0, 6.0], dashed=True))),
        Plot("bars", "Bars", "", "y", (Line("c", range(2), [1, 2]),), categories=("p", "q")),
    )
    table = Table("table", "A table", ("Net", "Loss"), (("one", 1.5), ("two", math.nan)))
    report = write_findings(
        tmp_path / "study",
        Findings("Title", ("A sentence.",), plots, (table,), {"Command": "keras-resnet <x>"}),
    )
    names = {path.name for path in report.parent.iterdir()}
    assert names == {
        "results.json",
        "report.html",
        "table.csv",
        "lines.svg",
        "lines.csv",
        "lines.json",
        "bars.svg",
        "bars.csv",
        "bars.json",
    }
    results = json.loads((report.parent / "results.json").read_text())
    assert results["tables"]["table"][1] == {"Net": "two", "Loss": None}
    with (report.parent / "lines.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["line", "x", "y", "low", "high"]
    assert rows[2] == ["<a> & $b$", "2", "", "", "0"]
    with (report.parent / "bars.csv").open() as file:
        assert [row[1] for row in csv.reader(file)] == ["", "p", "q"]
    for name in ("lines.svg", "bars.svg"):
        root = xml.etree.ElementTree.parse(report.parent / name).getroot()
        assert root.tag.endswith("svg")
    page = report.read_text()
    assert "keras-resnet &lt;x&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 2


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


@pytest.mark.multi_process
def test_cost_beyond_its_limit(tmp_path: pathlib.Path) -> None:
    cost = measure_cost(CostQuery("cifar_resnet20"), 0.5, tmp_path / "cost.json")
    assert cost == {"stopped_after": 0.5}


@pytest.mark.multi_process
def test_cost_of_a_net_that_fails(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        RuntimeError, match="cifar_resnet20 could not be measured: .*bottlenecks only"
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
        "8,14",
        "--seeds",
        2,
        "--steps",
        12,
        "--set",
        "data.image_size=8",
        "--set",
        "model.spec.widths=[2,2,2]",
        "--output",
        tmp_path / "study",
    ]
    ended = command(*words)
    assert (ended.status, ended.err) == (0, "")
    assert "Plain nets: the training loss of plain-14 is" in ended.out
    assert "[8/8] ResNet-14, seed 1" in ended.out
    results = json.loads((tmp_path / "study/results.json").read_text())
    rows = results["tables"]["runs"]
    assert [row["Net"] for row in rows[:4]] == ["plain-8", "ResNet-8", "plain-14", "ResNet-14"]
    assert len(rows) == 8
    assert all(row["Diverged"] == "no" for row in rows)
    assert (tmp_path / "study/error-by-depth.svg").is_file()
    again = command(*words)
    assert again.status == 0
    assert "[8/8]" not in again.out  # nothing was left to train
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
        "model.spec.widths=[2,2,2]",
        "--set",
        "schedule.learning_rate=2e-4",
        "--output",
        tmp_path / "study",
    )
    assert (ended.status, ended.err) == (0, "")
    assert [(query.size, query.channels, query.classes) for query in asked] == [(8, 1, 10)] * 2
    assert asked[0].spec["widths"] == [2, 2, 2]
    results = json.loads((tmp_path / "study/results.json").read_text())
    add, highway = results["tables"]["alternatives"]
    assert (add["Net"], highway["Net"], add["Step (ms)"]) == ("add", "highway", 250.0)
    assert 0 < add["Gradient at start"] != highway["Gradient at start"] > 0
    assert (tmp_path / "study/rates/runs").is_dir()
    assert (tmp_path / "study/gradient-growth.svg").is_file()


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
