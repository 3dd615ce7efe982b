"""The commands `runs` and `compare`."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable

import pytest

from keras_resnet_train.cli import main
from keras_resnet_train.config import RunConfig
from keras_resnet_train.rundir import RunDirectory
from keras_resnet_train.runs import age_text, find_runs, names_of, run_state

pytestmark = pytest.mark.tf


@pytest.fixture
def runs(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, tiny: Callable[..., RunConfig]
) -> pathlib.Path:
    """A folder with a finished run, one that was stopped, one that has just begun."""
    folder = tmp_path / "runs"
    shutil.copytree(finished_run, folder / "a" / "done")
    stopped = folder / "b"
    shutil.copytree(finished_run, stopped)
    (stopped / "model.keras").unlink()
    (stopped / "metrics.json").unlink()
    header, *rows = (stopped / "history.csv").read_text().splitlines()
    (stopped / "history.csv").write_text("\n".join([header, *rows[:1]]) + "\n")
    (folder / "new").mkdir()
    (folder / "new" / "config.json").write_text(tiny(seed=7).to_json())
    return folder


def test_a_list_of_runs(runs: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_runs(runs) == [runs / "a" / "done", runs / "b", runs / "new"]
    done, stopped, new = map(run_state, find_runs(runs))
    expected = RunDirectory(runs / "a" / "done").metrics["test"]["accuracy"]
    assert (done.state, done.step, done.steps) == ("finished", 40, 40)
    assert (done.accuracy, done.measured) == (expected, "test")
    assert (stopped.state, stopped.step) == ("stopped", 40)  # its checkpoint is newer
    assert "last epoch" in stopped.measured
    assert (new.state, new.step, new.accuracy) == ("stopped", 0, None)
    assert new.age < 600

    with RunDirectory(runs / "b").locked():
        assert run_state(runs / "b").state == "training"
    (runs / "b" / "history.csv").write_text("epoch,step\n1,x\n")
    (runs / "b" / "metrics.json").write_text("{")
    assert run_state(runs / "b").state == "damaged: metrics.json, history.csv"

    assert main(["runs", str(runs)]) == 0
    said = capsys.readouterr().out
    assert "finished" in said
    assert "40 of 40" in said
    assert main(["runs", str(runs), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["state"] for entry in listed][::2] == ["finished", "stopped"]
    (runs / "empty").mkdir()
    assert main(["runs", str(runs / "empty")]) == 0
    assert "No runs in" in capsys.readouterr().out
    assert main(["runs", str(runs / "nowhere")]) == 1
    assert "No folder at" in capsys.readouterr().err


def test_curves_of_several_runs(
    runs: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, paths = tmp_path / "page.html", [str(path) for path in find_runs(runs)]
    assert main(["compare", *paths, "--output", str(page)]) == 0
    assert "Note: new has no curves: no epoch has ended yet" in capsys.readouterr().out
    html = page.read_text()
    assert html.count("<svg") >= 3
    for word in ("done", "Training loss", "finished", "stopped", '<th scope="row">seed</th>'):
        assert word in html, word
    for wrong, message in (
        ([paths[0]], "`compare` needs two runs or more. Received: 1"),
        ([paths[0], paths[0]], "Received: 1"),
        ([paths[0], str(tmp_path)], "is not a run"),
    ):
        assert main(["compare", *wrong, "--output", str(page)]) == 1
        assert message in capsys.readouterr().err


def test_names_and_ages() -> None:
    paths = [pathlib.Path("/runs/a/x"), pathlib.Path("/runs/b/x")]
    assert names_of(paths) == ["a/x", "b/x"]
    assert [age_text(seconds) for seconds in (5, 120, 7200, 200_000)] == [
        "5 s",
        "2 min",
        "2 h",
        "2 d",
    ]
