"""Bad input ends in status 1 and one line that names what was wrong."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.tf

Command = Callable[..., Any]
WARM = ("--set", "schedule.warmup_epochs=0")
DIGITS = ("--dataset", "digits", "--model", "cifar_resnet8", "--steps", 2, *WARM)


@pytest.fixture
def refused(tmp_path: pathlib.Path, command: Command) -> Callable[..., str]:
    """Runs a command that must be refused; returns the line that it says."""

    def run(*words: object) -> str:
        ended = command(*words)
        assert ended.status == 1
        assert ended.out == ""
        (line,) = ended.err.splitlines()
        assert line.startswith("Error: ")
        return line

    return run


def folder(root: pathlib.Path, *classes: str) -> pathlib.Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(5):
            pixels = np.full((9, 9, 3), 20 * number + index, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "cifar_resnet2O", "--dataset", "digits"), "Unknown model .* cifar_resnet20"),
        (("--model", "cifar_resnet21", "--dataset", "digits"), "no such depth.*cifar_resnet26"),
        (("--recipe", "he2015-cifr", "--dataset", "digits"), "Unknown recipe .* he2015-cifar"),
        (("--dataset", "cifar1O", "--steps", 2), "Unknown data set 'cifar1O': .* cifar10"),
        (("--dataset", "/none/of/it", "--steps", 2), "No folder at '/none/of/it'"),
        (("--model", "resnet18"), "Give the data: --dataset"),
        (("--dataset", "synthetic"), "Say how long to train on 'synthetic': --epochs 90"),
        ((*DIGITS, "--image-size", 3), "cifar_resnet8 needs images of at least 4 x 4 .*size=3"),
        ((*DIGITS, "--classes", 7), "'digits' has 10 classes. Received: classes=7"),
        ((*DIGITS, "--batch-size", 0), "`batch_size` must be at least 1"),
        ((*DIGITS, "--learning-rate", -1), "`learning_rate` must be above 0"),
        ((*DIGITS, "--learning-rate", "nan"), "`learning_rate` must be above 0"),
        ((*DIGITS, "--epochs", 3), "`epochs` or as `steps`, one of the two"),
        ((*DIGITS, "--seed", -1), "`seed` must be in 0"),
        ((*DIGITS, "--strategy", "cpu:0"), "`--strategy` must be auto, mirrored, cpu:N.*'cpu:0'"),
        ((*DIGITS, "--set", "momentum=0.8"), "no field 'momentum'. Fields: .*optimizer.momentum"),
        ((*DIGITS, "--set", "seed.x=1"), "no field 'seed.x'"),
        ((*DIGITS, "--set", "optimizer.momentum"), "`--set` takes KEY=VALUE"),
        ((*DIGITS, "--set", "optimizer.momentum=high"), "momentum must be a number.*'high'"),
        ((*DIGITS, "--set", "model.spec=3"), "spec must be an object. Received: 3"),
        ((*DIGITS, "--set", "model.spec.width=3"), "width"),
        ((*DIGITS, "--set", "model.spec.shortcut=E"), "`shortcut` must be one of 'A', 'B', 'C'"),
        ((*DIGITS, "--set", "schedule.warmup_steps=2"), "warm-up must be shorter .* of 2 steps"),
        ((*DIGITS, "--set", "data.mean=[1,2]", "--set", "data.std=[1,2]"), r"channel \(1\)"),
        (("--dataset", "digits", "--epochs", "inf"), "`epochs` must be above 0 and finite"),
        (("--config", "/none/config.json"), "/none/config.json"),
    ],
)
def test_train(
    words: tuple[object, ...], message: str, tmp_path: pathlib.Path, refused: Callable[..., str]
) -> None:
    output = tmp_path / "runs" / "one"
    assert re.search(message, refused("train", *words, "--output", output))
    assert not output.exists()


def test_configurations(tmp_path: pathlib.Path, refused: Callable[..., str]) -> None:
    path = tmp_path / "config.json"
    words = ("train", "--config", path, "--output", tmp_path / "run")
    path.write_text('{"epochs": 1, "bach_size": 3}')
    assert f"{path} has no key 'bach_size'" in refused(*words)
    path.write_bytes(b"\xff\xd8")
    assert f"{path} is no JSON" in refused(*words)
    assert "--config or --recipe, one of the two" in refused(*words, "--recipe", "digits")


def test_folders(tmp_path: pathlib.Path, refused: Callable[..., str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    words = ("train", "--dataset", data, "--output", tmp_path / "run", "--steps", 1)
    assert "holds no class folders" in refused(*words)
    folder(data, "a", "b")
    (data / "c").mkdir()
    assert f"{data / 'c'} holds no images" in refused(*words)
    (data / "c" / "broken.png").write_bytes((data / "a" / "0.png").read_bytes()[:40])
    line = refused(*words)
    assert f"1 of 11 images are unreadable: {data / 'c' / 'broken.png'} (" in line
    assert "--on-bad-image skip" in line
    assert not (tmp_path / "run").exists()


def test_an_image_that_was_trusted(tmp_path: pathlib.Path, command: Command) -> None:
    """Met while training: an error of TensorFlow's, in one line all the same."""
    data = folder(tmp_path / "data", "a", "b")
    for path in data.glob("a/*"):
        path.write_bytes(path.read_bytes()[:40])
    ended = command(
        "train",
        "--dataset",
        data,
        "--output",
        tmp_path / "run",
        "--steps",
        2,
        "--model",
        "cifar_resnet8",
        "--on-bad-image",
        "trust",
        "--set",
        "data.mean=[0]",
        "--set",
        "data.std=[1]",
    )
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("Error: ")
    assert not line.startswith("Error: Graph execution error")


def test_outputs(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, refused: Callable[..., str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    words = ("train", *DIGITS, "--image-size", 8)
    assert "`--output` must be a directory" in refused(*words, "--output", file)
    assert str(file) in refused(*words, "--output", file / "below")
    assert "holds files and no config.json" in refused(*words, "--output", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert "holds another run, which differs in" in refused(*words, "--output", finished_run)
    words = ("train", "--config", finished_run / "config.json", "--output", finished_run)
    assert "--resume is never" in refused(*words, "--resume", "never")


@pytest.mark.parametrize("name", ["evaluate", "export", "report", "predict"])
def test_what_is_no_run(name: str, tmp_path: pathlib.Path, refused: Callable[..., str]) -> None:
    image = tmp_path / "image.png"
    Image.new("L", (8, 8)).save(image)
    words = (name, tmp_path, *([image] if name == "predict" else []))
    assert f"{tmp_path} is no run: it has no config.json" in refused(*words)


def test_damaged_runs(copied_run: pathlib.Path, refused: Callable[..., str]) -> None:
    for path in copied_run.glob("checkpoints/*/model.weights.h5"):
        path.write_bytes(b"damaged")
    for which in ("best", "last"):
        line = refused("evaluate", copied_run, "--checkpoint", which)
        assert "model.weights.h5 is not what was written" in line
    model = copied_run / "model.keras"
    model.write_bytes(model.read_bytes()[:1000])
    assert "model.keras" in refused("evaluate", copied_run)
    (copied_run / "dataset.json").write_text("{}")
    assert "dataset.json is not what was written" in refused("evaluate", copied_run)


def test_other_data_for_a_run(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, refused: Callable[..., str]
) -> None:
    data = folder(tmp_path / "data", "a", "b")
    line = refused("evaluate", finished_run, "--dataset", data)
    assert re.search(
        r"classes of .*data' are not those .*: a, b \.\.\. against 0, 1, .*2 against 10", line
    )
    digits = folder(tmp_path / "digits", *"0123456789")
    line = refused("evaluate", finished_run, "--dataset", digits)
    assert "has images of 3 channel(s), and the net of" in line


def test_data_that_changed_since(
    tmp_path: pathlib.Path, command: Command, refused: Callable[..., str]
) -> None:
    """Nothing goes on with other labels, and a refusal leaves the run as it was."""
    data = folder(tmp_path / "data", "b", "c")
    run = tmp_path / "run"
    words = ("train", "--dataset", data, "--output", run, "--steps", 4, "--model", "cifar_resnet8")
    small = ("--image-size", 8, "--batch-size", 4, "--set", "model.spec.widths=[4,4,4]")
    assert command(*words, *small).status == 0
    (run / "model.keras").unlink()  # as if it had been killed before the end
    facts = (run / "dataset.json").read_text()
    (data / "c").rename(data / "a")
    for line in (refused("evaluate", run, "--checkpoint", "last"), refused("export", run)):
        assert "classes of" in line
        assert "are not those that" in line
    ended = command(*words, *small)
    assert ended.status == 1
    assert "has changed since the run began: class_names: ['b', 'c'] then" in ended.err
    assert (run / "dataset.json").read_text() == facts


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "TF_CONFIG is no JSON"),
        ('{"task": []}', "task of TF_CONFIG must be an object"),
        ("[]", "TF_CONFIG of TF_CONFIG must be an object"),
    ],
)
def test_a_cluster_that_is_none(
    config: str,
    message: str,
    tmp_path: pathlib.Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    words = ("train", *DIGITS, "--strategy", "multi-worker", "--output", tmp_path / "run")
    assert message in refused(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("evaluate", "--batch-size", 0), "`--batch-size` must be at least 1"),
        (("export", "--evaluation-images", 0), "`--evaluation-images` must be at least 1"),
        (("export", "--formats", "onxx"), "`formats` must be one of"),
        (("export", "--precision", "float8"), "`precisions` must be one of"),
        (("export", "--max-accuracy-drop=-1"), "`int8_accuracy_drop` must lie in"),
    ],
)
def test_options(
    words: tuple[object, ...],
    message: str,
    finished_run: pathlib.Path,
    refused: Callable[..., str],
) -> None:
    name, *options = words
    assert message in refused(name, finished_run, *options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("info", "resnet5"), "Unknown model 'resnet5'. Nearest: resnet50"),
        (("info", "resnet50", "--input-size", 31), "resnet50 needs inputs of at least 32 x 32"),
        (("info", "resnet50", "--input-size", 0), "0"),
        (("info", "resnet50", "--channels", 0), "0"),
        (("list", "resnte50"), "No net matches 'resnte50'. Nearest: resnet50"),
    ],
)
def test_nets(words: tuple[object, ...], message: str, refused: Callable[..., str]) -> None:
    assert message in refused(*words)
