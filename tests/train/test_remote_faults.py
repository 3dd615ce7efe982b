"""An S3 server that fails: nothing is lost, waits are bounded, and uploads go on."""

from __future__ import annotations

import json
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

from keras_resnet_train.config import DataConfig
from keras_resnet_train.errors import NotUploadedError
from keras_resnet_train.remote import data, outputs, uploader
from keras_resnet_train.remote.data import data_at_hand
from keras_resnet_train.remote.layout import committed_steps
from keras_resnet_train.remote.mirror import Mirror
from keras_resnet_train.remote.outputs import kept_copy, unsent, upload
from keras_resnet_train.remote.pull import copy_for_reading
from keras_resnet_train.remote.store import Store
from keras_resnet_train.remote.store_errors import StoreError, is_refused
from keras_resnet_train.remote.uploader import Uploader

pytestmark = [
    pytest.mark.tf,
    pytest.mark.network,
    # botocore and moto call names of Python that are deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # The server's thread ends a connection as if its machine had gone.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.mark.parametrize("fault", ["500", "403"])
def test_a_failure_is_no_absence(fault: str, bucket: str, s3_server: Any) -> None:
    """What the store does not answer is an error, and never "there is no such file"."""
    store = Store(f"{bucket}/run")
    store.write("config.json", b"{}")
    assert store.has("config.json")
    s3_server.fault = fault
    for request in (store.has, store.read, store.entries, store.listing, store.remove):
        with pytest.raises(StoreError, match="s3://runs/run cannot be ") as caught:
            request("config.json")
        assert caught.value.refused == (fault == "403")
    with pytest.raises(StoreError):
        store.is_file()
    with pytest.raises(StoreError):
        store.create("lock/1", b"")
    s3_server.fault = ""
    assert store.has("config.json")


@pytest.mark.parametrize("fault", ["503", "expired", "reset"])
def test_an_upload_goes_on(
    fault: str,
    bucket: str,
    s3_server: Any,
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    """Interrupted among the files of a checkpoint: given up in time, completed by the next start.

    Then interrupted while the run goes on: said once, and completed without a new start.
    """
    monkeypatch.setattr(uploader, "_LONGEST_WAIT", 0.02)
    monkeypatch.setattr(uploader, "_LOOK", 0.02)
    local = tmp_path / "local"
    shutil.copytree(finished_run, local)
    store = Store(f"{bucket}/{fault}")
    s3_server.fault, s3_server.only = fault, "checkpoints/step"
    first = Uploader(local, store, said.append)
    first.start()
    missing = first.finish(0.1)
    newest = max(path.name for path in (local / "checkpoints").glob("step_*"))
    assert missing == ["model.keras", f"checkpoints/{newest}"]
    assert [line.partition(":")[0] for line in said] == ["Warning"]
    assert f"The run goes on in {local}" in said[0]
    s3_server.fault = ""
    there = store.entries()
    assert "config.json" in there
    assert committed_steps(there) == []

    s3_server.fault, s3_server.only = fault, ""
    second = Uploader(local, store, said.append)
    second.start()
    until = time.monotonic() + 30
    while len(said) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    s3_server.fault = ""
    assert second.finish(5) == []
    assert [line.split()[0] for line in said[1:]] == ["Warning:", store.url]
    assert "is reached again after" in said[2]
    assert committed_steps(store.entries()) == [newest]
    assert "model.keras" in store.entries()


def test_threads_of_a_run_have_connections_of_their_own(
    bucket: str, tmp_path: pathlib.Path
) -> None:
    """One that connects anew would leave a request of another without an end."""
    with Mirror(f"{bucket}/run", tmp_path, say=lambda line: None) as mirror:
        assert mirror._lease is not None
        assert mirror._uploader is not None
        stores = (mirror._store, mirror._lease._store, mirror._uploader._store)
        assert len({id(store._fs) for store in stores}) == 3


def test_numbers_of_errors() -> None:
    """A port or a step is no status."""
    assert is_refused(OSError("An error occurred (403) when calling HeadObject: Forbidden"))
    assert is_refused(OSError("[Errno 5] 401 Client Error"))
    for text in ("http://127.0.0.1:403/runs", "a/step_00000403/b", "a/403/b", "14031 bytes"):
        assert not is_refused(OSError(f"Could not connect to {text}")), text


def test_a_lock_that_another_wins(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 answers 409 to one of two that write at a time; other servers name no condition."""
    store = Store(f"{bucket}/run")
    for text in (
        "An error occurred (ConditionalRequestConflict) when calling PutObject",
        "[Errno 22] At least one of the pre-conditions you specified did not hold",
    ):

        def lose(*_: Any, text: str = text, **__: Any) -> None:
            raise OSError(text)

        monkeypatch.setattr(store._fs, "pipe_file", lose)
        assert not store.create("lock/1", b"")


def test_what_a_command_has_written_is_kept(
    bucket: str,
    s3_server: Any,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    monkeypatch.setattr(outputs, "_WAITS", (0.01, 0.01))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    store = Store(f"{bucket}/run")
    for name in ("config.json", "metrics.json", "old.tflite"):
        store.write(name, b"{}")
    copy = kept_copy(store.url, copy_for_reading(store.url, said.append, "auto", unsent))
    (copy.path / "metrics.json").write_text('{"test": 1}')
    (copy.path / "new.tflite").write_text("new")
    (copy.path / "old.tflite").unlink()
    s3_server.fault, s3_server.only = "503", "PUT"
    with pytest.raises(NotUploadedError, match=r"2 of 2 file.* the next command that reads"):
        upload(copy, said.append)
    assert len([line for line in said if line.startswith("Warning")]) == 1
    s3_server.fault = ""
    assert set(store.entries()) == {"config.json", "metrics.json", "old.tflite"}
    # The next command neither replaces the files nor forgets them.
    copy = kept_copy(store.url, copy_for_reading(store.url, said.append, "auto", unsent))
    assert json.loads((copy.path / "metrics.json").read_text()) == {"test": 1}
    upload(copy, said.append)
    assert store.read("metrics.json") == b'{"test": 1}'
    assert store.read("new.tflite") == b"new"
    assert not store.has("old.tflite")
    # A copy that someone removes meanwhile takes nothing from the store with it.
    shutil.rmtree(copy.path)
    upload(kept_copy(store.url, copy.path)._replace(before=copy.before), said.append)
    assert set(store.entries()) == {"config.json", "metrics.json", "new.tflite"}
    copy = kept_copy(store.url, copy_for_reading(store.url, said.append, "auto", unsent))
    # A run that must not be written is measured all the same.
    (copy.path / "evaluation.json").write_text("{}")
    s3_server.fault, s3_server.only = "403", "PUT"
    upload(copy, said.append)
    assert said[-1].startswith(f"Note: what was written into the run stays in {copy.path}. s3://")
    s3_server.fault = "503"
    made = outputs.Copy(f"{bucket}/page.html", tmp_path / "s" / "page.html", {}, tmp_path / "s")
    made.path.parent.mkdir()
    made.path.write_text("page")
    with pytest.raises(NotUploadedError, match=rf"They are in {made.path.parent}\. s3://runs "):
        upload(made, said.append)
    assert made.path.read_text() == "page"
    s3_server.fault = ""
    upload(made, said.append)
    assert not made.path.exists()
    assert Store(bucket).read("page.html") == b"page"


def test_a_copy_of_data_goes_on(
    bucket: str,
    s3_server: Any,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    monkeypatch.setattr(data, "_WAITS", (0.01, 0.01))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    store = Store(f"{bucket}/flowers")
    for number in range(20):
        store.write(f"a/{number}.png", b"%d" % number)
    s3_server.fault, s3_server.only = "503", "7.png"
    with pytest.raises(StoreError, match="cannot be read"):
        data_at_hand(DataConfig(dataset=store.url), said.append)
    assert len([line for line in said if line.startswith("Warning")]) == 1
    assert "2 file(s) are left and tried again" in said[1]
    s3_server.fault = ""
    s3_server.requests.clear()
    folder = pathlib.Path(data_at_hand(DataConfig(dataset=store.url), said.append).dataset)
    assert "Copying 2 file(s)" in said[-1]
    assert sorted(path.read_text() for path in folder.glob("a/*")) == sorted(map(str, range(20)))
    assert len([path for method, path in s3_server.requests if path.endswith(".png")]) <= 4


def test_runs_downloads_no_weights(
    bucket: str, s3_server: Any, command: Callable[..., Any]
) -> None:
    """20 runs: one listing and three small files each, and no more bytes than those."""
    store = Store(f"{bucket}/many")
    for number in range(20):
        for name, content in (
            ("config.json", b'{"steps": 40}'),
            ("history.csv", b"step,test_accuracy\n40,0.5\n"),
            ("metrics.json", b'{"test": {"accuracy": 0.75}}'),
            ("model.keras", bytes(10_000)),
            ("metrics.jsonl", bytes(10_000)),
            ("checkpoints/step_00000040/state.json", bytes(10_000)),
        ):
            if number != 7 or name not in ("model.keras", "metrics.json"):
                store.write(f"group/run{number}/{name}", content)
    s3_server.requests.clear()
    s3_server.sent = 0
    ended = command("runs", store.url, "--json")
    assert ended.status == 0, ended.err
    listed = json.loads(ended.out)
    assert len(listed) == 20
    assert {each["state"] for each in listed} == {"finished", "stopped"}
    (stopped,) = [each for each in listed if each["state"] == "stopped"]
    assert stopped["path"] == "s3://runs/many/group/run7"
    assert (stopped["step"], stopped["accuracy"], stopped["measured"]) == (
        40,
        0.5,
        "test, last epoch",
    )
    assert {each["accuracy"] for each in listed} == {0.75, 0.5}
    assert 0 <= max(each["age"] for each in listed) < 600
    assert len(s3_server.requests) < 20 * 8
    assert s3_server.sent < 20 * 5_000
    read = {path.rsplit("/", 1)[-1] for _, path in s3_server.requests}
    assert not read & {"model.keras", "metrics.jsonl", "state.json"}
