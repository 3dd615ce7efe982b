"""Agreement between workers, and what a worker says and does while it waits for others."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import pathlib
import re
import shutil
import signal
import socket
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec, get_spec
from keras_resnet_train import agreement, preparation, session, workers
from keras_resnet_train.agreement import Agreement
from keras_resnet_train.config import DataConfig, RunConfig
from keras_resnet_train.console import Console
from keras_resnet_train.data import load_data
from keras_resnet_train.epoch_evaluation import EpochEvaluation
from keras_resnet_train.errors import PeerLostError
from keras_resnet_train.learner import Learner
from keras_resnet_train.replica_statistics import ReplicaStatistics
from keras_resnet_train.rundir import RunDirectory
from keras_resnet_train.steps import TrainingSteps
from keras_resnet_train.workers import Peer, Watch, describe_missing, naming_lost_peers, peers

pytestmark = pytest.mark.tf


class Together:
    """Two workers in threads; each gets the largest of what both give."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2)
        self._given: dict[int, Sequence[int]] = {}

    def largest(self, index: int) -> Callable[[Sequence[int]], Sequence[int]]:
        def largest(values: Sequence[int]) -> Sequence[int]:
            self._given[index] = values
            self._barrier.wait(5)
            found = [max(pair) for pair in zip(*self._given.values(), strict=True)]
            self._barrier.wait(5)
            return found

        return largest

    def run(self, *works: Callable[[Agreement], None]) -> list[str]:
        """Runs one function per worker; returns the errors, "" for none."""
        errors = [""] * len(works)

        def work(index: int) -> None:
            try:
                works[index](Agreement(self.largest(index), index))
            except (ValueError, RuntimeError) as error:
                errors[index] = f"{type(error).__name__}: {error}"

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(works))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return errors


def test_settings_that_differ_are_named_on_all_workers() -> None:
    def check(rate: float, **more: int) -> Callable[[Agreement], None]:
        return lambda team: team.check_equal({"rate": rate, "seed": 1, **more}, "settings")

    assert Together().run(check(0.1), check(0.1)) == ["", ""]
    assert Together().run(check(0.1), check(0.2)) == [
        f"ValueError: The workers have different settings: rate (here {rate}). Start the same "
        "command on all of them"
        for rate in (0.1, 0.2)
    ]
    for error in Together().run(check(0.1), check(0.1, newer=1)):
        assert "settings of different names: start the same version" in error
    Agreement().check_equal({"rate": 0.1}, "settings")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"seed": 2}, "seed"),
        ({"batch_size": 32}, "batch_size"),
        ({"steps": 9, "epochs": None}, "steps"),
        ({"model__name": "cifar_resnet20"}, "model.name"),
        ({"model__spec__widths": [4]}, "model.spec"),
        ({"optimizer__name": "lamb"}, "optimizer.name"),
        ({"schedule__learning_rate": 0.3}, "schedule.learning_rate"),
        ({"data__image_size": 24}, "data.image_size"),
        ({"augment__policy": "rand"}, "augment.policy"),
        ({"runtime__precision": "mixed_bfloat16"}, "runtime.precision"),
        ({"checkpoint__every_steps": 3}, "checkpoint.every_steps"),
    ],
)
def test_any_setting_that_differs_is_named(
    changes: dict[str, Any], name: str, tiny: Callable[..., RunConfig]
) -> None:
    facts = [preparation.settings_of(config) for config in (tiny(), tiny(**changes))]
    works = [lambda team, own=own: team.check_equal(own, "settings") for own in facts]
    for error in Together().run(*works):
        assert re.match(
            rf"ValueError: The workers have different settings: .*\b{name} \(here", error
        )


def test_another_version_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(epochs=1)
    ours = preparation.settings_of(config)
    monkeypatch.setattr("keras.__version__", "3.0.0")
    other = preparation.settings_of(config)
    assert [name for name in ours if ours[name] != other[name]] == ["keras"]


def facts_of(root: pathlib.Path) -> dict[str, Any]:
    data = load_data(DataConfig(dataset=str(root)), get_spec("cifar_resnet8"))
    weights = types.SimpleNamespace(files=({"path": "w.h5", "sha256": root.name[:2]},))
    return preparation.content_of(data, PreprocessSpec((4, 4)), weights)


def test_data_that_differs_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies at other places are the same data; a file less, other pixels or names are not."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    for number in range(20):
        path = tmp_path / "one" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), number, "uint8")).save(path)
    one = facts_of(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "on2")
    assert facts_of(tmp_path / "on2") == one
    other_weights = shutil.copytree(tmp_path / "one", tmp_path / "2")
    assert facts_of(other_weights) == {**one, "weights": ["2"]}

    def differing() -> set[str]:
        other = facts_of(tmp_path / "on2")
        assert other.keys() == one.keys()
        return {name for name in one if str(one[name]) != str(other[name])}

    Image.fromarray(np.full((4, 4, 3), 99, "uint8")).save(tmp_path / "on2" / "a" / "02.png")
    assert differing() == {"files"}
    (tmp_path / "on2" / "a" / "02.png").unlink()
    assert differing() == {"files", "identity", "examples"}
    shutil.copy(tmp_path / "one" / "a" / "02.png", tmp_path / "on2" / "a")
    (tmp_path / "on2" / "a").rename(tmp_path / "on2" / "c")  # labels 1, 0 in place of 0, 1
    assert "class_names" in differing()


def test_a_directory_that_is_not_shared(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "_SECONDS_FOR_A_FILE", 0.1)
    (tmp_path / "other").mkdir()

    def check(path: pathlib.Path, chief: bool) -> Callable[[Agreement], None]:
        return lambda team: team.check_shared(path, chief=chief)

    assert Together().run(check(tmp_path, True), check(tmp_path, False)) == ["", ""]
    errors = Together().run(check(tmp_path, True), check(tmp_path / "other", False))
    assert all("--output must be one directory that all workers share" in e for e in errors)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_worker_that_is_refused_tells_the_others() -> None:
    def fails(team: Agreement) -> None:
        with team.together("begin"):
            raise ValueError("no images")

    def works(team: Agreement) -> None:
        with team.together("begin"):
            pass

    assert Together().run(works, works) == ["", ""]
    assert Together().run(fails, works) == [
        "ValueError: no images",
        "PeerLostError: Worker 0 could not begin: its output says why",
    ]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_SECONDS_TO_HEAR", 0.0)


@pytest.fixture
def listening() -> Iterator[str]:
    """An address that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


GONE = Peer("worker 2", "127.0.0.1:1")


def test_the_other_workers(listening: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"chief": [listening], "worker": ["a:1", "127.0.0.1:1"]}
    task = {"type": "worker", "index": 0}
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    others = peers()
    assert others == [Peer("chief 0", listening), Peer("worker 1", "127.0.0.1:1")]
    assert describe_missing(others) == "1 of 2 do not answer: worker 1 (127.0.0.1:1)"
    assert describe_missing(others[:1]) == "all other workers answer"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_LOOK", 0.01), ("_FIRST_LINE", 0.05), ("_GRACE", 0.05)):
        monkeypatch.setattr(workers, name, seconds)


def watched(peer: Peer, limit: float, *, signalled: bool = False, **how: bool) -> tuple[str, int]:
    """What a watch says, and the status with which it would end the process (-1 for none)."""
    said, statuses = io.StringIO(), []
    watch = Watch([peer], limit, said)
    watch._end = statuses.append
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with watch, watch.waiting("step 3", **how):
            if signalled:
                signal.raise_signal(signal.SIGTERM)
            end = time.monotonic() + (2.0 if limit or (signalled and not how) else 0.3)
            while time.monotonic() < end and not statuses:
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return said.getvalue(), statuses[0] if statuses else -1


@pytest.mark.usefixtures("quick")
def test_a_worker_that_waits(listening: str) -> None:
    """It says for whom, has a limit, and answers signals, though Python's main thread waits."""
    said, status = watched(GONE, 0)
    assert "Waiting for step 3 for 0 s; 1 of 1 do not answer: worker 2 (127.0.0.1:1)" in said
    assert (said.count("\n"), status) == (1, -1)
    said, status = watched(GONE, 0.2)
    assert "Error: waited 0 s for step 3; 1 of 1 do not answer: worker 2" in said
    assert status == 138
    said, status = watched(Peer("worker 1", listening), 0, signalled=True)
    assert "Stopped by SIGTERM while waiting for step 3" in said
    assert status == 130
    # The training loop saves by itself after the step, unless another worker is gone.
    assert watched(Peer("worker 1", listening), 0, signalled=True, saves=True)[1] == -1
    assert watched(GONE, 0, signalled=True, saves=True)[1] == 130
    with Watch([]) as watch, watch.waiting("nothing"):
        pass


def test_a_watch_outside_the_main_thread(listening: str) -> None:
    """As in a worker of Ray, where Python allows no signal handlers."""
    ended: list[str] = []

    def work() -> None:
        with Watch([Peer("worker 1", listening)]) as watch, watch.waiting("step 3"):
            ended.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == ["worked"]


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.UnavailableError(None, None, "Collective ops is aborted by: recvmsg:Connection"),
        tf.errors.InternalError(None, None, "coordination agent is in error state"),
    ],
)
def test_a_lost_worker_is_named(error: Exception) -> None:
    with (
        pytest.raises(
            PeerLostError,
            match=r"1 of 1 do not answer: worker 2 \(.*\); the state of step 7 is saved. Give the",
        ),
        naming_lost_peers([GONE], lambda: 7),
    ):
        raise error
    with contextlib.suppress(PeerLostError), naming_lost_peers([GONE], lambda: 0):
        raise error
    for other, others in ((error, []), (ValueError("peer"), [GONE])):
        with pytest.raises(type(other)), naming_lost_peers(others, lambda: 0):
            raise other


def test_every_wait_for_others_is_watched(
    tiny: Callable[..., RunConfig], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes, restores or gathers variables waits for a worker that hangs and answers."""
    watch, unwatched, called = Watch([]), [], set()

    def look(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def looked(*args: object, **options: object) -> object:
            called.add(name)
            if watch._wait is None:
                unwatched.append(name)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, looked)

    names = {
        Learner: ("__init__", "start_phase_at", "restore"),
        Agreement: ("check_step", "any"),
        ReplicaStatistics: ("assign_means", "read"),
        EpochEvaluation: ("evaluate", "assign_final"),
        TrainingSteps: ("__call__",),
    }
    for owner, methods in names.items():
        for name in methods:
            look(owner, name)
    net = {"model__spec__depths": [1], "model__spec__widths": [4]}
    config = tiny(**net, steps=2, epochs=None)
    session._begin(
        preparation.prepare(config, RunDirectory(tmp_path), Console(quiet=True), watch=watch)
    ).trainer.fit()
    assert called == {name for methods in names.values() for name in methods}
    assert unwatched == []


SILENT = (
    "Collective ops is aborted by: Error reported from /job:worker/task:2: The following tasks are "
    "unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:2\nThe tasks have crashed."
)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (SILENT, "worker 2"),
        ("Deadline Exceeded\n\nRPC: /tensorflow.CoordinationService/Heartbeat", "worker 0"),
    ],
)
def test_a_stopped_worker_is_named(message: str, named: str, listening: str) -> None:
    """Its port seems to answer: SIGSTOP, a machine without memory."""
    others = [Peer("worker 0", listening), Peer("worker 2", listening)]
    error = tf.errors.UnavailableError(None, None, message)
    silent = rf"another worker; {named} \({listening}\) gives no sign of life; no state is"
    with pytest.raises(PeerLostError, match=silent), naming_lost_peers(others, lambda: 0):
        raise error


def test_settings_name_modules_not_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow's package may be called `tensorflow-cpu`."""

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    facts = preparation.settings_of(RunConfig(epochs=1))
    assert (facts["tensorflow"], facts["optimizer.momentum"]) == (tf.__version__, 0.9)
    assert "data.dataset" not in facts
