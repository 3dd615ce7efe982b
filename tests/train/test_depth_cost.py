"""`study depth-cost`, and the measurement in its child process."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from keras_resnet_train.presentation.findings import Findings
from keras_resnet_train.studies import depth_cost, probe
from keras_resnet_train.studies.cost import CostQuery

Command = Callable[..., Any]


def _cost(query: CostQuery, limit: float, cache: pathlib.Path) -> dict[str, float]:
    depth = int(query.model.removeprefix("cifar_resnet"))
    if depth >= 56 and not query.stacked:
        return {"build_seconds": depth / 100, "stopped_after": limit}
    return {
        "build_seconds": 0.5 if query.stacked else depth / 100,
        "first_step_seconds": 4.0 if query.stacked else depth / 10,
        "step_seconds": depth / 1e3,
        "peak_bytes": 2e9,
        "training_bytes": 1e9,
    }


def test_depth_cost(
    command: Command, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Findings] = []

    def publish(output: pathlib.Path, findings: Findings) -> int:
        published.append(findings)
        return 0

    monkeypatch.setattr(depth_cost, "measure_cost", _cost)
    monkeypatch.setattr(depth_cost, "publish", publish)
    ended = command(
        "study", "depth-cost", "--depths", "14,56,110", "--limit", 7, "--output", tmp_path / "out"
    )
    assert (ended.status, ended.err) == (0, "")
    assert "[2/3] cifar_resnet56, unrolled" in ended.out
    assert "cifar_resnet110, unrolled" not in ended.out  # 56 reached the limit
    (findings,) = published
    (table,) = findings.tables
    rows = {row[:2]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert len(rows) == 6
    assert rows["110", "stacked"]["Step per layer (ms)"] == pytest.approx(1.0)
    assert rows["110", "stacked"]["Trace (s)"] == pytest.approx(4.0 - 0.11)
    assert rows["56", "unrolled"]["Note"] == "stopped after 7 s"
    assert rows["56", "unrolled"]["Build (s)"] == 0.56
    assert rows["110", "unrolled"]["Note"] == "not measured: a shallower net reached the limit"
    assert (
        "Stacked, build: 1 times as much at 110 layers as at 14 (depth times 7.86): times 1.00 per "
        "doubling of depth."
    ) in findings.words
    assert (
        "Unrolled, build: 4 times as much at 56 layers as at 14 (depth times 4): times 2.00 per "
        "doubling of depth."
    ) in findings.words
    assert (
        "Unrolled, limit reached or not measured: 56, 110 layers. The table has the parts measured "
        "until then."
    ) in findings.words
    plot = next(plot for plot in findings.plots if plot.name == "first-step-seconds")
    assert (plot.ticks, [line.label for line in plot.lines]) == (
        (14, 56, 110),
        ["stacked", "unrolled"],
    )
    assert plot.lines[0].y == [4.0, 4.0, 4.0]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--depths", "20,x"), "`--depths` takes numbers of layers"),
        (("--depths", "21"), "'cifar_resnet21' has no such depth"),
        (("--steps", 0), "`--steps` must be above 0"),
    ],
)
def test_depth_cost_bad_options(
    option: tuple[Any, ...], message: str, command: Command, tmp_path: pathlib.Path
) -> None:
    ended = command("study", "depth-cost", *option, "--output", tmp_path / "out")
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_probe_of_a_stacked_net(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The child process's program, in this process."""
    widths = {"widths": [4, 8, 8]}
    query = CostQuery("cifar_resnet14", widths, batch_size=2, size=8, steps=1, stacked=True)
    monkeypatch.setattr("sys.argv", ["probe", json.dumps(dataclasses.asdict(query))])
    probe.main()
    cost: dict[str, float] = {}
    for line in capsys.readouterr().out.splitlines():
        cost |= json.loads(line)
    assert 0 < cost["step_seconds"] < cost["first_step_seconds"]
    assert cost["build_seconds"] > 0
    assert cost["peak_bytes"] > 0
    assert "training_bytes" in cost
