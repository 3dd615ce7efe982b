"""Interleaved measurements in worker processes."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.comparison import rounds
from benchmarks.comparison.rounds import Contender, run_rounds
from benchmarks.comparison.workload import Workload

# Contenders of these tests; they log who computed when.
STUBS = """
import os, sys, time
from benchmarks.comparison.workload import Runner

def log(workload, event):
    with open(workload.folder + "/log", "a") as file:
        file.write(f"{workload.net} {event} {os.getpid()}\\n")

def steady(workload, timer):
    with timer("import"):
        pass
    with timer("build"):
        time.sleep(0.02)
    print("output of a library")
    def run(units):
        log(workload, f"begins {units}")
        time.sleep(0.02)
        log(workload, "ends")
    return Runner(run, 1000)

def own_time(workload, timer):
    return Runner(lambda units: {"save": 0.5 * units, "load": 0.25 * units})

def greedy(workload, timer):
    with timer("import"):
        pass
    def run(units):
        bytearray(200_000_000)
    return Runner(run)

def incomplete(workload, timer):
    import a_module_that_does_not_exist

def fails_later(workload, timer):
    def run(units):
        raise ValueError("bad luck\\nsecond line")
    return Runner(run)

def dies(workload, timer):
    print("the last line", file=sys.stderr)
    sys.stderr.flush()
    os._exit(3)

def hangs(workload, timer):
    time.sleep(600)
"""


@pytest.fixture
def stub(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Contender]:
    """Returns contenders of the stubs, which log into `tmp_path`."""
    (tmp_path / "bench_stubs.py").write_text(STUBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(rounds, "PAUSE", 0.0)

    def contender(name: str, factory: str = "steady", **fields: Any) -> Contender:
        workload = Workload(name, (1, 1, 1), True, 32, 2, 10, 1, str(tmp_path))
        return Contender("stub", name, f"bench_stubs:{factory}", workload, **fields)

    return contender


def logged(folder: pathlib.Path) -> list[list[str]]:
    return [line.split() for line in (folder / "log").read_text().splitlines()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.multi_process
def test_rounds(stub: Callable[..., Contender], tmp_path: pathlib.Path) -> None:
    contenders = [
        stub("a"),
        stub("b"),
        stub("fresh", fresh=True),
        stub("own time", "own_time"),
        stub("greedy", "greedy"),
        stub("known", problem="its file could not be written"),
        stub("incomplete", "incomplete"),
        stub("fails", "fails_later"),
        stub("dies", "dies"),
        stub("hangs", "hangs"),
    ]
    log: list[str] = []
    measurements = run_rounds(contenders, rounds=2, units=3, limit=2.5, log=log.append)
    a, b, fresh, own_time, greedy, *failed = measurements

    # Contenders that fail have a note; the others go on.
    assert [done.note for done in failed] == [
        "its file could not be written",
        "not installed: a_module_that_does_not_exist",
        "ValueError: bad luck",
        "ended with status 3: the last line",
        "stopped after 2.5 s",
    ]
    assert not any(done.rounds for done in failed)
    assert "  stub, fails: ValueError: bad luck" in log

    # One at a time, in the same order each round, in processes of their own that have ended.
    lines = logged(tmp_path)
    one_round = [[name, *event] for name in "ab" for event in (["begins", "3"], ["ends"])]
    assert [line[:-1] for line in lines] == 3 * one_round  # the warm-up and two rounds
    pids = {name: {int(line[-1]) for line in lines if line[0] == name} for name in "ab"}
    assert len(pids["a"]) == len(pids["b"]) == len(pids["a"] ^ pids["b"]) - 1 == 1
    assert not any(map(alive, pids["a"] | pids["b"]))
    for done in (a, b):
        assert (done.note, done.multiply_adds, len(done.rounds)) == ("", 1000, 2)
        assert all(0.02 <= seconds[""] < 5 for seconds in done.rounds)

    # A fresh contender is only set up; the phases of the set-up are its parts.
    assert [seconds.keys() for seconds in fresh.rounds] == [{"import", "build"}] * 2
    assert all(seconds["build"] >= 0.02 for seconds in fresh.rounds)
    assert own_time.rounds == [{"save": 1.5, "load": 0.75}] * 2

    # Peak memory excludes the imports and, unlike `ru_maxrss`, the parent (TensorFlow is loaded).
    assert a.peak_bytes is not None
    assert a.peak_bytes < 20e6
    assert greedy.peak_bytes is not None
    assert 180e6 < greedy.peak_bytes < 260e6


@pytest.mark.multi_process
def test_an_interrupt_ends_every_worker(
    stub: Callable[..., Contender], tmp_path: pathlib.Path
) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("  round 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rounds([stub("a"), stub("b")], rounds=2, units=1, limit=30.0, log=interrupt)
    pids = {int(line[-1]) for line in logged(tmp_path)}
    assert len(pids) == 2
    assert not any(map(alive, pids))
