"""Bad input ends in status 1 and one line that names what was wrong."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet_train.errors import (
    PeerLostError,
    TrainingDivergedError,
    TrainingStoppedError,
    reported,
)

pytestmark = pytest.mark.tf

Command = Callable[..., Any]
WARM = ("--set", "schedule.warmup_epochs=0")
SMALL = ("--model", "cifar_resnet8", "--image-size", 8, "--set", "model.spec.widths=[4,4,4]")
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
        (("--dataset", "digit"), "Unknown data set 'digit': .* Nearest: digits"),
        (("--dataset", "/none/of/it"), "No folder at '/none/of/it'"),
        (("--dataset", "/none/of/it", "--steps", 2), "No folder at '/none/of/it'"),
        # A wrong name is said before a length is asked for.
        (("--dataset", "Synthetik"), "Unknown data set 'Synthetik': .* Nearest: synthetic"),
        (("--dataset", "fashion-mnist"), "Unknown data set 'fashion-mnist': .* fashion_mnist"),
        (("--dataset", "no.csv", "--task", "multilabel", "--steps", 2), "No folder at 'no.csv'"),
        (("--dataset", "flowers.csv"), "No folder at 'flowers.csv', and no file"),
        (("--dataset", "./flowers/"), "No folder at './flowers/', and no file"),
        (("--model", "resnet18"), "Give the data: --dataset"),
        (("--dataset", "synthetic"), "Give the length of the run on 'synthetic': --epochs 90"),
        # Options of fine-tuning ask for weights, not for a length.
        (("--dataset", "synthetic", "--quantize", "int8"), "a trained net: give --weights"),
        (("--dataset", "synthetic", "--freeze", 1), "--weights|model.weights"),
        (("--dataset", "synthetic", "--head-epochs", 1), "--weights|model.weights"),
        ((*DIGITS, "--image-size", 3), "cifar_resnet8 needs images of at least 4 x 4 .*size=3"),
        ((*DIGITS, "--classes", 7), "'digits' has 10 classes. Received: classes=7"),
        (
            (*DIGITS, "--batch-size", 10**12),
            "`batch_size`: 1,000,000,000,000 images of 20 x 20 x 1",
        ),
        ((*DIGITS, "--set", "augment.pad=1000000"), "images of 2000016 x 2000016 x 1 take"),
        (
            (
                "--dataset",
                "synthetic",
                "--steps",
                1,
                "--model",
                "cifar_resnet8",
                "--image-size",
                65536,
            ),
            "96 synthetic images of 65536 x 65536 x 3 take 1,237.0 GB",
        ),
        ((*DIGITS, "--set", "augment.policy_operations=1000000"), r"must be in \[1, 100\]"),
        ((*DIGITS, "--image-size", 10**9), "`size` must be .* from 1 to 65536"),
        ((*DIGITS, "--image-size", 65536), "`size` must have at most 67,108,864 pixels"),
        ((*DIGITS, "--set", "model.spec.widths=[65536,65536,65536]"), "weights .*GB|of memory"),
        ((*DIGITS, "--batch-size", 0), "`batch_size` must be at least 1. Received: batch_size=0"),
        ((*DIGITS, "--learning-rate", -1), "`schedule.learning_rate` must be above 0. .*=-1"),
        ((*DIGITS, "--learning-rate", "nan"), "`schedule.learning_rate` must be a finite number"),
        ((*DIGITS, "--epochs", 3), "`epochs` or as `steps`, one of the two"),
        ((*DIGITS, "--seed", -1), r"`seed` must be in \[0, 2147483647\]"),
        ((*DIGITS, "--strategy", "cpu:0"), "`--strategy` must be auto, mirrored, cpu:N.*'cpu:0'"),
        ((*DIGITS, "--set", "momentum=0.8"), "no field 'momentum'. Nearest: .*optimizer.momentum"),
        ((*DIGITS, "--set", "seed.x=1"), "no field 'seed.x'"),
        ((*DIGITS, "--set", "optimizer.momentum"), "`--set` takes KEY=VALUE"),
        (
            (*DIGITS, "--set", "optimizer.momentum=high"),
            "`optimizer.momentum` must be a number.*'high'",
        ),
        ((*DIGITS, "--set", "model.spec=3"), "`model.spec` must be an object. .*=3"),
        ((*DIGITS, "--set", "model.spec.width=3"), "width"),
        ((*DIGITS, "--set", "model.spec.shortcut=E"), "`shortcut` must be one of 'A', 'B', 'C'"),
        ((*DIGITS, "--set", "schedule.warmup_steps=2"), "warm-up must be shorter .* of 2 steps"),
        (
            (*DIGITS, "--set", "schedule.warmup_epochs=3"),
            "of 2 steps: lower `schedule.warmup_epochs` or train longer. Received: 59 warm-up",
        ),
        ((*DIGITS, "--set", "data.mean=[1,2]", "--set", "data.std=[1,2]"), r"channel \(1\)"),
        (("--dataset", "digits", "--epochs", "inf"), "`epochs` must be a finite number"),
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
    assert f"{path}: The configuration has no key 'bach_size'" in refused(*words)
    path.write_bytes(b"\xff\xd8")
    assert f"{path} is not JSON" in refused(*words)
    assert "--config or --recipe, one of the two" in refused(*words, "--recipe", "digits")


def test_folders(tmp_path: pathlib.Path, refused: Callable[..., str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    words = ("train", "--dataset", data, "--output", tmp_path / "run", "--steps", 1)
    assert "has no class folders" in refused(*words)
    folder(data, "a", "b")
    (data / "c").mkdir()
    assert f"{data / 'c'} has no images" in refused(*words)
    (data / "c" / "broken.png").write_bytes((data / "a" / "0.png").read_bytes()[:40])
    line = refused(*words)
    assert f"1 of 11 images are unreadable: {data / 'c' / 'broken.png'} (" in line
    assert "--on-bad-image skip" in line
    assert not (tmp_path / "run").exists()


def test_an_image_that_was_trusted(tmp_path: pathlib.Path, command: Command) -> None:
    """Met while training: one line all the same, which names the file."""
    data = folder(tmp_path / "data", "a", "b")
    for path in data.glob("a/*"):
        path.write_bytes(path.read_bytes()[:40])
    ended = command(
        *("train", "--dataset", data, "--output", tmp_path / "run", "--steps", 2, *SMALL),
        *("--on-bad-image", "trust", "--set", "data.mean=[0]", "--set", "data.std=[1]"),
    )
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert re.match(rf"Error: {data}/a/\d\.png is unreadable: Invalid PNG", line)


def test_errors_of_tensorflow(capsys: pytest.CaptureFixture[str]) -> None:
    """The line that says what happened is shown, with a remedy where memory ran out."""
    detected = "Graph execution error:\n\nDetected at node x\n  File y\n"
    for error, line in (
        (tf.errors.InvalidArgumentError(None, None, f"{detected}Bad PNG\n\t [[z]]"), "Bad PNG"),
        (tf.errors.UnknownError(None, None, detected), "UnknownError"),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore"),
            "Out of memory: lower --batch-size. OOM when allocating",
        ),
        (RuntimeError("two\nlines"), "two lines"),
        (MemoryError("Unable to allocate 9 GiB\nx"), "Out of memory: Unable to allocate 9 GiB"),
        (OSError(), "OSError"),
        (ValueError("x" * 10**6), f"{'x' * 4000}... (1,000,000 characters in all)"),
    ):
        with reported("train", debug=False) as outcome:
            raise error
        assert (outcome.status, capsys.readouterr().err) == (1, f"Error: {line}\n")
        with pytest.raises(type(error)), reported("train", debug=True):
            raise error


def test_what_is_not_reported_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Interrupts have a status of their own; programming errors keep their traceback."""
    for stop, line in (
        (KeyboardInterrupt(), "Interrupted"),
        (TrainingStoppedError("Stopped at step 3"), "Stopped at step 3"),
    ):
        with reported("train", debug=False) as outcome:
            raise stop
        assert (outcome.status, capsys.readouterr().err) == (130, f"{line}\n")
    for other, status in ((TrainingDivergedError("NaN"), 3), (PeerLostError("worker 1"), 138)):
        with reported("train", debug=False) as outcome:
            raise other
        assert (outcome.status, capsys.readouterr().err) == (status, f"Error: {other}\n")
    for error in (KeyError("x"), ModuleNotFoundError("no module", name="keras_resnet.nothing")):
        with pytest.raises(type(error)), reported("train", debug=False):
            raise error
    for command, name, package in (
        ("tune", "keras_tuner", "'keras3-resnet[tune]'"),
        ("tune", "tensorflow", "'keras3-resnet[train,export]'"),
        ("list", "rich", "rich"),
    ):
        with reported(command, debug=False):
            raise ModuleNotFoundError(name=name)
        needs = f"Error: `keras-resnet {command}` needs {name}, which is not installed: "
        assert capsys.readouterr().err == f"{needs}pip install {package}\n"


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
    other = ("--seed", 9, "--mixup", 0.1, "--ema", 0.9, "--label-smoothing", 0.3)
    more = ("--batch-size", 6, "--learning-rate", 0.7, "--cutmix", 1, "--accumulate", 2)
    held = refused(*words, *other, *more, "--output", finished_run)
    assert re.search(r"holds another run, which differs in .*; and \d+ more\. Give", held)
    words = ("train", "--config", finished_run / "config.json", "--output", finished_run)
    assert "--resume is never" in refused(*words, "--resume", "never")


def test_pipes_and_devices(tmp_path: pathlib.Path, refused: Callable[..., str]) -> None:
    """Each command that takes a file, with one of which reading would never end."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes")
    image = tmp_path / "image.png"
    Image.new("L", (8, 8)).save(image)
    for ending in ("", ".csv", ".tar", ".parquet", ".json", ".keras", ".pth", ".tflite", ".onnx"):
        pipe = tmp_path / f"pipe{ending}"
        os.mkfifo(pipe)
        for words in (
            ("train", "--dataset", pipe, "--steps", 1),
            ("train", "--config", pipe),
            ("train", "--weights", pipe, "--dataset", "digits", "--steps", 1),
            ("evaluate", pipe, "--dataset", "digits"),
            ("evaluate", "--weights", pipe, "--dataset", "digits"),
            ("predict", pipe, image),
            ("predict", "--weights", pipe, image),
            ("convert", pipe, "--to", tmp_path / "new.safetensors"),
            ("export", pipe),
            ("latency", pipe),
            ("demo", pipe),
            ("prune", pipe, "--output", tmp_path / "pruned"),
            ("report", pipe),
            ("compare", pipe, tmp_path),
            ("publish", pipe, tmp_path / "published"),
        ):
            assert refused(*words)


@pytest.mark.parametrize("name", ["evaluate", "export", "report", "predict"])
def test_what_is_no_run(name: str, tmp_path: pathlib.Path, refused: Callable[..., str]) -> None:
    image = tmp_path / "image.png"
    Image.new("L", (8, 8)).save(image)
    words = (name, tmp_path, *([image] if name == "predict" else []))
    assert f"{tmp_path} is not a run: it has no config.json" in refused(*words)


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
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
    command: Command,
    refused: Callable[..., str],
) -> None:
    data = folder(tmp_path / "data", "a", "b")
    line = refused("evaluate", finished_run, "--dataset", data)
    assert re.search(
        r"classes of .*data' are not those .*: a, b \.\.\. against 0, 1, .*2 against 10", line
    )
    digits = folder(tmp_path / "digits", *"0123456789")
    ended = command("evaluate", finished_run, "--dataset", digits, "--output", tmp_path / "out")
    assert ended.status == 0
    assert "Note: 50 of 50 test images are not stored as grey and become grey" in ended.err


def test_a_run_on_a_folder(
    tmp_path: pathlib.Path, command: Command, refused: Callable[..., str]
) -> None:
    """Without test images there is no report; with other classes since, nothing goes on."""
    train = folder(tmp_path / "data" / "train", "b", "c")
    run = tmp_path / "run"
    words = ("train", "--dataset", tmp_path / "data", "--output", run, "--steps", 4, *SMALL)
    ended = command(*words, "--batch-size", 4)
    assert (ended.status, ended.err) == (0, "")
    assert (run / "model.keras").is_file()
    assert not (run / "report.html").exists()
    assert "has no test split. It has: train" in refused("evaluate", run)

    (run / "model.keras").unlink()  # as if it had been killed before the end
    facts = (run / "dataset.json").read_text()
    (train / "c").rename(train / "a")
    for words_of in (("evaluate", run, "--checkpoint", "last"), ("export", run)):
        line = refused(*words_of, "--split", "train")
        assert "classes of" in line
        assert "are not those that" in line
    ended = command(*words, "--batch-size", 4)
    assert ended.status == 1
    assert "has changed since the run began: class_names: ['b', 'c'] then" in ended.err
    assert (run / "dataset.json").read_text() == facts


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "TF_CONFIG is not JSON"),
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
        (("export", "--evaluation-images", 0), "`--evaluation-images` must be at least 1. .*: 0"),
        (("export", "--formats", "onxx"), "`formats` must be one of"),
        (("export", "--precision", "float8"), "`precisions` must be one of"),
        (
            ("export", "--precision", "int8", "--min-agreement=1.5"),
            "`int8_agreement` must lie in",
        ),
    ],
)
def test_options(
    words: tuple[object, ...],
    message: str,
    finished_run: pathlib.Path,
    refused: Callable[..., str],
) -> None:
    name, *options = words
    assert re.search(message, refused(name, finished_run, *options))


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
