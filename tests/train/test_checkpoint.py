"""Checkpoints and atomic files: damage, full disks, interrupts."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import pathlib
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from keras_resnet_train.averaging import AveragingPlan, WeightAverages
from keras_resnet_train.checkpoint import (
    Checkpoints,
    CorruptCheckpointError,
    EarlierCheckpointError,
    Progress,
    bytes_needed,
)
from keras_resnet_train.files import new_directory, read_json, write_bytes, write_json, write_text

pytestmark = pytest.mark.tf

PROGRESS = Progress(7, 1 / 3, [{"epoch": 1, "loss": 0.1}], [0.1, 2.0, 3.0], 0.7, 1)


def make(seed: int = 0) -> tuple[keras.Model, keras.optimizers.Optimizer]:
    """A model and an optimizer with momentum, all of them drawn."""
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, name="a"), keras.layers.BatchNormalization()]
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    for variable in [*model.weights, *optimizer.variables]:
        if "float" in str(variable.dtype):
            variable.assign(rng.normal(size=variable.shape))
    optimizer.iterations.assign(seed)
    return model, optimizer


def values(model: Any, optimizer: Any) -> list[np.ndarray]:
    """The variables of both but for the learning rate, which is the schedule's."""
    own = [v for v in optimizer.variables if v.name != "learning_rate"]
    return [v.numpy() for v in [*model.weights, *own]]


def averages_of(model: Any, decay: float = 0.9) -> WeightAverages:
    """Averages that differ from the weights."""
    averages = WeightAverages(model, AveragingPlan(decay))
    for variable in averages.variables:
        variable.assign(variable + 1.0)
    return averages


def flip_bit(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def change_step(path: pathlib.Path) -> None:
    path.write_text(path.read_text().replace('"step": 2', '"step": 3'))


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def save_steps(directory: pathlib.Path, *steps: int, keep: int = 9) -> Checkpoints:
    """Checkpoints whose model and optimizer are `make(step)`."""
    checkpoints = Checkpoints(directory, keep)
    for step in steps:
        checkpoints.save(*make(step), Progress(step))
    return checkpoints


def test_round_trip(tmp_path: pathlib.Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    saved = make(3)
    path = checkpoints.save(*saved, PROGRESS)
    assert path == tmp_path / "checkpoints" / "step_00000007"
    assert sorted(p.name for p in path.iterdir()) == [
        "model.weights.h5",
        "optimizer.npz",
        "state.json",
    ]
    assert [p.name for p in checkpoints.directory.iterdir()] == [path.name]
    restored = make(4)
    assert checkpoints.restore(*restored) == PROGRESS
    for value, expected in zip(values(*restored), values(*saved), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_nothing_to_restore(tmp_path: pathlib.Path) -> None:
    assert Checkpoints(tmp_path / "none").restore(*make()) is None
    assert Checkpoints(tmp_path).restore(*make()) is None


def test_keep(tmp_path: pathlib.Path) -> None:
    checkpoints = save_steps(tmp_path, 1, 2, 3, 10, keep=2)
    assert [p.name for p in checkpoints.steps()] == ["step_00000003", "step_00000010"]
    restored = make()
    assert checkpoints.restore(*restored) == Progress(10)
    np.testing.assert_array_equal(values(*restored)[0], values(*make(10))[0])


def test_steps_beyond_eight_digits_are_in_order(tmp_path: pathlib.Path) -> None:
    checkpoints = save_steps(tmp_path, 99_999_999, 100_000_000)
    assert checkpoints.restore(*make()) == Progress(100_000_000)


def test_saving_a_step_again_replaces_it(tmp_path: pathlib.Path) -> None:
    checkpoints = save_steps(tmp_path, 2)
    model, optimizer = make(8)
    checkpoints.save(model, optimizer, Progress(2, 5.0))
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000002"]
    restored = make()
    assert checkpoints.restore(*restored) == Progress(2, 5.0)
    np.testing.assert_array_equal(values(*restored)[0], values(model, optimizer)[0])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.weights.h5", flip_bit, "model.weights.h5 is not what was written"),
        ("model.weights.h5", truncate, "model.weights.h5 is not what was written"),
        ("model.weights.h5", pathlib.Path.unlink, "model.weights.h5 is not what was written"),
        ("optimizer.npz", flip_bit, "optimizer.npz is not what was written"),
        ("optimizer.npz", pathlib.Path.unlink, "optimizer.npz is not what was written"),
        ("state.json", pathlib.Path.unlink, "state.json is unreadable"),
        ("state.json", truncate, "state.json is unreadable"),
        ("state.json", change_step, "state.json is not what was written"),
        ("state.json", lambda path: path.write_text("[]"), "state.json is unreadable"),
        ("state.json", lambda path: path.write_bytes(b"\xff"), "state.json is unreadable"),
    ],
)
def test_damage_falls_back_to_the_one_before(
    name: str, damage: Callable[[pathlib.Path], Any], message: str, tmp_path: pathlib.Path
) -> None:
    checkpoints = save_steps(tmp_path, 1, 2)
    damage(tmp_path / "step_00000002" / name)
    said: list[str] = []
    restored = make()
    assert checkpoints.restore(*restored, said.append) == Progress(1)
    (line,) = said
    assert line.startswith(f"Checkpoint step_00000002 is damaged and skipped: {message}")
    for value, expected in zip(values(*restored), values(*make(1)), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_damaged_checkpoints_of_later_steps_go_first(tmp_path: pathlib.Path) -> None:
    """They are above all that the resumed run writes, and must not count as its newest ones."""
    checkpoints = save_steps(tmp_path, 1, 2, 90, 91, keep=9)
    for step in (90, 91):
        truncate(tmp_path / f"step_000000{step}" / "model.weights.h5")
    assert checkpoints.restore(*make(), say=lambda _: None) == Progress(2)
    Checkpoints(tmp_path, keep=2).save(*make(3), Progress(3))
    assert [path.name for path in checkpoints.steps()] == ["step_00000002", "step_00000003"]


def test_no_sound_checkpoint(tmp_path: pathlib.Path) -> None:
    checkpoints = save_steps(tmp_path, 1, 2)
    for path in checkpoints.steps():
        flip_bit(path / "model.weights.h5")
    said: list[str] = []
    with pytest.raises(CorruptCheckpointError, match="None of the 2 checkpoints in .* is sound"):
        checkpoints.restore(*make(), said.append)
    assert len(said) == 2
    with pytest.raises(CorruptCheckpointError, match="model.weights.h5 is not what was written"):
        checkpoints.load_weights(make()[0], "last")


def test_an_optimizer_of_another_kind_is_refused(tmp_path: pathlib.Path) -> None:
    checkpoints = save_steps(tmp_path, 1)
    model, _ = make()
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)
    said: list[str] = []
    with pytest.raises(CorruptCheckpointError, match="None of the 1"):
        checkpoints.restore(model, optimizer, said.append)
    assert "do not fit the optimizer's" in said[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"step": None},
            "its 'step' must be a whole number of 64 bits, not negative. Received:",
        ),
        ({"step": -1}, "its 'step' must be"),
        ({"step": 10**30}, "its 'step' must be"),
        ({"step": 2.0}, "its 'step' must be"),
        ({"step": True}, "its 'step' must be"),
        ({"step": 3}, "states step 3"),
        ({"seconds": None}, "its 'seconds' must be a number of seconds"),
        ({"seconds": float("nan")}, "its 'seconds' must be a number of seconds"),
        ({"seconds": 10**400}, "its 'seconds' must be a number of seconds"),
        ({"history": [{"loss": "=cmd|x"}]}, "its 'history' must be a list of objects of numbers"),
        ({"history": "x" * 10**6}, "its 'history' must be .*Received: x{80}\\)"),
        ({"epoch_sums": [0.0] * 9}, "its 'epoch_sums' must be a list of 3 numbers"),
        ({"best_value": "a"}, "its 'best_value' must be a number"),
        ({"best_epoch": 1.5}, "its 'best_epoch' must be a whole number"),
        ({"other": 1}, "unknown field 'other'"),
        ([1], "its state is no object"),
    ],
)
def test_states_of_other_types(tmp_path: pathlib.Path, change: Any, message: str) -> None:
    """With right hashes. Such runs ended in `unsupported format string`, or began at step 0."""
    checkpoints = save_steps(tmp_path, 1, 2)
    path = tmp_path / "step_00000002" / "state.json"
    content = read_json(path)
    state = change if isinstance(change, list) else content["state"] | change
    digest = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    write_json(path, content | {"state": state, "state_sha256": digest})
    said: list[str] = []
    assert checkpoints.restore(*make(), say=said.append) == Progress(1)
    assert re.search(f"step_00000002 is damaged and skipped: .*{message}", said[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "File is not a zip file"),
        (npz(x=np.zeros(2)), "holds 1 variables that do not fit the optimizer's"),
        (npz(x=np.array([{}], object)), "holds Python objects"),
        (npz(x=np.array(["a"])), "optimizer.npz holds <U1 as 'x'"),
    ],
)
def test_optimizers_of_other_types(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    checkpoints = save_steps(tmp_path, 1, 2)
    path = tmp_path / "step_00000002"
    (path / "optimizer.npz").write_bytes(content)
    stored = read_json(path / "state.json")
    stored["sha256"]["optimizer.npz"] = hashlib.sha256(content).hexdigest()
    write_json(path / "state.json", stored)
    said: list[str] = []
    assert checkpoints.restore(*make(), say=said.append) == Progress(1)
    assert message in said[0]


def test_best(tmp_path: pathlib.Path) -> None:
    checkpoints = save_steps(tmp_path, 1, keep=1)
    with pytest.raises(FileNotFoundError, match="No best checkpoint in"):
        checkpoints.load_weights(make()[0])
    for seed in (5, 6):
        checkpoints.save_best(make(seed)[0], {"epoch": seed})
    checkpoints.save(*make(9), Progress(9))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best", "step_00000009"]
    model, _ = make()
    assert checkpoints.load_weights(model) == {"epoch": 6}
    np.testing.assert_array_equal(model.get_weights()[0], make(6)[0].get_weights()[0])
    assert checkpoints.load_weights(model, "last")["step"] == 9
    np.testing.assert_array_equal(model.get_weights()[0], make(9)[0].get_weights()[0])
    truncate(tmp_path / "best" / "model.weights.h5")
    with pytest.raises(CorruptCheckpointError, match="model.weights.h5 is not what was written"):
        checkpoints.load_weights(model)
    empty = Checkpoints(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="No last checkpoint in"):
        empty.load_weights(model, "last")


def test_a_full_disk(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = save_steps(tmp_path, 1)

    def savez(file: Any, **arrays: Any) -> None:
        pathlib.Path(file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(OSError, match="The disk is full: .*step_00000002 was not written. Free"):
        checkpoints.save(*make(2), Progress(2))
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000001"]
    with pytest.raises(OSError, match="The disk is full"):
        checkpoints.save(*make(2), Progress(1))  # the one that stands, anew
    assert checkpoints.restore(*make()) == Progress(1)


def test_an_interrupt_leaves_no_part(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another file is being written at that moment, in the second thread."""
    checkpoints = save_steps(tmp_path, 1)
    begun, threads = threading.Event(), []
    savez = np.savez

    def slow(file: Any, **arrays: Any) -> None:
        threads.append(threading.current_thread())
        begun.set()
        time.sleep(0.2)
        savez(file, **arrays)

    model, optimizer = make(2)

    def interrupted(path: str) -> None:
        assert begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", slow)
    monkeypatch.setattr(model, "save_weights", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(model, optimizer, Progress(2))
    assert [p.name for p in tmp_path.iterdir()] == ["step_00000001"]
    assert not any(thread.is_alive() for thread in threads)


def test_averages(tmp_path: pathlib.Path) -> None:
    """They come back with the weights, and are what is evaluated."""
    checkpoints, (model, optimizer) = Checkpoints(tmp_path), make(3)
    averages = averages_of(model)
    expected = [variable.numpy() for variable in averages.variables]
    path = checkpoints.save(model, optimizer, PROGRESS, averages)
    assert (path / "averaged.weights.h5").is_file()
    other, optimizer = make(4)
    read = WeightAverages(other, AveragingPlan(0.9))
    assert checkpoints.restore(other, optimizer, averages=read) == PROGRESS
    for found, wanted in zip(read.variables, expected, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)
    for found, wanted in zip(other.get_weights(), make(3)[0].get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    checkpoints.load_weights(other, "last")
    for found, wanted in zip(other.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    # Before the first average there is none to read.
    checkpoints.save(*make(5), Progress(8))
    later = WeightAverages(other, AveragingPlan(at_steps=(9,)))
    assert checkpoints.restore(*make(), averages=later) == Progress(8)


def test_checkpoints_of_earlier_versions(tmp_path: pathlib.Path) -> None:
    """They had no learning rate among the variables, and averages in Keras's optimizer."""
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    for averaged in (False, True):
        model, _ = make(3)
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, use_ema=averaged)
        optimizer.build(model.trainable_variables)
        optimizer.iterations.assign(5)
        averages = averages_of(model) if averaged else None
        Checkpoints(tmp_path).save(model, optimizer, Progress(5 + averaged), averages)
        if not averaged:
            _, restored = made = make(4)
            assert Checkpoints(tmp_path).restore(*made) == Progress(5)
            assert int(restored.iterations) == 5
    message = r"step_00000006 is of an earlier version.*cannot be continued. Start again in another"
    with pytest.raises(EarlierCheckpointError, match=message) as caught:
        Checkpoints(tmp_path).restore(*make(4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("averaged", [False, True])
def test_bytes_needed_bounds_what_is_written(averaged: bool, tmp_path: pathlib.Path) -> None:
    """Three values per weight with AdamW's moments; four with averages."""
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(1000)])
    optimizer = keras.optimizers.AdamW()
    optimizer.build(model.trainable_variables)
    averages = averages_of(model) if averaged else None
    path = Checkpoints(tmp_path).save(model, optimizer, Progress(), averages)
    size = sum(file.stat().st_size for file in path.iterdir())
    values = (4 if averaged else 3) * model.count_params()
    assert 4 * values <= size <= bytes_needed(model, optimizer, averaged=averaged) <= 1.5 * size


# Files.


def test_files_are_replaced_whole(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": [1, 0.1]})
    assert read_json(path) == {"a": [1, 0.1]}
    assert path.stat().st_mode & 0o777 == 0o644
    write_text(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="The disk is full: .*file.json was not written"):
        write_bytes(path, b"other")
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00"])
def test_a_file_that_is_no_json(content: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is not JSON"):
        read_json(tmp_path / "x.json")


def test_directories_are_whole_or_absent(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt), new_directory(path) as temporary:
        (temporary / "half").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    for name in ("one", "other"):
        with new_directory(path) as temporary:
            (temporary / name).write_text(name)
            assert path.exists() == (name == "other")
            assert not (path / name).exists()
        assert [p.name for p in path.iterdir()] == [name]
    assert [p.name for p in tmp_path.iterdir()] == ["made"]
    assert path.stat().st_mode & 0o777 == 0o755


def test_other_errors_keep_their_words(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="none"):
        write_text(tmp_path / "none" / "file", "x")


def test_sweep(tmp_path: pathlib.Path) -> None:
    """What a killed process leaves goes; a directory that it had moved away comes back."""
    checkpoints = save_steps(tmp_path, 1, 2)
    (tmp_path / ".step_00000003.abcd").mkdir()
    (tmp_path / ".best.old.wxyz").mkdir()
    (tmp_path / "step_00000002").rename(tmp_path / ".best.old.wxyz" / "replaced")
    (tmp_path / ".step_00000001.old.qrst").mkdir()  # its successor did arrive
    checkpoints.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "step_00000001"]
    Checkpoints(tmp_path / "none").sweep()
