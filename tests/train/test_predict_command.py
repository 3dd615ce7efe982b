"""`keras-resnet predict`: folders in batches, tables, heat maps, and weights without a run."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import keras_resnet
from keras_resnet import PreprocessSpec
from keras_resnet_train.data.embedded import load_digits
from keras_resnet_train.evaluation import Member, make_view, open_member
from keras_resnet_train.evaluation.classes import CIFAR10
from keras_resnet_train.evaluation.ensemble import Predictor
from keras_resnet_train.evaluation.imagenet import imagenet_classes
from keras_resnet_train.prediction import FoundImages, find_images, predictions
from keras_resnet_train.prediction.reading import read_batches

pytestmark = pytest.mark.tf

Command = Callable[..., Any]
DIGITS = load_digits().test.images


def write_digit(number: int, path: pathlib.Path | bytes) -> None:
    path = os.fspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        Image.fromarray(DIGITS[number, ..., 0]).save(file, format="PNG")


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def member(finished_run: pathlib.Path) -> Member:
    return open_member(str(finished_run))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pathlib.Path]:
    """Writes a small net for digits: `net(outputs)`, `net(outputs, broken=True)`."""

    def write(outputs: int, *, broken: bool = False) -> pathlib.Path:
        path = tmp_path_factory.mktemp("nets") / f"{outputs}.keras"
        spec = keras_resnet.get_spec("cifar_resnet8").replace(widths=(4, 4, 4))
        model = keras_resnet.build(spec, classes=outputs, input_shape=(8, 8, 1), seed=1)
        model.preprocess = PreprocessSpec((8, 8), (60.0,), (90.0,))
        if broken:
            kernel, bias = model.get_layer("logits").get_weights()
            model.get_layer("logits").set_weights([kernel * np.nan, bias])
        model.save(path)
        return path

    return write


def test_a_folder_as_a_table(
    finished_run: pathlib.Path, member: Member, tmp_path: pathlib.Path, command: Command
) -> None:
    """One row per file in the order of their names, of any depth; reasons for the bad ones."""
    folder, output = tmp_path / "pictures", tmp_path / "predictions.csv"
    for number, name in enumerate(("b/1.png", "b/c/2.PNG", "a.png", "z.png")):
        write_digit(number, folder / name)
    Image.open(folder / "z.png").convert("RGB").save(folder / "z.png")
    write_digit(9, folder / ".hidden" / "x.png")
    (folder / "b" / "bad.jpg").write_bytes(b"no image")
    (folder / "b" / "empty.png").touch()
    (folder / "notes.txt").touch()
    (folder / "b" / "up").symlink_to("..")  # the folder again, which has been seen
    single = tmp_path / "single.unknown"  # named itself, so its ending does not matter
    write_digit(4, single)
    ended = command(
        *("predict", finished_run, folder, single, "--output", output, "--top", 2),
        *("--batch-size", 2),
    )
    assert ended.status == 1
    assert ended.out == f"{output}: 7 files, 2 of them unreadable, by cifar_resnet8 (model.keras)\n"
    assert ended.err.splitlines() == [
        "Note: 1 file passed over, as their endings are not those of images: 1 .txt",
        "Note: 1 hidden file or folder skipped",
        "Note: 1 link to a folder above skipped",
        "Note: 1 of 5 images are not stored as grey and become grey",
    ]
    rows = rows_of(output)
    columns = ["image", "class1", "probability1", "class2", "probability2", "error"]
    assert list(rows[0]) == columns
    names = ["a.png", "b/1.png", "b/bad.jpg", "b/c/2.PNG", "b/empty.png", "z.png"]
    expected = [*(str(folder / name) for name in names), str(single)]
    assert [row["image"] for row in rows] == expected
    reasons = [row["error"] for row in rows]
    assert [bool(each) for each in reasons] == [False, False, True, False, True, False, False]
    assert "image" in reasons[2]
    assert "{{" not in reasons[2]
    assert reasons[4] == "the file is empty"
    assert (rows[2]["class1"], rows[2]["probability1"]) == ("", "")
    images = member.preprocess.normalize(DIGITS[[2, 0, 1, 3, 4]])
    logits = np.asarray(member.model(images, training=False), "float64")
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = [row for row in rows if not row["error"]]
    for row, share in zip(found, shares, strict=True):
        assert row["class1"] == str(share.argmax())
        assert float(row["probability1"]) == pytest.approx(share.max(), abs=2e-6)
        assert float(row["probability2"]) == pytest.approx(np.sort(share)[-2], abs=2e-6)
    assert not list(tmp_path.glob(".predictions*"))


def test_the_batch_size_does_not_matter(member: Member, tmp_path: pathlib.Path) -> None:
    """Probabilities are those of `evaluate`'s own code, at any batch size."""
    for number in range(7):
        write_digit(number, tmp_path / f"{number}.png")
    found = find_images([str(tmp_path)])
    view = make_view("center", member.preprocess, member.spec)
    wanted = np.exp(Predictor(member, view, 7).log_probabilities((DIGITS[:7],), 7))
    for size in (1, 3):
        rows = predictions(member, found.pictures(), batch_size=size)
        shares = [each.probabilities for each in rows]
        np.testing.assert_allclose(shares, wanted, rtol=0, atol=1e-6)


def test_files_are_read_as_they_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two batches ahead, whatever the number of files."""
    read: list[str] = []
    monkeypatch.setattr(
        "pathlib.Path.read_bytes", lambda path: read.append(path.name) or 1 / 0 * b""
    )
    found = FoundImages(tuple(f"{number}.png" for number in range(1000)), (), ())
    batches = read_batches(found.pictures(), 1, PreprocessSpec((8, 8)), 5)
    with pytest.raises(ZeroDivisionError):
        next(batches)
    assert len(read) <= 10


def test_names_that_a_spreadsheet_would_run(
    finished_run: pathlib.Path,
    tmp_path: pathlib.Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of files and of classes."""
    monkeypatch.chdir(tmp_path)
    for name in ("=cmd|calc.png", "+1.png", "-2+3.png", "@sum.png"):
        write_digit(0, tmp_path / name)
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"=1+{number}\n" for number in range(10)))
    names = ("=cmd|calc.png", "+1.png", "@sum.png", "./-2+3.png")
    ended = command("predict", finished_run, *names, "--output", "p.csv", "--labels", labels)
    assert (ended.status, ended.err) == (0, "")
    rows = rows_of(tmp_path / "p.csv")
    assert [row["image"] for row in rows] == [*(f"'{name}" for name in names[:3]), names[3]]
    assert {row["class1"][:4] for row in rows} == {"'=1+"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_that_are_no_text(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    """Bytes that are not UTF-8, and a line break."""
    write_digit(0, os.fsencode(tmp_path) + b"/d/\xff.png")
    write_digit(0, tmp_path / "d" / "a\nb.png")
    ended = command("predict", finished_run, tmp_path / "d", "--top", 1)
    assert (ended.status, ended.err) == (0, "")
    shown = [line.split(": ")[0] for line in ended.out.splitlines()]
    assert shown == [f"{tmp_path}/d/a\\nb.png", f"{tmp_path}/d/\\xff.png"]
    output = tmp_path / "p.csv"
    assert command("predict", finished_run, tmp_path / "d", "--output", output).status == 0
    names = [row["image"] for row in rows_of(output)]
    assert names == [f"{tmp_path}/d/a\nb.png", f"{tmp_path}/d/\\xff.png"]


def test_heat_maps(finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command) -> None:
    """A picture for each image that can be read, none in place of another."""
    folder, maps, output = tmp_path / "in", tmp_path / "maps", tmp_path / "p.csv"
    for name in ("a.png", "a.bmp", "sub/a.png"):
        write_digit(3, folder / name)
    (folder / "bad.png").write_bytes(b"?")
    ended = command("predict", finished_run, folder, "--heatmap", maps, "--output", output)
    assert ended.status == 1
    pictures = [row["heatmap"] for row in rows_of(output)]
    assert pictures == [
        str(maps / name) if name else "" for name in ("a.png", "a-2.png", "", "sub/a.png")
    ]
    for path in filter(None, pictures):
        with Image.open(path) as picture:
            assert (picture.format, picture.size, picture.mode) == ("PNG", (224, 224), "RGB")
            assert len(np.unique(np.asarray(picture))) > 50
    wrong = command("predict", finished_run, folder, "--heatmap", output)
    assert f"`--heatmap` must be a directory. Received: {output}" in wrong.err


def test_weights_without_a_run(
    net: Callable[..., pathlib.Path], tmp_path: pathlib.Path, command: Command
) -> None:
    """Outputs are named by ImageNet where there are 1,000, by a file, or by numbers."""
    image = tmp_path / "digit.png"
    write_digit(0, image)
    thousand, seven = net(1000), net(7)
    ended = command("predict", "--weights", thousand, image, "--json")
    assert ended.status == 0
    assert "1,000 outputs: taken for the classes of ImageNet-1k" in ended.err
    model = open_member(str(thousand))
    logits = np.asarray(model.model(model.preprocess.normalize(DIGITS[:1]), training=False))
    names = (imagenet_classes()[index].name for index in np.argsort(-logits[0])[:3])
    assert list(json.loads(ended.out)["classes"]) == list(names)
    ended = command("predict", "--weights", seven, image, "--top", 1)
    assert (ended.status, ended.out.split(" ")[1] in "0123456") == (0, True)
    assert "does not name its 7 outputs: they are numbered from 0" in ended.err
    labels = tmp_path / "labels.txt"
    labels.write_text("a\na\nb\nc\nd\ne\nf\n")  # two outputs of one name stay two
    ended = command("predict", "--weights", seven, image, "--labels", labels, "--top", 7, "--json")
    assert sorted(json.loads(ended.out)["classes"]) == ["a (0)", "a (1)", *"bcdef"]
    labels.write_text("a\nb\n")
    ended = command("predict", "--weights", seven, image, "--labels", labels)
    assert "one line for each of the net's 7 outputs. Received: " in ended.err


def test_the_names_of_imagenet() -> None:
    """All different, in the order of their WordNet IDs."""
    classes = imagenet_classes()
    assert len({each.name for each in classes}) == len(classes) == 1000
    assert [each.wordnet for each in classes] == sorted(each.wordnet for each in classes)
    known = {0: "tench", 207: "golden retriever", 281: "tabby", 999: "toilet tissue"}
    assert {index: classes[index].name for index in known} == known
    assert (classes[134].name, classes[517].name) == ("crane (bird)", "crane (machine)")


def test_an_error_leaves_the_earlier_table(
    net: Callable[..., pathlib.Path], tmp_path: pathlib.Path, command: Command
) -> None:
    image, output = tmp_path / "digit.png", tmp_path / "p.csv"
    write_digit(0, image)
    output.write_text("earlier")
    ended = command("predict", "--weights", net(10, broken=True), image, "--output", output)
    assert ended.status == 1
    message = f"The net's outputs must be finite numbers: they are not for {image}"
    assert message in ended.err.splitlines()[-1]
    assert output.read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digit.png", "p.csv"]


def test_errors_before_the_work(
    finished_run: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> None:
    image, empty = tmp_path / "digit.png", tmp_path / "empty"
    write_digit(0, image)
    empty.mkdir()
    (empty / "a.txt").touch()
    for words, message in (
        ((finished_run, empty), f"No images in {empty}: files of a folder need one of the endings"),
        ((finished_run, image, "--top", 0), "`--top` must be at least 1. Received: 0"),
        ((finished_run, image, "--batch-size", 0), "`--batch-size` must be at least 1"),
        ((finished_run, image, "--output", empty), "must be a file. Received: "),
        ((finished_run, image, "--output", empty / "x" / "p.csv"), "in a directory that exists"),
        ((tmp_path / "none", image), "none is not a run: there is nothing of this name"),
        ((image, finished_run), f"before the images: {image} is not a run, and {finished_run} is"),
        (("--weights", tmp_path / "none.pth", image), "No weights file at"),
    ):
        ended = command("predict", *words)
        assert (ended.status, ended.out) == (1, "")
        assert message in ended.err


# Real images and weights.


def test_published_weights(
    shared: pathlib.Path,
    tmp_path: pathlib.Path,
    cifar10_sample: tuple[np.ndarray, np.ndarray],
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By their name alone, from the cache; the net that is assumed is said."""
    weights = shared / "weights" / "resnet20-12fca82f.th"
    if not weights.is_file():
        pytest.skip(f"no akamaster weights under {shared}")
    cache = tmp_path / "models" / "keras_resnet"
    cache.mkdir(parents=True)
    shutil.copy(weights, cache / "akamaster--resnet20-12fca82f.th")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    images, labels = cifar10_sample
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:04}.png")
    output = tmp_path / "p.csv"
    ended = command("predict", "--weights", "akamaster", folder, "--output", output)
    assert ended.status == 0
    note = "Note: akamaster is taken for cifar_resnet20's; --model names another net"
    assert ended.err.splitlines() == [note]
    right = sum(
        row["class1"] == CIFAR10[label] for row, label in zip(rows_of(output), labels, strict=True)
    )
    assert right == 932  # as in PyTorch
