"""The search: spaces, limits, budget, resumption and what is left of it, with KerasTuner itself."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import keras
import pytest

from keras_resnet import ResNetSpec
from keras_resnet_train.commands.train import COMMAND as TRAIN
from keras_resnet_train.config import RunConfig, load_config, with_changes
from keras_resnet_train.data import resolve_data
from keras_resnet_train.recipes import get_recipe
from keras_resnet_train.run_options import configuration
from keras_resnet_train.rundir import spec_of
from keras_resnet_train.session import run_training
from keras_resnet_train.tuning import (
    candidate_filter,
    directory,
    limits,
    plan,
    report,
    results,
    search,
    tuner,
)
from keras_resnet_train.tuning.candidates import Candidates
from keras_resnet_train.tuning.directory import SearchDirectory, TrialRecord
from keras_resnet_train.tuning.limits import Cost, CostBook, Limits
from keras_resnet_train.tuning.plan import SearchPlan
from keras_resnet_train.tuning.space import SPACES

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("without_pictures")]

# Nets of 8 layers on digits of 8 x 8 pixels: what takes time is tracing the graph.
TINY = (
    "--dataset",
    "digits",
    "--model",
    "cifar_resnet8",
    "--image-size",
    8,
    "--set",
    "model.spec.widths=[4,8,8]",
    "--set",
    "augment.pad=1",
)


def base(model: str = "cifar_resnet8", **changes: Any) -> RunConfig:
    return get_recipe("digits").configure(model, {"data.dataset": "digits", **changes})


def rows(path: pathlib.Path) -> list[dict[str, str]]:
    with (path / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(path: pathlib.Path) -> dict[str, str]:
    """What KerasTuner itself holds of each trial."""
    found = [json.loads(f.read_text()) for f in (path / "tuner").glob("trial_*/trial.json")]
    return {trial["trial_id"]: trial["status"] for trial in found}


@pytest.mark.parametrize(
    "model",
    ["cifar_resnet20", "resnet50", "cifar_resnet164v2", "cifar_wrn28_10", "resnext50_32x4d"],
)
def test_the_first_candidate_is_the_base(model: str) -> None:
    candidates = Candidates(SPACES["residual"], base(model))
    values = candidates.hyperparameters().values
    first = with_changes(candidates.base, candidates.changes(values))
    assert spec_of(first) == spec_of(candidates.base)
    assert (first.optimizer, first.schedule) == (
        candidates.base.optimizer,
        candidates.base.schedule,
    )
    assert candidates.difference(values) == "the base"


def test_axes_follow_the_base() -> None:
    small = {axis.name: axis for axis in Candidates(SPACES["width"], base()).axes}
    assert small["depth"].values == (1.0, 1.5)  # type: ignore[union-attr]  # one unit a stage
    names = {axis.name for axis in Candidates(SPACES["residual"], base("resnet50")).axes}
    assert "stem" in names
    assert "stem" not in {axis.name for axis in Candidates(SPACES["residual"], base()).axes}
    undecayed = Candidates(SPACES["recipe"], base(**{"optimizer.weight_decay": 0.0}))
    assert {axis.name for axis in undecayed.axes} == {"learning_rate", "label_smoothing"}
    with pytest.raises(ValueError, match="varies nets of basic or bottleneck branches.*repvgg"):
        Candidates(SPACES["residual"], base("repvgg_a0"))


def test_fields_that_do_not_count_are_off_and_others_follow() -> None:
    candidates = Candidates(SPACES["residual"], base("cifar_resnet110_sd"))
    plain = candidates.changes({"merge": "none", "depth": 0.33, "width": 0.75})
    assert plain["model.spec.stochastic_depth"] == 0.0
    assert plain["model.spec.depths"] == [6, 6, 6]
    assert plain["model.spec.widths"] == [12, 24, 48]
    # Fixup belongs to the addition, and has no biases.
    without_biases = candidates.changes({"merge": "add", "norm": "fixup"})
    assert (without_biases["model.spec.norm"], without_biases["model.spec.conv_bias"]) == (
        "fixup",
        False,
    )
    assert "model.spec.norm" not in candidates.changes({"merge": "highway", "norm": "fixup"})
    fixup = Candidates(SPACES["residual"], base("cifar_fixup8"))
    assert fixup.changes({"merge": "highway", "norm": "fixup"})["model.spec.norm"] == "batch"
    warm = Candidates(SPACES["recipe"], base(**{"schedule.warmup_rate": 0.05}))
    assert warm.changes({"learning_rate": 0.02})["schedule.warmup_rate"] == pytest.approx(0.01)


def test_the_smallest_candidate_costs_least(tmp_path: pathlib.Path) -> None:
    """Of a space's corner and what stands beside it, against draws of KerasTuner's."""
    import keras_tuner

    config = base(**{"model.spec.widths": [4, 8, 8]})
    candidates = Candidates(SPACES["residual"], config)
    book = CostBook(tmp_path / "costs.json", 10, (8, 8, 1), Limits())

    def cost(values: Any) -> Cost | None:
        try:
            return book.of(spec_of(with_changes(config, candidates.changes(values))))
        except ValueError:
            return None

    corner = [found for found in map(cost, candidates.smallest()) if found]
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("val_accuracy", "max"),
        hyperparameters=candidates.hyperparameters(),
        seed=1,
    )
    drawn = [found for found in (cost(oracle._random_values()) for _ in range(4)) if found]
    assert len(drawn) > 1
    for field in ("parameters", "multiply_adds"):
        least = min(getattr(found, field) for found in corner)
        assert least <= min(getattr(found, field) for found in drawn)


def test_limits_say_what_they_were_broken_by() -> None:
    bounds = Limits(100, 2000, 1.5, "int8")
    assert list(bounds.broken(Cost(100, 2000, 1.5))) == []
    assert list(bounds.broken(Cost(101, 2001, 1.6))) == [
        "101 parameters, limit 100",
        "2,001 multiply-adds, limit 2,000",
        "1.6 ms (int8 LiteRT, 1 thread), limit 1.5 ms",
    ]


def test_latency_is_measured_once_an_architecture_and_only_within_the_other_limits(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(base(**{"model.spec.widths": [4, 8, 8]}))
    bounds = Limits(parameters=3000, latency_ms=50.0, precision="int8")
    book = CostBook(tmp_path / "costs.json", 10, (8, 8, 1), bounds)
    found = book.of(spec)
    assert found.latency_ms is not None
    assert 0 < found.latency_ms < 50
    monkeypatch.setattr(limits, "measure_latency", lambda *_: pytest.fail("measured again"))
    assert book.of(spec.replace(stochastic_depth=0.1)) == found
    again = CostBook(tmp_path / "costs.json", 10, (8, 8, 1), bounds)
    assert again.of(spec) == found
    assert again.of(spec.replace(widths=(8, 16, 16))).latency_ms is None


def test_a_trial_is_the_recipe_squeezed(tmp_path: pathlib.Path) -> None:
    prepared = plan.prepare(SearchPlan("recipe", "random", base(), epochs=4))
    assert (prepared.examples, prepared.held_out) == (1257, 180)
    trial = prepared.trial({"learning_rate": 0.05})
    assert (trial.epochs, trial.steps) == (4, None)
    assert trial.schedule.warmup_epochs == pytest.approx(0.2, rel=0.02)  # 2 of 40
    assert prepared.trial({}, epochs=1).epochs == 1
    full = prepared.full({"learning_rate": 0.05})
    assert (full.epochs, full.schedule.warmup_epochs) == (40, 2)
    assert full.schedule.learning_rate == trial.schedule.learning_rate == 0.05


def test_data_without_validation_images_hold_a_tenth_out() -> None:
    config = base(**{"data.dataset": "synthetic", "data.image_size": 8, "data.classes": 4})
    prepared = plan.prepare(SearchPlan("recipe", "random", config, steps=3))
    held, kept = prepared.held_out, prepared.examples
    assert (prepared.plan.validation == 0.1) == (held == round(0.1 * (held + kept)))
    assert held > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--space", "residul"), "Unknown space 'residul'. Nearest: residual"),
        (("--tuner", "hyperbnd"), "Unknown tuner 'hyperbnd'. Nearest: hyperband"),
        (("--budget", "30 min"), "`--budget` takes a time such as 90s, 30m or 2h.*'30 min'"),
        (("--budget", "0s"), "`--budget` takes a time"),
        (("--trials", 0), "`--trials` must be at least 1. Received: 0"),
        (("--max-parameters", "many"), "A count is a number such as 250000.*'many'"),
        (("--max-latency", 0), "`--max-latency` must be above 0"),
        (("--tuner", "hyperband", "--steps", 9), "allocates whole epochs.*--steps 9"),
        (("--tuner", "hyperband", "--epochs", 1.5), "allocates whole epochs.*--epochs 1.5"),
        (("--epochs", 1, "--steps", 9, "--tuner", "random"), "--epochs or as --steps, one of"),
        (("--strategy", "multi-worker"), "another --strategy than multi-worker"),
        (("--model", "cifar_resnet2O"), "Unknown model .* cifar_resnet20"),
        (("--dataset", "synthetic"), "Give the length of the run on 'synthetic': --set epochs=90"),
    ],
)
def test_refused(
    words: tuple[object, ...],
    message: str,
    tmp_path: pathlib.Path,
    command: Callable[..., Any],
) -> None:
    length = () if {"--budget", "--trials"} & set(words) else ("--trials", 1)
    ended = command("tune", *TINY, *length, *words, "--output", tmp_path / "s")
    assert (ended.status, ended.out) == (1, "")
    assert re.search(message, ended.err)
    assert not (tmp_path / "s").exists()


def test_a_search_needs_an_end(tmp_path: pathlib.Path, command: Callable[..., Any]) -> None:
    ended = command("tune", *TINY, "--output", tmp_path / "s")
    assert ended.status == 1
    assert "Give the length of the search: --budget 30m" in ended.err


def test_a_limit_that_the_smallest_net_breaks(
    tmp_path: pathlib.Path, command: Callable[..., Any]
) -> None:
    words = ("--space", "width", "--trials", 1, "--max-parameters", 10)
    ended = command("tune", *TINY, *words, "--output", tmp_path / "s")
    assert ended.status == 1
    # 4 filters throughout: 9 * 4 + 6 * 9 * 16 + 4 * 10 + 10 weights and 7 * 8 of norms.
    assert "keeps to the limits. The smallest has 1,006 parameters, limit 10" in ended.err
    assert not (tmp_path / "s").exists()


def test_a_directory_of_something_else(tmp_path: pathlib.Path, command: Callable[..., Any]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    ended = command("tune", *TINY, "--trials", 1, "--output", tmp_path)
    assert ended.status == 1
    assert "holds files and no search.json, so it is not a search" in ended.err


def test_missing_keras_tuner_names_the_extra(
    tmp_path: pathlib.Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("keras_resnet_train.tuning")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    ended = command("tune", *TINY, "--trials", 1, "--output", tmp_path / "s")
    assert ended.status == 1
    assert ended.err == (
        "Error: `keras-resnet tune` needs keras_tuner, which is not installed: "
        "pip install 'keras3-resnet[tune]'\n"
    )


RESOLVED: dict[str, Any] = {}


def resolve_once(config: RunConfig, spec: ResNetSpec) -> Any:
    """`resolve_data`, but each data set is opened once for all tests."""
    key = f"{config.data} {spec.name} {spec.input_size}"
    if key not in RESOLVED:
        RESOLVED[key] = resolve_data(config, spec)
    return RESOLVED[key]


def stub(
    monkeypatch: pytest.MonkeyPatch, accuracy: Callable[[RunConfig], float]
) -> list[RunConfig]:
    """Replaces training by a function of the configuration; returns the runs that were asked for.

    Nothing is built, so that there is no session to clear, which would take longer than all else.
    """
    asked: list[RunConfig] = []
    monkeypatch.setattr(plan, "resolve_data", resolve_once)
    monkeypatch.setattr(keras.backend, "clear_session", lambda: None)

    def trained(config: RunConfig, path: pathlib.Path, **_: Any) -> Any:
        asked.append(config)
        value = accuracy(config)
        found = {"accuracy": value, "accuracy_interval": [value, value], "loss": 1 - value}
        return types.SimpleNamespace(metrics={"validation": found, "training": {"seconds": 0.1}})

    monkeypatch.setattr(tuner, "run_training", trained)
    return asked


def searched(output: pathlib.Path, **options: Any) -> Any:
    """Searches about a tiny net; `budget` and `trials` end it, the other options are the plan's."""
    ends = {name: options.pop(name) for name in ("budget", "trials") if name in options}
    config = base(**{"data.image_size": 8, "model.spec.widths": [4, 8, 8]})
    plan_ = SearchPlan(**{"space": "recipe", "tuner": "random", "base": config, **options})
    return search.run_search(plan_, output, **ends)


def test_hyperband_promotes_with_more_epochs(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stub(monkeypatch, lambda config: 1 / (1 + config.schedule.learning_rate))
    searched(tmp_path, tuner="hyperband", epochs=3.0, trials=4)
    # First bracket of 3 epochs by factors of 3: three nets, then the best of them.
    assert [config.epochs for config in asked] == [1.0, 1.0, 1.0, 3.0]
    best = min(config.schedule.learning_rate for config in asked)
    assert asked[-1].schedule.learning_rate == best
    assert asked[-1].schedule.warmup_epochs == pytest.approx(2 * 3 / 40, rel=0.02)


def test_bayesian_begins_at_random_and_tries_nothing_twice(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stub(monkeypatch, lambda config: 1 / (1 + config.schedule.learning_rate))
    searched(tmp_path / "b", tuner="bayesian", trials=5, epochs=1.0)
    searched(tmp_path / "r", tuner="random", trials=5, epochs=1.0)
    told = [config.to_json() for config in asked]
    assert len(set(told[:5])) == 5
    assert told[:4] == told[5:9]  # three axes, four points
    assert told[4] != told[9]  # the Gaussian process


def test_only_what_may_be_trained_becomes_a_trial(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stub(monkeypatch, lambda config: 0.5)
    allowed = Limits(parameters=2600)
    config = base(**{"data.image_size": 8, "model.spec.widths": [4, 8, 8], "seed": 1})
    options = {"space": "residual", "base": config, "limits": allowed, "epochs": 3.0}
    searched(tmp_path, tuner="hyperband", trials=5, **options)
    book = CostBook(tmp_path / "costs.json", 10, (8, 8, 1), allowed)
    assert len(asked) == 5
    assert all(book.of(spec_of(trial)).parameters <= 2600 for trial in asked)
    reasons = [record.reason for record in SearchDirectory(tmp_path).rejected()]
    assert any("parameters, limit 2,600" in reason for reason in reasons), reasons


def test_a_gaussian_process_that_proposes_what_may_not_be_trained(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would propose it for ever: it learns from trials that ended only."""
    asked = stub(monkeypatch, lambda config: 1 / (1 + config.schedule.learning_rate))
    monkeypatch.setattr(
        candidate_filter.CandidateFilter,
        "_broken_limits",
        lambda _, values: "low" * (values.get("learning_rate", 1) < 0.03),
    )
    found = {}
    for name in ("random", "bayesian"):
        searched(tmp_path / name, tuner=name, trials=5, epochs=1.0)
        found[name] = [row.values for row in SearchDirectory(tmp_path / name).rejected()]
    assert len(asked) == 10
    assert all(config.schedule.learning_rate >= 0.03 for config in asked)
    # The lower the rate the better, and so the process proposes a lower one than is allowed.
    drawn = found["random"]
    assert found["bayesian"][: len(drawn)] == drawn
    (proposed,) = found["bayesian"][len(drawn) :]
    assert proposed["learning_rate"] < 0.03


def test_the_budget_counts_all_sessions(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(directory.time, "monotonic", lambda: now[0])

    def minute(_: RunConfig) -> float:
        now[0] += 60
        return 0.5

    asked = stub(monkeypatch, minute)
    assert searched(tmp_path, epochs=1.0, budget=90).seconds == 120  # the last one is finished
    assert len(asked) == 2
    now[0] = 1000.0
    assert searched(tmp_path, epochs=1.0, budget=90).seconds == 120
    assert len(asked) == 2
    assert searched(tmp_path, epochs=1.0, budget=150).seconds == 180
    assert len(asked) == 3
    with pytest.raises(ValueError, match="holds another search, which differs in epochs: 1.0 then"):
        searched(tmp_path, epochs=2.0, budget=300)


def test_a_small_space_ends_early(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stub(monkeypatch, lambda config: 0.5)
    found = searched(
        tmp_path, space="width", trials=30, epochs=1.0, limits=Limits(multiply_adds=40_000)
    )
    assert 1 < len(asked) < 8
    assert re.search("none of 200 further candidates was new and kept to the limits", found.note)


def test_failures_are_counted_and_end_a_search_that_only_fails(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: RunConfig) -> float:
        raise MemoryError("no room")

    stub(monkeypatch, fail)
    found = searched(tmp_path / "two", trials=2, epochs=1.0)
    assert statuses(tmp_path / "two") == {"0000": "FAILED", "0001": "FAILED"}
    gathered = results.collect(found)
    assert [row.record.status for row in gathered.trials] == ["failed", "failed"]
    assert gathered.trials[0].record.reason == "MemoryError: no room"
    with pytest.raises(RuntimeError, match="5 trials in a row failed.*MemoryError: no room"):
        searched(tmp_path / "many", trials=9, epochs=1.0)

    def full(config: RunConfig) -> float:
        raise OSError(28, "The disk is full")

    stub(monkeypatch, full)
    with pytest.raises(RuntimeError, match="The disk is full"):
        searched(tmp_path / "full", trials=9, epochs=1.0)
    assert statuses(tmp_path / "full") == {"0000": "RUNNING"}
    asked = stub(monkeypatch, lambda config: 0.5)
    searched(tmp_path / "full", trials=1, epochs=1.0)
    assert len(asked) == 1
    assert statuses(tmp_path / "full") == {"0000": "COMPLETED"}


def test_a_trial_that_never_began_is_drawn_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the trial's file and before the oracle's."""
    asked = stub(monkeypatch, lambda config: 0.5)
    searched(tmp_path / "whole", trials=2, epochs=1.0)
    searched(tmp_path / "cut", trials=1, epochs=1.0)
    orphan = tmp_path / "cut" / "tuner" / "trial_0001" / "trial.json"
    orphan.parent.mkdir()
    text = (tmp_path / "cut" / "tuner" / "trial_0000" / "trial.json").read_text()
    trial = {**json.loads(text), "trial_id": "0001", "status": "RUNNING"}
    orphan.write_text(json.dumps(trial))
    searched(tmp_path / "cut", trials=2, epochs=1.0)
    assert [config.to_json() for config in asked[:2]] == [config.to_json() for config in asked[2:]]
    (tmp_path / "cut" / "tuner" / "oracle.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged: JSONDecodeError"):
        searched(tmp_path / "cut", trials=3, epochs=1.0)


def test_the_front_holds_what_nothing_beats() -> None:
    def row(name: str, accuracy: float, multiply_adds: int) -> results.CandidateResult:
        record = TrialRecord(name, {}, "finished", accuracy=accuracy)
        return results.CandidateResult(record, "", Cost(1, multiply_adds, 10.0 / multiply_adds))

    rows_ = [row("a", 0.9, 10), row("b", 0.8, 10), row("c", 0.8, 5), row("d", 0.9, 20)]
    assert [r.record.id for r in results.pareto(rows_, by_latency=False)] == ["c", "a"]
    assert [r.record.id for r in results.pareto(rows_, by_latency=True)] == ["d"]


def test_findings_say_how_sure_they_are(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(config: RunConfig) -> float:
        return 0.7 + 0.02 * config.model.spec["widths"][0] - 0.01 * sum(config.model.spec["depths"])

    stub(monkeypatch, trained)
    found = searched(tmp_path, space="width", trials=4, epochs=1.0)
    said = " ".join(report.sentences(found, results.collect(found)))
    assert "Trial 0001 has the highest accuracy: 83.00" in said
    assert "(width=2.0)" in said
    assert "The base, trial 0000, has 75.00" in said
    assert "include its accuracy" not in said

    def vaguer(row: results.CandidateResult) -> results.CandidateResult:
        record = dataclasses.replace(row.record, interval=(0.5, 1.0))
        return dataclasses.replace(row, record=record)

    gathered = results.collect(found)
    vague = dataclasses.replace(gathered, trials=tuple(map(vaguer, gathered.trials)))
    said = " ".join(report.sentences(found, vague))
    assert "The intervals of 3 of the 3 other finished trials include its accuracy" in said
    assert re.search(r"The cheapest of them, trial 0002, needs [\d.]+ % of its multiply-adds", said)

    def measured(row: results.CandidateResult) -> results.CandidateResult:
        cost = row.cost and dataclasses.replace(row.cost, latency_ms=row.cost.multiply_adds / 1e6)
        return dataclasses.replace(row, cost=cost)

    timed = tuple(map(measured, gathered.trials))
    best = dataclasses.replace(timed[0], changes="the base")
    lost = dataclasses.replace(
        timed[1].record, status="failed", accuracy=None, reason="9 parameters, limit 8"
    )
    trials = (best, *timed[2:], dataclasses.replace(timed[1], record=lost))
    told = report.findings(found, results.SearchResults(trials, trials[-1:], by_latency=True))
    assert "It is the base itself: the search found nothing better." in told.words
    assert "Trials without an accuracy: 1 failed." in told.words
    assert told.plots[0].xlabel == "latency (ms per image; LiteRT, 1 thread)"
    assert "Latency" in told.tables[0].columns
    assert told.tables[1].caption == "Rejected before training: 1 of 1 candidates"
    bounds = dataclasses.replace(found.prepared.plan, limits=Limits(100, 2000, 1.5, "int8"))
    prepared = dataclasses.replace(found.prepared, plan=bounds)
    assert report.limits_text(prepared) == (
        "100 parameters, 2,000 multiply-adds, 1.5 ms (int8 LiteRT, 1 thread)"
    )


def test_a_search_stopped_in_a_trial_goes_on(
    tmp_path: pathlib.Path,
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "search"
    words = ("tune", *TINY, "--tuner", "random", "--epochs", 2, "--max-parameters", "3k")

    class Terminate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 0:
                signal.raise_signal(signal.SIGTERM)

    def terminated(config: RunConfig, path: pathlib.Path, **_: Any) -> Any:
        return run_training(config, path, callbacks=[Terminate()])

    with monkeypatch.context() as patch:
        patch.setattr(tuner, "run_training", terminated)
        ended = command(*words, "--trials", 1, "--output", output)
    assert ended.status == 130
    assert "Stopped by SIGTERM at step 20" in ended.err
    assert statuses(output) == {"0000": "RUNNING"}
    assert [row["status"] for row in rows(output) if row["id"]] == ["unfinished"]

    ended = command(*words, "--trials", 2, "--output", output)
    assert ended.status == 0, ended.err
    assert "Resuming at step 20 of 39" in ended.out
    assert statuses(output) == {"0000": "COMPLETED", "0001": "COMPLETED"}
    _check_results(output, ended.out)

    parser = argparse.ArgumentParser()
    TRAIN.add_arguments(parser)
    words = ("--config", output / "best.json", "--output", tmp_path / "best")
    best = configuration(parser.parse_args([str(word) for word in words]))
    assert (best.epochs, best.schedule.warmup_epochs, best.recipe) == (40, 2, "digits")
    assert best == load_config(output / "best.json")
    first = json.loads((output / "trials.json").read_text())["trials"][0]
    trained = load_config(output / "trials" / first["id"] / "config.json")
    assert (best.model, best.optimizer) == (trained.model, trained.optimizer)


def _check_results(output: pathlib.Path, said: str) -> None:
    table = rows(output)
    trials = [row for row in table if row["status"] == "finished"]
    rejected = [row for row in table if row["status"] == "rejected"]
    assert len(trials) == 2
    assert trials[0]["val_accuracy"] >= trials[1]["val_accuracy"]
    assert all(int(row["parameters"]) <= 3000 for row in trials)
    assert all("limit 3,000" in row["reason"] or "no such net" in row["reason"] for row in rejected)
    assert any(row["what"] == "the base" for row in trials)
    for row in trials:
        run = json.loads((output / "trials" / row["id"] / "metrics.json").read_text())
        assert float(row["val_accuracy"]) == run["validation"]["accuracy"]
        assert not (output / "trials" / row["id"] / "checkpoints").exists()
    kept = json.loads((output / "trials.json").read_text(), parse_constant=pytest.fail)
    assert [row["id"] for row in kept["trials"]] == [row["id"] for row in table]
    page = (output / "report.html").read_text()
    assert "<svg role=" in page
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", page)
    assert f"Trial {trials[0]['id']} has the highest accuracy" in page
    assert f"Trial {trials[0]['id']} has the highest accuracy" in said
    assert (output / "pareto.svg").read_text().rstrip().endswith("</svg>")


def test_a_search_whose_trials_all_diverge(
    tmp_path: pathlib.Path, command: Callable[..., Any]
) -> None:
    output = tmp_path / "search"
    words = ("--space", "recipe", "--tuner", "random", "--steps", 5, "--trials", 2)
    ended = command("tune", *TINY, *words, "--learning-rate", 1e30, "--output", output)
    assert ended.status == 1
    assert re.search("All 2 trials failed.*Trial 0000 diverged: The loss became", ended.err)
    assert [(row["status"], row["val_loss"]) for row in rows(output)] == [("diverged", "inf")] * 2
    assert not (output / "best.json").exists()


@pytest.mark.slow
@pytest.mark.multi_process
def test_a_chief_gives_trials_to_workers(
    tmp_path: pathlib.Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("--space", "recipe", "--tuner", "random", "--trials", 1, "--steps", 3)
    line = (*TINY, *words, "--output", tmp_path / "search")
    for name, value in {
        "KERAS_BACKEND": "tensorflow",
        "KERASTUNER_TUNER_ID": "worker0",
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
    }.items():
        monkeypatch.setenv(name, value)
    program = [sys.executable, "-m", "keras_resnet_train.cli", "tune", *map(str, line)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(program, **pipes) as worker:
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")  # which is this process
        chief = command("tune", *line)
        told, said = worker.communicate()[0], chief.out
    assert (worker.returncode, chief.status) == (0, 0), f"{told}\n{said}\n{chief.err}"
    assert re.search(r"Trial 0000 at \d+ s, 3 steps: the base", told)
    assert "the chief writes the results" in told
    assert "Trial 0000 has the highest accuracy" in said
    assert statuses(tmp_path / "search") == {"0000": "COMPLETED"}


def test_workers_need_the_whole_of_the_environment(
    tmp_path: pathlib.Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    ended = command("tune", *TINY, "--trials", 1, "--output", tmp_path / "s")
    assert ended.status == 1
    assert "Several workers need KERASTUNER_TUNER_ID" in ended.err
    assert "Missing: KERASTUNER_TUNER_ID" in ended.err
