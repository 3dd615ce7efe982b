"""Windows, as far as it can be seen elsewhere: its locks, renames, signals and missing modules."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import types

import pytest

from keras_resnet.weights.files import file_system
from keras_resnet.weights.files.file_system import lock, replace, unlock

fcntl = pytest.importorskip("fcntl", reason="stands for Windows's locks")
ROOT = pathlib.Path(__file__).parents[2]


def windows_locking(descriptor: int, mode: int, size: int) -> None:
    """`msvcrt.locking` as Windows documents it: PermissionError if another descriptor has it."""
    assert (mode, size) == (2, 1)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None


@pytest.fixture(params=["fcntl", "msvcrt"])
def locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of locks; the second needs a module of Windows."""
    if request.param == "msvcrt":
        monkeypatch.setitem(sys.modules, "fcntl", None)
        module = types.ModuleType("msvcrt")
        module.__dict__.update(LK_NBLCK=2, locking=windows_locking)
        monkeypatch.setitem(sys.modules, "msvcrt", module)
        monkeypatch.setattr(file_system, "_SECONDS_BETWEEN_ATTEMPTS", 0.01)
    return str(request.param)


@pytest.mark.usefixtures("locks")
def test_one_holder_at_a_time(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.lock"
    first = lock(path)
    assert first is not None
    with pytest.raises(BlockingIOError):
        lock(path, wait=False)
    second: list[int | None] = []
    waits = threading.Thread(target=lambda: second.append(lock(path)))
    waits.start()
    waits.join(0.1)
    assert waits.is_alive()
    unlock(first, path, remove=True)
    waits.join(10)
    assert second[0] is not None  # on the file's successor: the first holder removed it
    with pytest.raises(BlockingIOError):
        lock(path, wait=False)
    unlock(second[0], path, remove=False)
    assert path.exists()


def test_without_any_locks(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    assert lock(tmp_path / "a.lock") is None


def test_a_lock_is_closed_before_windows_removes_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.lock"
    descriptor = lock(path)
    assert descriptor is not None
    monkeypatch.setattr(file_system, "_WINDOWS", True)

    def remove(name: object) -> None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        raise PermissionError(13, "another process waits for it")

    with monkeypatch.context() as patch:
        patch.setattr(os, "remove", remove)
        unlock(descriptor, path, remove=True)


def test_windows_renames_after_a_scanner_has_closed_the_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "new", tmp_path / "old"
    source.touch()
    failures = [PermissionError(13, "Access is denied")] * 3
    renamed = os.replace

    def busy(*names: object) -> None:
        if failures:
            raise failures.pop()
        renamed(*names)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(file_system, "_SECONDS_BETWEEN_ATTEMPTS", 0)
    with pytest.raises(PermissionError, match="denied"):
        replace(source, target)  # elsewhere it is an error at once
    monkeypatch.setattr(file_system, "_WINDOWS", True)
    replace(source, target)
    assert target.is_file()
    failures += [PermissionError(13, "Access is denied")] * 20
    with pytest.raises(PermissionError, match=f"{source} was not replaced: another program may"):
        replace(target, source)


@pytest.mark.tf
def test_ctrl_break_stops_as_sigterm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from keras_resnet_train.signals import StopSignals

    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    before = signal.getsignal(signal.SIGUSR1)
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGUSR1)
    assert signals.received == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.tf
@pytest.mark.multi_process
def test_training_without_the_modules_that_windows_lacks(tmp_path: pathlib.Path) -> None:
    """Every module imports, and a run trains, saves, is opened and exported."""
    code = """
        import importlib, pathlib, pkgutil, sys, warnings
        for name in ("fcntl", "resource", "pwd", "grp", "termios"):
            sys.modules[name] = None
        import os, signal
        flush = os.fsync
        def fsync(descriptor):  # as Windows: EBADF for a descriptor that is open for reading only
            import errno
            try:
                os.write(descriptor, b"")
            except OSError:
                raise OSError(errno.EBADF, "Bad file descriptor")
            flush(descriptor)
        os.fsync = fsync
        import keras_resnet, keras_resnet_train
        for package in (keras_resnet, keras_resnet_train):
            for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
                if not info.name.endswith("__main__") and ".tuning" not in info.name:
                    importlib.import_module(info.name)
        from keras_resnet_train.recipes import get_recipe
        from keras_resnet_train.rundir import open_run
        from keras_resnet_train.session import run_training
        output = pathlib.Path(sys.argv[1])
        changes = {"data.image_size": 8, "model.spec.widths": [4, 4, 4], "steps": 4}
        config = get_recipe("digits").configure("cifar_resnet8", changes)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run_training(config, output)
        print([str(w.message) for w in caught if "without locks" in str(w.message)])
        print(open_run(output).weights)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[-1] == "model.keras"
    assert lines[-2].count("is on a file system without locks") == 1
    assert [line for line in lines if line.startswith("Note: The warm-up of recipe digits")] == [
        "Note: The warm-up of recipe digits, 39 steps, is not shorter than the run of 4 steps: "
        "it is shortened to 0 steps"
    ]


def test_the_constructor_is_one_that_every_keras_saves_the_graph_of() -> None:
    """Before 3.15 Keras compares the signature, and loads only with these two names."""
    import inspect

    from keras_resnet import ResNet

    signature = inspect.getfullargspec(ResNet.__init__)
    assert (signature.args, signature.varargs, signature.varkw) == (["self"], "args", "kwargs")
