"""`keras-resnet evaluate`: views, ensembles, weights of others, and the files it leaves."""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet import PreprocessSpec
from keras_resnet_train.data.embedded import load_digits
from keras_resnet_train.evaluation import open_member
from keras_resnet_train.evaluation.imagenet import imagenet_classes
from keras_resnet_train.evaluation.progress import ProgressLine
from keras_resnet_train.files import read_json

pytestmark = pytest.mark.tf

Command = Callable[..., Any]
FILES = ["classes.csv", "confusion.csv", "evaluation.json", "reliability.svg"]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A `.keras` file of another net for the digits, of 16 pixels, that returns probabilities."""
    path = tmp_path_factory.mktemp("nets") / "net.keras"
    spec = keras_resnet.get_spec("cifar_resnet8").replace(widths=(4, 4, 4))
    model = keras_resnet.build(
        spec, classes=10, input_shape=(16, 16, 1), classifier_activation="softmax", seed=7
    )
    model.preprocess = PreprocessSpec((16, 16), (60.0,), (90.0,), interpolation="nearest")
    model.save(path)
    return path


def digits_by(
    model: Any, preprocess: PreprocessSpec, times: int, *, mirrored: bool = False
) -> np.ndarray:
    """Probabilities of the test digits, each pixel repeated, by plain Keras."""
    images = load_digits().test.images.repeat(times, axis=1).repeat(times, axis=2)
    images = images[:, :, ::-1] if mirrored else images
    found = model.predict(preprocess.normalize(images), verbose=0).astype("float64")
    if model.layers[-1].name == "logits":
        found = np.exp(found - found.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def loss_of(shares: np.ndarray) -> float:
    labels = load_digits().test.labels
    return float(-np.log(shares[np.arange(len(labels)), labels]).mean())


def rows_of(path: pathlib.Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_files_of_an_evaluation(copied_run: pathlib.Path, command: Command) -> None:
    before = read_json(copied_run / "metrics.json")["test"]
    ended = command("evaluate", copied_run, "--error-cases", 5)
    assert (ended.status, ended.err) == (0, "")
    metrics = read_json(copied_run / "metrics.json")["test"]
    assert metrics["loss"] == pytest.approx(before["loss"], rel=1e-6)
    folder = copied_run / "evaluation-test"
    lines = ended.out.splitlines()
    assert lines[0] == "cifar_resnet8 (model.keras) on digits, test split"
    assert lines[1].split() == ["images", "360"]
    low, high = before["accuracy_interval"]
    interval = f"(95 % interval {low:.4f} to {high:.4f})"
    assert lines[2] == f"accuracy  {before['accuracy']:.4f}  {interval}"
    assert lines[-1] == f"files     {folder}"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "error_cases.png"])
    found = read_json(folder / "evaluation.json")
    for key in ("accuracy", "accuracy_interval", "top5_accuracy", "loss", "examples"):
        assert found[key] == metrics[key]
    low, high = found["top5_interval"]
    assert f"top-5     {found['top5_accuracy']:.4f}  (95 % interval {low:.4f} to" in ended.out
    assert f"ECE       {found['calibration']['error']:.4f}  (" in ended.out
    assert low < found["top5_accuracy"] < high
    assert found["members"][0]["views"] == "center: 8 x 8"
    assert sum(row["examples"] for row in found["calibration"]["bins"]) == 360

    # The tables, the mistakes and the picture against plain Keras.
    run = open_member(str(copied_run))
    shares = digits_by(run.model, run.preprocess, 1)
    labels, predicted, sure = load_digits().test.labels, shares.argmax(axis=1), shares.max(axis=1)
    table = rows_of(folder / "confusion.csv")
    assert table[0][1:] == list("0123456789")
    counts = np.array([row[1:] for row in table[1:]], int)
    assert counts.tolist() == metrics["confusion"]
    classes = rows_of(folder / "classes.csv")[1:]
    recalls = [(predicted[labels == c] == c).mean() for c in range(10)]
    assert [float(row[3]) for row in classes] == pytest.approx(recalls, abs=1e-6)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-sure[wrong])][:5]
    assert [case["image"] for case in found["error_cases"]] == worst.tolist()
    assert [case["true"] for case in found["error_cases"]] == [str(labels[i]) for i in worst]
    with Image.open(folder / "error_cases.png") as picture:
        assert picture.size == (5 * 184, 224)
        # The first digit's pixels, enlarged 21 times.
        cell = np.asarray(picture.convert("L"))[8:176, 8:176][10::21, 10::21]
    np.testing.assert_array_equal(cell, load_digits().test.images[worst[0], ..., 0])
    assert (folder / "reliability.svg").read_text().count("<svg") == 1


def test_another_split_as_json(copied_run: pathlib.Path, command: Command) -> None:
    """An earlier evaluation of it is replaced, not added to."""
    folder = copied_run / "evaluation-train"
    folder.mkdir()
    for name in (*FILES, "error_cases.png"):
        (folder / name).write_text("{}")
    ended = command("evaluate", copied_run, "--split", "train", "--json", "--batch-size", 100)
    assert (ended.status, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert found["examples"] == 1257
    assert np.sum(found["confusion"]) == 1257
    assert read_json(copied_run / "metrics.json")["train"] == found
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert not list(copied_run.glob(".evaluation*"))


def test_other_views_leave_the_metrics_alone(copied_run: pathlib.Path, command: Command) -> None:
    before = (copied_run / "metrics.json").read_bytes()
    ended = command("evaluate", copied_run, "--views", "ten-crop", "--checkpoint", "last")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert "(last checkpoint)" in lines[0]
    line = "views     ten-crop: 8 x 8 at the corners and the centre of 9 x 9, mirrored"
    assert line in lines
    assert (copied_run / "evaluation-test-ten-crop-last" / "evaluation.json").is_file()
    options = ("--views", "multi-scale", "--scales", "8,12", "--split", "validation", "--json")
    ended = command("evaluate", copied_run, *options)
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["views"] == "multi-scale"
    folder = copied_run / "evaluation-validation-multi-scale"
    member = read_json(folder / "evaluation.json")["members"][0]
    assert member["views"] == "multi-scale: whole images of shorter side 8, 12, mirrored"
    assert (copied_run / "metrics.json").read_bytes() == before


def test_an_ensemble_of_a_run_and_a_file(
    finished_run: pathlib.Path, net: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    """Each has its own size and preprocessing; the probabilities are averaged."""
    output = tmp_path / "new" / "results"
    ended = command("evaluate", finished_run, "--ensemble", net, "--output", output, "--json")
    assert (ended.status, ended.err) == (0, "")
    run = open_member(str(finished_run))
    file = keras.saving.load_model(net)
    alone = digits_by(file, file.preprocess, 2)
    shares = (digits_by(run.model, run.preprocess, 1) + alone) / 2
    found = json.loads(ended.out)
    assert found["loss"] == pytest.approx(loss_of(shares), rel=1e-4)
    right = shares.argmax(axis=1) == load_digits().test.labels
    assert found["accuracy"] == pytest.approx(right.mean(), abs=1.5 / 360)
    assert sorted(path.name for path in output.iterdir()) == FILES
    members = read_json(output / "evaluation.json")["members"]
    assert [each["weights"] for each in members] == ["model.keras", "net.keras"]
    assert [each["preprocessing"]["size"] for each in members] == [[8, 8], [16, 16]]
    assert not (finished_run / "evaluation-test-ensemble").exists()

    # The file by itself, and its images mirrored too; without a directory there are no files.
    words = ("--dataset", "digits", "--views", "multi-scale", "--scales", 16, "--json")
    ended = command("evaluate", net, *words)
    note = "net.keras does not name its outputs: the classes of 'digits' are taken by their numbers"
    assert (ended.status, ended.err.strip().endswith(note)) == (0, True)
    shares = (alone + digits_by(file, file.preprocess, 2, mirrored=True)) / 2
    assert json.loads(ended.out)["loss"] == pytest.approx(loss_of(shares), rel=1e-4)
    assert [path.name for path in net.parent.iterdir()] == ["net.keras"]


def test_errors_before_the_work(
    finished_run: pathlib.Path, net: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    bare = tmp_path / "bare.keras"
    spec = keras_resnet.get_spec("cifar_resnet8").replace(widths=(4, 4, 4))
    keras_resnet.build(spec, classes=10, input_shape=(8, 8, 1)).save(bare)
    seven = tmp_path / "seven.keras"
    model = keras_resnet.build(spec, classes=7, input_shape=(8, 8, 1))
    model.preprocess = PreprocessSpec((8, 8))
    model.save(seven)
    sized = tmp_path / "sized.keras"
    model.preprocess = PreprocessSpec((12, 12))
    model.save(sized)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").touch()
    run, digits = finished_run, ("--dataset", "digits")
    multi = (run, "--views", "multi-scale", "--scales")
    for words, message in (
        ((run, "--scales", "8"), "`--scales` needs --views multi-scale. Received: --views center"),
        ((*multi, "8,x"), "whole numbers with commas between, 224,256. Received: '8,x'"),
        ((*multi, "0"), "`scales` must be one or more sides of 1 to 4096 pixels. Received: 0"),
        ((*multi, "8,3"), "smallest input of cifar_resnet8, 4 pixels. Received: 3"),
        ((run, "--error-cases", -1), "`--error-cases` must be in 1..200. Received: -1"),
        (
            (run, "--ensemble", net, run),
            "`--ensemble` and RUN must name each net once. Received twice: ",
        ),
        ((run, "--ensemble", net, "--checkpoint", "best"), "`--checkpoint` applies to runs."),
        ((run, "--net", "resnet50"), "`--model` applies to published names, not to runs"),
        ((run, "--output", full), f"{full} holds thesis.tex"),
        ((run, "--output", full / "thesis.tex"), "`--output` must be a directory"),
        ((run, "--output", full / "thesis.tex" / "x"), "thesis.tex is not"),
        ((run, "--output", run), "hold an earlier evaluation, which is replaced"),
        ((net,), "is not a run, so give the data: --dataset"),
        (("torchvision/v1",), "'torchvision/v1' is not a run, so give the data: --dataset"),
        (("torchvision/v1", *digits), "published for several nets: choose one with --model"),
        ((net, *digits, "--error-cases"), "`--error-cases` needs --output, as"),
        ((tmp_path / "none.keras", *digits), "No weights file at"),
        ((bare, *digits), "does not say how its images are prepared: set `model.preprocess`"),
        ((seven, *digits), "'digits' has 10 classes, and "),
        ((run, "--ensemble", seven), "tiny has 10, "),
        ((sized, *digits), "takes images of 8 x 8 pixels, and its `preprocess` makes them 12 x"),
    ):
        ended = command("evaluate", *words)
        assert (ended.status, ended.out) == (1, "")
        (line,) = ended.err.splitlines()
        assert message in line
    assert (full / "thesis.tex").exists()
    assert not list(finished_run.glob("*evaluation*"))


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line each half minute, with the rate since the first chunk, on stderr alone."""
    now = iter([0.0, 10.0, 20.0, 31.0, 45.0, 62.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    with ProgressLine(2000) as progress:
        for done in (100, 200, 310, 400, 1140):
            progress(done)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "310 of 2,000 images, 10.0 images/s, 169 s left",
        "1,140 of 2,000 images, 20.0 images/s, 43 s left",
    ]


# Real images and weights.


def test_published_weights(shared: pathlib.Path, command: Command) -> None:
    """Their PyTorch model is right on 932 of these 1,017 images."""
    weights, data = shared / "weights" / "resnet20-12fca82f.th", shared / "tfds"
    if not (weights.is_file() and (data / "cifar10_sample").is_dir()):
        pytest.skip(f"no akamaster weights or cifar10_sample under {shared}")
    words = ("--dataset", "cifar10_sample", "--data-dir", data)
    ended = command("evaluate", "--weights", weights, *words)
    assert ended.status == 0
    assert f"accuracy  {932 / 1017:.4f}  (" in ended.out
    ended = command("evaluate", weights, "--dataset", "digits")
    assert ended.status == 1
    assert "images of 1 channel(s), and the net of" in ended.err


def test_photographs_of_many_shapes(
    shared: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    """ImageNet's, whole, for a small net of its classes; it guesses."""
    data = shared / "tfds"
    if not (data / "imagenet_sample").is_dir():
        pytest.skip(f"no imagenet_sample under {data}")
    spec = keras_resnet.get_spec("cifar_resnet8").replace(widths=(4, 4, 4), first_stride=2)
    model = keras_resnet.build(spec, classes=1000, input_shape=(32, 32, 3), seed=1)
    model.preprocess = PreprocessSpec((32, 32), (120.0,) * 3, (60.0,) * 3)
    model.save(tmp_path / "small.keras")
    words = ("--dataset", "imagenet_sample", "--data-dir", data)
    ended = command(
        "evaluate",
        tmp_path / "small.keras",
        *words,
        "--views",
        "multi-scale",
        "--scales",
        "32",
        "--output",
        tmp_path / "out",
    )
    assert ended.status == 0
    assert "does not name its 1,000 outputs: taken for ImageNet-1k's" in ended.err
    assert "images    386" in ended.out.splitlines()
    rows = rows_of(tmp_path / "out" / "classes.csv")
    assert rows[1][:2] == ["0", "n01440764"]
    assert sorted({int(row[5]) for row in rows[1:]}) == [0, 1]
    assert sum(int(row[5]) for row in rows[1:]) == 386


# What is opened, and which classes count.


def write_digits(
    folder: pathlib.Path, labels: Any, names: Any = "0123456789", each: int = 6
) -> int:
    """Writes test digits in one folder per class; returns their number."""
    source, total = load_digits().test, 0
    for label in labels:
        place = folder / names[label]
        place.mkdir(parents=True, exist_ok=True)
        for number in np.flatnonzero(source.labels == label)[:each]:
            Image.fromarray(source.images[number, ..., 0]).save(place / f"{number}.png")
            total += 1
    return total


def test_a_broken_training_image_does_not_stop_the_test_split(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    total = write_digits(tmp_path / "test", range(10))
    write_digits(tmp_path / "train", range(10), each=1)
    (tmp_path / "train" / "0" / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    words = ("evaluate", finished_run, "--dataset", tmp_path, "--output", out)
    ended = command(*words)
    assert ended.status == 0
    assert ended.out.splitlines()[1] == f"images    {total}"
    assert (finished_run / "metrics.json").is_file()
    ended = command(*words, "--split", "train")
    assert ended.status == 1
    assert "broken.png" in ended.err
    ended = command(*words, "--split", "train", "--on-bad-image", "skip")
    assert (ended.status, ended.out.splitlines()[1]) == (0, "images    10")


def test_folders_without_training_images(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    """One with only `test/` or only `val/`, and one without splits, which is measured whole."""
    words = ("evaluate", finished_run, "--output", tmp_path / "out", "--dataset")
    for name in ("test", "val", "."):
        total = write_digits(tmp_path / f"only-{name}" / name, range(10))
        ended = command(*words, tmp_path / f"only-{name}")
        assert ended.status == 0, ended.err
        assert ended.out.splitlines()[1] == f"images    {total}"
    assert "all its images are the test split" in ended.err
    ended = command(*words, tmp_path / "only-val")
    assert "has no test split: the validation split is measured" in ended.err
    assert ", validation split" in ended.out.splitlines()[0]
    ended = command(*words, tmp_path / "only-val", "--split", "test")
    assert (ended.status, "has no test split. It has: validation" in ended.err) == (1, True)


def test_a_subset_of_classes(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    """Counted among these classes, as the authors of ImageNet-R do, and among all."""
    chosen = np.array([2, 5, 7])
    write_digits(tmp_path / "data", chosen, each=30)
    out = tmp_path / "out"
    words = ("evaluate", finished_run, "--dataset", tmp_path / "data", "--output", out)
    ended = command(*words)
    assert ended.status == 0
    test, run = load_digits().test, open_member(str(finished_run))
    images = np.concatenate([np.flatnonzero(test.labels == label)[:30] for label in chosen])
    logits = run.model.predict(run.preprocess.normalize(test.images[images]), verbose=0)
    labels = test.labels[images]
    masked = chosen[logits[:, chosen].argmax(axis=1)]
    found = read_json(out / "evaluation.json")
    assert found["accuracy"] == pytest.approx((masked == labels).mean())
    every = (logits.argmax(axis=1) == labels).mean()
    assert found["accuracy_among_all_outputs"] == pytest.approx(every)
    assert every < found["accuracy"]
    assert (found["classes"], found["outputs"]) == (3, 10)
    shares = np.exp(logits[:, chosen].astype("float64"))
    right = shares[np.arange(len(labels)), np.searchsorted(chosen, labels)] / shares.sum(axis=1)
    assert found["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)
    lines = ended.out.splitlines()
    assert lines[2].startswith("classes   3 of the net's 10; the figures are among these classes")
    assert lines[-2].startswith(f"among all 10 outputs: accuracy {every:.4f}, top-5 ")
    assert [row[1] for row in rows_of(out / "classes.csv")[1:]] == ["2", "5", "7"]
    write_digits(tmp_path / "data", [0], ["cat"])
    ended = command(*words)
    assert ended.status == 1
    assert "not among them: cat" in ended.err


def test_folders_of_imagenet(tmp_path: pathlib.Path, command: Command) -> None:
    """Named by numbers as ImageNet-V2's, whose order as text is another, or by WordNet IDs."""
    spec = keras_resnet.get_spec("cifar_resnet8").replace(widths=(4, 4, 4))
    model = keras_resnet.build(spec, classes=1000, input_shape=(8, 8, 1), seed=1)
    model.preprocess = PreprocessSpec((8, 8), (60.0,), (90.0,))
    model.save(tmp_path / "net.keras")
    outputs = [2, 10, 100, 999]
    wordnet = [imagenet_classes()[index].wordnet for index in outputs]
    test = load_digits().test
    images = np.concatenate([np.flatnonzero(test.labels == label)[:3] for label in range(4)])
    logits = model.predict(model.preprocess.normalize(test.images[images]), verbose=0)
    labels = np.repeat(outputs, 3)
    shares = logits - np.log(np.exp(logits[:, outputs]).sum(axis=1, keepdims=True))
    loss = -shares[np.arange(12), labels].mean()
    for kind, names in (("v2", list(map(str, outputs))), ("r", wordnet)):
        write_digits(tmp_path / kind, range(4), names, each=3)
        ended = command(
            *("evaluate", "--weights", tmp_path / "net.keras", "--dataset", tmp_path / kind),
            *("--output", tmp_path / "out"),
        )
        assert ended.status == 0, ended.err
        found = read_json(tmp_path / "out" / "evaluation.json")
        assert (found["classes"], found["outputs"]) == (4, 1000)
        assert found["loss"] == pytest.approx(loss, rel=1e-4)
        assert [row[1] for row in rows_of(tmp_path / "out" / "classes.csv")[1:]] == wordnet


def test_recomputed_batch_norm(copied_run: pathlib.Path, command: Command) -> None:
    """The figures change, the run's own do not."""
    before = (copied_run / "metrics.json").read_bytes()
    ended = command("evaluate", copied_run, "--recompute-batch-norm", 256, "--json")
    assert ended.status == 0
    assert "batch-norm statistics re-estimated on 256 training images" in ended.err
    assert json.loads(ended.out)["loss"] != read_json(copied_run / "metrics.json")["test"]["loss"]
    assert (copied_run / "metrics.json").read_bytes() == before
    assert (copied_run / "evaluation-test-recomputed" / "evaluation.json").is_file()
