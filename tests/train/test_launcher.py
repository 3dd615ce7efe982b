"""The launcher with small programs as workers, and the cluster of a SLURM job step."""

from __future__ import annotations

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from keras_resnet_train import launcher as module
from keras_resnet_train.cli import main
from keras_resnet_train.commands.launch import worker_words
from keras_resnet_train.launcher import Launcher, joint_status, may_restart
from keras_resnet_train.local_cluster import divide_gpus, visible_gpus
from keras_resnet_train.slurm import host_names, slurm_config, tasks_per_node

pytestmark = pytest.mark.multi_process

# A worker that counts its starts in a file and does what the test says.
WORKER = """
import json, os, pathlib, signal, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
starts = pathlib.Path(sys.argv[1], f"starts{index}")
start = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (start + 1))
print("start", start, *sys.argv[3:])
sys.stdout.flush()
ready = pathlib.Path(sys.argv[1], f"ready{index}").touch
exec(sys.argv[2])
"""


@pytest.fixture
def launch(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple]:
    """Runs two workers: `launch("sys.exit(1)", max_restarts=2)` is status and lines.

    With `notice` one that still runs when the other has ended is killed after that time. With
    `stop` the launcher gets SIGTERM once both workers have called `ready()`.
    """
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def stop_when_ready() -> None:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("ready*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    def run(
        code: str, *, stop: bool = False, notice: float = 60, **options: object
    ) -> tuple[int, list[str]]:
        monkeypatch.setattr(module, "_NOTICE", notice)
        for path in tmp_path.glob("ready*"):
            path.unlink()
        said = io.StringIO()
        command = [sys.executable, "-S", "-c", WORKER, str(tmp_path), code]
        launcher = Launcher(command, 2, stream=said, words_again=("again",), **options)
        if stop:
            threading.Thread(target=stop_when_ready).start()
        status = launcher.run()
        assert all(process.poll() is not None for process in launcher.processes)
        return status, said.getvalue().splitlines()

    return run


def test_workers_that_end_well(launch: Callable[..., tuple]) -> None:
    status, lines = launch("print(os.environ['TF_CONFIG'])")
    assert status == 0
    described = [line.partition("] ")[2] for line in lines if "cluster" in line]
    first, second = sorted((json.loads(line) for line in described), key=str)
    assert first["cluster"] == second["cluster"]
    assert len(set(first["cluster"]["worker"])) == 2
    assert (first["task"]["index"], second["task"]["index"]) == (0, 1)
    assert sorted(line for line in lines if "start" in line) == [
        "[worker 0] start 0",
        "[worker 1] start 0",
    ]


def test_all_workers_start_again_when_one_is_lost(launch: Callable[..., tuple]) -> None:
    killed = "start or (os.kill(os.getpid(), 9) if index else time.sleep(60))"
    status, lines = launch(killed, notice=0.3)
    assert status == 0
    assert any(
        line == "[launch] worker 1 was ended by SIGKILL; starting all workers again from the last "
        "checkpoint (restart 1 of 3)"
        for line in lines
    ), lines
    assert "[launch] killing worker 0, which did not end" in lines
    assert {"[worker 0] start 1 again", "[worker 1] start 1 again"} <= set(lines)


def test_restarts_end(launch: Callable[..., tuple]) -> None:
    status, lines = launch("sys.exit(138)", max_restarts=1)
    assert status == 138
    assert sum(" start " in line for line in lines) == 4
    assert any("ended with status 138; no restart is left of 1" in line for line in lines)


@pytest.mark.parametrize(
    ("other", "notice"), [("sys.exit(138)", 60.0), ("time.sleep(60)", 0.3)], ids=["lost", "hangs"]
)
def test_a_permanent_status_is_not_tried_again(
    launch: Callable[..., tuple], other: str, notice: float
) -> None:
    """Whatever the other worker does: here it says that it lost one, or hangs and is killed."""
    code = f"""
while index == 1 and not starts.with_name("starts0").exists():
    time.sleep(0.01)
{other} if index == 0 else sys.exit(1)
"""
    status, lines = launch(code, notice=notice)
    assert status == 1
    assert sum(" start " in line for line in lines) == 2


def test_a_signal_is_passed_on(launch: Callable[..., tuple]) -> None:
    """Workers that end by it, and workers that ignore it."""
    handled = "signal.signal(15, lambda *_: sys.exit(130)); ready(); time.sleep(60)"
    status, lines = launch(handled, stop=True)
    assert status == 130
    assert "[launch] SIGTERM: passing it on to the workers" in lines
    ignored = "signal.signal(15, signal.SIG_IGN); ready(); time.sleep(60)"
    started = time.monotonic()
    status, lines = launch(ignored, stop=True, grace=0.3)
    assert status == 130
    assert "[launch] killing worker 0, 1, which did not end" in lines
    assert time.monotonic() - started < 30


def test_a_worker_ends_with_its_launcher() -> None:
    code = "from keras_resnet_train.launched import _end_without; _end_without({})"
    for parent, expected in ((999_999_999, 137), (os.getpid(), None)):
        process = subprocess.Popen([sys.executable, "-c", code.format(parent)])
        try:
            status = process.wait(20 if expected else 2)
        except subprocess.TimeoutExpired:
            status = None
        process.kill()
        process.wait()
        assert status == expected


def test_a_failed_worker_does_not_wait_at_its_exit() -> None:
    code = (
        "import threading, time\n"
        "from keras_resnet_train.cli import end_failed_worker\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"  # the exit waits for it
        "end_failed_worker(0)\n"
        "print('said')\n"
        "end_failed_worker(138)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_CONFIG": "{}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (138, "said\n")


def test_output_that_cannot_be_written(launch: Callable[..., tuple]) -> None:
    """Workers never wait for a reader: unknown characters are replaced, long lines cut."""
    status, lines = launch("sys.stdout.buffer.write(b'a' * 200_000 + b'\\xff\\n')")
    assert status == 0
    assert sum(line.count("a") for line in lines if "] aaa" in line) == 2 * 200_000
    closed = io.StringIO()
    closed.close()
    command = [sys.executable, "-S", "-c", "print('x' * 200_000)"]
    assert Launcher(command, 1, stream=closed).run() == 0


def test_statuses() -> None:
    assert joint_status([0, 0], stopped=False) == 0
    assert joint_status([0, 0], stopped=True) == 0
    assert joint_status([138, -9], stopped=False) == 138
    assert joint_status([-9, 138], stopped=False) == 137
    assert joint_status([138, 3], stopped=False) == 3
    assert joint_status([130, -9], stopped=True) == 130
    assert joint_status([130, 1], stopped=True) == 1
    # What a worker says about another one that was killed does not count.
    assert may_restart([1, -9])
    assert may_restart([138, 130, 0])
    assert not any(may_restart([138, status]) for status in (1, 2, 3))


def test_gpus_are_divided() -> None:
    assert divide_gpus([], 2) is None
    assert divide_gpus(["0", "1", "2", "3"], 2) == ["0,1", "2,3"]
    with pytest.raises(ValueError, match="`--workers` must divide the 1 GPU.* Received: 2"):
        divide_gpus(["0"], 2)
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "4,GPU-a"}) == ["4", "GPU-a"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--output", "run"]
    expected = [*words, "--strategy", "multi-worker"]
    assert worker_words(["--", *words]) == worker_words(words) == expected
    for wrong, message in (
        (["--workers", "2"], "Received: no command"),
        (["--workers", "2", "--", "evaluate", "run"], "Received: evaluate run"),
        (["--workers", "0", "--", "train"], "`--workers` must be at least 1. Received: 0"),
        (["--workers", "2", "--", "train", "--strategy=cpu:2"], "Received: 'cpu:2'"),
        (["--workers", "2", "--", "train", "--folds", "3"], "`--folds`"),
    ):
        assert main(["launch", *wrong]) == 1
        assert message in capsys.readouterr().err


def test_hosts_of_a_slurm_list() -> None:
    assert host_names("n1") == ["n1"]
    assert host_names("gpu[08-10,12],m1") == ["gpu08", "gpu09", "gpu10", "gpu12", "m1"]
    assert host_names("r[1-2]n[01-02]-ib") == ["r1n01-ib", "r1n02-ib", "r2n01-ib", "r2n02-ib"]
    for wrong in ("n[1-", "n[]", "n[a-b]", "n;rm", "n[1-999999999]"):
        with pytest.raises(ValueError, match="list of hosts"):
            host_names(wrong)
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    with pytest.raises(ValueError, match="Tasks per node"):
        tasks_per_node("2(3)")


def test_the_cluster_of_a_slurm_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_resnet_train.strategies import is_chief, tf_config

    step = {
        "SLURM_JOB_ID": "7",
        "SLURM_PROCID": "2",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1",
        "SLURM_STEP_NUM_TASKS": "3",
    }
    expected = {
        "cluster": {"worker": ["n1:20112", "n1:20113", "n2:20112"]},
        "task": {"type": "worker", "index": 2},
    }
    assert slurm_config(step) == expected
    for name, value in step.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert tf_config() == expected
    assert not is_chief("multi-worker")
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1"]}}')
    assert tf_config() == {"cluster": {"worker": ["a:1"]}}
    with pytest.raises(ValueError, match="has no SLURM_PROCID: start it with srun"):
        slurm_config({**step, "SLURM_PROCID": ""})
    with pytest.raises(ValueError, match="2 hosts and the tasks of 1"):
        slurm_config({**step, "SLURM_STEP_TASKS_PER_NODE": "3"})
