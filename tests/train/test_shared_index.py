"""Workers that read the images of one folder together: each a share, and all know the rest."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gzip
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_resnet import get_spec
from keras_resnet_train.agreement import Agreement
from keras_resnet_train.config import DataConfig, RunConfig
from keras_resnet_train.data import ImageData, load_data, reading, shared_index
from keras_resnet_train.data.index import FileIndex, keep_beside
from keras_resnet_train.data.known import Read, Stamp
from keras_resnet_train.data.shared_index import Sharing
from keras_resnet_train.data.sources import FileSource
from keras_resnet_train.rundir import RunDirectory

pytestmark = pytest.mark.tf

SPEC = get_spec("cifar_resnet8")


@pytest.fixture
def root(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder of 24 images, of which 20 are of the training split."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shared_index, "_BLOCK", 2)
    monkeypatch.setattr(shared_index, "_SECONDS_BETWEEN_LOOKS", 0.01)
    for number in range(24):
        path = tmp_path / "data" / ("test" if number < 4 else "train") / "ab"[number % 2]
        path.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, 4, 3), number, "uint8")
        Image.fromarray(pixels).save(path / f"{number:02}.png")
    return tmp_path / "data"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The thread that has read an image, and the name of the image."""
    found: list[tuple[str, str]] = []
    content = FileSource.content

    def counted(self: FileSource, path: str) -> bytes:
        found.append((threading.current_thread().name, pathlib.Path(path).name))
        return content(self, path)

    monkeypatch.setattr(FileSource, "content", counted)
    return found


def started(
    roots: list[pathlib.Path],
    run: pathlib.Path,
    token: int = 5,
    patience: float = 20.0,
    *,
    stopped: bool = False,
) -> list[ImageData | str]:
    """Opens a folder as several workers do, each in a thread; returns its data or its error."""
    run.mkdir(exist_ok=True)

    def worker(index: int) -> ImageData | str:
        sharing = Sharing(run / "data_index.csv.gz", index, len(roots), token, patience)
        config = DataConfig(dataset=str(roots[index]))
        try:
            return load_data(config, SPEC, index=sharing, say=said.append)
        except ValueError as error:
            return str(error)
        except KeyboardInterrupt:
            assert stopped
            return "stopped"

    with concurrent.futures.ThreadPoolExecutor(len(roots)) as pool:
        return list(pool.map(worker, range(len(roots))))


said: list[str] = []


def test_each_image_is_read_by_one_worker(
    root: pathlib.Path, opened: list[Any], tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    data = started([root] * 3, run)
    assert sorted(name for _, name in opened) == sorted(path.name for path in root.rglob("*.png"))
    alone = load_data(DataConfig(dataset=str(root)), SPEC)
    for each in data:
        assert isinstance(each, ImageData)
        assert each.listing is not None
        assert alone.listing is not None
        assert each.listing.to_bytes() == alone.listing.to_bytes()
        assert each.notes == alone.notes
    # One image has changed: one worker reads it.
    opened.clear()
    os.utime(root / "train" / "a" / "10.png", ns=(1, 1))
    started([root] * 3, run, token=6)
    assert [name for _, name in opened] == ["10.png"]
    assert list(run.glob(".data_index*"))
    keep_beside(alone.index, run)
    assert [path.name for path in run.iterdir()] == ["data_index.csv.gz"]


def test_a_worker_that_gives_no_sign_is_not_waited_for(
    root: pathlib.Path, opened: list[Any], tmp_path: pathlib.Path
) -> None:
    run = tmp_path / "run"
    started([root] * 2, run, token=1)
    shutil.rmtree(tmp_path / "home")  # what is beside the run is of an earlier start
    opened.clear()
    said.clear()
    sharing = Sharing(run / "data_index.csv.gz", 0, 2, token=2, patience=0.1)
    data = load_data(DataConfig(dataset=str(root)), SPEC, index=sharing, say=said.append)
    assert len(opened) == 24
    assert len(data.train) == 20
    assert "no sign of worker 1: their images are read here" in said
    RunDirectory(run).sweep()
    assert not list(run.iterdir())


def test_copies_of_other_times_and_bad_images(
    root: pathlib.Path, opened: list[Any], tmp_path: pathlib.Path
) -> None:
    """A copy on a worker's own disk may be damaged where another one is not."""
    copy = pathlib.Path(shutil.copytree(root, tmp_path / "copy"))
    for path in copy.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    (copy / "train" / "a" / "12.png").write_bytes(b"")
    first, second = started([root, copy], tmp_path / "run")
    assert isinstance(first, ImageData)
    assert "1 of 24 images are unreadable: " in str(second)
    assert len(opened) == 48
    (root / "train" / "b" / "05.png").write_bytes(b"")
    errors = started([root] * 2, tmp_path / "other", token=3)
    assert all("1 of 24 images are unreadable: " in str(error) for error in errors)
    assert all("05.png (the file is empty)" in str(error) for error in errors)


def test_workers_that_are_stopped_while_they_read(
    root: pathlib.Path, opened: list[Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start goes on with what both have read, and takes no leftover for another run."""
    monkeypatch.setattr(reading, "_CHUNK", 2)
    monkeypatch.setattr(reading, "_threads", lambda: 1)
    content = FileSource.content
    stops = threading.Event()

    def stopped(self: FileSource, path: str) -> bytes:
        if stops.is_set() and len(opened) >= 14:
            raise KeyboardInterrupt
        return content(self, path)

    monkeypatch.setattr(FileSource, "content", stopped)
    stops.set()
    run = tmp_path / "run"
    assert started([root] * 2, run, patience=0.5, stopped=True) == ["stopped", "stopped"]
    (index,) = (tmp_path / "home").rglob("*.csv.gz")
    rows = gzip.decompress(index.read_bytes()).decode().splitlines()[1:]
    kept = {pathlib.Path(row.split(",")[0]).name for row in rows}
    assert 0 < len(kept) <= 14
    for name in (".token", ".lock", "..data_index.csv.gz.p0001_00.abcd_123"):
        (run / name).touch()
    assert len(list(run.glob(".data_index.csv.gz.s*"))) >= 2
    stops.clear()
    opened.clear()
    directory = RunDirectory(run)
    directory.check(RunConfig(epochs=1), "auto")
    directory.sweep()
    assert [path.name for path in run.iterdir()] == [".lock"]
    data = started([root] * 2, run, token=6)
    everything = {path.name for path in root.rglob("*.png")}
    assert sorted(name for _, name in opened) == sorted(everything - kept)
    alone = load_data(DataConfig(dataset=str(root)), SPEC)
    for each in data:
        assert isinstance(each, ImageData)
        assert each.listing is not None
        assert alone.listing is not None
        assert each.listing.to_bytes() == alone.listing.to_bytes()


def test_workers_of_one_machine_keep_what_both_have_read(root: pathlib.Path) -> None:
    """They write one file in the cache directory while they read."""
    indices = [FileIndex.open(root, None, {}) for _ in range(2)]
    for index, name in zip(indices, ("one", "two"), strict=True):
        index.add(str(root / name), Stamp(1, 1), Read("", name, ()))
        index.write()
    assert FileIndex.open(root, None, {}).records.keys() == {"one", "two"}


def test_a_worker_that_reads_does_not_wait() -> None:
    """`--worker-timeout` bounds waiting for others, not reading, which may take hours."""
    events: list[str] = []

    @contextlib.contextmanager
    def waiting() -> Iterator[None]:
        events.append("waits")
        yield
        events.append("goes on")

    def largest(values: Sequence[int]) -> Sequence[int]:
        events.append("all are there")
        return values

    agreement = Agreement(largest)
    with agreement.together("begin", waiting()):
        events.append("reads")
    assert events == ["reads", "waits", "all are there", "goes on"]
    assert agreement.token() != agreement.token()
