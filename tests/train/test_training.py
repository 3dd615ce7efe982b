"""Whole runs in one process: their files, resuming, and their ends."""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import pathlib
import re
import shutil
import signal
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import build
from keras_resnet_train import preparation
from keras_resnet_train.checkpoint import Checkpoints
from keras_resnet_train.config import RunConfig, differences, load_config, with_changes
from keras_resnet_train.console import Console
from keras_resnet_train.data import (
    Share,
    TrainingPlan,
    evaluation_batches,
    resolve_data,
    training_batches,
)
from keras_resnet_train.errors import TrainingDivergedError, TrainingStoppedError
from keras_resnet_train.evaluation import evaluate
from keras_resnet_train.files import read_json
from keras_resnet_train.rundir import RunDirectory, open_run, spec_of
from keras_resnet_train.session import run_training
from keras_resnet_train.trainer import Trainer

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("without_pictures")]

# One unit of 4 filters: tracing the graph takes most of a run's time.
SMALL = {"model__spec__depths": [1], "model__spec__widths": [4]}
Tiny = Callable[..., RunConfig]
TrainUntil = Callable[[int, RunConfig, pathlib.Path], None]


class PowerCutError(Exception):
    """Whatever ends a process."""


class Recorder(keras.callbacks.Callback):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []
        self.logs: list[Any] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.seen.append(("train begins", 0))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(("epoch begins", epoch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(("batch", batch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(("epoch", epoch))
        self.logs.append(logs)

    def on_train_end(self, logs: Any = None) -> None:
        self.seen.append(("train", 0))


def history(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows but for the time they took."""
    with (path / "history.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def weights(path: pathlib.Path) -> list[np.ndarray]:
    return keras.models.load_model(path / "model.keras").get_weights()


def assert_same_run(one: pathlib.Path, other: pathlib.Path) -> None:
    """Equal to the last bit: weights, history and measurements."""
    for value, expected in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert history(one) == history(other)
    found, expected = (read_json(path / "metrics.json") for path in (one, other))
    assert found["test"] == expected["test"]
    assert found["validation"] == expected["validation"]
    assert found["training"]["best_epoch"] == expected["training"]["best_epoch"]


# A finished run.


def test_files(finished_run: pathlib.Path, tiny: Tiny) -> None:
    for name in (
        "config.json",
        "dataset.json",
        "history.csv",
        "labels.txt",
        "metrics.json",
        "model.keras",
        "checkpoints/best/model.weights.h5",
        "checkpoints/step_00000040/model.weights.h5",
        "checkpoints/step_00000040/optimizer.npz",
    ):
        assert (finished_run / name).is_file(), name
    assert len(list((finished_run / "logs").glob("events.out.tfevents*"))) == 1
    assert load_config(finished_run / "config.json") == tiny()
    assert (finished_run / "labels.txt").read_text().split() == list("0123456789")
    facts = read_json(finished_run / "dataset.json")
    assert facts["examples"] == {"train": 1257, "validation": 180, "test": 360}
    assert facts["preprocessing"]["size"] == [8, 8]
    assert not list(finished_run.rglob(".*tmp*")) + list(finished_run.glob(".*.keras"))


def test_history(finished_run: pathlib.Path) -> None:
    rows = [{k: float(v) for k, v in row.items()} for row in history(finished_run)]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["step"] for row in rows] == [20, 39, 40]  # 1257 / 64 steps an epoch
    assert rows[1]["loss"] < 0.9 * rows[0]["loss"]
    assert rows[0]["accuracy"] < rows[1]["accuracy"] < 1
    # Cosine: the last update of an epoch is counted from 0.
    cosine = [0.1 * (1 + np.cos(np.pi * (row["step"] - 1) / 40)) for row in rows]
    assert [row["learning_rate"] for row in rows] == pytest.approx(cosine, rel=1e-4)


def test_the_model_reaches_what_was_reported(finished_run: pathlib.Path, tiny: Tiny) -> None:
    config = tiny()
    data, preprocess = resolve_data(config, spec_of(config))
    model = keras.models.load_model(finished_run / "model.keras")
    metrics = read_json(finished_run / "metrics.json")
    for split in ("validation", "test"):
        source = data.split(split)
        logits = np.asarray(model(preprocess.normalize(source.images), training=False), "float64")
        confusion = np.zeros((10, 10), int)
        np.add.at(confusion, (source.labels, logits.argmax(axis=1)), 1)
        assert confusion.tolist() == metrics[split]["confusion"]
        assert metrics[split]["accuracy"] == np.trace(confusion) / len(source)
        picked = np.take_along_axis(logits, source.labels[:, None], axis=1)[:, 0]
        loss = (np.log(np.exp(logits).sum(axis=1)) - picked).mean()
        assert metrics[split]["loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["test"]["examples"] == 360
    training = metrics["training"]
    assert (training["steps"], training["epochs"], training["replicas"]) == (40, 3, 1)
    assert training["images_per_second"] > 0
    assert training["chosen_by"] == "validation accuracy"
    best = max(
        history(finished_run), key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"]))
    )
    assert training["best_epoch"] == int(best["epoch"])
    assert metrics["validation"]["accuracy"] == pytest.approx(float(best["val_accuracy"]))
    figures = read_json(finished_run / "checkpoints" / "best" / "state.json")["state"]
    assert figures == {
        "epoch": int(best["epoch"]),
        "val_accuracy": float(best["val_accuracy"]),
        "val_loss": float(best["val_loss"]),
    }


def test_opening_a_run(finished_run: pathlib.Path, copied_run: pathlib.Path) -> None:
    run = open_run(finished_run)
    assert (run.weights, run.class_names) == ("model.keras", tuple("0123456789"))
    for value, expected in zip(run.model.get_weights(), weights(finished_run), strict=True):
        np.testing.assert_array_equal(value, expected)
    # The finished model is the best checkpoint's; without it, that is what is opened.
    (copied_run / "model.keras").unlink()
    unfinished = open_run(copied_run)
    assert unfinished.weights == "best checkpoint"
    last = open_run(finished_run, "last")
    assert last.weights == "last checkpoint"
    for value, expected in zip(unfinished.model.get_weights(), weights(finished_run), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_runs_that_cannot_be_opened(copied_run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match="none is not a run: there is nothing"):
        open_run(tmp_path / "none")
    (copied_run / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match="dataset.json is not what was written: KeyError"):
        open_run(copied_run)
    (copied_run / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match="has not begun to train"):
        open_run(copied_run)


def test_nothing_is_left_to_train(
    finished_run: pathlib.Path, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*.*")}
    free = tiny(runtime__steps_per_call=3, checkpoint__every_steps=1, checkpoint__keep=5)
    run_training(free, finished_run)
    assert "holds this run, finished; nothing to train" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*.*")}
    assert {p: t for p, t in after.items() if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }


def test_another_run_is_in_the_directory(finished_run: pathlib.Path, tiny: Tiny) -> None:
    with pytest.raises(ValueError, match="differs in optimizer.momentum: 0.9 then, 0.8 now. Give"):
        run_training(tiny(optimizer__momentum=0.8), finished_run)
    with pytest.raises(ValueError, match="seed: 0 then, 1 now; steps: 40 then, 41 now"):
        run_training(tiny(seed=1, steps=41), finished_run)
    with pytest.raises(ValueError, match="holds a run already and --resume is never"):
        run_training(tiny(), finished_run, resume="never")


# Refusals leave the directory as it was.


def test_foreign_files(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ValueError, match="holds files and no config.json, so it is not a run"):
        run_training(tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
    with pytest.raises(ValueError, match="`--output` must be a directory. Received: .*photo.jpg"):
        run_training(tiny(), tmp_path / "photo.jpg")


@pytest.mark.parametrize("there", [False, True])
def test_a_refused_run_leaves_nothing(there: bool, tmp_path: pathlib.Path, tiny: Tiny) -> None:
    output = tmp_path / "run"
    if there:
        output.mkdir()
    with pytest.raises(ValueError, match="`classes` must match the data"):
        run_training(tiny(data__classes=7), output)
    with pytest.raises(ValueError, match="must be shorter than the run of 40 steps"):
        run_training(tiny(schedule__warmup_steps=40), output)
    assert not output.exists()


def test_no_room_for_the_checkpoints(
    tmp_path: pathlib.Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**30, 2**30 - 2**20, 2**20))
    message = "run has 1 MiB free and the run's checkpoints need about 4 MiB"
    with pytest.raises(OSError, match=message):
        run_training(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_directory_in_use(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    with (tmp_path / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="Another process is training in"):
            run_training(tiny(), tmp_path)


def test_a_start_cut_short_is_no_obstacle(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    """Killed while it wrote its first file: the same command trains."""
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.json.ab1_d2ef").write_text("{")
    RunDirectory(tmp_path).check(tiny(), "auto")


def test_a_start_cut_short_later_is_a_run(
    tmp_path: pathlib.Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its config.json stands before its other files."""

    def cut(path: pathlib.Path, values: Any) -> None:
        raise PowerCutError(path)

    monkeypatch.setattr("keras_resnet_train.run_directory.write_json", cut)
    with pytest.raises(PowerCutError, match="dataset.json"):
        run_training(tiny(), tmp_path)
    RunDirectory(tmp_path).check(tiny(), "auto")
    with pytest.raises(FileNotFoundError, match="has not begun to train"):
        open_run(tmp_path)


# Resuming.


def resumable(tiny: Tiny) -> RunConfig:
    return tiny(
        steps=13,
        batch_size=160,  # 7.9 steps per epoch
        optimizer__ema=0.5,
        optimizer__label_smoothing=0.1,
        augment__flip=True,
        model__spec__depths=[2],
        model__spec__widths=[4],
        model__spec__stochastic_depth=0.4,  # the state of its random numbers resumes too
        runtime__steps_per_call=3,
        checkpoint__every_steps=2,
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> pathlib.Path:
    path = tmp_path_factory.mktemp("runs") / "uninterrupted"
    run_training(resumable(tiny), path)
    return path


def test_interrupted_runs_end_as_if_they_had_not_been(
    uninterrupted: pathlib.Path,
    tmp_path: pathlib.Path,
    train_until: TrainUntil,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Cut within the first epoch and after its end; the newest checkpoint then damaged.

    Each session starts from the config.json alone.
    """
    path = tmp_path / "run"
    config = load_config(uninterrupted / "config.json")
    checkpoints = Checkpoints(path / "checkpoints")
    train_until(5, config, path)
    assert not (path / "model.keras").exists()
    assert [p.name for p in checkpoints.steps()] == ["step_00000002", "step_00000004"]
    train_until(11, config, path)
    assert "Resuming at step 4 of 13" in capsys.readouterr().out
    assert [p.name for p in checkpoints.steps()] == ["step_00000008", "step_00000010"]
    damaged = path / "checkpoints" / "step_00000010" / "model.weights.h5"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    run_training(config, path)
    said = capsys.readouterr().out
    assert "step_00000010 is damaged and skipped: model.weights.h5 is not what was" in said
    assert "Resuming at step 8 of 13" in said
    assert_same_run(path, uninterrupted)
    assert (path / "config.json").read_text() == (uninterrupted / "config.json").read_text()
    assert differences(config, load_config(path / "config.json")) == []


def test_the_last_checkpoint_of_an_average_is_the_average(uninterrupted: pathlib.Path) -> None:
    best, last = open_run(uninterrupted, "best"), open_run(uninterrupted, "last")
    assert (best.weights, last.weights) == ("best checkpoint", "last checkpoint")
    averaged = last.model.get_layer("logits").kernel.numpy()
    newest = Checkpoints(uninterrupted / "checkpoints").steps()[-1]
    last.model.load_weights(newest / "model.weights.h5")
    assert np.abs(last.model.get_layer("logits").kernel.numpy() - averaged).max() > 1e-3


def test_the_best_weights_may_be_newer_than_the_checkpoint(
    tmp_path: pathlib.Path, tiny: Tiny
) -> None:
    """Cut between the two: the figures of the best epoch are those of the weights on the disk."""

    class CutAtEpoch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise PowerCutError

    class Stop(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.model.stop_training = True

    config = tiny(**SMALL, steps=10, batch_size=256, checkpoint__every_steps=6)
    with pytest.raises(PowerCutError):
        run_training(config, tmp_path, callbacks=[CutAtEpoch()])
    best = read_json(tmp_path / "checkpoints" / "best" / "state.json")["state"]
    assert best["epoch"] == 2  # else this test tests nothing
    run_training(config, tmp_path, callbacks=[Stop()])
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["training"]["steps"] == 6
    assert metrics["training"]["best_epoch"] == 2
    assert metrics["validation"]["accuracy"] == pytest.approx(best["val_accuracy"])


# Callbacks, precision, divergence.


def test_the_pictures_of_a_run_are_made_once(
    tmp_path: pathlib.Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard shows them at the start, and the report at the end."""
    made = []
    blank = preparation.augmented_examples  # by `without_pictures`
    monkeypatch.setattr(
        preparation, "augmented_examples", lambda *args: made.append(args) or blank(*args)
    )
    run_training(tiny(steps=1), tmp_path)
    assert len(made) == 1


def test_callbacks(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    class StopAfter(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = epoch == 1

    recorder = Recorder()
    config = tiny(
        **SMALL,
        steps=25,
        batch_size=256,
        runtime__steps_per_call=3,
        checkpoint__every_steps=0,
        checkpoint__every_minutes=0,
    )
    run_training(config, tmp_path, callbacks=[recorder, StopAfter()])
    assert recorder.seen == [
        ("train begins", 0),
        ("epoch begins", 0),
        ("batch", 2),
        ("batch", 4),
        ("epoch", 0),
        ("epoch begins", 1),
        ("batch", 7),
        ("batch", 9),
        ("epoch", 1),
        ("train", 0),
    ]
    assert [row["epoch"] for row in recorder.logs] == [1, 2]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(
        recorder.logs[0]
    )
    assert len(history(tmp_path)) == 2
    assert read_json(tmp_path / "metrics.json")["training"]["steps"] == 10
    assert open_run(tmp_path).weights == "model.keras"
    # Without a number of steps the ends of epochs are saved.
    saved = [path.name for path in Checkpoints(tmp_path / "checkpoints").steps()]
    assert saved == ["step_00000005", "step_00000010"]


def test_a_loss_that_is_no_number(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch + 1 == 8:
                kernel = self.model.trainable_variables[-2]
                kernel.assign(np.full(kernel.shape, np.nan))

    config = tiny(
        **SMALL,
        runtime__steps_per_call=2,
        checkpoint__every_steps=6,
        schedule__kind="constant",
    )
    message = (
        r"The loss became nan at step 8 \(epoch 1\), at learning rate 0.2. Try, with another "
        r"--output, a lower one \(--learning-rate 0.02\).*The last checkpoint is step_00000006"
    )
    with pytest.raises(TrainingDivergedError, match=message) as caught:
        run_training(config, tmp_path, callbacks=[Break()])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.keras").exists()


def test_a_rate_that_is_far_too_high(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    """The error names the step within a call of several."""
    config = tiny(**SMALL, schedule__learning_rate=1e30, runtime__steps_per_call=10)
    with pytest.raises(TrainingDivergedError, match="No checkpoint was written") as caught:
        run_training(config, tmp_path)
    match = re.search(r"became (inf|nan) at step (\d+)", str(caught.value))
    assert match is not None
    assert 0 < int(match[2]) < 9


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    """The loss of the last step before a checkpoint may be finite and its update not."""

    class Break(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 11:
                kernel = self.model.get_layer("logits").kernel
                kernel.assign(kernel * np.nan)

    config = tiny(**SMALL, steps=20, runtime__steps_per_call=2, checkpoint__every_steps=6)
    message = r"The loss became nan at step 12 .*The last checkpoint is step_00000006"
    with pytest.raises(TrainingDivergedError, match=message):
        run_training(config, tmp_path, callbacks=[Break()])
    names = sorted(path.name for path in (tmp_path / "checkpoints").glob("step_*"))
    assert names == ["step_00000006"]


def test_without_validation_the_test_split_is_monitored(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    config = tiny(**SMALL, steps=2, batch_size=1257)
    data, preprocess = resolve_data(config, spec_of(config))
    trainer = Trainer(
        config,
        dataclasses.replace(data, validation=None),
        preprocess,
        RunDirectory(tmp_path),
        tf.distribute.get_strategy(),
        Console(quiet=True),
    )
    progress = trainer.fit()
    assert {"test_loss", "test_accuracy"} <= progress.history[0].keys()
    assert not {"val_loss", "val_accuracy"} & progress.history[0].keys()
    assert progress.best_value is None


def test_without_test_images_nothing_is_evaluated(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    """The checkpoints are saved by time, here after every call of the graph."""
    config = tiny(**SMALL, steps=3, batch_size=419, runtime__steps_per_call=1)
    config = with_changes(
        config,
        {"checkpoint.every_steps": 0, "checkpoint.every_minutes": 1e-9, "checkpoint.keep": 9},
    )
    data, preprocess = resolve_data(config, spec_of(config))
    trainer = Trainer(
        config,
        dataclasses.replace(data, validation=None, test=None),
        preprocess,
        RunDirectory(tmp_path),
        tf.distribute.get_strategy(),
        Console(quiet=True),
    )
    (row,) = trainer.fit().history
    assert row.keys() == {"epoch", "step", "seconds", "learning_rate", "loss", "accuracy"}
    assert len(trainer.checkpoints.steps()) == 3


def test_mixed_float16(tmp_path: pathlib.Path, tiny: Tiny) -> None:
    config = tiny(**SMALL, steps=6, runtime__precision="mixed_float16", optimizer__ema=0.5)
    run_training(config, tmp_path)
    assert keras.config.dtype_policy().name == "float32"
    model = keras.models.load_model(tmp_path / "model.keras")
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert {str(weight.dtype) for weight in model.weights} == {"float32"}
    assert 0 < float(history(tmp_path)[0]["loss"]) < 3
    metrics = read_json(tmp_path / "metrics.json")
    data, preprocess = resolve_data(config, spec_of(config))
    found = evaluate(model, data.split("test"), preprocess)
    assert found.accuracy == pytest.approx(metrics["test"]["accuracy"], abs=0.03)
    assert found.loss == pytest.approx(metrics["test"]["loss"], rel=0.05)


def test_mixed_bfloat16(tiny: Tiny, train_model: Callable[[RunConfig], Any]) -> None:
    found = {}
    for precision in ("float32", "mixed_bfloat16"):
        config = tiny(**SMALL, steps=10, schedule__learning_rate=0.05, runtime__precision=precision)
        model, metrics = train_model(config)
        assert {str(weight.dtype) for weight in model.weights} == {"float32"}
        found[precision] = metrics[:, 0]
    assert model.get_layer("logits").compute_dtype in ("bfloat16", "float32")
    assert model.get_layer("stage1_unit1_conv1").compute_dtype == "bfloat16"
    np.testing.assert_allclose(found["mixed_bfloat16"], found["float32"], rtol=0.05)
    assert np.abs(found["mixed_bfloat16"] - found["float32"]).max() > 1e-5


def test_nets_train_under_plain_fit(tiny: Tiny) -> None:
    """Keras's own loop, on this package's batches."""
    config = tiny(**SMALL)
    data, preprocess = resolve_data(config, spec_of(config))
    plan = TrainingPlan(preprocess, config.augment, 1, seed=0, start_step=0, total_steps=60)
    model = build(spec_of(config), classes=10, input_shape=(8, 8, 1), seed=0)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    found = model.fit(
        training_batches(data.train, plan, Share(64)),
        epochs=3,
        steps_per_epoch=20,
        # Keras takes means over whole batches, so the batch divides the 360 images.
        validation_data=evaluation_batches(data.test, preprocess, 1, Share(60)),
        shuffle=False,
        verbose=0,
    ).history
    assert found["loss"][2] < 0.9 * found["loss"][0]
    exact = evaluate(model, data.test, preprocess)
    assert found["val_loss"][-1] == pytest.approx(exact.loss, rel=1e-4)


def test_a_signal_in_the_last_call_stops_the_run(tiny: Tiny, tmp_path: pathlib.Path) -> None:
    """A study would otherwise start its next run."""

    class Ask(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 11:
                signal.raise_signal(signal.SIGTERM)

    config = tiny(**SMALL, steps=12)
    with pytest.raises(TrainingStoppedError, match="Stopped by SIGTERM at step 12; the state is"):
        run_training(config, tmp_path / "run", callbacks=[Ask()])
    assert not (tmp_path / "run/model.keras").exists()
    assert run_training(config, tmp_path / "run").model.is_file()
