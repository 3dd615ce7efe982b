"""What a run writes and prints while it trains, and what it says before."""

from __future__ import annotations

import json
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_resnet_train.config import RunConfig, RuntimeConfig, with_changes
from keras_resnet_train.console import Console
from keras_resnet_train.dry_run import dry_run, plot_text
from keras_resnet_train.errors import reported
from keras_resnet_train.files import read_json
from keras_resnet_train.run_log import read_log
from keras_resnet_train.rundir import open_run
from keras_resnet_train.session import run_training
from keras_resnet_train.tracking import make_tracker

pytestmark = pytest.mark.tf

Tiny = Callable[..., RunConfig]
SMALL = {"model__spec__depths": [1], "model__spec__widths": [4]}


def test_metrics_by_call(
    tiny: Tiny, train_until: Callable[..., None], tmp_path: pathlib.Path
) -> None:
    """One line per call; a resumed run replaces the lines after its checkpoint."""
    config = tiny(**SMALL, steps=8, checkpoint__every_steps=4, runtime__steps_per_call=2)
    config = with_changes(config, {"schedule.kind": "constant"})
    train_until(6, config, tmp_path)
    file = tmp_path / "metrics.jsonl"
    assert [row["step"] for row in read_log(file)] == [2, 4, 6]
    before = read_log(file)[:2]
    with file.open("a") as stream:
        stream.write('{"step": 8, "lo')  # killed while it wrote
    run_training(with_changes(config, {"runtime.log_gradient_norm": True}), tmp_path)
    rows = read_log(file)
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert rows[:2] == before
    names = {"step", "loss", "accuracy", "learning_rate", "images_per_second"}
    assert rows[1].keys() == names
    assert rows[3].keys() == {*names, "gradient_norm"}
    assert rows[3]["gradient_norm"] > 0
    assert rows[3]["learning_rate"] == pytest.approx(0.2)


def test_profile_of_steps(
    tiny: Tiny, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny(**SMALL, steps=6, runtime__profile="2:3")
    run_training(config, tmp_path)
    assert "Profile of steps 2 to 3: tensorboard --logdir" in capsys.readouterr().out
    assert list((tmp_path / "logs" / "plugins" / "profile").rglob("*.xplane.pb"))
    for wrong in ("3", "4:2", "a:b", ":"):
        with pytest.raises(ValueError, match=r"`runtime.profile` must be FIRST:LAST"):
            RuntimeConfig(profile=wrong)


class FakeWandb(types.ModuleType):
    """What `WandbTracker` uses of wandb."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[Any] = []

    def init(self, **keywords: Any) -> FakeWandb:
        self.calls.append(("init", keywords))
        return self

    @property
    def id(self) -> str:
        return "abc"

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", step, values))

    def finish(self) -> None:
        self.calls.append(("finish",))


class FakeMlflow(types.ModuleType):
    """What `MlflowTracker` uses of mlflow."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.calls: list[Any] = []

    def start_run(self, **keywords: Any) -> Any:
        self.calls.append(("start", keywords))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1"))

    def log_params(self, values: dict[str, Any]) -> None:
        self.calls.append(("params", values))

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.calls.append(("log", step, values))

    def end_run(self) -> None:
        self.calls.append(("end",))


def _follow(tracker: Any) -> None:
    tracker.on_train_begin({"step": 0})
    tracker.on_train_batch_end(9, {"loss": 2.0})
    tracker.on_epoch_end(0, {"epoch": 1, "step": 10, "val_accuracy": 0.5})
    tracker.on_train_end()


def test_wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = RunConfig(steps=1, runtime=RuntimeConfig(track="wandb"))
    for _ in range(2):
        _follow(make_tracker(config, tmp_path))
    begin, call, epoch, end = fake.calls[:4]
    assert (begin[1]["id"], begin[1]["name"], begin[1]["resume"]) == (None, tmp_path.name, "allow")
    assert begin[1]["config"]["optimizer"]["momentum"] == 0.9
    assert call == ("log", 10, {"train/loss": 2.0})
    assert epoch == ("log", 10, {"epoch/epoch": 1.0, "epoch/val_accuracy": 0.5})
    assert end == ("finish",)
    assert fake.calls[4][1]["id"] == "abc"  # the second session goes on with the same run
    assert read_json(tmp_path / "tracking.json") == {"wandb": "abc"}


def test_mlflow(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    config = RunConfig(steps=1, runtime=RuntimeConfig(track="mlflow"))
    for _ in range(2):
        _follow(make_tracker(config, tmp_path))
    assert [call[0] for call in fake.calls] == [
        *("start", "params", "log", "log", "end"),
        *("start", "log", "log", "end"),
    ]
    assert fake.calls[0][1] == {"run_id": None, "run_name": tmp_path.name}
    assert fake.calls[1][1]["schedule.learning_rate"] == 0.1
    assert fake.calls[5][1] == {"run_id": "r1", "run_name": None}


def test_a_tracker_that_is_not_installed(
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match=r"`--track wandb` needs .*: pip install wandb"):
        run_training(tiny(steps=1, runtime__track="wandb"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with reported("train", debug=False):
        make_tracker(RunConfig(steps=1, runtime=RuntimeConfig(track="wandb")), tmp_path)
    assert capsys.readouterr().err.endswith("needs the library: pip install wandb\n")


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    row = {"epoch": 1, "step": 10, "loss": 1, "accuracy": 0.5, "learning_rate": 0.1, "seconds": 3}
    console.epoch(row, 9, images_per_second=421.3, left=3 * 3600 + 360)
    console.epoch(row, 9, images_per_second=421.3, left=0)
    with console.progress(20, 10):
        console._last_line -= 60
        console.advance(2, loss=1, accuracy=0.5, images_per_second=421.3, left=150)
        console.advance(2, loss=1, accuracy=0.5, images_per_second=421.3, left=100)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "epoch 1/9  step 10  loss 1.0000  accuracy 0.5000  lr 0.1  3 s  421 images/s  3.1 h left",
        "epoch 1/9  step 10  loss 1.0000  accuracy 0.5000  lr 0.1  3 s  421 images/s",
        "step 12/20  loss 1.0000  accuracy 0.5000  421 images/s  2.5 min left",
    ]


def test_plot_in_characters() -> None:
    assert plot_text([0.0, 1.0, 2.0, 4.0], height=2) == "\n".join(
        ["        4 |   █", "        2 | ▄██", "        0 +----"]
    ).replace("        2 | ▄██", "        2 | ▄██")


def test_dry_run(tiny: Tiny, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything is resolved and printed; only the pictures are written."""
    pictures, output = tmp_path / "pictures", tmp_path / "run"
    config = tiny(**SMALL, steps=40, optimizer__ema=0.9)
    estimate = dry_run(config, pictures, output)
    text = capsys.readouterr().out
    assert json.loads(text[text.index("{") : text.index("\n}") + 2])["steps"] == 40
    assert "40 steps of 64 in 3 epochs of 19.641 steps" in text
    assert "Learning rate over 40 steps, " in text
    assert not output.exists()
    assert sorted(path.name for path in pictures.iterdir()) == ["augmented.png", "schedule.png"]
    with Image.open(pictures / "augmented.png") as picture:
        assert picture.size == (4 * 8 + 3 * 2, 4 * 8 + 3 * 2)
    run_training(with_changes(config, {"steps": 1}), output)
    model = open_run(output).model
    assert estimate.parameters == model.count_params()
    assert estimate.trained == sum(np.prod(weight.shape) for weight in model.trainable_weights)
    # Weights, gradients, momentum and averages in float32.
    assert estimate.state >= 4 * (2 * estimate.parameters + 2 * estimate.trained)
    assert dry_run(config).disk == estimate.disk
    assert "--dry-run DIRECTORY" in capsys.readouterr().out


def test_training_images_of_another_size(tiny: Tiny, tmp_path: pathlib.Path) -> None:
    """Growing images, and evaluation at the net's size."""
    sizes = {"data__image_size": 16, "augment__start_size": 8}
    config = tiny(**SMALL, **sizes, steps=4, augment__crop="none")
    run_training(config, tmp_path)
    assert open_run(tmp_path).model.input_shape == (None, 16, 16, 1)
    assert len(read_log(tmp_path / "metrics.jsonl")) == 1
