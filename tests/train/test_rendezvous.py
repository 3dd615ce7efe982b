"""The meeting of workers before TensorFlow connects them: two workers in threads."""

from __future__ import annotations

import io
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from keras_resnet_train import leaving, rendezvous, worker_messages
from keras_resnet_train.errors import PeerLostError
from keras_resnet_train.leaving import telling_others
from keras_resnet_train.local_cluster import free_ports
from keras_resnet_train.rendezvous import meet

pytestmark = pytest.mark.network


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rendezvous, leaving, worker_messages):
        monkeypatch.setattr(module, "LOOK", 0.02)
        if module is not worker_messages:
            monkeypatch.setattr(module, "CONNECT", 1.0)
    monkeypatch.setattr(worker_messages, "_FIRST_LINE", 0.1)
    for module in (leaving, worker_messages):
        monkeypatch.setattr(module, "SECONDS_TO_TELL", 5.0)


class Workers:
    """Three workers that meet in threads."""

    def __init__(self, count: int = 3) -> None:
        self.addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
        self.said = [io.StringIO() for _ in range(count)]
        self.ended: dict[int, str] = {}
        self.threads: list[threading.Thread] = []

    def start(self, index: int, limit: float = 20.0, refused: str = "") -> None:
        def run() -> None:
            try:
                with telling_others(self.config(index)):
                    if refused:
                        raise ValueError(refused)
                meet(self.config(index), limit, self.said[index])
                self.ended[index] = "met"
            except (PeerLostError, ValueError) as error:
                self.ended[index] = f"{type(error).__name__}: {error}"

        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()

    def config(self, index: int) -> dict[str, Any]:
        return {
            "cluster": {"worker": self.addresses},
            "task": {"type": "worker", "index": index},
        }

    def join(self) -> dict[int, str]:
        for thread in self.threads:
            thread.join(30)
        return self.ended


def test_workers_meet_in_any_order() -> None:
    """Each says for whom it waits; strangers at the port do not count."""
    workers = Workers()
    workers.start(2)
    time.sleep(0.3)
    workers.start(0)
    time.sleep(0.3)
    with socket.create_connection(("127.0.0.1", int(workers.addresses[0][10:]))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        time.sleep(0.1)
    assert workers.ended == {}
    workers.start(1)
    assert workers.join() == {0: "met", 1: "met", 2: "met"}
    assert "Waiting for worker 0 (127.0.0.1:" in workers.said[2].getvalue()
    assert "which does not answer" in workers.said[2].getvalue()
    expected = f"Waiting for 1 of 2 other workers: worker 1 ({workers.addresses[1]}) for 0 s"
    assert expected in workers.said[0].getvalue()
    # TensorFlow can have the chief's port now.
    with socket.create_server(("127.0.0.1", int(workers.addresses[0][10:]))):
        pass


def test_workers_that_do_not_come_are_named() -> None:
    workers = Workers()
    workers.start(0, limit=1.0)
    workers.start(1, limit=2.0)
    ended = workers.join()
    for index in (0, 1):
        waited = f"PeerLostError: Waited {index + 1} s (--worker-timeout) for "
        assert ended[index].startswith(waited)
    assert f"1 of 2 other workers: worker 2 ({workers.addresses[2]})" in ended[0]


@pytest.mark.parametrize("refused", [0, 2], ids=["chief", "worker"])
def test_a_worker_that_is_refused_tells_the_others(refused: int) -> None:
    """Before they meet: the output is locked, or the weights are not on its disk."""
    workers = Workers(4)
    first, second, late = {0, 1, 2, 3} - {refused}
    for index in (first, second):
        workers.start(index)
    time.sleep(0.3)
    workers.start(refused, refused="no such weights")
    time.sleep(0.3)
    workers.start(late)
    told = f"PeerLostError: Worker {refused} could not start: no such weights"
    expected = {refused: "ValueError: no such weights"}
    expected |= dict.fromkeys((first, second, late), told)
    started = time.monotonic()
    assert workers.join() == expected
    assert time.monotonic() - started < 4
    workers = Workers()
    for index in range(3):  # all alike: none waits for the others
        workers.start(index, refused="no such weights")
    assert set(workers.join().values()) == {"ValueError: no such weights"}
    with pytest.raises(ValueError, match="alone"), telling_others({}):
        raise ValueError("alone")


def test_the_older_of_two_processes_with_one_task_is_refused() -> None:
    workers = Workers()
    workers.start(0)
    workers.start(1)
    time.sleep(0.3)
    workers.ended.clear()
    workers.start(1)
    while 1 not in workers.ended:
        time.sleep(0.02)
    refused = "ValueError: TF_CONFIG needs an index for each process: another process has the task"
    assert workers.ended.pop(1).startswith(refused)
    workers.start(2)
    assert workers.join() == {0: "met", 1: "met", 2: "met"}
    with pytest.raises(ValueError, match="the task worker 7 and no address for it"):
        meet(workers.config(7), 1.0)


@pytest.mark.multi_process
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_calls_that_hold_the_lock_end_by_signals(tmp_path: pathlib.Path) -> None:
    """A stand-in for TensorFlow's call: `ctypes.PyDLL` calls C with Python's lock held."""
    code = (
        "import ctypes, signal\n"
        "from keras_resnet_train.rendezvous import ended_by_signals\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "with ended_by_signals({}):\n"
        "    print('in', flush=True)\n"
        "    while True: ctypes.PyDLL(None).pause()\n"
    )
    for seconds, number in ((60, signal.SIGTERM), (1, signal.SIGALRM)):
        process = subprocess.Popen(
            [sys.executable, "-c", code.format(seconds)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        if number == signal.SIGTERM:
            process.send_signal(number)
        assert process.wait(30) == -number
        process.stdout.close()
