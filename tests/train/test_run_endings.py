"""How a run ends where its directory was damaged, removed or left with temporary files."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pathlib
import re
import shutil
import signal
import time
import zipfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_resnet_train import session
from keras_resnet_train.command import Command
from keras_resnet_train.config import RunConfig, load_config, with_changes
from keras_resnet_train.data import read_listing
from keras_resnet_train.files import read_json, write_json
from keras_resnet_train.run_log import read_log
from keras_resnet_train.run_report import write_run_report
from keras_resnet_train.rundir import RunDirectory, open_run
from keras_resnet_train.runs import run_state
from keras_resnet_train.session import run_training
from keras_resnet_train.signals import StopSignals, stopped_by_signals

pytestmark = pytest.mark.tf


def test_a_model_that_was_cut_off_is_written_again(
    copied_run: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, config = copied_run / "model.keras", RunDirectory(copied_run)
    whole = model.read_bytes()
    assert config.has_sound_model()
    middle = len(whole) // 2
    model.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert not config.has_sound_model()
    model.write_bytes(whole[:middle])
    with pytest.raises(ValueError, match="model.keras"):
        open_run(copied_run)
    run_training(load_config(config.path / "config.json"), copied_run)
    assert "model.keras is damaged; the run is finished once more" in capsys.readouterr().out
    open_run(copied_run)


def test_a_worker_does_not_take_a_damaged_model_for_the_end(
    copied_run: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the chief has removed it: the chief would wait for a worker that has ended."""

    class MeetsError(Exception):
        pass

    def meet(*_: object) -> None:
        raise MeetsError

    cluster = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    monkeypatch.setattr("keras_resnet_train.strategies.meet", meet)
    left: list[str] = []
    monkeypatch.setattr(session, "leave", lambda _, why: left.append(why))
    changes = {"runtime.strategy": "multi-worker"}
    config = with_changes(load_config(copied_run / "config.json"), changes)
    run_training(config, copied_run)
    assert "found the run finished in" in left[0]
    model = copied_run / "model.keras"
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(MeetsError):
        run_training(config, copied_run)
    assert model.is_file()


def test_a_finished_run_holds_no_temporary_files(
    copied_run: pathlib.Path, finished_run: pathlib.Path
) -> None:
    assert not [path for path in finished_run.rglob(".*") if path.name != ".lock"]
    old = [".metrics.json.abcd_123", ".history.csv.abcd1234", ".abcd1234.keras"]
    inner = copied_run / "evaluation"
    inner.mkdir()
    for path in (*(copied_run / name for name in old), inner / ".table.csv.abcd1234"):
        path.write_text("")
    (copied_run / ".export.tmpabcd").mkdir()
    in_use = inner / ".images.abcd1234"
    in_use.write_text("")
    (copied_run / ".mine").write_text("")
    hours_ago = time.time() - 7200
    for path in (inner / ".table.csv.abcd1234", copied_run / ".export.tmpabcd"):
        os.utime(path, (hours_ago, hours_ago))
    RunDirectory(copied_run).sweep()
    left = [path for path in copied_run.rglob(".*") if path.name != ".lock"]
    assert sorted(left) == sorted([in_use, copied_run / ".mine"])


class Remove(keras.callbacks.Callback):
    """Removes something of the run after its first step."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self.path = path

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "was removed while the run trained in it. If it was moved, give the same command"),
        (".lock", ".lock was removed while the run trained: another process may train"),
    ],
)
def test_what_is_removed_while_a_run_trains(
    name: str, message: str, tiny: Callable[..., RunConfig], tmp_path: pathlib.Path
) -> None:
    config = tiny(steps=2, epochs=None, runtime__steps_per_call=1, checkpoint__every_steps=1)
    with pytest.raises(OSError, match=message):
        run_training(config, tmp_path / "run", callbacks=[Remove(tmp_path / "run" / name)])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dataset.json", b"[]"),
        ("dataset.json", b"{}"),
        ("dataset.json", b'{"preprocessing": {"size": "x"}, "class_names": [], "channels": 1}'),
        ("metrics.json", b"[1]"),
        ("metrics.json", b'{"test": []}'),
        ("metrics.json", b'{"test": {"accuracy": "x"}, "training": []}'),
        ("metrics.json", b'{"test": {"confusion": {"classes": 1e9}}}'),
        ("samples.npz", b"PK no archive"),
        ("history.csv", b"epoch,loss\n1,x\n"),
        ("history.csv", b"epoch,loss\n1\n"),
    ],
)
def test_damaged_files_are_named(name: str, content: bytes, copied_run: pathlib.Path) -> None:
    (copied_run / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(name)):
        write_run_report(copied_run)


@pytest.mark.parametrize(
    ("key", "value"),
    [("channels", 10**9), ("channels", 1e400), ("class_names", "abc"), ("path", 3), ("path", [3])],
)
def test_absurd_values_of_the_data(key: str, value: Any, copied_run: pathlib.Path) -> None:
    path = copied_run / "dataset.json"
    write_json(path, read_json(path) | {key: value})
    with pytest.raises(ValueError, match="dataset.json is not what was written"):
        open_run(copied_run)


def test_a_damaged_record_of_the_data(
    copied_run: pathlib.Path, tiny: Callable[..., RunConfig]
) -> None:
    (copied_run / "dataset.json").write_text("[]")
    (copied_run / "model.keras").unlink()
    with pytest.raises(ValueError, match="dataset.json is damaged: it holds no JSON object"):
        run_training(tiny(), copied_run)
    assert read_json(copied_run / "metrics.json")


def test_files_that_unfold_to_much(copied_run: pathlib.Path) -> None:
    """Bombs in the place of sample images and of the list of files; a header that states 8 TB."""
    samples, listing = copied_run / "samples.npz", copied_run / "data_files.csv.gz"
    with zipfile.ZipFile(samples, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 43,)}
        )
        archive.writestr("images.npy", header.getvalue())
    with pytest.raises(ValueError, match=r"samples.npz is damaged: its array .* 8,796,093"):
        write_run_report(copied_run)
    listing.write_bytes(gzip.compress(bytes(96 << 20)))
    with pytest.raises(ValueError, match=r"data_files.csv.gz would unfold to more than"):
        read_listing(listing)
    listing.write_bytes(gzip.compress(b"split,name,label,digest\n")[:-9])
    with pytest.raises(ValueError, match=r"data_files.csv.gz"):
        read_listing(listing)
    config = copied_run / "config.json"
    config.write_text('{"recipe": "' + "a" * (17 << 20) + '"}')
    with pytest.raises(ValueError, match="config.json is longer than the 16,777,216 bytes"):
        load_config(config)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[" * 100_000),
        ("config.json", '{"steps": 1e400}'),
        ("metrics.json", '{"test": {"accuracy": 1' + "0" * 400 + "}}"),
        ("history.csv", "step,accuracy\n,nan\n"),
        ("history.csv", "step,accuracy\ninf,0.5\n"),
        ("metrics.json", None),
    ],
)
def test_damaged_runs_are_listed(name: str, content: str | None, copied_run: pathlib.Path) -> None:
    path = copied_run / name
    if content is None and hasattr(os, "mkfifo"):
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_text(content or "")
    state = run_state(copied_run)
    assert state.step == 40
    assert state.accuracy is None or 0 <= state.accuracy <= 1


def test_a_damaged_log(copied_run: pathlib.Path) -> None:
    path = copied_run / "metrics.jsonl"
    path.write_bytes(b'\xff\n{"step": "1"}\n{"step": 2}\n' + b"[" * 10**5 + b'\n{"step": 3}')
    assert read_log(path) == [{"step": 2}]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_stop_is_one_wherever_it_comes(name: str) -> None:
    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():
        signal.raise_signal(number)
    with stopped_by_signals():
        with StopSignals() as signals:
            signal.raise_signal(number)
        assert signals.received == number
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_stop_before_the_run_begins(
    name: str, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """While weights are downloaded or data is looked for."""
    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def stop(*_: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr("keras_resnet_train.commands.train.COMMAND", Command(lambda _: None, stop))
    ended = command("train")
    assert (ended.status, ended.err) == (130, "Interrupted\n")
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored() -> None:
    """As `nohup` ignores SIGHUP."""
    if not hasattr(signal, "SIGHUP"):
        pytest.skip("this system has no SIGHUP")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals(), StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
        assert signals.received is None
    finally:
        signal.signal(signal.SIGHUP, before)
