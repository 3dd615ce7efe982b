"""`keras-resnet predict` on data sets: a row for each example, with its stored name and label."""

from __future__ import annotations

import csv
import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from keras_resnet_train.data.embedded import load_digits

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
    """A folder of classes with 12 test digits, two of them for training."""
    root = tmp_path_factory.mktemp("digits")
    for number in range(COUNT):
        split = "train" if number < 2 else "test"
        for part in ("train", "test"):
            for name in NAMES[: DIGITS.labels[:COUNT].max() + 1]:
                (root / part / name).mkdir(parents=True, exist_ok=True)
        (root / split / str(DIGITS.labels[number]) / f"{number:02}.png").write_bytes(png(number))
    return root


@pytest.fixture
def photos(
    finished_run: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path, command: Command
) -> dict[str, dict[str, str]]:
    """The predictions for the files of the folder, by the name of each file."""
    output = tmp_path / "photos.csv"
    assert command("predict", finished_run, folder, "--output", output).status == 0
    return {pathlib.Path(row["image"]).name: row for row in rows_of(output)}


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_shards(
    finished_run: pathlib.Path,
    folder: pathlib.Path,
    photos: dict[str, dict[str, str]],
    tmp_path: pathlib.Path,
    command: Command,
) -> None:
    """As the files that the shards were made of; and `evaluate` measures the same images."""
    pytest.importorskip("array_record", reason="writes record shards")
    shards, output = tmp_path / "shards", tmp_path / "p.csv"
    assert command("shards", folder, shards, "--channels", 1).status == 0
    ended = command("predict", finished_run, "--output", output, shards)
    assert ended.status == 0
    assert ended.out == f"{output}: 12 images, by cifar_resnet8 (model.keras)\n"
    assert "images: train 2, test 10" in ended.err
    rows = rows_of(output)
    numbers = ("class1", "probability1", "class2", "probability2", "class3", "probability3")
    assert list(rows[0]) == ["image", "split", "label", *numbers, "error"]
    assert [row["split"] for row in rows] == ["train"] * 2 + ["test"] * 10
    assert len({row["image"] for row in rows}) == COUNT
    for row in rows:
        name = row["image"].rsplit("/", 1)[1]
        assert row["image"] == f"{row['label']}/{name}"
        assert row["label"] == str(DIGITS.labels[int(name[:2])])
        # Another batch gives the same but for rounding.
        assert row["class1"] == photos[name]["class1"]
        assert float(row["probability1"]) == pytest.approx(
            float(photos[name]["probability1"]), abs=2e-6
        )
    # One split, beside a file, as JSON and as text.
    photo = folder / "test" / rows[2]["image"]
    ended = command("predict", finished_run, shards, photo, "--split", "test", "--json")
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert [each["image"] for each in found] == [str(photo), *(r["image"] for r in rows[2:])]
    assert "split" not in found[0]
    assert (found[1]["split"], found[1]["label"]) == ("test", rows[2]["label"])
    ended = command("predict", finished_run, shards, "--split", "test", "--top", 1)
    assert ended.out.splitlines()[0].endswith(f"; stored label: {rows[2]['label']}")
    ended = command("evaluate", finished_run, "--dataset", shards, "--json")
    assert ended.status == 0
    right = sum(row["class1"] == row["label"] for row in rows[2:])
    metrics = json.loads(ended.out)
    assert (metrics["examples"], metrics["accuracy"]) == (10, right / 10)


def test_tables(
    finished_run: pathlib.Path,
    folder: pathlib.Path,
    photos: dict[str, dict[str, str]],
    tmp_path: pathlib.Path,
    command: Command,
) -> None:
    """A CSV file of images and labels, of which one image cannot be read."""
    table, output = folder / "labels.csv", tmp_path / "p.csv"
    broken = folder / "broken.png"
    broken.write_bytes(b"?")
    files = sorted(folder.rglob("0*.png"))
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in files]
    table.write_text("\n".join(["image,label", *lines, "broken.png,1"]))
    ended = command("predict", finished_run, table, "--output", output)
    assert ended.status == 1
    assert "11 images, 1 of them unreadable" in ended.out
    rows = rows_of(output)
    assert [row["label"] for row in rows if not row["error"]] == [p.parent.name for p in files]
    for row in rows:
        if not row["error"]:
            assert row["class1"] == photos[pathlib.Path(row["image"]).name]["class1"]


@pytest.mark.parametrize("suffix", ["tfrecord", "array_record"])
def test_tfds(
    suffix: str,
    finished_run: pathlib.Path,
    photos: dict[str, dict[str, str]],
    tmp_path: pathlib.Path,
    command: Command,
    prepare_tfds: Callable[..., None],
) -> None:
    """By its name, its folder and the folder of a version; of labels that are withheld, none."""
    if suffix == "array_record":
        pytest.importorskip("array_record")
    labels = [*DIGITS.labels[: COUNT - 1].tolist(), -1]
    images = [png(number) for number in range(COUNT)]
    root, output = tmp_path / "tfds", tmp_path / "p.csv"
    prepare_tfds(root, "few", suffix, images, labels, NAMES, splits=("test", "more"), channels=1)
    for words in (("few", "--data-dir", root), (root / "few",), (root / "few" / "1.0.0",)):
        ended = command("predict", finished_run, *words, "--split", "more", "--output", output)
        assert (ended.status, ended.err) == (0, "Note: few/1.0.0: images: more 12\n")
        rows = rows_of(output)
        assert rows[6]["image"] == f"few-more.{suffix}-00001-of-00002__0"
        assert [row["label"] for row in rows] == [*map(str, labels[:-1]), ""]
        assert [row["class1"] for row in rows] == [
            photos[f"{number:02}.png"]["class1"] for number in range(COUNT)
        ]
    everything = command("predict", finished_run, root / "few", "--json").out.splitlines()
    assert [json.loads(each)["split"] for each in everything] == ["test"] * 12 + ["more"] * 12
    for words, message in (
        ((root,), f"holds data sets of TFDS, of which one is needed: few. Give {root / 'few'}"),
        (
            ("few", "--data-dir", tmp_path),
            f"no prepared data set of TFDS of that name in {tmp_path}",
        ),
        ((root / "few", "--split", "x"), "has no x split. It has: "),
        ((root / "none.png", "--split", "test"), "`--split` applies to data sets. Received: "),
    ):
        ended = command("predict", finished_run, *words)
        assert (ended.status, ended.out) == (1, "")
        assert message in ended.err
