"""Runs at a local S3 server (moto): conditional writes, early errors, a whole run."""

from __future__ import annotations

import concurrent.futures
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from keras_resnet_train.checkpoint import Checkpoints
from keras_resnet_train.remote.lease import Lease
from keras_resnet_train.remote.mirror import Mirror
from keras_resnet_train.remote.pull import pull_state
from keras_resnet_train.remote.store import Store
from keras_resnet_train.remote.store_errors import StoreError
from keras_resnet_train.remote.uploader import Uploader
from keras_resnet_train.session import run_training

pytestmark = [
    pytest.mark.tf,
    pytest.mark.network,
    # botocore and moto call names of Python that are deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_errors_before_the_first_step(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(StoreError, match="s3://nowhere/run cannot be written: .*Create the bucket"):
        Mirror("s3://nowhere/run", tmp_path).__enter__()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreError, match="Credentials: AWS_ACCESS_KEY_ID and"):
        Mirror(f"{bucket}/run", tmp_path).__enter__()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    with pytest.raises(StoreError, match="s3://runs/run cannot be written"):
        Mirror(f"{bucket}/run", tmp_path).__enter__()


def test_one_of_many_wins(bucket: str) -> None:
    store = Store(f"{bucket}/run")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda index: store.create("lock/1", b"%d" % index), range(16)))
    assert sum(won) == 1
    assert store.read("lock/1") == b"%d" % won.index(True)


def test_a_run_there(
    bucket: str,
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
    tiny: Callable[..., Any],
    command: Callable[..., Any],
) -> None:
    said: list[str] = []
    store = Store(f"{bucket}/deep/run")
    local = tmp_path / "local"
    shutil.copytree(finished_run, local)
    lease = Lease(store, "here", said.append)
    uploader = Uploader(local, store, said.append)
    uploader.upload(all_files=True)
    assert uploader.missing() == []
    lease.release()
    pull_state(store, tmp_path / "pulled", said.append)
    assert (tmp_path / "pulled" / "model.keras").read_bytes() == (
        local / "model.keras"
    ).read_bytes()
    assert Checkpoints(tmp_path / "pulled" / "checkpoints").last_step() == 40
    ended = command("runs", bucket)
    assert "finished" in ended.out, ended.err

    with Mirror(f"{bucket}/deep/run", tmp_path / "work") as mirror:
        run_training(tiny(), mirror.path, mirror=mirror)  # finished: nothing to train
        (mirror.path / "note.txt").write_text("later")
    assert store.read("note.txt") == b"later"
