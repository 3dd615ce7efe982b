"""Runs in object stores: memory stands for one; a local S3 server in one test."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import time
import types
import uuid
from collections.abc import Callable
from typing import Any

import keras
import pytest

from keras_resnet_train.checkpoint import Checkpoints
from keras_resnet_train.config import DataConfig, RunConfig
from keras_resnet_train.data.table import images_of_table
from keras_resnet_train.errors import NotUploadedError
from keras_resnet_train.remote import lease, uploader
from keras_resnet_train.remote.address import remote_url
from keras_resnet_train.remote.data import data_at_hand
from keras_resnet_train.remote.layout import committed_steps
from keras_resnet_train.remote.lease import Lease, is_alive
from keras_resnet_train.remote.mirror import Mirror
from keras_resnet_train.remote.outputs import unsent
from keras_resnet_train.remote.pull import pull_for_reading, pull_state
from keras_resnet_train.remote.store import Store
from keras_resnet_train.remote.store_errors import StoreError
from keras_resnet_train.remote.uploader import Uploader
from keras_resnet_train.rundir import open_run
from keras_resnet_train.session import run_training

pytestmark = pytest.mark.tf

Tiny = Callable[..., RunConfig]
fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def store() -> Store:
    """An empty place in memory."""
    return Store(f"memory://bucket-{uuid.uuid4().hex}/runs/one")


@pytest.fixture
def said() -> list[str]:
    return []


class Unreachable:
    """Lets a store's writes fail from a moment on, or from a file on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
        self.left, self.tried = after, 0
        put = Store.put
        monkeypatch.setattr(Store, "put", lambda *args: self.maybe(put, *args))

    def maybe(self, put: Callable[..., None], *args: Any) -> None:
        self.tried += 1
        if self.left <= 0:
            raise StoreError("the store cannot be reached")
        self.left -= 1
        put(*args)


def test_addresses() -> None:
    for text, expected in (
        ("s3://bucket/a/run/", "s3://bucket/a/run"),
        ("gs://bucket/run", "gs://bucket/run"),
        ("hf://buckets/me/runs", "hf://buckets/me/runs"),
        ("hf://me/net", None),  # published weights
        ("file:///tmp/run", "file:///tmp/run"),
        ("runs/s3", None),
        (pathlib.Path("s3://bucket/a/run"), "s3://bucket/a/run"),
        (None, None),
        (3, None),
    ):
        assert remote_url(text) == expected, text


def test_a_store(store: Store, tmp_path: pathlib.Path) -> None:
    assert store.entries() == {}
    assert store.check_writable() == pytest.approx(time.time(), abs=60)
    assert store.create("a", b"1")
    assert not store.create("a", b"2")
    store.write("b/c", b"33")
    assert {name: entry.size for name, entry in store.entries().items()} == {"a": 1, "b/c": 2}
    store.get("b/c", tmp_path / "x" / "c")
    assert (tmp_path / "x" / "c").read_bytes() == b"33"
    with pytest.raises(FileNotFoundError, match="has no nothing"):
        store.get("nothing", tmp_path / "y")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    store.remove("a")
    store.remove("a")
    store.write("../out", b"")
    store.write("z/../../out", b"")
    with pytest.raises(StoreError, match="unsafe name"):
        store.entries()


@pytest.mark.parametrize("name", ["../x", "a/../x", "a//x", "/x", "./x", "a/.", "a\\x"])
def test_unsafe_names(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Names that an object store can hold, and a folder of files cannot."""
    names = {f"{store._root}/{each}": {"size": 1} for each in ("config.json", "folder/", name)}
    monkeypatch.setattr(store._fs, "find", lambda *_, **__: names)
    with pytest.raises(StoreError, match=f"unsafe name {re.escape(repr(name))}: remove it"):
        store.entries()
    del names[f"{store._root}/{name}"]
    assert [*store.entries()] == ["config.json"]
    names[f"{store._root}/config.json/a/b"] = {"size": 1}
    with pytest.raises(StoreError, match=r"a file 'config.json' and files below that name"):
        store.entries()


def test_hidden_files_are_not_copied(tmp_path: pathlib.Path) -> None:
    """Names in `.unsent.json` are files that a command removes from the place."""
    place, copy = tmp_path / "place", tmp_path / "copy"
    (place / "run").mkdir(parents=True)
    (place / "kept").write_text("kept")
    (place / "run" / "config.json").write_text("{}")
    (place / "run" / ".unsent.json").write_text('{"../kept": false}')
    pull_for_reading(Store(f"file://{place}/run"), copy, print, kept=unsent(copy))
    assert [path.name for path in copy.iterdir() if path.is_file()] == ["config.json"]
    assert unsent(copy) == {}


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gcs")])
def test_a_driver_that_is_missing(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if "fs" in name[2:] else 1)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'keras3-resnet\[{extra}\]'"):
        Store(f"{scheme}://bucket/run")


def test_locks(store: Store, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(lease, "_LOOK", 0.01)
    monkeypatch.setattr(lease, "BEAT", 0.05)
    first = Lease(store, "here", said.append)
    assert is_alive(store)
    with pytest.raises(ValueError, match=r"Another process is training at memory://.*process \d+"):
        Lease(store, "there", said.append)
    assert "is locked by" in said[0]
    again = Lease(store, "here", said.append)  # the same working directory: the other has ended
    time.sleep(0.2)
    with pytest.raises(OSError, match="trains at memory://.* now"):
        first.check()
    again.check()
    again.release()
    first.release()
    assert not is_alive(store)
    third = Lease(store, "there", said.append)
    monkeypatch.setattr(lease, "STALE", 0.05)
    third._ended.set()  # as if its process had been killed
    third._thread.join()
    time.sleep(0.1)
    fourth = Lease(store, "elsewhere", said.append)
    assert sorted(store.entries("lock")) == ["lock/00000004.json"]
    fourth.release()


def test_an_interrupted_upload_leaves_the_last_good_checkpoint(
    store: Store,
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    local = tmp_path / "local"
    shutil.copytree(finished_run, local)
    (local / "model.keras").unlink()
    newest = Checkpoints(local / "checkpoints").steps()[-1]
    aside = tmp_path / newest.name
    shutil.move(newest, aside)
    one = Uploader(local, store, said.append)
    one.upload(all_files=True)
    earlier = Checkpoints(local / "checkpoints").last_step()
    assert one.missing() == []
    assert not list(local.glob(".upload*"))
    shutil.move(aside, newest)
    files = len(list(newest.iterdir()))
    Unreachable(monkeypatch, files - 1)  # all but state.json
    with pytest.raises(StoreError):
        one.upload()
    assert one.missing() == [f"checkpoints/{newest.name}"]
    monkeypatch.undo()
    pulled = tmp_path / "pulled"
    pull_state(store, pulled, said.append)
    assert Checkpoints(pulled / "checkpoints").last_step() == earlier
    assert (pulled / "checkpoints" / "best" / "state.json").is_file() == (
        local / "checkpoints" / "best"
    ).is_dir()
    one.upload()
    pull_state(store, pulled, said.append)
    assert [path.name for path in Checkpoints(pulled / "checkpoints").steps()][-1] == newest.name
    state = f"checkpoints/{newest.name}/model.weights.h5"
    store.write(state, b"damaged")
    pull_state(store, tmp_path / "other", said.append)
    assert Checkpoints(tmp_path / "other" / "checkpoints").last_step() == earlier
    assert f"Checkpoint {newest.name} of {store.url} is damaged and skipped" in said[-1]

    # Workers beside the chief start from what is in the store, and lock and upload nothing.
    for _ in range(2):
        with Mirror(store.url, tmp_path / "work", worker=1, say=said.append) as worker:
            assert worker.path.name.endswith("-worker1")
            assert not (worker.path / "stale").exists()
            (worker.path / "stale").touch()
            assert Checkpoints(worker.path / "checkpoints").last_step() == earlier
            worker.refresh()
            worker.check()
            assert worker.last_step() == int(newest.name.removeprefix("step_"))
    assert not store.entries("lock")
    assert "stale" not in store.entries()


class Probe(keras.callbacks.Callback):
    """Calls a function after each call of the graph."""

    def __init__(self, call: Callable[[int], None]) -> None:
        super().__init__()
        self.call = call

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.call(batch + 1)


def test_a_run_goes_on_elsewhere(
    store: Store,
    tiny: Tiny,
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: Callable[..., Any],
) -> None:
    """Killed at step 25 of 40 on one machine, resumed on another, equal to the bit.

    There the store is lost: the run goes on, and the same command uploads it later.
    """

    def kill(step: int) -> None:
        if step >= 25:
            raise RuntimeError("killed")

    config = tiny(checkpoint__every_steps=10)
    with pytest.raises(RuntimeError, match="killed"), Mirror(store.url, tmp_path / "a") as mirror:
        run_training(config, mirror.path, mirror=mirror, callbacks=[Probe(kill)])
    names = store.entries()
    assert "config.json" in names
    assert "model.keras" not in names
    assert "checkpoints/step_00000020/state.json" in names
    monkeypatch.setattr(uploader, "_LOOK", 0.01)
    lost = Unreachable(monkeypatch)
    with (
        pytest.raises(NotUploadedError, match=r"file\(s\) of the run are not at memory://.*, "),
        Mirror(store.url, tmp_path / "b", give_up=0) as mirror,
    ):
        run_training(config, mirror.path, mirror=mirror)
    assert lost.tried >= 1
    out = capsys.readouterr().out
    assert out.count("Warning: the store cannot be reached") == 1
    assert "Resuming at step 20 of 40" in out
    assert "model.keras" not in store.entries()
    monkeypatch.undo()
    with Mirror(store.url, tmp_path / "b") as mirror:
        run_training(config, mirror.path, mirror=mirror)
    assert "Uploaded to memory://" in capsys.readouterr().out
    there = store.entries()
    assert "model.keras" in there
    local = {
        path.relative_to(mirror.path).as_posix()
        for path in mirror.path.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }
    plain = {name for name in there if not name.startswith(("lock/", "checkpoints/"))}
    assert plain == {name for name in local if not name.startswith("checkpoints/")}
    assert committed_steps(there)[-1] == "step_00000040"
    assert 1 <= len(committed_steps(there)) <= 2
    assert sum(name.startswith("checkpoints/best") for name in there) in (0, 2)
    for ours, theirs in zip(
        open_run(mirror.path).model.get_weights(),
        open_run(finished_run).model.get_weights(),
        strict=True,
    ):
        assert (ours == theirs).all()

    # Finished: nothing to do on a third machine. Another run is refused, at once.
    with Mirror(store.url, tmp_path / "c") as mirror:
        run_training(config, mirror.path, mirror=mirror)
        assert "finished; nothing to train" in capsys.readouterr().out
    with (
        pytest.raises(ValueError, match="holds another run, which differs in seed"),
        Mirror(store.url, tmp_path / "c") as mirror,
    ):
        run_training(tiny(seed=7, checkpoint__every_steps=10), mirror.path, mirror=mirror)

    # Commands take the place.
    ended = command("runs", store.url.rsplit("/", 1)[0], "--json")
    (listed,) = json.loads(ended.out)
    assert (listed["path"], listed["state"], listed["step"]) == (store.url, "finished", 40)
    ended = command("runs", store.url)
    assert "finished" in ended.out, ended.err
    page = store.url.replace("/one", "/page.html")
    ended = command("compare", store.url, finished_run, "--output", page)
    assert ended.status == 0, ended.err
    assert "<svg" in Store(store.url.rsplit("/", 1)[0]).read("page.html").decode()
    ended = command("evaluate", store.url, "--json")
    assert ended.status == 0, ended.err
    ended = command("train", "--dataset", "digits", "--output", store.url, "--folds", 2)
    assert "`--folds` needs a local --output" in ended.err
    ended = command("tune", "--dataset", "digits", "--output", store.url)
    assert "takes no place in an object store as output" in ended.err


def test_a_place_that_is_not_a_run(
    store: Store, tmp_path: pathlib.Path, command: Callable[..., Any]
) -> None:
    store.write("picture.jpg", b"")
    with pytest.raises(ValueError, match=r"holds 1 file\(s\), such as picture.jpg, and no config"):
        Mirror(store.url, tmp_path).__enter__()
    assert sorted(store.entries()) == ["lock/00000001.json", "picture.jpg"]
    ended = command("evaluate", "memory://nowhere/at/all", "--dataset", "digits")
    assert ended.status == 1
    assert "There is nothing at memory://nowhere/at/all" in ended.err


def test_data_sets_are_copied_once(
    store: Store,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    """Folders, tables with the images beside them, and one data set of a TFDS directory."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in ("cat/1.png", "dog/1.png", "mnist/3.0.1/a.tfrecord"):
        store.write(name, name.encode())
    store.write("labels.csv", b"image,label\ncat/1.png,cat\nnot there.png,dog\n")
    store.write("cifar10/3.0.2/b.tfrecord", b"no")
    at_hand = data_at_hand(DataConfig(dataset="mnist:3.*.*", data_dir=store.url), said.append)
    copy = pathlib.Path(str(at_hand.data_dir))
    assert [path.name for path in copy.iterdir()] == ["mnist"]
    assert "Copying 1 file(s)" in said[0]
    table = pathlib.Path(
        data_at_hand(
            DataConfig(dataset=f"{store.url}/labels.csv"), said.append, images_of_table
        ).dataset
    )
    assert table.read_text().startswith("image,label")
    assert (table.parent / "cat" / "1.png").read_text() == "cat/1.png"
    assert not (table.parent / "dog").exists()  # the table does not list it
    folder = data_at_hand(DataConfig(dataset=store.url), said.append)
    assert folder.dataset == str(table.parent)
    assert "Copying 2 file(s)" in said[-1]  # no file again
    store.write("dog/1.png", b"another picture")
    assert pathlib.Path(data_at_hand(folder, said.append).dataset) == table.parent
    data_at_hand(DataConfig(dataset=store.url), said.append)
    assert "Copying 1 file(s)" in said[-1]
    assert (table.parent / "dog" / "1.png").read_text() == "another picture"
    store.remove("cat/1.png")
    data_at_hand(DataConfig(dataset=store.url), said.append)
    assert "Removed 1 file(s) of the copy" in said[-1]
    assert not (table.parent / "cat" / "1.png").exists()
    store.write("voc/2007/5.0.0/a.tfrecord", b"")
    store.write("voc/2012/5.0.0/b.tfrecord", b"")
    config = DataConfig(dataset="voc/2007:5.*.*", data_dir=store.url)
    data_at_hand(config, said.append)
    assert "Copying 1 file(s)" in said[-1]  # of one configuration
    plain = DataConfig(dataset="digits")
    assert data_at_hand(plain) is plain
    with pytest.raises(FileNotFoundError, match="There is nothing at memory://none"):
        data_at_hand(DataConfig(dataset="memory://none/here"))
    store.write("dog/1.png", b"once more")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=0))
    with pytest.raises(OSError, match="has 0 MiB free, and the copy of .* Set KERAS_HOME"):
        data_at_hand(DataConfig(dataset=store.url), said.append)
