"""The command line, in this process, on a tiny finished run."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import keras_resnet
import keras_resnet_train
from keras_resnet.weights import SOURCES
from keras_resnet_train.cli import main
from keras_resnet_train.command import run_data
from keras_resnet_train.commands import COMMANDS, STUDIES
from keras_resnet_train.config import RunConfig, all_fields, load_config
from keras_resnet_train.files import read_json
from keras_resnet_train.recipes import RECIPES, get_recipe
from keras_resnet_train.run_options import add_field_options, add_run_options, configuration
from keras_resnet_train.rundir import open_run

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


# Nets and recipes.


def test_list(command: Command) -> None:
    ended = command("list")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.split() == keras_resnet.list_variants()
    ended = command("list", "cifar_resnet*v2")
    assert ended.out.split() == ["cifar_resnet164v2", "cifar_resnet1001v2"]
    ended = command("list", "cifar_resnet20", "--table")
    assert ended.status == 0
    row = next(line for line in ended.out.splitlines() if "cifar_resnet20 " in line)
    for cell in ("32 x 32", "269,722", "0.041", "20"):
        assert cell in row


def test_list_weights(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = command("list", "--weights", "resnet5*")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in lines[1:5]}
    assert rows["resnet50", "torchvision/v2"][:5] == [
        *("97.79", "80.858", "95.434", "25,557,032", "4.089"),
    ]
    assert rows["resnet50", "imagenet"][:3] == ["98", "74.9", "92.1"]
    assert rows["resnet50v2", "imagenet"][-2:] == ["Apache-2.0", "(TensorFlow)"]
    assert "https://keras.io/api/applications/" in ended.out
    row = command("list", "--weights", "mlperf*").out.splitlines()[1].split()
    assert row[:6] == ["mlperf_tiny_resnet8", "mlperf_tiny", "-", "-", "-", "78,186"]
    # Counting every net would take most of the time.
    counts = keras_resnet.analysis.Counts(1, 0, 1, 1, 1)
    monkeypatch.setattr("keras_resnet_train.commands.list_nets.count_spec", lambda spec: counts)
    everything = command("list", "--weights").out.splitlines()
    shown = {tuple(line.split()[:2]) for line in everything[1 : len(SOURCES) + 1]}
    assert shown == set(SOURCES)
    ended = command("list", "--weights", "resnet5x")
    assert (ended.status, ended.out) == (1, "")
    assert "No published weights for 'resnet5x'" in ended.err


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
    words = ("info", "cifar_resnet8", "--channels", 1, "--classes", 7, "--json")
    small, large = (json.loads(command(*words, "--input-size", size).out) for size in (16, 32))
    # One input channel: 2 x 9 x 16 weights fewer; 7 classes: 3 x 65 fewer.
    whole = keras_resnet.analysis.count_spec(keras_resnet.get_spec("cifar_resnet8"))
    assert small["counts"]["parameters"] == whole.parameters - 288 - 195
    assert small["input_size"] == 16
    head = 64 * 7
    adds = [found["counts"]["multiply_adds"] - head for found in (small, large)]
    assert adds[1] == 4 * adds[0]


def test_recipes(command: Command) -> None:
    """The list has each recipe's command, whose configuration is printed by its name."""
    ended = command("recipes")
    assert (ended.status, ended.err) == (0, "")
    blocks = ended.out.split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == list(RECIPES)
    for block, recipe in zip(blocks, RECIPES.values(), strict=True):
        lines = dict(line[2:].split(maxsplit=1) for line in block.splitlines()[1:4])
        assert lines["source"] == recipe.source
        assert lines["expected"] == recipe.expected
        assert lines["settings"].startswith(f"batch_size={recipe.settings['batch_size']} ")
        words = block.splitlines()[-1].split()
        if recipe.weights is not None:
            assert words[3:5] == ["--weights", recipe.weights]
            continue
        assert words[:4] == ["command", "keras-resnet", "train", "--model"]
        described = configuration(_parsed(*words[3:-2]))
        ended = command("recipes", recipe.name)
        assert (ended.status, ended.out, ended.err) == (0, described.to_json(), "")
    assert "`--model` needs a RECIPE" in command("recipes", "--model", "resnet50").err
    deep = json.loads(command("recipes", "he2015-cifar", "--model", "cifar_resnet110").out)
    assert deep["schedule"]["warmup_steps"] == 400


def test_which_commands_need_no_tensorflow() -> None:
    """`list`, `info` and `recipes` import nothing of the application that reads data or trains."""
    root = pathlib.Path(keras_resnet_train.__file__).parent

    def imported(path: pathlib.Path) -> set[pathlib.Path]:
        found = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                names = [base, *(base / each.name for each in node.names)]
                for name in names:
                    found |= {name.with_suffix(".py"), name / "__init__.py"}
            elif isinstance(node, ast.Import):
                assert not {each.name.split(".")[0] for each in node.names} & {"tensorflow"}
        return {each for each in found if each.is_file()}

    seen: set[pathlib.Path] = set()
    ahead = {root / "commands" / f"{name}.py" for name in ("list_nets", "info", "recipes")}
    while ahead:
        seen |= ahead
        ahead = set().union(*map(imported, ahead)) - seen
    names = {str(path.relative_to(root)) for path in seen}
    assert {"command.py", "config/run.py", "recipes/recipe.py"} <= names
    assert not {name for name in names if name.startswith(("data", "evaluation", "rundir"))}


@pytest.mark.parametrize(
    ("command_name", "words", "found"),
    [
        (
            "predict",
            "RUN --checkpoint best a.jpg",
            {"paths": ["RUN", "a.jpg"], "checkpoint": "best"},
        ),
        (
            "predict",
            "RUN a.jpg --top 1 b.jpg --json",
            {"paths": ["RUN", "a.jpg", "b.jpg"], "top": 1},
        ),
        ("predict", "--json -- RUN -a.jpg", {"paths": ["RUN", "-a.jpg"], "json": True}),
        ("predict", "RUN --top 1 -- -a --json", {"paths": ["RUN", "-a", "--json"], "json": False}),
        ("evaluate", "--ensemble B C -- RUN", {"run": "RUN", "ensemble": ["B", "C"]}),
        ("shards", "S --short-side 64 D", {"source": "S", "folder": pathlib.Path("D")}),
        ("compare", "A --output x.html B", {"runs": [pathlib.Path("A"), pathlib.Path("B")]}),
        ("latency", "A --batch 1,8 B", {"files": ["A", "B"], "batch": (1, 8)}),
        ("convert", "--to a.h5 -- -a.pth", {"source": "-a.pth", "to": pathlib.Path("a.h5")}),
        ("recipes", "--model resnet50 imagenet", {"recipe": "imagenet"}),
        ("train", "--output RUN", {"output": pathlib.Path("RUN")}),
        ("launch", "--workers 2 train --steps 3", {"words": ["train", "--steps", "3"]}),
    ],
)
def test_options_between_names(
    command_name: str, words: str, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names stand between and behind options, and behind `--`, where they may have a hyphen."""
    module = importlib.import_module(f"keras_resnet_train.{COMMANDS[command_name].module}")
    given: list[argparse.Namespace] = []
    stand_in = module.COMMAND._replace(run=lambda args: given.append(args) or 0)
    monkeypatch.setattr(module, "COMMAND", stand_in)
    assert main([command_name, *words.split()]) == 0
    assert {name: getattr(given[0], name) for name in found} == found


def test_names_that_are_missing_or_options_that_are_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, message in (
        ("predict --top 1", "the following arguments are required: IMAGE"),
        ("predict RUN --tops 1 a.jpg", "unrecognized arguments: --tops"),
        ("compare A --output", "argument --output: expected one argument"),
        ("info resnet50 --json resnet18", "unrecognized arguments: resnet18"),
        ("quickstart x", "unrecognized arguments: x"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(words.split())
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith(f"usage: keras-resnet {words.split()[0]} ")


# A run's options.


def _parsed(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_run_options(parser)
    return parser.parse_args([str(word) for word in words])


def test_each_option_sets_its_field() -> None:
    """By its type: numbers, choices, text, and switches with a `--no-`."""
    values = {
        "--stacked": True,
        "--track": "wandb",
        "--profile": "3:5",
        "--log-gradient-norm": True,
        "--early-stop": 3,
        "--layer-decay": 0.5,
        "--task": "classification",
        "--sampling": "balanced",
        "--teacher": "net.keras",
        "--test-size": 0.25,
        "--accumulate": 2,
        "--average-last": 3,
        "--recompute-batch-norm": 100,
        "--loss": "bce",
        "--class-weights": "balanced",
        "--augment": "trivial",
        "--mixup": 0.2,
        "--cutmix": 1.0,
        "--dataset": "digits",
        "--data-dir": "/data",
        "--validation": 0.1,
        "--image-size": 16,
        "--classes": 10,
        "--on-bad-image": "skip",
        "--epochs": 2.5,
        "--batch-size": 64,
        "--learning-rate": 0.2,
        "--label-smoothing": 0.3,
        "--ema": 0.9,
        "--seed": 5,
        "--strategy": "cpu:2",
        "--worker-timeout": 60,
        "--collective": "ring",
        "--data-service": "local",
        "--sync-batch-norm": False,
        "--precision": "mixed_bfloat16",
        "--xla": True,
        "--remat": "stage",
        "--steps-per-call": 7,
        "--deterministic": True,
        "--checkpoint-steps": 11,
        "--checkpoint-minutes": 1.5,
    }
    fields = {field.setting.option: field for field in all_fields(RunConfig)}
    of_weights = {"--weights", "--freeze", "--head-epochs", "--quantize", "--bits"}
    assert {*values, *of_weights, "--steps"} == fields.keys() - {None}
    words: list[object] = []
    for option, value in values.items():
        switch = option if value else option.replace("--", "--no-")
        words += [switch] if isinstance(value, bool) else [option, value]
    found = json.loads(configuration(_parsed(*words)).to_json())
    for option, value in values.items():
        section, _, name = fields[option].path.rpartition(".")
        assert (found[section] if section else found)[name] == value
    assert configuration(_parsed("--dataset", "digits", "--steps", 3)).steps == 3


def test_some_options_with_help_texts_of_a_command() -> None:
    parser = argparse.ArgumentParser()
    add_field_options(parser, ["steps", "runtime.xla"], {"steps": "Steps of `each` run, 100 %."})
    text = parser.format_help()
    assert "steps of each run, 100 %\n" in text
    assert "compile the step with XLA" in text
    assert "--epochs" not in text


def test_configurations(tmp_path: pathlib.Path) -> None:
    """From a recipe by the data and the net, or from a file; the options win."""
    config = configuration(_parsed("--dataset", "digits"))
    assert (config.recipe, config.model.name) == ("digits", "cifar_resnet20")
    config = configuration(_parsed("--dataset", "cifar10", "--set", "optimizer.nesterov=true"))
    assert (config.recipe, config.optimizer.nesterov) == ("he2015-cifar", True)
    file = tmp_path / "config.json"
    file.write_text(config.to_json())
    assert configuration(_parsed("--config", file)) == config
    words = ("--config", file, "--epochs", 2, "--model", "resnet18", "--set", "model.spec.blur=3")
    changed = configuration(_parsed(*words))
    assert (changed.epochs, changed.steps, changed.data) == (2.0, None, config.data)
    assert (changed.model.name, changed.model.spec) == ("resnet18", {"blur": 3})
    config = configuration(_parsed("--dataset", "imagenet2012", "--model", "resnet50"))
    assert config.recipe == "he2015-imagenet"


# A run.


def test_train_and_report(tmp_path: pathlib.Path, command: Command) -> None:
    """From a configuration and options, once; then the same again, another, and its report."""
    output, file = tmp_path / "run", tmp_path / "config.json"
    widths = {"model.spec.widths": [4, 4, 4], "schedule.warmup_epochs": 0, "data.image_size": 8}
    file.write_text(get_recipe("digits").configure("cifar_resnet8", widths).to_json())
    words = ("train", "--config", file, "--output", output)
    options = ("--steps", 4, "--batch-size", 32, "--seed", 3, "--set", "optimizer.nesterov=true")
    ended = command(*words, *options)
    assert (ended.status, ended.err) == (0, "")
    assert "1257 training images, 4 steps of 32 on 1 replica(s)" in ended.out
    assert f"Report: {output / 'report.html'}" in ended.out
    config = load_config(output / "config.json")
    assert (config.recipe, config.model.name, config.seed) == ("digits", "cifar_resnet8", 3)
    assert config.model.spec == {"widths": [4, 4, 4]}
    assert (config.steps, config.epochs, config.batch_size) == (4, None, 32)
    assert config.optimizer.nesterov
    assert "cifar_resnet8 on digits" in (output / "report.html").read_text()

    ended = command(*words, *options)
    assert ended.status == 0
    assert "nothing to train" in ended.out
    ended = command(*words, *options, "--seed", 4)
    assert (ended.status, ended.out) == (1, "")
    assert "differs in seed: 3 then, 4 now" in ended.err

    (output / "report.html").unlink()
    ended = command("report", output)
    assert (ended.status, ended.out) == (0, f"Report: {output / 'report.html'}\n")
    assert (output / "report.html").is_file()


def test_predict(finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command) -> None:
    """Files that cannot be read are named, and the others are classified."""
    from keras_resnet_train.data.embedded import load_digits
    from keras_resnet_train.rundir import open_run

    paths = write_digits(tmp_path, 3)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    ended = command("predict", finished_run, bad, *paths, "--json", "--top", 4)
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith(f"{bad}: unreadable: ")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["image"] for row in rows] == [str(path) for path in paths]
    run = open_run(finished_run)
    images = run.preprocess.normalize(load_digits().test.images[:3])
    logits = np.asarray(run.model(images, training=False), "float64")
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for row, share in zip(rows, shares, strict=True):
        order = np.argsort(-share)[:4]
        assert list(row["classes"]) == [str(i) for i in order]
        assert list(row["classes"].values()) == pytest.approx(share[order], rel=1e-4)

    ended = command("predict", finished_run, paths[0], "--top", 1)
    first, share = next(iter(rows[0]["classes"].items()))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == f"{paths[0]}: {first} {share:.1%}\n"
    missing = [tmp_path / "none.png", tmp_path / "nowhere"]
    ended = command("predict", finished_run, paths[0], *missing)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == f"Error: No file or folder at {missing[0]}, {missing[1]}\n"


def test_export(copied_run: pathlib.Path, command: Command) -> None:
    """A rejected file is not written, withdraws the earlier one, and leaves the others."""

    def shown() -> str:
        return (copied_run / "report.html").read_text().replace("<wbr>", "")

    def exported() -> list[str]:
        return [row["file"] for row in read_json(copied_run / "metrics.json")["exports"]]

    # float16 rounds: held to logits equal to the last bit, it fails.
    words = ("export", copied_run, "--evaluation-images", 50, "--formats", "tflite", "--precision")
    ended = command(*words, "float16", "--max-float16-difference", 0)
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert line.startswith("Error: model_float16.tflite (tflite, float16) differs from the Keras")
    assert "logit difference relative to the spread" in line
    assert line.endswith("limit 0 (--max-float16-difference). Written: nothing")
    assert not list(copied_run.glob("*.tflite"))
    assert not list(copied_run.glob(".export*"))
    assert "exports" not in read_json(copied_run / "metrics.json")

    ended = command(*words, "float16")
    assert (ended.status, ended.err) == (0, "")
    assert "model_float16.tflite" in shown()
    ended = command(
        *("export", copied_run, "--precision", "int8", "--evaluation-images", 50),
        *("--calibration-images", 50, "--max-accuracy-drop", 1, "--min-signal-to-noise", 0),
        *("--min-agreement", 0),
    )
    assert (ended.status, ended.err) == (0, "")
    assert "Warning: int8 is calibrated on 50 images" in ended.out
    for name in ("saved_model/saved_model.pb", "model_int8.tflite"):
        assert (copied_run / name).is_file()
    rows = read_json(copied_run / "metrics.json")["exports"]
    assert [(row["format"], row["precision"]) for row in rows] == [
        ("keras", "float32"),
        ("tflite", "float16"),  # the earlier one stays
        ("saved_model", "float32"),
        ("tflite", "int8"),
    ]
    assert rows[2]["top1_agreement"] == 1.0
    assert all(row["images"] == 50 for row in rows[1:])
    assert "model_int8.tflite" in shown()

    # A file that was removed is no longer listed.
    (copied_run / "model_int8.tflite").unlink()
    ended = command(*words, "float32,float16", "--max-float16-difference", 0)
    assert ended.status == 1
    assert ended.err.endswith(". Written: model.tflite\n")
    assert not (copied_run / "model_float16.tflite").exists()
    assert exported() == ["model.keras", "saved_model", "model.tflite"]
    for name in ("model_float16.tflite", "model_int8.tflite"):
        assert name not in shown()


def test_other_data_of_a_run_of_grey_images(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images are read with the channels of the run's net, whatever its spec says."""
    for number in range(10):
        folder = tmp_path / "images" / str(number)
        folder.mkdir(parents=True)
        for index in range(5):
            Image.new("L", (8, 8), number * 20).save(folder / f"{index}.png")
    (folder / "5.png").symlink_to("5.png")  # to itself
    options = {"dataset": str(tmp_path / "images"), "data_dir": None, "on_bad_image": "skip"}
    data = run_data(open_run(finished_run), argparse.Namespace(**options))
    assert data.channels == 1
    assert re.search(r"Note: 1 unreadable t\w+ images skipped: .*5.png", capsys.readouterr().err)
    with pytest.raises(ValueError, match=r"1 of 51 images are unreadable: .*9/5.png"):
        run_data(open_run(finished_run), argparse.Namespace(**{**options, "on_bad_image": "fail"}))


def test_export_of_a_file(finished_run, tmp_path, command: Command) -> None:
    """Any weights are a source: without data the file is compared with the net only."""
    words = ("export", finished_run / "model.keras", "--formats", "tflite")
    ended = command(*words)
    assert ended.err.endswith("is not a run, so say where the files go: --output DIR\n")
    ended = command(*words, "--output", tmp_path / "out")
    assert (ended.status, ended.err) == (0, "")
    assert "No --dataset: files are compared with the net on 16 random images" in ended.out
    assert (tmp_path / "out" / "model.tflite").is_file()
    assert len((tmp_path / "out" / "labels.txt").read_text().splitlines()) == 10
    ended = command(*words, "--output", tmp_path / "out", "--precision", "int8")
    assert ended.err.startswith("Error: int8 files are calibrated on images: give --dataset")


def test_export_for_clients(finished_run, tmp_path, command: Command) -> None:
    """Each client's files are in a directory of its name; the manifest has what ran them."""
    loose = ("--min-signal-to-noise", 0, "--min-agreement", 0, "--max-accuracy-drop", 1)
    words = ("export", finished_run, "--evaluation-images", 50, "--output", tmp_path)
    ended = command(
        *words,
        *loose,
        "--client",
        "tflite-micro,litert-js",
        "--activation",
        "none",
        "--author",
        "A",
    )
    assert (ended.status, ended.err) == (0, "")
    assert "litert-js: activation 'none' as asked, not 'softmax' (pages show" in ended.out
    assert "tflite-micro/model_int8.tflite: " in ended.out
    assert "No --client" not in ended.out
    entries = read_json(tmp_path / "manifest.json")["artifacts"]
    assert sorted(entries) == ["litert-js/model.tflite", "tflite-micro/model_int8.tflite"]
    assert entries["tflite-micro/model_int8.tflite"]["outputs"] == ["logits"]
    assert entries["litert-js/model.tflite"]["outputs"] == ["logits"]
    assert (tmp_path / "tflite-micro" / "model_data.cc").is_file()

    ended = command(*words, "--version-dir", "--formats", "saved_model")
    assert "Wrote version 1: saved_model/1" in ended.out
    assert "No --client: files as most programs take them" in ended.out
    ended = command(*words, "--formats", "saved_model")
    assert "'saved_model' holds versions [1]: --version-dir" in ended.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--formats", "onnx", "--precision", "mixed"), "`--precision mixed` applies to tflite. "),
        (("--formats", "saved_model", "--precision", "int8"), "`--precision int8` applies to tfl"),
        (("--max-size", "300KB"), "`--max-size` applies to --auto"),
        (("--max-accuracy-drop", 0.1), "`--max-accuracy-drop` applies to dynamic, int8, "),
        (("--calibration-images", 9), "`--calibration-images` applies to int8, int16x8, mixed"),
        (("--max-float16-difference", 1), "`--max-float16-difference` applies to float16 files"),
        (("--output-type", "uint8"), "`--output-type` applies to int8 files"),
        (("--batch", 0), "`batch` must be 'open' or at least 1. Received: batch=0"),
        (
            ("--formats", "saved_model", "--activation", "softmax"),
            "`activation='softmax'` applies to LiteRT and ONNX files",
        ),
        (("--evaluation-images", 0), "`--evaluation-images` must be at least 1. Received: 0"),
        (("--client", "mediapip"), "`client` must be one of mediapipe, android, litert-js"),
        (("--client", "mediapipe"), "client 'mediapipe' takes images of 3 or 4 channels"),
        (("--client", "litert-js", "--batch", "open"), "client 'litert-js' does not take batch="),
        (("--version-dir", "--formats", "tflite"), "`--version-dir` applies to the format saved_"),
    ],
)
def test_export_ignores_no_option(finished_run, command: Command, options, message) -> None:
    ended = command("export", finished_run, *options)
    assert ended.status == 1
    assert ended.err.startswith(f"Error: {message}")


# How commands end.


def test_train_needs_an_output_or_a_dry_run(command: Command) -> None:
    ended = command("train", "--dataset", "digits")
    assert (ended.status, ended.out) == (1, "")
    assert "Give --output, the directory of the run, or --dry-run" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("fly",),
        ("train", "--output", "x", "--precision", "float8"),
        ("train", "--output", "x", "--epochs", "many"),
        ("predict", "run"),
        ("info", "resnet50", "--frobnicate"),
        ("study", "degradatoin"),
    ],
)
def test_wrong_use(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    usage, *_, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: keras-resnet")
    assert error.startswith("keras-resnet")
    assert ": error: " in error


def test_unknown_options_show_their_commands_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["list", "--modle"])
    usage, *_, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: keras-resnet list ")
    assert error == "keras-resnet list: error: unrecognized arguments: --modle"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Of each command; the overviews list commands and studies with the tables' texts."""
    for words, table in ((("--help",), COMMANDS), (("study", "--help"), STUDIES)):
        with pytest.raises(SystemExit, match="0"):
            main(words)
        text = " ".join(capsys.readouterr().out.split())
        for name, entry in table.items():
            assert f"{name} {entry.help}" in text
    entries = [((name,), entry) for name, entry in COMMANDS.items()]
    for path, entry in [*entries, *((("study", name), each) for name, each in STUDIES.items())]:
        with pytest.raises(SystemExit, match="0"):
            main([*path, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert text.startswith(f"usage: keras-resnet {' '.join(path)} [-h] [--debug]")
        assert entry.help in text


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="Unknown model 'resnet51'"):
        main(["info", "resnet51", "--debug"])


@pytest.mark.multi_process
@pytest.mark.parametrize("unbuffered", ["1", ""])
def test_a_reader_that_leaves_is_no_error(unbuffered: str) -> None:
    """`keras-resnet list | head -1`: the pipe is closed while the command still prints."""
    code = (
        "import sys\n"
        "from keras_resnet_train.errors import reported\n"
        "with reported('list', debug=False) as outcome:\n"
        "    print('resnet50')\n"
        "sys.exit(outcome.status)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.multi_process
def test_as_a_process(tmp_path: pathlib.Path) -> None:
    """Nothing but the one line reaches stderr, TensorFlow's greetings included."""
    words = ["--dataset", "digits", "--model", "cifar_resnet21", "--output", str(tmp_path / "run")]
    ended = subprocess.run(
        [sys.executable, "-m", "keras_resnet_train", "train", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: 'cifar_resnet21' has no such depth")
    assert not (tmp_path / "run").exists()
