"""`keras-resnet predict` on data sets: a row for each example, with its stored name and label."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_resnet_train.cli import main
from keras_resnet_train.data.embedded import load_digits
from keras_resnet_train.evaluation import open_member
from keras_resnet_train.prediction import (
    Prediction,
    PredictionTable,
    names_data_set,
    open_data_set,
)
from keras_resnet_train.prediction.heatmaps import _picture_names

pytestmark = pytest.mark.tf

Command = Callable[..., Any]
DIGITS = load_digits().test
COUNT = 12
NAMES = [str(number) for number in range(10)]


def png(number: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(DIGITS.images[number, ..., 0]).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Twelve test digits, and a table of them, of which two are for training."""
    root = tmp_path_factory.mktemp("digits")
    (root / "images").mkdir()
    lines = ["image,label,split"]
    for number in range(COUNT):
        (root / "images" / f"{number:02}.png").write_bytes(png(number))
        split = "train" if number < 2 else "test"
        lines.append(f"images/{number:02}.png,{DIGITS.labels[number]},{split}")
    (root / "digits.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def photos(finished_run: pathlib.Path, folder: pathlib.Path) -> list[dict[str, str]]:
    """The predictions for the files."""
    words = ("predict", finished_run, folder / "images", "--output", folder / "photos.csv")
    assert main([str(word) for word in words]) == 0
    return rows_of(folder / "photos.csv")


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_shards(
    finished_run: pathlib.Path,
    folder: pathlib.Path,
    photos: list[dict[str, str]],
    tmp_path: pathlib.Path,
    command: Command,
) -> None:
    """As the files that the shards were made of; and `evaluate` measures the same images."""
    pytest.importorskip("array_record", reason="writes record shards")
    shards, output = tmp_path / "shards", tmp_path / "p.csv"
    assert command("shards", folder / "digits.csv", shards, "--channels", 1).status == 0
    ended = command("predict", finished_run, "--output", output, shards)
    assert ended.status == 0
    assert ended.out == f"{output}: 12 images, by cifar_resnet8 (model.keras)\n"
    assert "images: train 2, test 10" in ended.err
    rows = rows_of(output)
    numbers = ("class1", "probability1", "class2", "probability2", "class3", "probability3")
    assert list(rows[0]) == ["image", "split", "label", *numbers, "error"]
    assert [row["split"] for row in rows] == ["train"] * 2 + ["test"] * 10
    assert [row["image"] for row in rows] == [f"images/{n:02}.png" for n in range(COUNT)]
    assert [row["label"] for row in rows] == [str(label) for label in DIGITS.labels[:COUNT]]
    assert [row["class1"] for row in rows] == [photo["class1"] for photo in photos]
    shares = [[float(row["probability1"]) for row in each] for each in (rows, photos)]
    assert shares[0] == pytest.approx(shares[1], abs=2e-6)
    # One split, beside a file, as JSON and as text.
    photo = folder / "images" / "00.png"
    ended = command("predict", finished_run, shards, photo, "--split", "test", "--json")
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert [each["image"] for each in found] == [str(photo), *(r["image"] for r in rows[2:])]
    assert "split" not in found[0]
    assert (found[1]["split"], found[1]["label"]) == ("test", rows[2]["label"])
    prediction = Prediction("a.png", np.array([0.2, 0.8]), split="test", label="x")
    text = PredictionTable(("x", "y"), 1, stored=True).text(prediction)
    assert text == "a.png: y 80.0%; stored label: x"
    ended = command("evaluate", finished_run, "--dataset", shards, "--json")
    assert ended.status == 0
    assert json.loads(ended.out)["examples"] == 10


def test_tables(
    finished_run: pathlib.Path,
    folder: pathlib.Path,
    photos: list[dict[str, str]],
    tmp_path: pathlib.Path,
    command: Command,
) -> None:
    """A CSV file of images and labels without splits, of which one image cannot be read."""
    table, output = folder / "few.csv", tmp_path / "p.csv"
    (folder / "broken.png").write_bytes(b"?")
    table.write_text("image,label\nimages/03.png,a\nbroken.png,b\nimages/00.png,a\n")
    ended = command("predict", finished_run, table, "--output", output)
    assert ended.status == 1
    assert "3 images, 1 of them unreadable" in ended.out
    rows = {row["image"]: row for row in rows_of(output)}
    assert {name: row["label"] for name, row in rows.items()} == {
        "images/03.png": "a",
        "broken.png": "b",
        "images/00.png": "a",
    }
    assert "no format of images" in rows["broken.png"]["error"]
    assert rows["images/03.png"]["class1"] == photos[3]["class1"]


@pytest.mark.parametrize("suffix", ["tfrecord", "array_record"])
def test_tfds(
    suffix: str,
    finished_run: pathlib.Path,
    photos: list[dict[str, str]],
    tmp_path: pathlib.Path,
    command: Command,
    prepare_tfds: Callable[..., None],
) -> None:
    """By its name, its folder and the folder of a version; of labels that are withheld, none."""
    if suffix == "array_record":
        pytest.importorskip("array_record")
    member = open_member(str(finished_run))
    labels = [*DIGITS.labels[: COUNT - 1].tolist(), -1]
    images = [png(number) for number in range(COUNT)]
    root, output = tmp_path / "tfds", tmp_path / "p.csv"
    prepare_tfds(root, "few", suffix, images, labels, NAMES, splits=("test", "more"), channels=1)
    for name in (root / "few", root / "few" / "1.0.0"):
        assert names_data_set(str(name))
        data = open_data_set(str(name), member)
        assert data.sizes == {"test": COUNT, "more": COUNT}
        pictures = list(data.pictures())
        assert [picture.read() for picture in pictures] == images * 2
        assert [picture.label for picture in pictures] == [*map(str, labels[:-1]), ""] * 2
        names = [f"{split}/{name}" for split, name in data.names()]
        assert [f"{each.split}/{each.name}" for each in pictures] == names
        assert _picture_names(names) == [f"{each}.png" for each in names]
    if suffix == "tfrecord":
        words = ("--data-dir", root, "few", "--split", "more", "--output", output)
        ended = command("predict", finished_run, *words)
        assert (ended.status, ended.err) == (0, "Note: few/1.0.0: images: more 12\n")
        rows = rows_of(output)
        assert rows[6]["image"] == "few-more.tfrecord-00001-of-00002__0"
        assert (rows[6]["label"], rows[11]["label"]) == (str(labels[6]), "")
        assert [row["class1"] for row in rows] == [photo["class1"] for photo in photos]
    one_of = f"holds data sets of TFDS, of which one is needed: few. Give {root / 'few'}"
    with pytest.raises(ValueError, match=re.escape(one_of)):
        names_data_set(str(root))
    absent = f"no prepared data set of TFDS of that name in {tmp_path} (--data-dir"
    with pytest.raises(FileNotFoundError, match=re.escape(absent)):
        open_data_set("few", member, data_dir=str(tmp_path))
    with pytest.raises(ValueError, match="has no x split. It has: "):
        open_data_set(str(root / "few"), member, split="x")


def test_heat_maps_stay_in_their_folder() -> None:
    """Whatever the names are that a data set stores."""
    names = ["test/../../../x.png", "/etc/x.png", "..", "a/b.PNG"]
    assert _picture_names(names) == ["test/x.png", "etc/x.png", "..png", "a/b.png"]


def test_options_of_data_sets(
    finished_run: pathlib.Path, folder: pathlib.Path, command: Command
) -> None:
    words = (finished_run, folder / "images" / "00.png")
    for option, value in (("--split", "test"), ("--data-dir", folder)):
        ended = command("predict", *words, option, value)
        assert (ended.status, ended.out) == (1, "")
        assert f"`{option}` applies to data sets. Received: " in ended.err
    ended = command("predict", finished_run, folder / "digits.csv", "--split", "x")
    assert "`--split` must be one of train, validation, test. Received: 'x'" in ended.err
