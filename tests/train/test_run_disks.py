"""Disks that are full, read-only or changed under a run; saves that go on in a second thread."""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import threading
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_resnet_train import files, run_directory
from keras_resnet_train.background import Background
from keras_resnet_train.checkpoint import Checkpoints, CorruptCheckpointError
from keras_resnet_train.config import RunConfig
from keras_resnet_train.files import check_room, write_text
from keras_resnet_train.rundir import RunDirectory, open_run
from keras_resnet_train.session import run_training
from keras_resnet_train.snapshot import Progress, take_snapshot, write_weights

pytestmark = pytest.mark.tf

Tiny = Callable[..., RunConfig]


def test_work_in_a_second_thread() -> None:
    """In order, so many pieces at once, errors once, and the end waits."""
    done: list[int] = []
    go = threading.Event()

    def wait(number: int) -> None:
        assert go.wait(10)
        done.append(number)

    with Background(most=2) as background:
        background.submit(lambda: wait(1))
        background.submit(lambda: wait(2))
        threading.Timer(0.05, go.set).start()
        background.submit(lambda: wait(3))  # waits for the first
        assert done[0] == 1
    assert done == [1, 2, 3]

    def fail() -> None:
        raise OSError("full")

    with Background() as background:
        background.submit(fail)
        with pytest.raises(OSError, match="full"):
            background.wait()
        background.check()
        background.submit(fail)
        with pytest.raises(OSError, match="full"):
            while True:
                background.check()
    with pytest.raises(OSError, match="full"), Background() as background:
        background.submit(fail)
    with pytest.raises(KeyError), Background() as background:  # that error counts
        background.submit(fail)
        raise KeyError


def test_a_snapshot_does_not_change_with_the_variables(tmp_path: pathlib.Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), keras.layers.Dropout(0.5)])
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    snapshot = take_snapshot(model, optimizer, Progress(step=3))
    before = model.get_weights()
    for variable in [*model.weights, *optimizer.variables]:
        variable.assign(np.ones(variable.shape))
    with Background() as background:
        background.submit(lambda: Checkpoints(tmp_path).write(snapshot))
    for weight in model.get_weights():
        assert (weight == 1).all()
    assert Checkpoints(tmp_path).restore(model, optimizer) == Progress(step=3)
    for restored, expected in zip(model.get_weights(), before, strict=True):
        assert (restored == expected).all()
    assert (optimizer.variables[-1].numpy() == 0).all()
    write_weights(model, [np.full_like(each, 7) for each in before], tmp_path / "x.weights.h5")
    model.load_weights(tmp_path / "x.weights.h5")
    assert all((weight == 7).all() for weight in model.get_weights())


def test_a_disk_that_fills_while_a_run_trains(
    tiny: Tiny,
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run ends with one error, nothing half-written remains, and it resumes to the same end."""
    savez = np.savez

    def full(file: Any, **arrays: Any) -> None:
        if "step_00000030" in str(file):
            pathlib.Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    run, config = tmp_path / "run", tiny(checkpoint__every_steps=10)
    with pytest.raises(OSError, match="The disk is full: .*step_00000030 was not written. Free"):
        run_training(config, run)
    checkpoints = Checkpoints(run / "checkpoints")
    assert checkpoints.last_step() in (20, 40)
    assert not list(run.rglob(".step*"))
    monkeypatch.undo()

    # Moved since then, and in two processes at once: one is refused.
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.move(run, moved)
    with (
        RunDirectory(moved).locked(),
        pytest.raises(ValueError, match="Another process is training in .*moved"),
    ):
        run_training(config, moved)
    run_training(config, moved)
    pairs = zip(
        open_run(moved).model.get_weights(), open_run(finished_run).model.get_weights(), strict=True
    )
    assert all((ours == theirs).all() for ours, theirs in pairs)
    assert RunDirectory(moved).metrics["test"] == RunDirectory(finished_run).metrics["test"]


def test_a_disk_that_fills_at_the_end(tmp_path: pathlib.Path) -> None:
    """The model is named, as every other file is; nothing half-written remains."""

    class Model:
        def save(self, path: str) -> None:
            pathlib.Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="The disk is full: .*model.keras was not written. Free"):
        RunDirectory(tmp_path).write_model(Model())
    assert list(tmp_path.iterdir()) == []


def test_content_is_flushed_before_it_is_renamed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut leaves the new name with empty content."""
    flushed: set[int] = set()
    renamed: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        fsync(descriptor)
        flushed.add(os.fstat(descriptor).st_ino)

    def check(source: Any, target: Any) -> None:
        source = pathlib.Path(source)
        for file in source.iterdir() if source.is_dir() else [source]:
            assert file.stat().st_ino in flushed, target
        renamed.append(pathlib.Path(target).name)
        os.replace(source, target)

    monkeypatch.setattr(os, "fsync", note)
    for module in (files, run_directory):
        monkeypatch.setattr(module, "replace", check)
    files.write_text(tmp_path / "a.txt", "text")
    with files.new_text_file(tmp_path / "b.txt") as file:
        file.write("text")
    with files.new_directory(tmp_path / "c") as folder:
        (folder / "1").write_text("text")
        (folder / "2").write_text("text")
    model = types.SimpleNamespace(save=lambda path: pathlib.Path(path).write_bytes(b"model"))
    RunDirectory(tmp_path).write_model(model)
    assert renamed == ["a.txt", "b.txt", "c", "model.keras"]


def test_a_damaged_best_checkpoint(copied_run: pathlib.Path) -> None:
    """Named with its path; before the end of a run the last one stands for it."""
    checkpoints = Checkpoints(copied_run / "checkpoints")
    newest = checkpoints.steps()[-1]
    best = copied_run / "checkpoints" / "best"
    if not best.is_dir():
        shutil.copytree(newest, best)
    (copied_run / "model.keras").unlink()
    assert open_run(copied_run).weights == "best checkpoint"
    (best / "model.weights.h5").write_bytes(b"damaged")
    with pytest.raises(CorruptCheckpointError, match=r"h5 is not what was written \(.*best\)"):
        open_run(copied_run, "best")
    with pytest.warns(UserWarning, match="best checkpoint is damaged, and the last one is used"):
        assert open_run(copied_run).weights == "last checkpoint"


def test_a_read_only_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before the first step, by name, and left as it was."""

    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    (tmp_path / ".lock").touch()
    if os.name == "posix" and os.geteuid() != 0:
        tmp_path.chmod(0o555)
    else:  # root may write everywhere
        monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    try:
        with (
            pytest.raises(OSError, match="`--output` cannot be written: Permission.*Choose") as at,
            RunDirectory(tmp_path).locked(),
        ):
            pass
    finally:
        tmp_path.chmod(0o755)
    assert str(tmp_path) in str(at.value)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_directory_that_becomes_read_only(
    number: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is named, not a temporary one; the lock's removal hides no error and is released."""

    def refuse(path: Any, *args: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    def make(**options: Any) -> None:
        refuse(options["dir"] / (options["prefix"] + "abcd1234"))

    directory = RunDirectory(tmp_path / "run")
    message = f"history.csv was not written: {os.strerror(number)}. Make its directory writable"
    for _ in range(2):
        with (
            monkeypatch.context() as patch,
            pytest.raises(OSError, match=message) as raised,
            directory.locked(),
        ):
            patch.setattr("tempfile.mkstemp", make)
            patch.setattr(os, "remove", refuse)
            directory.write_history([])
        assert raised.value.errno == number


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_by_other_names(
    number: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota, a limit of a file's size; HDF5 states the number in its text only."""

    def fails(descriptor: int) -> None:
        raise OSError(f"Can't write data (file write failed: errno = {number}, ...)")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(OSError, match="The disk is full: .*x.txt was not written"):
        write_text(tmp_path / "x.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_room_is_asked_for_before_hdf5_writes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 ends the process with a segmentation fault where a disk fills while it writes."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    asked: list[int] = []

    def full(handle: int, offset: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, "No space left on device")

    def never(path: str) -> None:
        raise AssertionError("written")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(model, "save_weights", never)
    for save in (
        lambda: Checkpoints(tmp_path).save(model, optimizer, Progress(step=1)),
        lambda: Checkpoints(tmp_path).save_best(model, {"epoch": 1}),
    ):
        with pytest.raises(OSError, match="The disk is full: .* was not written"):
            save()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    path = Checkpoints(tmp_path).save(model, optimizer, Progress(step=1))
    assert asked[0] >= sum(file.stat().st_size for file in path.iterdir())

    def cannot(handle: int, offset: int, size: int) -> None:  # some file systems
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot, raising=False)
    check_room(tmp_path, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=9))
    with pytest.raises(OSError, match="No space left"):
        check_room(tmp_path, 10)
