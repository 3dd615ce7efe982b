"""Counts of operations, layers and bytes, and the command `python -m benchmarks counts`."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from benchmarks import counts
from benchmarks.__main__ import main
from keras_resnet.analysis import count_spec

ROOT = pathlib.Path(__file__).parents[2]


def test_counts_of_a_net_with_files() -> None:
    found = counts.count_net(counts.Net("mlperf_tiny_resnet8", files=True))
    spec = count_spec("mlperf_tiny_resnet8")
    assert found["parameters"] == spec.parameters
    assert found["training_operations"] > found["inference_operations"] > 100
    assert found["float32"]["operators"]["CONV_2D"] == 9
    assert found["float32"]["bytes"] > 4 * found["parameters"]
    assert found["int8"]["bytes"] < 0.5 * found["float32"]["bytes"]


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    """A file for two nets whose counts are given."""
    nets = {name: counts.Net(f"cifar_resnet{name}") for name in ("8", "14")}
    monkeypatch.setattr(counts, "NETS", nets)
    monkeypatch.setattr(counts, "count_net", lambda net: {"layers": len(net.name)})
    return tmp_path / "counts.json"


def test_recorded_counts_are_checked(
    file: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["counts", "--file", str(file)]) == 1
    assert f"Error: {file} does not exist. Record the counts first" in capsys.readouterr().err
    # Recording one net leaves the others.
    assert main(["counts", "8", "--record", "--file", str(file)]) == 0
    assert json.loads(file.read_text())["nets"] == {"8": {"layers": 13}}
    capsys.readouterr()
    assert main(["counts", "--file", str(file)]) == 1
    assert "14: not recorded" in capsys.readouterr().err
    assert main(["counts", "14", "--record", "--file", str(file)]) == 0
    assert json.loads(file.read_text())["nets"].keys() == {"8", "14"}
    assert main(["counts", "--file", str(file)]) == 0
    assert f"As recorded in {file}" in capsys.readouterr().out
    monkeypatch.setattr(counts, "count_net", lambda net: {"layers": 14})
    assert main(["counts", "8", "--file", str(file)]) == 1
    error = capsys.readouterr().err
    assert "8: layers rose from 13 to 14. If this is intended or an improvement" in error
    assert "record it: python -m benchmarks counts --record" in error


def test_other_versions_are_named(file: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    versions = {"keras": "1.0", "tensorflow": "1.0"}
    file.write_text(json.dumps({"versions": versions, "nets": {}}))
    assert main(["counts", "8", "--file", str(file)]) == 1
    error = capsys.readouterr().err
    assert "8: not recorded" in error
    assert "Recorded with other versions: keras 1.0 then" in error
    file.write_text("[]")
    assert main(["counts", "8", "--file", str(file)]) == 1
    assert "does not contain counts" in capsys.readouterr().err


def test_differences_from_recorded_counts() -> None:
    lite: dict[str, Any] = {"bytes": 1000, "operators": {"ADD": 3}}
    recorded = {"net": {"layers": 10, "parameters": 5, "int8": lite}}
    lite = {"bytes": 1010, "operators": {"ADD": 3, "PAD": 1}}
    found = {"net": {"layers": 9, "parameters": 4, "int8": lite}}
    assert counts.compare(recorded, recorded) == []
    assert counts.compare(recorded, found) == [
        "net: int8.operators.PAD rose from 0 to 1",
        "net: layers fell from 10 to 9",
        "net: parameters changed from 5 to 4",
    ]
    lite["bytes"] = 1011
    assert "net: int8.bytes rose from 1,000 to 1,011" in counts.compare(recorded, found)
    assert counts.compare({}, {"net": {}}) == ["net: not recorded"]


def test_recorded_counts_have_the_pinned_versions() -> None:
    recorded = json.loads(counts.RECORD.read_text())
    assert recorded["nets"].keys() == counts.NETS.keys()
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert recorded["versions"] == {name: pins[name] for name in ("keras", "tensorflow")}
