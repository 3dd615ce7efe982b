"""The parts of the training loop one by one, without a network."""

from __future__ import annotations

import pathlib
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from keras_resnet_train.agreement import Agreement, largest_of_workers
from keras_resnet_train.best_weights import BestWeights, is_better
from keras_resnet_train.checkpoint import Checkpoints, Progress
from keras_resnet_train.config import RunConfig
from keras_resnet_train.console import Console
from keras_resnet_train.divergence import divergence_message, first_nonfinite
from keras_resnet_train.length import Length
from keras_resnet_train.signals import StopSignals
from keras_resnet_train.throughput import Throughput

# Length.


def test_epochs_of_a_length() -> None:
    length = Length(steps=40, steps_per_epoch=1257 / 64)
    assert length.epochs == 3
    assert [length.end_of(epoch) for epoch in (1, 2, 3)] == [20, 39, 40]
    assert [step for step in range(1, 41) if length.ends_epoch(step)] == [20, 39, 40]
    assert [length.epoch_of(step) for step in (0, 19, 20, 38, 39, 40)] == [1, 1, 2, 2, 3, 3]


# Signals.


def test_the_first_signal_is_noted_and_the_second_interrupts() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), StopSignals() as signals:
        assert signals.received is None
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        signal.raise_signal(signal.SIGINT)
    assert signals.received == signal.SIGTERM
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_another_thread_has_no_signals() -> None:
    handler, seen = signal.getsignal(signal.SIGTERM), []

    def run() -> None:
        with StopSignals() as signals:
            seen.append((signals.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(None, handler)]


# Agreement.


def workers(*others: tuple[int, ...]) -> Callable[[Any], list[int]]:
    """The largest values of this worker and others, which bring the given values."""
    return lambda values: [max(column) for column in zip(values, *others, strict=True)]


def test_one_worker_decides_alone() -> None:
    agreement = Agreement()
    assert agreement.any(True, False) == (True, False)
    agreement.check_step(7)


@pytest.mark.parametrize("own", [False, True])
def test_workers_agree_where_one_votes_yes(own: bool) -> None:
    assert Agreement(workers((0, 1), (0, 0))).any(own, False) == (own, True)


@pytest.mark.parametrize("step", [8, 300_001, 2**24 + 1])
def test_workers_start_from_the_same_step(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also at numbers whose sums over 64 replicas float32 does not hold: 19,200,064."""
    monkeypatch.setattr("keras_resnet_train.agreement._SECONDS_TO_HEAR", 0.0)
    Agreement(workers(*[(step, -step)] * 63)).check_step(step)
    message = rf"different steps, 0 to {step} \(this one from {step}\): --output must be one"
    with pytest.raises(ValueError, match=message):
        Agreement(workers(*[(step, -step)] * 62, (0, 0))).check_step(step)
    with pytest.raises(ValueError, match="different steps"):
        Agreement(workers((step + 1, -step - 1))).check_step(step)


@pytest.mark.tf
def test_numbers_of_workers_stay_whole() -> None:
    import tensorflow as tf

    largest = largest_of_workers(tf.distribute.get_strategy())
    numbers = [300_001, -300_001, 64 * 300_001, 2**53 + 1, 0]
    for count in (1, 5, 64, 200):  # without a warning of TensorFlow about new traces
        assert largest(numbers * count) == numbers * count


# Best weights.


class Weights:
    """A model that is its weights."""

    def __init__(self, value: float) -> None:
        self.values = [np.array(value)]

    def get_weights(self) -> list[np.ndarray]:
        return [value.copy() for value in self.values]

    def set_weights(self, values: list[np.ndarray]) -> None:
        self.values = list(values)

    def save_weights(self, path: str) -> None:
        with open(path, "wb") as file:  # `np.save` would add an ending
            np.save(file, self.values[0])

    def load_weights(self, path: str) -> None:
        self.values = [np.load(path)]


@pytest.mark.parametrize(
    ("accuracy", "loss", "better"),
    [(0.6, 9.0, True), (0.5, 0.9, True), (0.5, 1.0, False), (0.4, 0.1, False)],
)
def test_accuracy_counts_before_loss(accuracy: float, loss: float, better: bool) -> None:
    assert is_better(Progress(best_value=0.5, best_loss=1.0), accuracy, loss) is better
    assert is_better(Progress(), accuracy, loss)


def test_best_weights(tmp_path: pathlib.Path) -> None:
    model, progress, said = Weights(0.0), Progress(), []
    best = BestWeights(model, Checkpoints(tmp_path))
    assert not best.assign()
    for epoch, accuracy in ((1, 0.5), (2, 0.7), (3, 0.6)):
        model.set_weights([np.array(float(epoch))])
        best.update(progress, epoch, accuracy, 1.0)
    assert (progress.best_value, progress.best_loss, progress.best_epoch) == (0.7, 1.0, 2)
    assert best.assign()
    assert model.values == [2.0]

    # A session that resumes from a checkpoint of epoch 1 finds the newer best one.
    model, progress = Weights(7.0), Progress(best_value=0.5, best_loss=1.0, best_epoch=1)
    resumed = BestWeights(model, Checkpoints(tmp_path))
    resumed.resume(progress, said.append)
    assert (progress.best_value, progress.best_epoch, model.values) == (0.7, 2, [7.0])
    assert resumed.assign()
    assert model.values == [2.0]
    assert said == []

    # Without a best epoch so far there is nothing to read.
    unchosen = BestWeights(model, Checkpoints(tmp_path))
    unchosen.resume(Progress(), said.append)
    assert not unchosen.assign()

    # If it is damaged, the next epoch is the best one.
    (tmp_path / "best" / "model.weights.h5").write_bytes(b"")
    lost = BestWeights(model, Checkpoints(tmp_path), write=False)
    lost.resume(progress, said.append)
    assert (progress.best_value, progress.best_loss, progress.best_epoch) == (None, None, None)
    assert "best checkpoint cannot be read and is chosen again: model.weights.h5" in said[0]
    lost.update(progress, 4, 0.1, 2.0)
    assert (progress.best_epoch, lost.assign()) == (4, True)
    assert (tmp_path / "best" / "model.weights.h5").read_bytes() == b""  # not the chief's


# Divergence and throughput.


def test_first_loss_that_is_not_finite() -> None:
    assert first_nonfinite(np.array([1.0, 2.0])) is None
    assert first_nonfinite(np.array([1.0, np.inf, np.nan])) == 1


@pytest.mark.parametrize(
    ("checkpoint", "last"),
    [
        (None, "No checkpoint was written"),
        ("step_00000006", "The last checkpoint is step_00000006"),
    ],
)
def test_advice_on_divergence(checkpoint: str | None, last: str) -> None:
    message = divergence_message(
        25,
        float("nan"),
        config=RunConfig(steps=100),
        length=Length(100, 20.0),
        learning_rate=0.05,
        checkpoint=checkpoint,
    )
    assert message == (
        "The loss became nan at step 25 (epoch 2), at learning rate 0.05. Try, with another "
        "--output, a lower one (--learning-rate 0.01), a longer warm-up (--set "
        "schedule.warmup_steps=10), clipping (--set optimizer.clip_norm=1), or --precision "
        f"float32. {last}"
    )


def test_throughput_leaves_the_first_call_out() -> None:
    throughput = Throughput()
    throughput.add(100, 50.0)
    assert throughput.images_per_second is None
    throughput.add(100, 1.0)
    throughput.add(200, 2.0)
    assert throughput.images_per_second == 100.0


# Console.

ROW = {"epoch": 1, "step": 4, "loss": 1.5, "accuracy": 0.25, "learning_rate": 0.1, "seconds": 2.0}
WORDS = "epoch 1/3  step 4  loss 1.5000  accuracy 0.2500"


def show(console: Console, row: dict[str, float]) -> None:
    with console.progress(10, 2):
        console.advance(2, loss=1.5, accuracy=0.25, images_per_second=None)
        console.say("a message")
        console.epoch(row, 3)


def test_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    show(Console(), ROW)
    show(Console(), {**ROW, "test_loss": 1.0, "test_accuracy": 0.5})
    assert capsys.readouterr().out.splitlines() == [
        "a message",
        f"{WORDS}  lr 0.1  2 s",
        "a message",
        f"{WORDS}  test loss 1.0000  test accuracy 0.5000  lr 0.1  2 s",
    ]
    show(Console(quiet=True), ROW)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("keras_resnet_train.console._SECONDS_BETWEEN_LINES", 0.0)
    show(Console(), ROW)
    line = "step 4/10  loss 1.5000  accuracy 0.2500  0 images/s"
    assert capsys.readouterr().out.splitlines()[0] == line


def test_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show(Console(), ROW)
    said = capsys.readouterr().out
    assert "a message" in said
    assert f"{WORDS}  lr 0.1  2 s" in said
    assert "step 4/10" in said
