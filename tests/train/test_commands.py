"""The command line, in this process, on a tiny finished run."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet_train.cli import COMMANDS, main
from keras_resnet_train.config import RunConfig, load_config
from keras_resnet_train.files import read_json

pytestmark = pytest.mark.tf

Command = Callable[..., Any]


def write_digits(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """The first test digits, as image files."""
    from keras_resnet_train.data.embedded import load_digits

    paths = []
    for index in range(count):
        paths.append(folder / f"digit{index}.png")
        Image.fromarray(load_digits().test.images[index, ..., 0]).save(paths[-1])
    return paths


# Nets.


def test_list(command: Command) -> None:
    ended = command("list")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.split() == keras_resnet.list_variants()
    ended = command("list", "cifar_resnet*v2")
    assert ended.out.split() == ["cifar_resnet164v2", "cifar_resnet1001v2"]


def test_list_as_a_table(command: Command) -> None:
    ended = command("list", "cifar_*20", "--table")
    assert ended.status == 0
    row = next(line for line in ended.out.splitlines() if "cifar_resnet20 " in line)
    for cell in ("32 x 32", "269,722", "0.041", "20"):
        assert cell in row


@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_a_reader_that_leaves_is_no_error(unbuffered: str) -> None:
    """`keras-resnet list | head -1`: the pipe is closed while the command still has lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_resnet_train.cli", "list"],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, "")
    process.stderr.close()


def test_info(command: Command) -> None:
    ended = command("info", "resnet50")
    assert (ended.status, ended.err) == (0, "")
    facts = {line[:22].strip(): line[22:].strip() for line in ended.out.splitlines()}
    assert facts["net"] == "resnet50"
    assert facts["layers"] == "50"
    assert facts["input"] == "224 x 224 x 3"
    assert facts["smallest input"] == "32 x 32"
    assert facts["parameters"] == "25,557,032 trainable, 53,120 moving statistics"
    assert facts["unit"] == "bottleneck, post-activation, shortcut option B"
    assert facts["stages (units x width)"] == "3 x 64, 4 x 128, 6 x 256, 3 x 512"


def test_info_of_another_size(command: Command) -> None:
    words = ("info", "cifar_resnet20", "--channels", 1, "--classes", 7, "--json")
    small, large = (json.loads(command(*words, "--input-size", size).out) for size in (16, 32))
    # One input channel: 2 x 9 x 16 weights fewer; 7 classes: 3 x 65 fewer.
    assert small["counts"]["parameters"] == 269_722 - 288 - 195
    assert small["input_size"] == 16
    head = 64 * 7
    adds = [found["counts"]["multiply_adds"] - head for found in (small, large)]
    assert adds[1] == 4 * adds[0]


# A run.


def test_train_and_report(tmp_path: pathlib.Path, command: Command) -> None:
    output = tmp_path / "run"
    words = ("train", "--model", "cifar_resnet8", "--dataset", "digits", "--output", output)
    options = (
        "--image-size",
        8,
        "--steps",
        4,
        "--batch-size",
        32,
        "--seed",
        3,
        "--set",
        "model.spec.widths=[4, 4, 4]",
        "--set",
        "schedule.warmup_epochs=0",
        "--set",
        "optimizer.nesterov=true",
        "--learning-rate",
        0.05,
        "--ema",
        0.5,
    )
    ended = command(*words, *options)
    assert (ended.status, ended.err) == (0, "")
    assert "1257 training images, 4 steps of 32 on 1 replica(s)" in ended.out
    assert f"Report: {output / 'report.html'}" in ended.out
    config = load_config(output / "config.json")
    assert (config.recipe, config.model.name, config.seed) == ("digits", "cifar_resnet8", 3)
    assert config.model.spec == {"widths": [4, 4, 4]}
    assert (config.steps, config.epochs, config.batch_size) == (4, None, 32)
    assert (config.optimizer.nesterov, config.optimizer.ema) == (True, 0.5)
    assert "cifar_resnet8 on digits" in (output / "report.html").read_text()

    # The same command again trains nothing; another one is refused.
    ended = command(*words, *options)
    assert ended.status == 0
    assert "nothing to train" in ended.out
    ended = command(*words, *options, "--seed", 4)
    assert (ended.status, ended.out) == (1, "")
    assert "differs in seed: 3 then, 4 now" in ended.err

    # From its configuration, with a change; the report anew.
    again = tmp_path / "again"
    ended = command("train", "--config", output / "config.json", "--output", again, "--steps", 2)
    assert (ended.status, ended.err) == (0, "")
    changed = load_config(again / "config.json")
    assert changed == RunConfig(**{**vars(config), "steps": 2})
    (again / "report.html").unlink()
    ended = command("report", again)
    assert (ended.status, ended.out) == (0, f"Report: {again / 'report.html'}\n")
    assert (again / "report.html").is_file()


def test_train_on_a_folder_without_test_images(tmp_path: pathlib.Path, command: Command) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / "train" / name).mkdir(parents=True)
        for index in range(4):
            pixels = np.full((9, 9, 3), 60 * index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / "train" / name / f"{index}.png")
    ended = command(
        "train",
        "--model",
        "cifar_resnet8",
        "--dataset",
        tmp_path / "data",
        "--output",
        tmp_path / "run",
        "--steps",
        2,
        "--batch-size",
        4,
        "--image-size",
        8,
    )
    assert (ended.status, ended.err) == (0, "")
    assert (tmp_path / "run" / "model.keras").is_file()
    assert not (tmp_path / "run" / "report.html").exists()
    ended = command("evaluate", tmp_path / "run")
    assert ended.status == 1
    assert "has no test split. It has: train" in ended.err


def test_evaluate(finished_run: pathlib.Path, copied_run: pathlib.Path, command: Command) -> None:
    metrics = read_json(finished_run / "metrics.json")["test"]
    ended = command("evaluate", copied_run)
    assert (ended.status, ended.err) == (0, "")
    low, high = metrics["accuracy_interval"]
    lines = ended.out.splitlines()
    assert lines[0] == "cifar_resnet8 (model.keras) on digits, test split"
    assert lines[1].split() == ["images", "360"]
    interval = f"(95 % interval {low:.4f} to {high:.4f})"
    assert lines[2] == f"accuracy  {metrics['accuracy']:.4f}  {interval}"
    ended = command("evaluate", copied_run, "--split", "train", "--json", "--batch-size", 100)
    found = json.loads(ended.out)
    assert found["examples"] == 1257
    assert np.sum(found["confusion"]) == 1257
    assert read_json(copied_run / "metrics.json")["train"] == found
    ended = command("evaluate", copied_run, "--checkpoint", "last")
    assert "(last checkpoint)" in ended.out


def test_predict(finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command) -> None:
    paths = write_digits(tmp_path, 3)
    ended = command("predict", finished_run, *paths, "--json", "--top", 4)
    assert (ended.status, ended.err) == (0, "")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["image"] for row in rows] == [str(path) for path in paths]
    from keras_resnet_train.data.embedded import load_digits
    from keras_resnet_train.rundir import open_run

    run = open_run(finished_run)
    images = run.preprocess.normalize(load_digits().test.images[:3])
    logits = run.model.predict(images, verbose=0).astype("float64")
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, share in zip(rows, shares, strict=True):
        order = np.argsort(-share)[:4]
        assert list(row["classes"]) == [str(i) for i in order]
        assert list(row["classes"].values()) == pytest.approx(share[order], rel=1e-4)
    plain = command("predict", finished_run, paths[0], "--top", 1).out
    first, share = next(iter(rows[0]["classes"].items()))
    assert plain == f"{paths[0]}: {first} {share:.1%}\n"


def test_predict_names_files_that_it_cannot_read(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    (good,) = write_digits(tmp_path, 1)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    ended = command("predict", finished_run, bad, good)
    assert ended.status == 1
    assert ended.err.startswith(f"{bad}: unreadable: ")
    assert len(ended.err.splitlines()) == 1
    assert ended.out.startswith(f"{good}: ")
    ended = command("predict", finished_run, good, tmp_path / "none.png", tmp_path)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == f"Error: No file at {tmp_path / 'none.png'}, {tmp_path}\n"


def test_export(copied_run: pathlib.Path, command: Command) -> None:
    ended = command(
        "export",
        copied_run,
        "--precision",
        "float32,int8",
        "--evaluation-images",
        100,
        "--calibration-images",
        50,
        "--max-accuracy-drop",
        1,
    )
    assert (ended.status, ended.err) == (0, "")
    for name in ("saved_model/saved_model.pb", "model.tflite", "model_int8.tflite", "report.html"):
        assert (copied_run / name).is_file()
    rows = read_json(copied_run / "metrics.json")["exports"]
    kinds = [(row["format"], row["precision"]) for row in rows]
    assert kinds == [
        ("keras", "float32"),
        ("saved_model", "float32"),
        ("tflite", "float32"),
        ("tflite", "int8"),
    ]
    assert [row["top1_agreement"] for row in rows[1:3]] == [1.0, 1.0]
    assert all(row["images"] == 100 for row in rows[1:])
    page = (copied_run / "report.html").read_text().replace("<wbr>", "")
    assert "model_int8.tflite" in page


def test_an_export_that_fails_its_checks(copied_run: pathlib.Path, command: Command) -> None:
    """float16 rounds; asked to keep logits to the last bit, it fails and leaves no file."""
    ended = command(
        "export",
        copied_run,
        "--formats",
        "tflite",
        "--precision",
        "float16",
        "--max-float16-difference",
        0,
        "--evaluation-images",
        20,
    )
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("Error: model_float16.tflite (tflite, float16) differs from the Keras")
    assert "logit difference" in line
    assert not list(copied_run.glob("*.tflite"))
    assert not list(copied_run.glob(".export*"))
    assert "exports" not in read_json(copied_run / "metrics.json")


def _shown(run: pathlib.Path) -> str:
    return (run / "report.html").read_text().replace("<wbr>", "")


def test_a_failed_export_withdraws_the_earlier_one(
    copied_run: pathlib.Path, command: Command
) -> None:
    words = (
        "export",
        copied_run,
        "--formats",
        "tflite",
        "--precision",
        "float16",
        "--evaluation-images",
        20,
    )
    assert command(*words).status == 0
    assert "model_float16.tflite" in _shown(copied_run)
    assert command(*words, "--max-float16-difference", 0).status == 1
    assert [row["file"] for row in read_json(copied_run / "metrics.json")["exports"]] == [
        "model.keras"
    ]
    assert "model_float16.tflite" not in _shown(copied_run)


# How commands end.


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("fly",),
        ("train",),
        ("train", "--output", "x", "--precision", "float8"),
        ("train", "--output", "x", "--epochs", "many"),
        ("predict", "run"),
        ("info", "resnet50", "--frobnicate"),
    ],
)
def test_wrong_use(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: keras-resnet" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("--help",), *((name, "--help") for name in COMMANDS)])
def test_help(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    assert "usage: keras-resnet" in capsys.readouterr().out


def test_debug_shows_the_traceback(finished_run: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="Unknown model 'resnet51'"):
        main(["info", "resnet51", "--debug"])


@pytest.mark.multi_process
def test_as_a_process(tmp_path: pathlib.Path) -> None:
    """Nothing but the one line reaches stderr, TensorFlow's greetings included."""
    words = [
        sys.executable,
        "-m",
        "keras_resnet_train",
        "train",
        "--dataset",
        "digits",
        "--model",
        "cifar_resnet21",
        "--output",
        str(tmp_path / "run"),
    ]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: 'cifar_resnet21' has no such depth")
    assert not (tmp_path / "run").exists()
