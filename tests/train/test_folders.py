"""Folders and tables as they come: layouts, splits by name, and what a run keeps of them."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_resnet import PreprocessSpec, get_spec
from keras_resnet_train.config import AugmentConfig, DataConfig, RunConfig, load_config
from keras_resnet_train.data import (
    ArraySource,
    ImageData,
    Share,
    TrainingPlan,
    load_data,
    raw_images,
    resolve_data,
    training_batches,
)
from keras_resnet_train.data.layout import split_named
from keras_resnet_train.data.listing import Listing, read_listing
from keras_resnet_train.data.membership import fold_of, held_out
from keras_resnet_train.rundir import RunDirectory

pytestmark = pytest.mark.tf

SPEC = get_spec("cifar_resnet8")
PREPROCESS = PreprocessSpec((8, 8))


def load(path: object, spec: Any = SPEC, request: Any = None, **fields: Any) -> ImageData:
    return load_data(DataConfig(dataset=str(path), **fields), spec, **(request or {}))


def fill(root: pathlib.Path, counts: dict[str, int], first: int = 0) -> pathlib.Path:
    """Writes images, each with its own pixels."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(first, first + count):
            seed = [ord(c) for c in f"{root.name}/{name}/{index}"]
            pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def sizes(data: ImageData) -> dict[str, int]:
    return {split: len(source) for split, source in data.parts()}


def members(data: ImageData) -> dict[str, str]:
    assert data.listing is not None
    return {name: split for split, names in data.listing.splits.items() for name in names}


# Membership.


def test_files_that_are_added_move_no_others() -> None:
    """One file that was added moved 28 of 36 test images into training."""
    names = [f"cat/{index}.jpg" for index in range(350)] + [f"dog/{i}.jpg" for i in range(4)]
    labels = [0] * 350 + [1] * 4
    held = held_out(names, labels, 0.2, "test")
    assert [n for n, h in zip(names, held, strict=True) if h][:4] == [
        "cat/7.jpg",
        "cat/12.jpg",
        "cat/14.jpg",
        "cat/20.jpg",
    ]
    assert 0.15 * 350 < held[:350].sum() < 0.25 * 350
    assert 1 <= held[350:].sum() <= 3
    more = held_out([*names, "cat/0a.jpg", "cat/z.jpg"], [*labels, 0, 0], 0.2, "test")
    np.testing.assert_array_equal(more[:354], held)
    other = held_out(names, labels, 0.2, "validation")
    assert (other != held).any()
    assert not held_out(["a"], [0], 0.9, "test").any()
    folds = fold_of(names, labels, 5)
    for label, count in ((0, 70), (1, 1)):
        counts = np.bincount(folds[np.asarray(labels) == label], minlength=5)
        assert count - 1 <= counts.min() <= counts.max() <= count + 1


def test_a_run_keeps_its_splits(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed and evaluated by the stored list, wherever the folder lies."""
    root = fill(tmp_path / "data", {"a": 20, "b": 20})
    config = RunConfig(steps=1, data=DataConfig(dataset=str(root), image_size=8, validation=0.2))
    data, preprocess = resolve_data(config, SPEC)
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.begin(config, data, preprocess)
    stored = run.listing
    assert stored is not None
    assert stored == data.listing
    assert set(stored.splits) == {"train", "validation", "test"}

    moved = tmp_path / "elsewhere"
    root.rename(moved)
    monkeypatch.chdir(tmp_path)
    for path in (str(moved), "elsewhere/"):
        again = RunConfig(steps=1, data=DataConfig(dataset=path, image_size=8, validation=0.2))
        run.check(again, "auto")
        run.check_data(*resolve_data(again, SPEC, stored))

    fill(moved, {"a": 3}, first=100)
    more, _ = resolve_data(again, SPEC, stored)
    run.check_data(more, preprocess)
    assert members(more) == members(data)
    assert any("3 images added since the run began left out: a/100.png" in n for n in more.notes)
    other = fill(tmp_path / "other", {"a": 20, "b": 20})  # the same names, other images
    asked = {"stored": stored, "splits": ("test",), "whole": True}
    found = load(other, request=asked)
    assert sizes(found)["test"] == 40
    assert any("names of the run's images and other content" in note for note in found.notes)
    assert sizes(load(moved, request=asked))["test"] == len(stored.splits["test"])
    first, second, third = list(stored.splits["test"])[:3]
    (moved / first).unlink()
    shutil.copy(moved / second, moved / third)
    changed = load(moved, request={"stored": stored, "splits": ("test",)}, validation=0.2)
    total = len(stored.splits["test"])
    assert f"1 of {total} test images are gone: {first}" in changed.notes
    assert f"1 of {total - 1} test images have other content: {third}" in changed.notes
    with pytest.raises(ValueError, match="has changed since the run began: .*are gone"):
        run.check_data(resolve_data(again, SPEC, stored)[0], preprocess)


def test_runs_of_earlier_versions(tmp_path: pathlib.Path) -> None:
    """Their config.json has none of today's fields: split by position, decoded as then."""
    old = '{"steps": 1, "data": {"dataset": "/x", "data_dir": null, "validation": 0.0, "image_size"'
    old += ': null, "crop_fraction": 1.0, "mean": null, "std": null, "on_bad_image": "fail", '
    old += '"cache": "auto", "classes": null}}'
    (tmp_path / "config.json").write_text(old)
    data = load_config(tmp_path / "config.json").data
    assert (data.split_by, data.orientation, data.decoding) == ("position", "stored", "fast")
    root = fill(tmp_path / "data", {"a": 10, "b": 10})
    found = load(root, split_by="position")
    assert [path[-7:] for path in found.test.paths] == ["b/0.png", "b/2.png", "b/5.png", "b/9.png"]


def test_lists_are_written_and_read(tmp_path: pathlib.Path) -> None:
    name = os.fsdecode(b'a/\xff,"\n.png')
    file = tmp_path / "list.gz"
    listing = load(fill(tmp_path / "d", {"a": 3, "b": 3})).listing
    assert listing is not None
    entry = next(iter(listing.splits["train"].values()))
    listing = Listing({**listing.splits, "test": {name: entry}})
    file.write_bytes(listing.to_bytes())
    assert read_listing(file) == listing
    file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is not what was written"):
        read_listing(file)


# Layouts.


def test_names_of_splits() -> None:
    for name in ("Train", "TRAINING", "train_set", "train-images"):
        assert split_named(name) == "train"
    for name in ("Val", "valid", "dev", "Validation"):
        assert split_named(name) == "validation"
    for name in ("Test", "holdout", "hold-out", "eval"):
        assert split_named(name) == "test"
    assert split_named("trainer") is None
    assert split_named("seg_train") is None
    assert split_named("seg_train", words=True) == "train"
    assert split_named("val2017", words=True) == "validation"
    assert split_named("train-test", words=True) is None


def test_layouts(tmp_path: pathlib.Path) -> None:
    both = {"a": 2, "b": 2}
    for split in ("Train", "Val", "Test"):
        fill(tmp_path / "capitals" / split, both)
    assert sizes(load(tmp_path / "capitals")) == {"train": 4, "validation": 4, "test": 4}
    fill(tmp_path / "outer" / "inner", {"a": 9, "b": 9})
    wrapped = load(tmp_path / "outer")
    assert wrapped.class_names == ("a", "b")
    assert any("holds only the folder 'inner'" in note for note in wrapped.notes)
    fill(tmp_path / "vehicles", {"train": 9, "bus": 9})
    vehicles = load(tmp_path / "vehicles")
    assert vehicles.class_names == ("bus", "train")
    assert any("'train' is taken as a class" in note for note in vehicles.notes)
    fill(tmp_path / "kaggle" / "train", both)
    fill(tmp_path / "kaggle", {"test": 3})
    assert any("'test' holds no class" in note for note in load(tmp_path / "kaggle").notes)


def test_words_of_splits_and_folders_of_systems(tmp_path: pathlib.Path) -> None:
    """`seg_train/seg_train/CLASS` and `seg_test/seg_test/CLASS` became two classes."""
    both = {"a": 3, "b": 3}
    for name in ("seg_train/seg_train", "seg_test/seg_test"):
        fill(tmp_path / "intel" / name, both)
    intel = load(tmp_path / "intel")
    assert (sizes(intel), intel.class_names) == ({"train": 6, "test": 6}, ("a", "b"))
    fill(tmp_path / "twice" / "train" / "train", both)
    assert load(tmp_path / "twice").class_names == ("a", "b")
    places = fill(tmp_path / "places", {"bus stop": 5, "train station/old": 5, "train station": 5})
    found = load(places)
    assert found.class_names == ("bus stop", "train station")
    assert any("classes hold 1 folder (train station/old)" in note for note in found.notes)

    archive = fill(tmp_path / "archive" / "d", {"a": 5, "b": 5, "a/@eaDir/0.png": 2}).parent
    fill(archive / "__MACOSX" / "d", {"a": 1})
    zipped = load(archive)
    assert sum(sizes(zipped).values()) == 10
    assert any("1 hidden file or folder skipped" in note for note in zipped.notes)


def test_layouts_that_are_refused(tmp_path: pathlib.Path) -> None:
    for year in ("2019", "2020"):
        fill(tmp_path / "years" / year, {"a": 2, "b": 2})
    almost = tmp_path / "almost"  # was a note: three classes
    for name, inner in {"2019": {"a": 2, "b": 2}, "2020": {"a": 2, "b": 2, "c": 2}}.items():
        fill(almost / name, inner)
    fill(almost, {"new": 3})
    with pytest.raises(ValueError, match=r"2 of 3 folders in .* \(2019, 2020\) hold the same"):
        load(almost)
    fill(tmp_path / "few", {"x/old": 3, "x/new": 3, "y": 3, "z/old": 3, "z": 1})
    assert load(tmp_path / "few").class_names == ("x", "y", "z")
    with pytest.raises(ValueError, match=r"All folders in .* \(2019, 2020\) hold the same folders"):
        load(tmp_path / "years")
    fill(tmp_path / "one", {"only": 4})
    with pytest.raises(ValueError, match="has one class, 'only'"):
        load(tmp_path / "one")
    fill(tmp_path / "flat", {"train": 2, "test": 2})
    with pytest.raises(ValueError, match=r"hold no class folders \(test, train\)"):
        load(tmp_path / "flat")
    for name in ("val", "dev"):
        fill(tmp_path / "twice" / name, {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="two folders of the validation split: dev and val"):
        load(tmp_path / "twice")
    for name, message in (("a\nb", "holds a line feed"), (os.fsdecode(b"\xff"), "not UTF-8")):
        fill(tmp_path / "names", {"x": 1})
        (tmp_path / "names" / name).mkdir()
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "names")
        (tmp_path / "names" / name).rmdir()


def test_links_and_names_that_are_not_utf8(tmp_path: pathlib.Path) -> None:
    root = fill(tmp_path / "data", {"a": 4, "b": 4})
    store = fill(tmp_path / "store", {"more": 2})
    (root / "a" / "linked").symlink_to(store / "more")
    (root / "a" / "back").symlink_to(root)
    (root / "b" / os.fsdecode(b"\xff\n.png")).write_bytes((root / "b" / "0.png").read_bytes())
    os.mkfifo(root / "a" / "pipe.png")  # opening it would wait for whoever writes into it
    data = load(root, cache="none")
    assert sum(sizes(data).values()) == 11
    assert any("1 pipe or device skipped: only regular" in note for note in data.notes)
    assert any("1 link to a folder above skipped" in note for note in data.notes)
    for _, source in data.parts():
        assert raw_images(source, PREPROCESS, 3)[0].shape[1:] == (8, 8, 3)


def test_duplicates_are_said(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "train", {"a": 4, "b": 4})
    fill(tmp_path / "test", {"a": 2, "b": 2})
    shutil.copy(tmp_path / "train" / "a" / "1.png", tmp_path / "test" / "b" / "0.png")
    assert (
        "1 test image of 4 also among the training images (the same content): b/0.png is a/1.png, "
        "for example" in load(tmp_path).notes
    )


def test_channels_follow_the_net(tmp_path: pathlib.Path) -> None:
    data = load(fill(tmp_path, {"a": 6, "b": 6}), SPEC.replace(input_channels=1))
    assert data.channels == 1
    assert raw_images(data.train, PREPROCESS, 1)[0].shape[-1] == 1
    assert any("images are not stored as grey and become grey" in note for note in data.notes)


def test_constants_of_colours_on_grey_images() -> None:
    """`--model resnet18 --dataset fashion_mnist` was refused."""
    fields: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
    config = RunConfig(steps=1, data=DataConfig(dataset="digits", image_size=8, **fields))
    data, preprocess = resolve_data(config, SPEC)
    assert preprocess.mean == (117.0376,)
    assert preprocess.std == (57.5303,)
    assert "their luma, 117.038 and 57.5303, is used" in data.notes[-1]


# Evaluation.


def test_only_what_is_asked_for_is_opened(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "train", {"a": 3, "b": 3})
    fill(tmp_path / "test", {"b": 2})
    (tmp_path / "train" / "a" / "0.png").write_bytes(b"broken")
    test = {"splits": ("test",), "class_names": ("c", "b", "a")}
    data = load(tmp_path, request=test)
    assert sizes(data) == {"test": 2}
    assert data.class_names == ("c", "b", "a")
    assert data.test.labels.tolist() == [1, 1]
    shutil.rmtree(tmp_path / "train")
    assert sizes(load(tmp_path, request=test)) == {"test": 2}
    with pytest.raises(ValueError, match="has no validation split. It has: test"):
        load(tmp_path, request={**test, "splits": ("validation",)})
    with pytest.raises(ValueError, match="not among them: b"):
        load(tmp_path, request={**test, "class_names": ("x", "y")})
    plain = fill(tmp_path / "plain", {"0": 3, "2": 3})
    whole = load(plain, request={**test, "whole": True})
    assert sizes(whole) == {"test": 6}
    assert whole.test.labels.tolist() == [0, 0, 0, 2, 2, 2]


def test_a_trusted_file_is_named(tmp_path: pathlib.Path) -> None:
    data = load(fill(tmp_path, {"a": 5, "b": 5}), on_bad_image="trust")
    broken = pathlib.Path(data.train.paths[1])
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ValueError, match=f"{broken} is unreadable: ") as caught:
        raw_images(data.train, PREPROCESS, 3)
    assert "{{" not in str(caught.value)


# Tables, folds, sampling, memory.


def test_tables(tmp_path: pathlib.Path) -> None:
    fill(tmp_path / "pictures", {"x": 6})
    lines = [f"pictures/x/{i}.png,{'ab'[i % 2]},{'test' if i > 3 else 'Train'}" for i in range(6)]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["image,label,split", *lines, lines[0]]))
    data = load(file)
    assert (data.class_names, sizes(data)) == (("a", "b"), {"train": 4, "test": 2})
    assert any("1 image listed more than once" in note for note in data.notes)
    rows = ["image,tags"] + [f"pictures/x/{i}.png,{('', 'u', 'u;v')[i % 3]}" for i in range(6)]
    file.write_text("\n".join(rows))
    several = load(file, task="multilabel", label_separator=";", test_size=0)
    assert (several.task, several.class_names) == ("multilabel", ("u", "v"))
    assert several.train.labels.tolist() == [[0, 0], [1, 0], [1, 1]] * 2
    rows = ["image,u,v"] + [f"pictures/x/{i}.png,{i % 2},1" for i in range(4)]
    file.write_text("\n".join(rows))
    columns = load(file, task="multilabel", test_size=0)
    assert columns.train.labels.tolist() == [[0, 1], [1, 1]] * 2
    for text, message in (
        ("label\na", "needs a column of paths"),
        ("image\na", "needs a column of labels"),
        ("image,label\nq.png,", "Row 2 of .* has no label"),
        ("image,label\nq.png,a\nq.png,b", "lists 'q.png' with two labels, in rows 2 and 3"),
        ("image,label,split\nq.png,a,x\nw.png,b,", "a split must be .* Received: 'x'"),
        ("image,label\nq.png,a\nw.png,b\ne.png,a", "are unreadable: .*No such file"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            load(file)
    for content in (
        "image,label\ncaf\xe9.png,a".encode("latin-1"),
        b'image,label\n"' + b"x" * 200_000,
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"labels.csv is not a csv file in UTF-8: "):
            load(file)


def test_folds(tmp_path: pathlib.Path) -> None:
    root = fill(tmp_path, {"a": 9, "b": 6})
    parts = [load(root, folds=3, fold=fold) for fold in range(3)]
    tested = [name for data in parts for name in data.test.names]
    assert len(tested) == len(set(tested)) == 15
    for data in parts:
        assert np.bincount(data.test.labels).tolist() == [3, 2]
        assert not set(data.train.names) & set(data.test.names)
    digits = load("digits", folds=3, fold=1)
    assert sizes(digits) == {"train": 838, "validation": 180, "test": 419}
    with pytest.raises(ValueError, match="`data.folds` must be 0 or at least 2"):
        DataConfig(folds=3, fold=3)


def test_balanced_sampling() -> None:
    """Each class equally often, each image of a class before any comes again; resumable."""
    labels = np.asarray([0] * 40 + [1] * 6 + [2] * 2)
    images = np.broadcast_to(np.arange(48, dtype="uint8")[:, None, None, None], (48, 8, 8, 1))
    source = ArraySource(np.ascontiguousarray(images), labels, balanced=True)

    def drawn(start: int) -> tuple[np.ndarray, np.ndarray]:
        plan = TrainingPlan(PREPROCESS, AugmentConfig(), 1, 5, start, 12)
        batches = list(training_batches(source, plan, Share(12)).as_numpy_iterator())
        found = np.concatenate([images[:, 0, 0, 0] for images, _ in batches]).round()
        return found, np.concatenate([found for _, found in batches])

    numbers, found = drawn(0)
    assert np.bincount(found[:48]).tolist() == [16, 16, 16]
    assert np.bincount(found).tolist() == [48, 48, 48]
    counts = np.bincount(numbers.astype(int), minlength=48)
    assert set(counts[:40]) == {1, 2}
    assert set(counts[40:46]) == {8}
    assert set(counts[46:]) == {24}
    np.testing.assert_array_equal(drawn(7)[0], numbers[7 * 12 :])


def test_images_are_resized_in_batches_of_few_bytes() -> None:
    """TensorFlow prepares several; batches of 64 images of 224 pixels took 40 MiB, beside 150."""
    from keras_resnet_train.data.in_memory import _raw_batches

    source = ArraySource(np.zeros((30, 8, 8, 3), "uint8"), np.zeros(30, "int64"))
    sizes = {
        side: [
            len(images) for images, _ in _raw_batches(source, PreprocessSpec((side, side)), 3, 30)
        ]
        for side in (16, 224, 900)
    }
    assert sizes == {16: [30], 224: [13, 13, 4], 900: [1] * 30}


def test_memory_stays_within_the_budget(tmp_path: pathlib.Path) -> None:
    """Decoding and training on 96 MiB of images takes at most 1.3 times that; it took 8 times."""
    script = tmp_path / "peak.py"
    script.write_text(
        "import resource, numpy as np\n"
        "from keras_resnet import PreprocessSpec\n"
        "from keras_resnet_train.config import AugmentConfig\n"
        "from keras_resnet_train.data import *\n"
        "small = np.zeros((2048, 16, 16, 3), 'uint8')\n"
        "def work(count):\n"
        "    part = ArraySource(small[:count], np.zeros(count, 'int64'))\n"
        "    data = ImageData('x', ('a',), 3, part, None, part.take(np.arange(64)))\n"
        "    data = at_size(data, PreprocessSpec((128, 128)), AugmentConfig(), 'memory')\n"
        "    measure_channels(data.train, PreprocessSpec((128, 128)), 3)\n"
        "    plan = TrainingPlan(PreprocessSpec((128, 128)), AugmentConfig(), 3, 0, 0, 3)\n"
        "    for _ in training_batches(data.train, plan, Share(16)): pass\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = work(64)\n"
        "print((work(2048) - before) / 1024)\n"
    )
    found = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, timeout=300
    )
    assert float(found.stdout.split()[-1]) < 96 * 1.3
