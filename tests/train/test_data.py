"""Data sets by name: embedded, folders and TFDS."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import PreprocessSpec, get_spec
from keras_resnet_train.config import AugmentConfig, DataConfig, RunConfig, with_changes
from keras_resnet_train.data import (
    ArraySource,
    ImageData,
    Share,
    TrainingPlan,
    at_size,
    load_data,
    measure_channels,
    raw_images,
    resolve_data,
    training_batches,
)
from keras_resnet_train.data.image_data import check_labels, hold_out
from keras_resnet_train.data.readable import naming_files
from keras_resnet_train.data.sources import FileSource, StreamSource
from keras_resnet_train.finetuning import training_images

pytestmark = pytest.mark.tf

SPEC = get_spec("cifar_resnet8")
PREPROCESS = PreprocessSpec((8, 8))


def load(dataset: object, **fields: Any) -> ImageData:
    return load_data(DataConfig(dataset=str(dataset), **fields), SPEC)


def lengths(data: ImageData) -> list[int | None]:
    parts = (data.train, data.validation, data.test)
    return [None if part is None else len(part) for part in parts]


# Splits and sources.


def test_hold_out_is_fixed() -> None:
    """Literal numbers: runs of any seed, on any machine, are measured on the same images."""
    rest, held = hold_out(20, 0.25)
    assert held.tolist() == [2, 10, 12, 15, 19]
    assert rest.tolist() == sorted(set(range(20)) - set(held.tolist()))
    _, more = hold_out(20, 0.5)
    assert set(held) < set(more)


@pytest.mark.parametrize(("size", "fraction"), [(10, 0.01), (10, 0.99), (1, 0.5)])
def test_hold_out_leaves_images_on_both_sides(size: int, fraction: float) -> None:
    message = f"`validation` must leave images on both sides of {size}. Received: {fraction}"
    with pytest.raises(ValueError, match=message):
        hold_out(size, fraction)


def test_labels_out_of_range() -> None:
    message = r"Labels of here must lie in 0\.\.1. Received: 2 at example 1 \(2 in all\)"
    with pytest.raises(ValueError, match=message):
        check_labels(np.array([0, 2, 1, -1]), ("a", "b"), "here")
    check_labels(np.array([0, 1]), ("a", "b"), "here")


def test_splits_that_are_not_there() -> None:
    some = ArraySource(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int64))
    none = ArraySource(np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.int64))
    data = ImageData("mine", ("a",), 1, none, None, some)
    assert data.split("test") is some
    for split in ("validation", "train"):
        with pytest.raises(ValueError, match=f"'mine' has no {split} split. It has: test$"):
            data.split(split)
    with pytest.raises(ValueError, match="`split` must be one of train, validation, test"):
        data.split("tset")


# Digits and synthetic images.


def test_digits() -> None:
    data = load("digits")
    assert lengths(data) == [1257, 180, 360]
    assert (data.class_names, data.channels) == (tuple("0123456789"), 1)
    counts = {}
    seen = set()
    for split in ("train", "validation", "test"):
        source = data.split(split)
        assert source.images.shape[1:] == (8, 8, 1)
        assert source.images.dtype == np.uint8
        assert (source.images.min(), source.images.max()) == (0, 255)
        counts[split] = np.bincount(source.labels, minlength=10)
        seen |= {image.tobytes() for image in source.images}
    total = sum(counts.values())
    assert total.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for split, count in counts.items():
        np.testing.assert_allclose(count, total * len(data.split(split)) / 1797, atol=1)
    assert len(seen) == 1797  # no image in two splits
    assert counts["test"].tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]


def test_synthetic() -> None:
    data = load("synthetic", image_size=12, classes=3)
    again = load("synthetic", image_size=12, classes=3)
    assert lengths(data) == [2048, 256, 256]
    assert data.class_names == ("class 0", "class 1", "class 2")
    assert data.train.images.shape == (2048, 12, 12, 3)
    np.testing.assert_array_equal(data.train.images, again.train.images)
    assert sorted(set(data.train.labels)) == [0, 1, 2]
    means = [data.train.images[data.train.labels == c].mean(axis=0) for c in range(3)]
    others = [data.test.images[data.test.labels == c].mean(axis=0) for c in range(3)]
    for c in range(3):  # the pattern of a class is the same in each split
        distances = [np.abs(means[c] - other).mean() for other in others]
        assert int(np.argmin(distances)) == c


def test_number_of_classes() -> None:
    message = "`classes` must match the data: 'digits' has 10 classes. Received: classes=7"
    with pytest.raises(ValueError, match=message):
        load("digits", classes=7)
    assert load("digits", classes=10).class_names == tuple("0123456789")


def test_at_size() -> None:
    data = load("digits")
    larger = at_size(data, PreprocessSpec((16, 16)), AugmentConfig(crop="pad"), "auto")
    assert larger.train.images.shape == (1257, 16, 16, 1)
    assert larger.test.images.shape == (360, 16, 16, 1)
    # Crops of random size are taken from the originals.
    kept = at_size(data, PreprocessSpec((16, 16)), AugmentConfig(crop="resized"), "auto")
    assert kept.train is data.train
    assert kept.test.images.shape == (360, 16, 16, 1)


def test_measured_channels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), dtype=np.uint8)
    images[..., 2] = 9
    source = ArraySource(images, np.zeros(70, np.int64))
    mean, std = measure_channels(source, PREPROCESS, 3)
    pixels = images.reshape(-1, 3).astype("float64")
    assert mean == pytest.approx(pixels.mean(axis=0), abs=1e-4)
    assert std[:2] == pytest.approx(pixels.std(axis=0)[:2], abs=1e-4)
    assert std[2] > 0  # nothing is divided by zero


def run_config(**changes: Any) -> RunConfig:
    return with_changes(RunConfig(steps=1), {"data.dataset": "digits", **changes})


def test_resolved_preprocessing() -> None:
    data, preprocess = resolve_data(run_config(**{"data.image_size": 8}), SPEC)
    pixels = data.train.images
    assert preprocess.size == (8, 8)
    assert preprocess.mean == pytest.approx([pixels.mean()], abs=1e-4)
    assert preprocess.std == pytest.approx([pixels.std()], abs=1e-4)
    given = {"data.mean": [1.0], "data.std": [2.0], "data.image_size": 8}
    _, preprocess = resolve_data(run_config(**given), SPEC)
    assert (preprocess.mean, preprocess.std) == ((1.0,), (2.0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.image_size": 3}, "cifar_resnet8 needs images of at least 4 x 4 .*image_size=3"),
        (
            {"data.mean": [1.0, 2.0], "data.std": [1.0, 1.0]},
            r"`mean` needs one value per channel \(1\). Received: mean=\(1.0, 2.0\)",
        ),
    ],
)
def test_data_that_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_data(run_config(**changes), SPEC)


# Folders.


def write_image(path: pathlib.Path, index: int, mode: str = "RGB") -> None:
    rng = np.random.default_rng(index)
    height, width = 8 + index % 5, 9 + index % 3
    shapes = {"L": (height, width), "RGBA": (height, width, 4)}
    pixels = rng.integers(0, 256, shapes.get(mode, (height, width, 3)), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray((pixels[..., 0].astype(np.uint16)) * 257)
    elif mode == "P":
        image = Image.fromarray(pixels).quantize(8)
    else:
        image = Image.fromarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def fill(root: pathlib.Path, counts: dict[str, int]) -> pathlib.Path:
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write_image(root / name / f"{index:02d}.png", 100 * number + index)
    return root


def cut(path: pathlib.Path) -> pathlib.Path:
    """Leaves the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def names(source: FileSource) -> list[str]:
    return [str(pathlib.Path(*pathlib.Path(path).parts[-2:])) for path in source.paths]


def test_folder_of_classes(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, {"zebra": 6, "ant": 4, "Bee": 5})
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "ant" / "photo.heic").write_text("no image")
    (tmp_path / "ant" / ".hidden.png").write_text("no image")
    (tmp_path / "README.md").write_text("no class")
    write_image(tmp_path / ".cache" / "ant" / "0.png", 3)
    write_image(tmp_path / "ant" / ".thumbnails" / "0.png", 3)
    write_image(tmp_path / "loose.png", 3)
    write_image(tmp_path / "ant" / "deeper" / "one.JPEG", 1)
    data = load(tmp_path)
    assert data.class_names == ("Bee", "ant", "zebra")
    assert (data.channels, data.name) == (3, str(tmp_path))
    assert data.notes == (
        f"{tmp_path}: 3 classes (Bee, ant, zebra); images: train 10, test 6",
        "classes hold 1 folder (ant/deeper): their images are images of the class",
        f"1 image in {tmp_path}, outside the class folders, left out",
        "3 files passed over, as their endings are not those of images: 1 .heic, 1 .md, 1 .txt",
        "3 hidden files or folders skipped",
    )
    together = sorted(names(data.train) + names(data.test))
    assert len(set(together)) == 16
    assert together == sorted(
        [f"Bee/{i:02d}.png" for i in range(5)]
        + [f"ant/{i:02d}.png" for i in range(4)]
        + ["deeper/one.JPEG"]
        + [f"zebra/{i:02d}.png" for i in range(6)]
    )
    for source in (data.train, data.test):
        expected = ["ant" if "deeper" in n else n.split("/")[0] for n in names(source)]
        assert [data.class_names[label] for label in source.labels] == expected
    assert names(load(tmp_path).test) == names(data.test)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "val", "test"), [4, 2, 2]),
        (("training", "valid"), [4, 2, None]),
        (("train", "testing"), [4, None, 2]),
        (("train",), [4, None, None]),
    ],
)
def test_folders_of_splits(
    folders: tuple[str, ...], expected: list[int | None], tmp_path: pathlib.Path
) -> None:
    for folder in folders:
        fill(tmp_path / folder, {"a": 2, "b": 2} if "train" in folder else {"a": 1, "b": 1})
    data = load(tmp_path)
    assert data.class_names == ("a", "b")
    assert lengths(data) == expected


def test_validation_is_held_out_where_no_folder_has_it(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "train", {"a": 5, "b": 5})
    fill(tmp_path / "test", {"a": 2, "b": 2})
    data = load(tmp_path, validation=0.3)
    assert lengths(data) == [8, 2, 4]
    assert not set(names(data.train)) & set(names(data.validation))
    fill(tmp_path / "val", {"a": 1, "b": 1})
    assert lengths(load(tmp_path, validation=0.3)) == [10, 2, 4]


def test_all_kinds_of_images(tmp_path: pathlib.Path) -> None:
    kinds = {"a.jpg": "RGB", "b.png": "RGB", "c.png": "L", "d.png": "RGBA", "e.png": "P"}
    kinds |= {"f.png": "I;16", "g.bmp": "RGB", "h.gif": "P", "i.jpeg": "L", "j.JPG": "RGB"}
    for index, (name, mode) in enumerate(kinds.items()):
        write_image(tmp_path / "train" / ("a" if index < 5 else "b") / name, index, mode)
    data = load(tmp_path)
    images, labels = raw_images(data.train, PREPROCESS, 3)
    assert (images.shape, images.dtype) == ((10, 8, 8, 3), np.uint8)
    assert labels.tolist() == [0] * 5 + [1] * 5
    grey = [list(kinds.values()).index("L"), list(kinds.values()).index("I;16")]
    for index in grey:
        np.testing.assert_array_equal(images[index, ..., 0], images[index, ..., 2])
    plan = TrainingPlan(PREPROCESS, AugmentConfig(crop="resized", flip=True), 3, 0, 0, 3)
    for batch, _ in training_batches(data.train, plan, Share(6)).as_numpy_iterator():
        assert batch.shape == (6, 8, 8, 3)
        assert batch.std() > 10


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_unreadable_images(ending: str, tmp_path: pathlib.Path) -> None:
    fill(tmp_path, {"a": 6, "b": 6})
    write_image(tmp_path / "b" / f"cut.{ending}", 5)
    broken = cut(tmp_path / "b" / f"cut.{ending}")
    empty = tmp_path / "a" / "empty.png"
    empty.touch()
    with pytest.raises(ValueError, match="2 of 14 images are unreadable: .*empty.png .*; .*cut"):
        load(tmp_path)
    data = load(tmp_path, on_bad_image="skip")
    assert len(data.train) + len(data.test) == 12
    assert not {str(broken), str(empty)} & {*data.train.paths, *data.test.paths}
    notes = [note for note in data.notes if "images skipped: " in note]
    assert sum(int(note[0]) for note in notes) == 2
    assert f"{empty} (the file is empty)" in "; ".join(notes)
    assert str(broken) in "; ".join(notes)
    trusted = load(tmp_path, on_bad_image="trust")
    assert len(trusted.train) + len(trusted.test) == 14


def test_many_unreadable_images_are_counted(tmp_path: pathlib.Path) -> None:
    fill(tmp_path, {"a": 2, "b": 1})
    for index in range(8):
        (tmp_path / "a" / f"x{index}.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"8 of 11 images .*x.\.jpg .*; and 3 more.*--on-bad-im"):
        load(tmp_path)
    for path in tmp_path.glob("*/0*"):
        path.rename(tmp_path / "b" / f"{path.stem}.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"None of the . images is readable: .*x.\.jpg"):
        load(tmp_path, on_bad_image="skip")


def test_folders_that_are_no_data_set(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="has no class folders: expected .*/CLASS/image.jpg"):
        load(tmp_path)
    write_image(tmp_path / "one.png", 0)
    with pytest.raises(ValueError, match="has no class folders"):
        load(tmp_path)
    fill(tmp_path, {"a": 2})
    with pytest.raises(ValueError, match="has one class, 'a': a classifier needs two or more"):
        load(tmp_path)
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match="b has no images .*every class needs some"):
        load(tmp_path)


def test_splits_that_do_not_fit(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "val", {"a": 1, "b": 1})
    assert lengths(load(tmp_path)) == [0, 2, None]
    with pytest.raises(ValueError, match="has no train split to train on. It has: validation"):
        resolve_data(run_config(**{"data.dataset": str(tmp_path)}), SPEC)
    fill(tmp_path / "train", {"a": 1, "b": 0})
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(ValueError, match="b has no images"):
        load(tmp_path)
    fill(tmp_path / "train", {"b": 1})
    fill(tmp_path / "val", {"b": 1, "c": 1})
    with pytest.raises(ValueError, match="val has class 'c', which the training images do not"):
        load(tmp_path)


def test_no_folder(tmp_path: pathlib.Path) -> None:
    image = tmp_path / "photo.png"
    write_image(image, 0)
    for path in (tmp_path / "none", image, "/none"):
        with pytest.raises(ValueError, match=f"No folder at '{path}'"):
            load(path)


# TFDS.

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A prepared data set of the test's own: 1,100 training images and 10 of test."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="writes a TFDS data set")
    root = tmp_path_factory.mktemp("tfds")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(4, 4, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=COLOURS),
        }
    )
    examples = {
        split: [
            dict(zip(("image", "label"), pair, strict=True))
            for pair in zip(*colours(count), strict=True)
        ]
        for split, count in (("train", 1100), ("test", 10))
    }
    write_tfds(root / "colours" / "1.0.0", features, examples)
    return root


def write_tfds(path: pathlib.Path, features: Any, splits: dict[str, list[dict[str, Any]]]) -> None:
    """Writes what TFDS's own writer would: a record file a split, and what is in them."""
    import tensorflow_datasets as tfds

    path.mkdir(parents=True)
    for split, examples in splits.items():
        file = path / f"{path.parent.name}-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(file)) as writer:
            for example in examples:
                writer.write(features.serialize_example(features.encode_example(example)))
    tfds.folder_dataset.write_metadata(
        data_dir=str(path),
        features=features,
        split_infos=[
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(examples)],
                num_bytes=0,
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=path,
                    template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                    dataset_name=path.parent.name,
                    split=split,
                    filetype_suffix="tfrecord",
                ),
            )
            for split, examples in splits.items()
        ],
    )


def colours(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8), np.arange(count) % 3


def order(data: ImageData, seed: int = 0) -> list[bytes]:
    plan = TrainingPlan(PreprocessSpec((4, 4)), AugmentConfig(), 3, seed, 0, 22)
    batches = training_batches(data.train, plan, Share(100)).as_numpy_iterator()
    return [image.astype(np.uint8).tobytes() for images, _ in batches for image in images]


def test_tfds_in_memory(prepared: pathlib.Path) -> None:
    data = load("colours", data_dir=str(prepared))
    assert isinstance(data.train, ArraySource)
    assert (data.class_names, data.channels, data.name) == (COLOURS, 3, "colours")
    assert lengths(data) == [1100, None, 10]
    for source, count in ((data.train, 1100), (data.test, 10)):
        images, labels = colours(count)
        found = {
            image.tobytes(): label
            for image, label in zip(source.images, source.labels, strict=True)
        }
        expected = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        assert found == expected


def test_tfds_streamed(prepared: pathlib.Path) -> None:
    cached = load("colours", data_dir=str(prepared))
    own = {"dataset": "colours", "data_dir": str(prepared)}
    for more in ({"sampling": "balanced"}, {"folds": 2}):  # refused, as a stream has no labels
        counted = training_images(RunConfig(steps=1, data=DataConfig(**own, **more)))
        assert counted == len(load("colours", data_dir=str(prepared), **more).train)
    data = load("colours", data_dir=str(prepared), cache="none")
    assert isinstance(data.train, StreamSource)
    images, labels = raw_images(data.train, PreprocessSpec((4, 4)), 3)
    np.testing.assert_array_equal(images, cached.train.images)
    np.testing.assert_array_equal(labels, cached.train.labels)
    found = order(data)
    first, second = set(found[:1100]), set(found[1100:])
    assert first == second == {image.tobytes() for image in images}
    assert found[:1100] != found[1100:]
    assert found[:1100] != [image.tobytes() for image in images]
    assert order(load("colours", data_dir=str(prepared), cache="none")) == found
    assert data.train.parted.files[0].length == 1100
    assert re.fullmatch(r"colours/1\.0\.0, 1 record file\(s\) [0-9a-f]{12}", data.identity)
    # The order of earlier versions, which their runs resume with.
    earlier = load("colours", data_dir=str(prepared), cache="none", stream_order="window")
    assert hashlib.sha256(b"".join(order(earlier))).hexdigest()[:8] == "2bf75070"
    assert earlier.identity == "colours/1.0.0"
    assert order(data, seed=1) != found


@pytest.mark.parametrize(("cache", "fraction", "held"), [("memory", 0.1, 110), ("none", 0.003, 3)])
def test_tfds_validation(cache: Any, fraction: float, held: int, prepared: pathlib.Path) -> None:
    data = load("colours", data_dir=str(prepared), cache=cache, validation=fraction)
    assert lengths(data) == [1100 - held, held, 10]
    train, validation = (
        {image.tobytes() for image in raw_images(source, PreprocessSpec((4, 4)), 3)[0]}
        for source in (data.train, data.validation)
    )
    assert not train & validation
    assert len(train | validation) == 1100


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_tfds_validation_of_nothing(cache: Any, prepared: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="`validation` must leave images on both sides of 1100"):
        load("colours", data_dir=str(prepared), cache=cache, validation=1e-6)


def test_a_stream_in_the_order_of_its_source(
    prepared: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TFDS then keeps classes together, and a window of a stream holds images of one class."""
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(tfds.core.DatasetInfo, "disable_shuffling", property(lambda _: True))
    with pytest.raises(ValueError, match=r"'colours' in the order of its source .*Prepare it anew"):
        load("colours", data_dir=str(prepared), cache="none")
    assert len(load("colours", data_dir=str(prepared)).train)


def test_a_record_file_is_missing(prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    next(tmp_path.rglob("*train*")).unlink()
    with pytest.raises(FileNotFoundError, match="1 record file of 1 not in .*1.0.0: colours-train"):
        load("colours", data_dir=str(tmp_path), cache="none")


def test_unknown_tfds(prepared: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="Unknown data set 'cifar1O': .* Nearest: cifar10, cifar"):
        load("cifar1O")
    with pytest.raises(ValueError, match=f"Unknown data set 'colors': .* in {prepared}"):
        load("colors", data_dir=str(prepared))
    for name in ("photo.jpg", "a b", "cifar10:x"):
        with pytest.raises(ValueError, match=f"Unknown data set '{name}': neither digits"):
            load(name)


def test_a_misspelt_folder_gets_the_nearest_one(
    prepared: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And nothing is said of TFDS's own affairs, such as deprecated functions."""
    (tmp_path / "flowers").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"Unknown data set 'flowrs': .* Nearest: flowers/"):
        load("flowrs", data_dir=str(prepared))
    assert "deprecated" not in caplog.text


@pytest.mark.parametrize(
    "name",
    ["os_pickle.Feature", "evil", "tensorflow_datasets.scripts.cli.main", "tensorflow_datasetsx.A"],
)
def test_a_tfds_directory_that_names_another_module(
    name: str, prepared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """TFDS imports `pythonClassName`; here it is refused before TFDS sees the directory."""
    shutil.copytree(prepared / "colours", tmp_path / "colours")
    (tmp_path / "evil.py").write_text("open('ran', 'w')")
    path = tmp_path / "colours" / "1.0.0" / "features.json"
    features = json.loads(path.read_text())
    features["featuresDict"]["features"]["label"]["pythonClassName"] = name
    text = json.dumps(features).replace("pythonClassName", "python\\u0043lassName")
    path.write_text(text)
    with pytest.raises(ValueError, match=f"names the class '{name}', which TFDS would import"):
        load_data(DataConfig(dataset="colours", data_dir=str(tmp_path)), SPEC)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        (
            "features.json",
            '"numClasses": "3"',
            '"numClasses": "1000000000"',
            "1,000,000,000 classes",
        ),
        (
            "features.json",
            '"featuresDict"',
            '"featqresDict"',
            "TFDS cannot open 'colours' in .*featqr",
        ),
        ("dataset_info.json", '"12"', '"1000000000000"', "states 2,000,000,000,000 examples"),
    ],
)
def test_absurd_numbers_of_tfds(
    name: str, key: str, value: str, message: str, prepared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(prepared / "colours", tmp_path / "colours")
    path = tmp_path / "colours" / "1.0.0" / name
    text = path.read_text()
    path.write_text(re.sub(r'(?<="shardLengths": \[)\s*"\d+"', value, text).replace(key, value))
    assert value in path.read_text()
    with pytest.raises(ValueError, match=message):
        load_data(DataConfig(dataset="colours", data_dir=str(tmp_path)), SPEC)


def test_a_pipe_in_a_tfds_directory(prepared: pathlib.Path, tmp_path: pathlib.Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes")
    shutil.copytree(prepared / "colours", tmp_path / "colours")
    labels = tmp_path / "colours" / "1.0.0" / "label.labels.txt"
    labels.unlink()
    os.mkfifo(labels)
    with pytest.raises(ValueError, match=r"label\.labels\.txt is neither a regular file nor"):
        load_data(DataConfig(dataset="colours", data_dir=str(tmp_path)), SPEC)


def test_a_namespace_of_tfds(prepared: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="'huggingface:mnist' is in the namespace 'huggingface'"):
        load_data(DataConfig(dataset="huggingface:mnist", data_dir=str(prepared)), SPEC)


def test_tfds_without_labels(tmp_path: pathlib.Path) -> None:
    tfds = pytest.importorskip("tensorflow_datasets", reason="writes a TFDS data set")
    features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    write_tfds(tmp_path / "texts" / "1.0.0", features, {"train": [{"text": "a"}]})
    message = "'texts' needs the features 'image' and 'label' .* It has: text"
    with pytest.raises(ValueError, match=message):
        load("texts", data_dir=str(tmp_path))


def shared_tfds(shared: pathlib.Path, name: str) -> str:
    pytest.importorskip("tensorflow_datasets", reason="reading TFDS needs it")
    if not (shared / "tfds" / name).is_dir():
        pytest.skip(f"no {name} under {shared / 'tfds'}")
    return str(shared / "tfds")


def test_cifar10_sample(shared: pathlib.Path) -> None:
    data = load("cifar10_sample", data_dir=shared_tfds(shared, "cifar10_sample"))
    assert data.class_names[:3] == ("airplane", "automobile", "bird")
    assert len(data.class_names) == 10
    assert lengths(data)[2] == 1017
    assert data.test.images.shape == (1017, 32, 32, 3)
    assert sorted(set(data.test.labels)) == list(range(10))


def test_imagenet_sample(shared: pathlib.Path) -> None:
    """Images of many sizes and a test split alone: measured on, and not trained on."""
    directory = shared_tfds(shared, "imagenet_sample")
    data = load("imagenet_sample", data_dir=directory)
    assert isinstance(data.test, StreamSource)
    assert len(data.train) == 0
    images, labels = raw_images(data.test, PreprocessSpec((32, 32), crop_fraction=0.875), 3, 5)
    assert images.shape == (5, 32, 32, 3)
    assert labels.max() < len(data.class_names)
    config = run_config(**{"data.dataset": "imagenet_sample", "data.data_dir": directory})
    with pytest.raises(
        ValueError, match="'imagenet_sample' has no train split to train on. It has: test"
    ):
        resolve_data(config, SPEC)


def test_configurations_are_not_changed() -> None:
    config = DataConfig()
    load_data(config, SPEC)
    assert dataclasses.asdict(config) == dataclasses.asdict(DataConfig())


def test_tfds_test_split_whose_labels_are_withheld(tmp_path: pathlib.Path) -> None:
    """As `imagenet2012` has it: then the validation split is the one to test on."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="writes a TFDS data set")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(4, 4, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=COLOURS),
        }
    )
    images, labels = colours(30)
    examples = [{"image": i, "label": n} for i, n in zip(images, labels, strict=True)]
    withheld = [{**example, "label": -1} for example in examples]
    splits = {"train": examples, "test": withheld, "validation": examples[:9]}
    write_tfds(tmp_path / "contest" / "1.0.0", features, splits)
    for cache in ("auto", "none"):
        data = load("contest", data_dir=str(tmp_path), cache=cache)
        assert lengths(data) == [30, None, 9]


def test_a_small_folder_is_decoded_once(tmp_path: pathlib.Path) -> None:
    data = load(fill(tmp_path, {"a": 6, "b": 6}))
    preprocess = PreprocessSpec((16, 16))
    held = at_size(data, preprocess, AugmentConfig(crop="pad"), "auto")
    assert isinstance(held.train, ArraySource)
    assert isinstance(held.test, ArraySource)
    np.testing.assert_array_equal(held.train.labels, data.train.labels)
    np.testing.assert_array_equal(held.train.images, raw_images(data.train, preprocess, 3)[0])
    for augment, cache in ((AugmentConfig(crop="scale"), "auto"), (AugmentConfig(), "none")):
        assert at_size(data, preprocess, augment, cache).train is data.train


@pytest.mark.parametrize("cache", ["auto", "none"])
def test_a_damaged_record_of_tfds(
    cache: Any, prepared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(prepared / "colours", tmp_path / "colours")
    for path in tmp_path.rglob("*.tfrecord*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged: .*corrupted record|is unreadable: .*corrup"):
        data = load_data(DataConfig(dataset="colours", data_dir=str(tmp_path), cache=cache), SPEC)
        with naming_files(data.train):
            raw_images(data.train, PreprocessSpec((4, 4)), 3)
