"""`keras-resnet shards`: writing, going on after a kill, damage, and training from the shards."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import io
import json
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec, get_spec
from keras_resnet_train.cli import main
from keras_resnet_train.config import AugmentConfig, DataConfig
from keras_resnet_train.data import (
    ArraySource,
    ImageData,
    Share,
    TrainingPlan,
    evaluation_batches,
    load_data,
    naming_files,
    raw_images,
    shard_writer,
    training_batches,
)
from keras_resnet_train.data.array_record_files import (
    ArrayRecordFiles,
    Part,
    array_record_module,
)
from keras_resnet_train.data.readable import first_unreadable
from keras_resnet_train.data.shard_checks import check_shards
from keras_resnet_train.data.shard_images import Storage
from keras_resnet_train.data.shard_origin import open_origin
from keras_resnet_train.data.shard_writer import write_shards
from keras_resnet_train.data.sources import RecordSource

pytestmark = pytest.mark.tf
pytest.importorskip("array_record", reason="reads and writes record shards")

SPEC = get_spec("cifar_resnet8")
SIZE = PreprocessSpec((6, 5))


@pytest.fixture(autouse=True)
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))


def _pixels(number: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image(number))))


def image(
    number: int, kind: str = "PNG", size: tuple[int, int] = (5, 6), mode: str = "RGB"
) -> bytes:
    shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
    pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels, mode).save(content, kind)
    return content.getvalue()


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of two classes, with a grey and an unreadable image among 41."""
    root = tmp_path / "images"
    for number in range(40):
        path = root / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(number, mode="L" if number == 4 else "RGB"))
    (root / "a" / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    return root


def write(source: object, target: object, *options: str) -> int:
    return main(["shards", str(source), str(target), "--shard-size", "1", *options])


def load(path: object, **fields: Any) -> ImageData:
    return load_data(DataConfig(dataset=str(path), on_bad_image="skip", **fields), SPEC)


def batches(data: ImageData, start: int = 0, **share: int) -> list[tuple[np.ndarray, np.ndarray]]:
    plan = TrainingPlan(SIZE, AugmentConfig(), 3, seed=3, start_step=start, total_steps=7)
    return list(training_batches(data.train, plan, Share(8, **share)).as_numpy_iterator())


def equal(one: Any, other: Any) -> None:
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_shards_are_the_folder(
    folder: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same splits, identity, notes and batches to the bit, in any order of reading."""
    target = tmp_path / "shards"
    assert write(folder, target) == 0
    said = capsys.readouterr().out
    assert "1 unreadable image left out" in said
    assert "a/bad.jpg" in said
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["class_names"] == ["a", "b"]
    assert {s: each["examples"] for s, each in manifest["splits"].items()} == {
        "train": 34,
        "test": 6,
    }
    assert sorted(path.name for path in target.iterdir()) == [
        "manifest.json",
        "refused.csv",
        *(f"{s}-00000-of-00001.{e}" for s in ("test", "train") for e in ("array_record", "csv.gz")),
    ]
    with (target / "refused.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["a/bad.jpg"]
    for fields in ({}, {"validation": 0.2}):
        one, other = load(folder, **fields), load(target, **fields)
        assert one.identity == other.identity
        assert one.listing is not None
        assert other.listing is not None
        assert one.listing.to_bytes() == other.listing.to_bytes()
    assert any("grey" in note for note in other.notes)
    assert any("1 image of" in note and "refused.csv" in note for note in other.notes)
    one, other = load(folder), load(target)
    whole = batches(other)
    equal(whole, batches(one))
    second = batches(other, start=4, worker=1, workers=2)
    equal(second, [(images[4:], labels[4:]) for images, labels in whole[4:]])
    for data in (one, other):
        assert data.train.take(np.arange(2)).names == ("a/00.png", "a/02.png")
    # The second of two workers has the last three of the six, and reads no others.
    read: list[str] = []
    container = type(other.test.container)
    of = container._of
    monkeypatch.setattr(container, "_of", lambda self, paths: read.extend(paths) or of(self, paths))
    pixels, labels = raw_images(one.test, SIZE, 3)
    share = Share(8, worker=1, workers=2)
    ((images, found, weights),) = evaluation_batches(other.test, SIZE, 3, share, raw=True)
    np.testing.assert_array_equal(images[:3], pixels[3:])
    np.testing.assert_array_equal(found[:3], labels[3:])
    assert weights.numpy().tolist() == [1, 1, 1, 0]
    assert sorted(read) == sorted(other.test.paths[3:])
    target = target.rename(tmp_path / "moved")
    assert load(target).test.names == other.test.names
    assert main(["shards", "--check", str(target)]) == 0
    assert "all shards have the SHA-256" in capsys.readouterr().out


def written(folder: pathlib.Path, target: pathlib.Path, **storage: int) -> list[str]:
    """Writes shards of about eight images; returns what was said."""
    said: list[str] = []
    config = DataConfig(dataset=str(folder))
    origin = open_origin(config, 3, said.append)
    write_shards(origin, target, Storage(**storage), int(8 * origin.mean_bytes), said.append)
    return said


def hashes(target: pathlib.Path) -> dict[str, str]:
    manifest = json.loads((target / "manifest.json").read_text())
    return {s["file"]: s["sha256"] for e in manifest["splits"].values() for s in e["shards"]}


def test_an_interrupted_command_goes_on(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(folder, tmp_path / "whole")
    whole = hashes(tmp_path / "whole")
    assert list(whole) == [
        *(f"train-{number:05d}-of-00004.array_record" for number in range(4)),
        "test-00000-of-00001.array_record",
    ]
    target, made = tmp_path / "shards", []
    record_of = shard_writer.record_of

    def cut(image: Any) -> bytes:
        made.append(image.example.name)
        if len(made) == 20:
            raise KeyboardInterrupt
        return record_of(image)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shard_writer, "record_of", cut)
        written(folder, target)
    assert sorted(path.name for path in target.glob("*.array_record")) == list(whole)[:2]
    with pytest.raises(ValueError, match=r"shards that are not finished: give the same"):
        load(target)
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(target / "plan.json", begun)  # killed before the first shard was whole
    with pytest.raises(ValueError, match=r"shards that are not finished"):
        load(begun)
    # As a kill leaves it: a file that is begun, and one that the disk has not kept.
    (target / ".train-00002-of-00004.array_record").write_bytes(b"begun")
    damage(target / "train-00000-of-00004.array_record")
    made.clear()
    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "record_of", lambda i: made.append(i) or record_of(i))
        said = written(folder, target)
    assert "1 of 5 shards are whole already, by their SHA-256" in said
    assert any("train-00000-of-00004" in s and "written anew" in s and "SHA-256" in s for s in said)
    assert len(made) == 40 - 9
    assert hashes(target) == whole
    assert not list(target.glob(".*"))
    assert any("all 5 shards are whole" in line for line in written(folder, target))
    # Of changed images only their shard is written again; others of other names are refused.
    (folder / "a" / "00.png").write_bytes(image(100))
    assert any("its images have changed" in line for line in written(folder, target))
    changed = hashes(target)
    assert [name for name in whole if whole[name] != changed[name]] == list(whole)[:1]
    (folder / "a" / "new.png").write_bytes(image(101))
    with pytest.raises(ValueError, match=r"other images or settings \(examples: .*another folder"):
        written(folder, target)
    with pytest.raises(ValueError, match=r"settings \(.*short_side: 0 there"):
        written(folder, target, short_side=4)
    with pytest.raises(ValueError, match=r"must be a new or empty folder.* It holds: a, b"):
        written(folder, folder)


def damage(file: pathlib.Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def first_shard(manifest: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The splits of a manifest with changes of the first shard."""
    splits = json.loads(json.dumps(manifest["splits"]))
    splits["train"]["shards"][0] |= changes
    return {"splits": splits}


def test_damaged_shards_are_named(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "shards"
    written(folder, target)
    file = target / "train-00001-of-00004.array_record"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"IDAT", b"idat"))
    with pytest.raises(ValueError, match=r"1 damaged shard: train-00001.* \(other content\).*Give"):
        check_shards(target, print)
    with (
        pytest.raises(ValueError, match=r"number \d is a damaged record of the file .*train-00001"),
        naming_files(load(target).train),
    ):
        batches(load(target))
    file.write_bytes(content[:-7])
    with pytest.raises(
        ValueError, match=r"1 damaged shard: train-00001.*131,065 bytes, not 131,072"
    ):
        load(target)
    file.unlink()
    with pytest.raises(ValueError, match=r"1 damaged shard: train-00001.*missing.*anew"):
        load(target)
    written(folder, target)
    (target / "train-00001-of-00004.csv.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train-00001.*csv.gz has other content"):
        load(target)
    written(folder, target)
    manifest = json.loads((target / "manifest.json").read_text())
    for change, problem in (
        ({"class_names": ["a"]}, r"must lie in 0\.\.0\. Received: 1"),
        ({"version": 2}, "is of version 2 of the format, and this version of keras-resnet reads 1"),
        ({"splits": {"train": {"shards": [{"file": "../x"}]}}}, "is not what was written"),
        ({"task": "regression"}, "is not what was written: .*regression"),
        ({"class_names": ["a", "a"]}, "is not what was written: .*two classes have the same name"),
        ({"class_names": "ab"}, "is not what was written: .*`class_names` is no list"),
        (first_shard(manifest, examples=10**30), "10{30} examples in 131072 bytes of train-00000"),
        (first_shard(manifest, examples=-1), "-1 examples in"),
        (first_shard(manifest, examples=True), "True examples in"),
        (first_shard(manifest, bytes=2**70), "is not what was written"),
        (first_shard(manifest, sha256="../x"), "the hashes of train-00000"),
        (first_shard(manifest, file="train-00001-of-00004.array_record"), "is named twice"),
    ):
        (target / "manifest.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ValueError, match=problem):
            load(target)
    for rows, problem in (
        (b"hello", "Not a gzipped file"),
        (gzip.compress(bytes(20 << 20)), r"it would unfold to more than [\d,]+ bytes"),
        (gzip.compress(b"{}\na,-1,00,\n"), "'-1' is no number of a class"),
        (gzip.compress(b"{}\na,3000000000,00,\n"), "'3000000000' is no number of a class"),
        (gzip.compress(b"{}\na,x,00,\n"), "invalid literal for int"),
        (gzip.compress(b"{}\na,1\n"), "not enough values to unpack"),
        (gzip.compress(b"[" * 10**5), "nested too deep"),
    ):
        (target / "train-00000-of-00004.csv.gz").write_bytes(rows)
        change = first_shard(manifest, rows_sha256=hashlib.sha256(rows).hexdigest())
        (target / "manifest.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ValueError, match=rf"1 damaged shard: train-00000-.*gz \(.*{problem}"):
            load(target)
    for text, problem in (("{}", "not one that"), ('{"format": 1', "not JSON"), ("", "not JSON")):
        (target / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=problem):
            load(target)


@pytest.mark.parametrize("record", [b"", b"\xff\xff", b"\n\0"])
def test_a_record_without_an_image(
    folder: pathlib.Path, tmp_path: pathlib.Path, record: bytes
) -> None:
    """A file that ends early can read as records of no bytes."""
    written(folder, tmp_path / "shards")
    data = load(tmp_path / "shards")
    container = data.train.container
    container._of = lambda paths: [record for _ in paths]
    with pytest.raises(OSError, match=r"number 0 is a damaged record of .*train-00000.* no image"):
        container.read(data.train.paths[0])


def test_resized(tmp_path: pathlib.Path) -> None:
    """Larger images become JPEGs of the short side, upright; others are kept to the byte."""
    rows, columns = np.mgrid[:300, :500].astype("float32")
    smooth = np.stack([rows / 300, columns / 500, 0.5 + 0 * rows], -1)
    picture = Image.fromarray((255 * smooth).astype("uint8"))
    turned = Image.Exif()
    turned[274] = 6
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
    picture.save(tmp_path / "images" / "a" / "large.jpg", quality=95, exif=turned)
    picture.convert("L").save(tmp_path / "images" / "a" / "grey.png")
    small = image(1, "JPEG", size=(60, 50))
    (tmp_path / "images" / "b" / "small.jpg").write_bytes(small)
    (tmp_path / "images" / "b" / "cut.jpg").write_bytes(image(1, "JPEG", size=(90, 90))[:2000])
    config = DataConfig(dataset=str(tmp_path / "images"), test_size=0)
    origin = open_origin(config, 3, print)
    manifest = write_shards(origin, tmp_path / "shards", Storage(short_side=60), 2**20, print)
    assert manifest.images.startswith("2 of 3 images resized to a shorter side of 60 pixels (Lan")
    assert manifest.refused == 1
    source = load(tmp_path / "shards").train
    content = {n: source.content(p) for n, p in zip(source.names, source.paths, strict=True)}
    assert content["b/small.jpg"] == small
    stored = Image.open(io.BytesIO(content["a/large.jpg"]))
    assert (stored.size, stored.mode, stored.getexif().get(274)) == ((60, 100), "RGB", None)
    expected = np.rot90(smooth, -1)[2::5, 2::5] * 255
    assert np.abs(np.asarray(stored) - expected).max() < 4
    grey = Image.open(io.BytesIO(content["a/grey.png"]))
    assert (grey.size, grey.mode, grey.format) == ((100, 60), "L", "JPEG")


def test_several_labels(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    names = [f"{'ab'[n % 2]}/{n:02}.png" for n in range(12)]
    rows = [f"{name},{['u', 'u v', '', 'v'][n % 4]}" for n, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["image,labels", *rows]))
    options = ("--task", "multilabel", "--test-size", "0")
    assert write(folder / "labels.csv", tmp_path / "shards", *options) == 0
    data = load(tmp_path / "shards", task="multilabel")
    assert data.class_names == ("u", "v")
    assert data.train.labels[:4].tolist() == [[1, 0], [1, 1], [0, 0], [0, 1]]
    with pytest.raises(ValueError, match=r"written with --task multilabel, so give --task multi"):
        load(tmp_path / "shards")


def test_without_the_library(
    folder: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    assert write(folder, tmp_path / "shards") == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: `keras-resnet shards` needs the library array_record: pip inst")
    assert "tar shards" in error
    assert not (tmp_path / "shards").exists()
    assert write(folder, folder / "shards") == 1
    assert "must lie outside of the source" in capsys.readouterr().err
    assert write("synthetic", tmp_path / "shards") == 1
    assert "made in memory and has no files" in capsys.readouterr().err


def test_tfds(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], prepare_tfds: Callable[..., None]
) -> None:
    """Sets of TFRecord become shards; those of ArrayRecord are read at any example themselves."""
    images, labels = [image(number) for number in range(30)], [0, 1] * 15
    for name, suffix in (("streamed", "tfrecord"), ("numbered", "array_record")):
        prepare_tfds(tmp_path, name, suffix, images, labels, ("red", "green"))
        options = ("--data-dir", str(tmp_path))
        assert write(name, tmp_path / f"{name}_shards", *options) == 0
    own = {"data_dir": str(tmp_path), "cache": "none"}
    streamed, numbered = load("streamed", **own), load("numbered", **own)
    assert isinstance(numbered.train, RecordSource)
    expected = list(streamed.train.open(None).as_numpy_iterator())
    assert expected == [(image(number), number % 2) for number in range(30)]
    assert list(numbered.train.open().as_numpy_iterator()) == expected
    for name, first in (
        ("streamed", "streamed-train.tfrecord-00001-of-00002__0"),
        ("numbered", "numbered-train.array_record-00001-of-00002__0"),
    ):
        shards = load(tmp_path / f"{name}_shards")
        assert shards.class_names == ("red", "green")
        assert shards.train.names[15] == first
        contents = shards.train.container.read_several(shards.train.paths)
        assert list(zip(contents, shards.train.labels, strict=True)) == expected
    # The order is that of images in memory, from any step.
    pixels = np.stack([_pixels(number) for number in range(30)])
    memory = ArraySource(pixels, np.arange(30) % 2)
    whole = batches(dataclasses.replace(numbered, train=memory))
    equal(batches(numbered, start=2), whole[2:])
    info = tmp_path / "streamed/1.0.0"
    for content, reason in (
        (b"red\nred\n", "duplicated"),
        (b"red\n", "1 names VS 2"),
        (b"\xff\ngreen\n", "can't decode"),
        (b"", "0 names VS 2"),
    ):
        (info / "label.labels.txt").write_bytes(content)
        with pytest.raises(ValueError, match=rf"label.labels.txt needs the 2 names .*{reason}"):
            load("streamed", **own)
    held = load("numbered", validation=0.2, **own)
    assert (len(held.train), len(held.validation)) == (24, 6)
    parts = [list(part.open().as_numpy_iterator()) for part in (held.train, held.validation)]
    assert sorted(parts[0] + parts[1]) == sorted(expected)
    names = ("green", "blue", "red")
    relabelled = load_data(DataConfig(dataset="numbered", **own), SPEC, class_names=names)
    labels = [label for _, label in relabelled.train.open().as_numpy_iterator()]
    assert labels == [2 - 2 * label for _, label in expected]
    with pytest.raises(ValueError, match=r"need images in memory, files or shards \(`keras-resnet"):
        load("numbered", sampling="balanced", **own)
    assert write("streamed", tmp_path / "x", *options, "--validation", "0.1") == 1
    assert "leave out `--validation`" in capsys.readouterr().err


def test_records_that_are_no_examples(
    tmp_path: pathlib.Path, prepare_tfds: Callable[..., None]
) -> None:
    """A label of no class, a record without an image, and a file cut after its first block."""
    images = [image(number) for number in range(4)]
    prepare_tfds(tmp_path, "set", "array_record", images, [0, 1, 0, 1], ("red", "green"))
    file = tmp_path / "set/1.0.0/set-train.array_record-00001-of-00002"
    numbered = load("set", data_dir=str(tmp_path), cache="none")

    def found(records: Sequence[bytes]) -> str:
        writer = array_record_module("a test").ArrayRecordWriter(str(file), "group_size:1")
        for record in records:
            writer.write(record)
        writer.close()
        return first_unreadable(load("set", data_dir=str(tmp_path), cache="none").train)

    reader = ArrayRecordFiles([Part(str(file), 0, 2)], "a test")
    sound = reader.read([0, 1])
    assert first_unreadable(numbered.train) == ""
    other = tf.train.Example.FromString(sound[1])
    other.features.feature["label"].int64_list.value[0] = 7
    assert re.fullmatch(
        r"Example 3 is unreadable: .*label of an example must be 0 to 1. Received: .*7.*",
        found([sound[0], other.SerializeToString()]),
    )
    problem = found([b"", sound[1]])
    assert re.fullmatch(r"Example 2 is unreadable: .*Feature: image .*is required.*", problem)
    assert "Error in user-defined function" not in problem
    bytes_of_no_example = found([b"\n\x02\n\x95" * 9, sound[1]])
    assert re.fullmatch(r"Example 2 is unreadable: \S.*", bytes_of_no_example)
    file.write_bytes(file.read_bytes()[: 64 * 1024])
    with pytest.raises(OSError, match=r"number 1 is a damaged record of the file .* 0 record"):
        ArrayRecordFiles([Part(str(file), 0, 2)], "a test").read([0, 1])
